//! `keywheel enable`.

use clap::Args;

use crate::engine::Request;

use super::args::{Global, version};
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Let a disabled version decrypt again
///
/// Its destruction is cancelled, if one is scheduled. From then on it is kept, whatever the policy says: a person asked for it.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel enable healthcare-org-123/patient-data-encryption-key 3 --reason \"an archive from March needs it\""
)]
pub struct Enable {
    #[command(flatten)]
    manual: ManualArgs,
    /// The number of the version, as `keywheel explain` shows it
    #[arg(value_name = "VERSION", value_parser = version)]
    version: u32,
}

impl Enable {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        self.manual.run(global, &Request::Enable { version: self.version, reason: self.manual.reason.clone() })
    }
}
