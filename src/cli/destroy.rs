//! `keywheel destroy`.

use std::path::PathBuf;

use clap::Args;

use crate::engine::Request;

use super::args::{Global, version};
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;
use super::plan;

/// Destroy an orphan: a version that a lost answer left behind
///
/// It was never in use, and it is disabled. A version that was in use is destroyed by its policy alone (`old_key_disposition: destroy`), never by hand. The key manager waits before it destroys; until then `keywheel apply` goes on as ever, and the key manager can cancel it.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel destroy healthcare-org-123/patient-data-encryption-key 4 --reason \"twin of version 3\"\n\nWhere keywheel.yaml asks for approvals:\n  keywheel destroy TENANT/KEY 4 --reason \"a twin\" --out plan.json\n  keywheel approve plan.json\n  keywheel destroy TENANT/KEY 4 --reason \"a twin\" --approved plan.json"
)]
pub struct Destroy {
    #[command(flatten)]
    manual: ManualArgs,
    /// The number of the version, as `keywheel explain` shows it
    #[arg(value_name = "VERSION", value_parser = version)]
    version: u32,
    /// Save the plan of it to FILE, for `keywheel approve FILE`, and do nothing
    #[arg(long, value_name = "FILE", conflicts_with = "approved")]
    out: Option<PathBuf>,
    /// Do it with the approvals in FILE
    #[arg(long, value_name = "FILE")]
    approved: Option<PathBuf>,
}

impl Destroy {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let request = Request::Destroy { version: self.version, reason: self.manual.reason.clone() };
        if let Some(path) = &self.out {
            return self.manual.save(global, &request, path);
        }
        let approvals = match &self.approved {
            Some(path) => plan::read(path)?.approvals,
            None => Vec::new(),
        };
        self.manual.approved(global, &request, approvals)
    }
}
