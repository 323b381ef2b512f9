//! `keywheel park`.

use clap::Args;

use crate::engine::Request;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Stop the rotations of one key until it is resumed
///
/// Its versions stay as they are, and what has begun is still finished.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel park healthcare-org-123/patient-data-encryption-key --reason \"its key manager is being replaced\""
)]
pub struct Park {
    #[command(flatten)]
    manual: ManualArgs,
}

impl Park {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        self.manual.run(global, &Request::Park { reason: self.manual.reason.clone() })
    }
}
