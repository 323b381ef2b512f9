//! `keywheel fmt`.

use clap::Args;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;

/// Fmt
#[derive(Debug, Args)]
pub struct Fmt {}

impl Fmt {
    /// Runs it.
    pub fn run(&self, _global: &Global) -> Result<ExitStatus, CliError> {
        Err(CliError::new("cli/later", "not built"))
    }
}
