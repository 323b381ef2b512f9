//! `keywheel state copy`.

use clap::Args;

use crate::cli::args::{FormatArg, Global};
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::output;
use crate::cli::runtime::block_on;
use crate::engine::{self, Versioned};
use crate::render;

/// Copy a state database into an empty one, history and audit log included, and compare both
///
/// Both are locked meanwhile, and nothing of the copy is there unless all of it is. The copy has the identity of its
/// original: when `state` in keywheel.yaml names the copy, work goes on there, and the original must not be used any more.
/// This is also how a backup is restored.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel state copy sqlite:.keywheel/state.db '${KEYWHEEL_STATE}'\n  keywheel state copy '${KEYWHEEL_STATE}' sqlite:state.db\n  keywheel state copy sqlite:backup.db '${KEYWHEEL_STATE}'    restore a backup"
)]
pub struct Copy {
    /// The database that there is: sqlite:PATH, a postgres:// URL without a password, or '${NAME}' of an environment
    /// variable
    #[arg(value_name = "FROM")]
    from: String,
    /// The empty one, named in the same way; of SQLite the file is made, of PostgreSQL the tables
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    format: FormatArg,
}

impl Copy {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let report = block_on(engine::copy_state(&global.workspace(None), &self.from, &self.to))?;
        if self.format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::state::copied(&report, global.view()))?;
        }
        Ok(ExitStatus::Done)
    }
}
