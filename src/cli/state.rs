//! `keywheel state`: one file a command.

mod backup;
mod copy;
mod forget;
mod migrate;
mod reclaim;
mod recover;
mod snapshot;
mod verify;

use clap::{Args, Subcommand};

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;

/// Take care of the state database
#[derive(Debug, Args)]
pub struct State {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    Backup(backup::Backup),
    Copy(copy::Copy),
    Forget(forget::Forget),
    Migrate(migrate::Migrate),
    Reclaim(reclaim::Reclaim),
    Recover(recover::Recover),
    Snapshot(snapshot::Snapshot),
    Verify(verify::Verify),
}

impl State {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        match &self.command {
            StateCommand::Backup(command) => command.run(global),
            StateCommand::Copy(command) => command.run(global),
            StateCommand::Forget(command) => command.run(global),
            StateCommand::Migrate(command) => command.run(global),
            StateCommand::Reclaim(command) => command.run(global),
            StateCommand::Recover(command) => command.run(global),
            StateCommand::Snapshot(command) => command.run(global),
            StateCommand::Verify(command) => command.run(global),
        }
    }
}
