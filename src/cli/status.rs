//! `keywheel status`.

use clap::Args;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;

/// StatusCommand
#[derive(Debug, Args)]
pub struct StatusCommand {}

impl StatusCommand {
    /// Runs it.
    pub fn run(&self, _global: &Global) -> Result<ExitStatus, CliError> {
        Err(CliError::new("cli/later", "not built"))
    }
}
