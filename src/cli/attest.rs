//! `keywheel attest`.

use clap::{Args, ValueEnum};

use crate::engine::{self, Request};

use super::args::{Global, version};
use super::error::CliError;
use super::exit::ExitStatus;
use super::manual::ManualArgs;

/// Record what you know of an old version and keywheel cannot see
///
/// `rewrapped`: everything that it encrypted has been encrypted anew under a later version. That is evidence for its
/// policy to disable it, where the policy says so. `needed`: something still needs it, such as a use that was refused.
/// It is enabled again by the next apply, and neither disabled nor destroyed until you attest `rewrapped`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel attest healthcare-org-123/patient-data-encryption-key 3 rewrapped --reason \"job 4711 re-encrypted all tables\"\n  keywheel attest healthcare-org-123/patient-data-encryption-key 2 needed --reason \"the archive service was refused\""
)]
pub struct Attest {
    #[command(flatten)]
    manual: ManualArgs,
    /// The number of the version, as `keywheel explain` shows it
    #[arg(value_name = "VERSION", value_parser = version)]
    version: u32,
    /// What you know
    #[arg(value_name = "FACT")]
    fact: Fact,
}

/// What a person knows.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Fact {
    /// Nothing is encrypted under it any more
    Rewrapped,
    /// Something still needs it
    Needed,
}

impl Attest {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let fact = match self.fact {
            Fact::Rewrapped => engine::Fact::Rewrapped,
            Fact::Needed => engine::Fact::Needed,
        };
        let reason = self.manual.reason.clone();
        self.manual.run(global, &Request::Attest { version: self.version, fact, reason })
    }
}
