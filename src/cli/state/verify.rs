//! `keywheel state verify`.

use clap::Args;

use crate::cli::args::{FormatArg, Global, StateArg};
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::output;
use crate::cli::runtime::block_on;
use crate::diagnostic::Finding;
use crate::engine::{self, Versioned};
use crate::render;

/// Check the state against itself and against the key managers; nothing is written
///
/// Against itself: the audit chains, the database's own constraints, one active version for each key, versions without gaps,
/// journals that lead to where their rotations are. Against the key managers: each recorded version is there, in the recorded
/// state, the stable name leads to the primary, and nothing carries keywheel's marks that is not recorded.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel state verify\n  keywheel state verify --offline --state sqlite:backup.db    look into a backup\n\nExits with 1 if something is wrong, and with 7 if a key manager gave no answer."
)]
pub struct Verify {
    /// Do not ask the key managers
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Verify {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let report =
            block_on(engine::verify_state(&global.workspace(None), self.state.state.as_deref(), self.offline))?;
        if self.format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::state::verified(&report, global.view()))?;
        }
        let wrong = report.findings.iter().any(Finding::is_error);
        Ok(ExitStatus::Error.when(wrong).or(ExitStatus::Partly.when(report.is_incomplete())))
    }
}
