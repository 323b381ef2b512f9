//! `keywheel explain`.

use clap::Args;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;

/// Explain
#[derive(Debug, Args)]
pub struct Explain {}

impl Explain {
    /// Runs it.
    pub fn run(&self, _global: &Global) -> Result<ExitStatus, CliError> {
        Err(CliError::new("cli/later", "not built"))
    }
}
