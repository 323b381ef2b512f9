//! `keywheel release`.

use clap::Args;

use crate::engine::Request;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Let a key rotate again that was rolled back
///
/// A rollback holds its key. After this the next apply rotates it when it is due.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel release healthcare-org-123/patient-data-encryption-key --reason \"the client is fixed\""
)]
pub struct Release {
    #[command(flatten)]
    manual: ManualArgs,
}

impl Release {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        self.manual.run(global, &Request::Release { reason: self.manual.reason.clone() })
    }
}
