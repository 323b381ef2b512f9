//! `keywheel history`.

use clap::Args;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;

/// History
#[derive(Debug, Args)]
pub struct History {}

impl History {
    /// Runs it.
    pub fn run(&self, _global: &Global) -> Result<ExitStatus, CliError> {
        Err(CliError::new("cli/later", "not built"))
    }
}
