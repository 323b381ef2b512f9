//! `keywheel rollback`.

use clap::Args;

use crate::engine::Request;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Make the version before the latest rotation primary again
///
/// While `rollback_period_hours` of the policy lasts. The newer version stays readable, and the key is held until
/// `keywheel release`, so that the next apply does not rotate it straight back.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel rollback healthcare-org-123/patient-data-encryption-key --reason \"new version breaks an old client\""
)]
pub struct Rollback {
    #[command(flatten)]
    manual: ManualArgs,
}

impl Rollback {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        self.manual.run(global, &Request::Rollback { reason: self.manual.reason.clone() })
    }
}
