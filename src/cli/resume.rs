//! `keywheel resume`.

use clap::Args;

use crate::engine::Request;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Let a parked key rotate again
///
/// The next apply rotates it when it is due.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel resume healthcare-org-123/patient-data-encryption-key --reason \"its key manager answers again\""
)]
pub struct Resume {
    #[command(flatten)]
    manual: ManualArgs,
}

impl Resume {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        self.manual.run(global, &Request::Resume { reason: self.manual.reason.clone() })
    }
}
