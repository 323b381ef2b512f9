//! `keywheel state recover`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;

use crate::cli::apply::{ask, nobody_to_ask};
use crate::cli::args::{FormatArg, Global, StateArg};
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::output;
use crate::cli::runtime::block_on;
use crate::engine::{self, EngineError, RecoveryReport, Verdict, Versioned};
use crate::render;

/// Take back what an apply could not record when it lost the state database
///
/// Such an apply writes what key managers had done into a file, and names it. What still fits is shown, asked about, written in
/// one transaction, and recorded in the audit log. What the record knows by now is left alone, so that taking a file back twice
/// changes nothing; the next apply finds everything without the file, too, by asking the key managers.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  keywheel state recover .keywheel/recovery-01a20857-4f4b-7087-9038-668a2ba0539d.json"
)]
pub struct Recover {
    /// The file that the apply named
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not ask
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Recover {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let workspace = global.workspace(None);
        let approve = |report: &RecoveryReport| -> Result<bool, EngineError> {
            if self.auto_approve {
                return Ok(true);
            }
            if let Some(why) = nobody_to_ask(self.format) {
                let message = format!("{why}, and --auto-approve is not given");
                return Err(EngineError::new("state/no-approval", message)
                    .help("give --auto-approve: what does not fit any more is left alone"));
            }
            output::note(&render::state::recovery(report));
            Ok(ask("Record this?", &AtomicBool::new(false)))
        };
        let work = engine::recover_state(&workspace, self.state.state.as_deref(), &self.file, &approve);
        let Some(report) = block_on(work)? else {
            return Err(CliError::new("state/cancelled", "nobody said yes: nothing was changed"));
        };
        if self.format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::state::recovered(&report))?;
        }
        let unknown = report.rotations.iter().any(|rotation| rotation.verdict == Verdict::Unknown);
        Ok(ExitStatus::Partly.when(unknown))
    }
}
