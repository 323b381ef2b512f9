//! `keywheel state reclaim`.

use std::sync::atomic::AtomicBool;

use clap::Args;

use crate::cli::apply::{ask, nobody_to_ask};
use crate::cli::args::{FormatArg, Global, StateArg, reason};
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::output;
use crate::cli::runtime::block_on;
use crate::engine::{self, EngineError, ReclaimReport, Versioned};
use crate::model::Address;
use crate::render;

/// Record versions that key managers hold and the record lost, as after an older backup was restored
///
/// Every version that keywheel makes carries the marks of its state and of its key. Those that the record does not know are
/// recorded as the key managers hold them, and so is the primary that a key's stable name leads to. Nothing is done at a key
/// manager. What is found is shown, asked about, written in one transaction, and recorded in the audit log. A version without
/// the marks is never taken.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel state copy sqlite:backup.db '${KEYWHEEL_STATE}'\n  keywheel state verify                                   what does the backup not know?\n  keywheel state reclaim --reason \"the backup of Sunday was restored\"\n  keywheel state reclaim healthcare-org-123/patient-data-encryption-key --reason \"one key first\"\n\nExits with 7 if a key had to be left as it was."
)]
pub struct Reclaim {
    /// Only these keys, as TENANT/NAME
    #[arg(value_name = "TENANT/KEY")]
    keys: Vec<Address>,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Do not ask
    #[arg(long)]
    auto_approve: bool,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Reclaim {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let workspace = global.workspace(None);
        let approve = |report: &ReclaimReport| -> Result<bool, EngineError> {
            if self.auto_approve {
                return Ok(true);
            }
            if let Some(why) = nobody_to_ask(self.format) {
                let message = format!("{why}, and --auto-approve is not given");
                return Err(EngineError::new("state/no-approval", message)
                    .help("see first what is found, on a terminal; then give --auto-approve"));
            }
            output::note(&render::state::reclaim(report, global.view()));
            Ok(ask("Record this?", &AtomicBool::new(false)))
        };
        let work = engine::reclaim(&workspace, self.state.state.as_deref(), &self.keys, &self.reason, &approve);
        let Some(report) = block_on(work)? else {
            return Err(CliError::new("state/cancelled", "nobody said yes: nothing was changed"));
        };
        if self.format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::state::reclaimed(&report, global.view()))?;
        }
        Ok(ExitStatus::Partly.when(!report.left.is_empty()))
    }
}
