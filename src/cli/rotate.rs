//! `keywheel rotate`.

use clap::Args;

use crate::engine::Request;

use super::args::{Global, reason};
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Rotate one key now, whether or not it is due
///
/// Works on what has been applied. It obeys rotation windows and freezes (status 3), and the reason goes into the history.
///
/// With --compromised no window, freeze, suspended policy, hold or park is in its way; a hold or park stays until `release` or
/// `resume`. Two things stop even that (status 3): a stable name that was moved behind keywheel's back, until it is led back,
/// and `KEY_ROTATION_ENABLED=false`. The old version is marked compromised; it still decrypts, because data under it would be lost
/// otherwise, and `status` tells of it until it is disabled.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel rotate healthcare-org-123/patient-data-encryption-key --reason \"leaving engineer\"\n  keywheel rotate healthcare-org-123/patient-data-encryption-key --compromised --incident INC-4711 --reason \"key in a log\""
)]
pub struct Rotate {
    #[command(flatten)]
    manual: ManualArgs,
    /// The primary is in the wrong hands: rotate at once, and mark it
    #[arg(long, requires = "incident")]
    compromised: bool,
    /// What the incident is called elsewhere; it is recorded
    #[arg(long, value_name = "ID", requires = "compromised", value_parser = reason)]
    incident: Option<String>,
}

impl Rotate {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let reason = self.manual.reason.clone();
        let request = match &self.incident {
            Some(incident) => Request::Compromised { reason, incident: incident.clone() },
            None => Request::Rotate { reason },
        };
        self.manual.run(global, &request)
    }
}
