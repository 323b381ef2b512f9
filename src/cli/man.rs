//! `keywheel man`.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use super::exit::ExitStatus;
use super::output;

/// Write the manual: one page to standard output, or a page for each command into DIR
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  keywheel man | man -l -\n  keywheel man ~/.local/share/man/man1")]
pub struct Man {
    // Not `dir`: that is the name of the global `--dir`, whose value it would take.
    /// Where to write the pages
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    /// Runs it.
    pub fn run(&self) -> Result<ExitStatus, CliError> {
        let command = super::command();
        let Some(dir) = &self.folder else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(|error| CliError::new("cli/man", format!("cannot draw the page: {error}")))?;
            output::bytes(&page)?;
            return Ok(ExitStatus::Done);
        };
        fs::create_dir_all(dir).map_err(|error| CliError::file("make", dir, &error))?;
        clap_mangen::generate_to(command, dir).map_err(|error| CliError::file("write", dir, &error))?;
        output::note(&format!("The pages are in {}.", dir.display()));
        Ok(ExitStatus::Done)
    }
}
