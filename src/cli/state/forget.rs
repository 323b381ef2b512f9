//! `keywheel state forget`.

use clap::Args;

use crate::cli::args::Global;
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::manual::ManualArgs;
use crate::engine::Request;

/// Drop one key from the record, and leave it as it is at its key manager
///
/// For a key that is gone for good, or that another state database is to adopt. Its document must have left git: otherwise
/// the next apply would adopt or create it again. Its history and its audit log stay. A parked key that can never finish its
/// rotation gives that up, unless its stable name may have moved already.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel state forget healthcare-org-123/patient-data-encryption-key --reason \"destroyed with its account\""
)]
pub struct Forget {
    #[command(flatten)]
    manual: ManualArgs,
}

impl Forget {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        self.manual.run(global, &Request::Forget { reason: self.manual.reason.clone() })
    }
}
