//! `keywheel destroy`.

use clap::Args;

use crate::engine::Request;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Destroy an orphan: a version that a lost answer left behind
///
/// It was never in use, and it is disabled. A version that was in use is destroyed by its policy alone (`old_key_disposition: destroy`), never by hand. The key manager waits before it destroys; until then `keywheel apply` goes on as ever, and the key manager can cancel it.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel destroy healthcare-org-123/patient-data-encryption-key 4 --reason \"twin of version 3\""
)]
pub struct Destroy {
    #[command(flatten)]
    manual: ManualArgs,
    /// The number of the version, as `keywheel explain` shows it
    #[arg(value_name = "VERSION")]
    version: u32,
}

impl Destroy {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        self.manual.run(global, &Request::Destroy { version: self.version, reason: self.manual.reason.clone() })
    }
}
