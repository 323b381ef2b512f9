//! `keywheel lock`.

use clap::{Args, Subcommand};

use crate::engine::{self, Versioned};
use crate::render;

use super::args::{FormatArg, Global, StateArg, reason, whole};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Show who holds a lock, and take one away from somebody who will not come back
///
/// The lock of an apply that died frees itself within 90 seconds: breaking one is for those who cannot wait.
#[derive(Debug, Args)]
pub struct Lock {
    #[command(subcommand)]
    command: LockCommand,
}

#[derive(Debug, Subcommand)]
enum LockCommand {
    /// Show the locks
    #[command(after_long_help = "Example:\n  keywheel lock list")]
    List {
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Take a lock away; what its holder has begun is finished by the next apply
    ///
    /// A call to a key manager may be on its way, and takes a minute at most: nobody else gets the lock before.
    #[command(after_long_help = "Example:\n  keywheel lock break 12 --reason \"the runner was shut down\"")]
    Break {
        /// The number that `lock list` shows first, which is `token` in its JSON
        #[arg(value_name = "ID", value_parser = whole(1..=i64::MAX, "the number of a lock: `keywheel lock list` shows it first"))]
        id: i64,
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
        #[command(flatten)]
        state: StateArg,
    },
}

impl Lock {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let workspace = global.workspace(None);
        match &self.command {
            LockCommand::List { state, format } => {
                let report = block_on(engine::locks(&workspace, state.state.as_deref()))?;
                if format.is_json() {
                    output::json(&Versioned::new(&report))?;
                } else {
                    output::text(&render::audit::locks(&report, global.view()))?;
                }
            }
            LockCommand::Break { id, reason, state } => {
                let free_at = block_on(engine::break_lock(&workspace, state.state.as_deref(), *id, reason))?;
                output::note(&format!(
                    "The lock {id} is broken: its holder writes nothing any more. A call of theirs may still be on its way, \
                     so it is free for others at {}.",
                    render::time::instant(free_at)
                ));
            }
        }
        Ok(ExitStatus::Done)
    }
}
