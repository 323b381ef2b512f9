//! `keywheel state migrate`.

use clap::Args;

use crate::cli::args::{FormatArg, Global, StateArg};
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::output;
use crate::cli::runtime::block_on;
use crate::engine::{self, Versioned};
use crate::render;

/// Bring the state database to the newest schema; before that it is copied
///
/// `apply` does the same when it meets an older schema, and `plan` reads the one before the newest. The copy lies beside an
/// SQLite file as FILE.schema-N, and of PostgreSQL in .keywheel as an SQLite file that `state copy` restores from. If it cannot
/// be written, nothing is migrated.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  keywheel state migrate")]
pub struct Migrate {
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Migrate {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let report = block_on(engine::migrate_state(&global.workspace(None), self.state.state.as_deref()))?;
        if self.format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::state::migrated(&report))?;
        }
        Ok(ExitStatus::Done)
    }
}
