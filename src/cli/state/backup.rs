//! `keywheel state backup`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::{FormatArg, Global, StateArg};
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::output;
use crate::cli::runtime::block_on;
use crate::engine::{self, Versioned};
use crate::render;

/// Copy the state into a new file, while others go on working
///
/// The file is an SQLite database, whatever the original is, and only its owner can read it. It shows one instant, was read
/// again when it was whole, and never takes the place of another file. `keywheel state copy sqlite:FILE TARGET` restores it
/// into an empty database of either kind; `--state sqlite:FILE` looks into it. Where the audit log is broken, the copy is made
/// all the same, faithful to that too, and the exit status is 1.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel state backup\n  keywheel state backup /var/backups/keywheel-$(date +%F).db\n  keywheel state copy sqlite:/var/backups/keywheel-2026-03-01.db '${KEYWHEEL_STATE}'    restore it"
)]
pub struct Backup {
    /// The file; by default backup-INSTANT.db beside an SQLite database, or in .keywheel
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Backup {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let workspace = global.workspace(None);
        let report = block_on(engine::back_up(&workspace, self.state.state.as_deref(), self.file.as_deref()))?;
        if self.format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::state::backed_up(&report, global.view()))?;
        }
        Ok(ExitStatus::Error.when(report.audit_broken.is_some()))
    }
}
