//! `keywheel state`.

use clap::{Args, Subcommand};

use crate::engine::{self, Versioned};
use crate::render;

use super::args::{FormatArg, Global};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Take care of the state database
#[derive(Debug, Args)]
pub struct State {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Copy a state database into an empty one, history and audit log included, and compare both
    ///
    /// Both are locked meanwhile, and nothing of the copy is there unless all of it is. The copy has the identity of its
    /// original: when `state` in keywheel.yaml names the copy, work goes on there, and the original must not be used any more.
    #[command(
        after_long_help = "Examples:\n  keywheel state copy sqlite:.keywheel/state.db '${KEYWHEEL_STATE}'\n  keywheel state copy '${KEYWHEEL_STATE}' sqlite:state.db"
    )]
    Copy {
        /// The database that there is: sqlite:PATH, a postgres:// URL without a password, or '${NAME}' of an environment
        /// variable
        #[arg(value_name = "FROM")]
        from: String,
        /// The empty one, named in the same way; of SQLite the file is made, of PostgreSQL the tables
        #[arg(value_name = "TO")]
        to: String,
        #[command(flatten)]
        format: FormatArg,
    },
}

impl State {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let StateCommand::Copy { from, to, format } = &self.command;
        let report = block_on(engine::copy_state(&global.workspace(None), from, to))?;
        if format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::state::copied(&report, global.view()))?;
        }
        Ok(ExitStatus::Done)
    }
}
