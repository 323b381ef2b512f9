//! `keywheel drift`.

use clap::Args;

use crate::engine::{self, PlanOptions, Versioned};
use crate::render;

use super::args::{FormatArg, Global, StateArg};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::progress::{Silent, TextProgress};
use super::runtime::block_on;

/// Show what was changed behind keywheel's back; nothing is written
///
/// Compares three sides: what git says, what the state database recorded, and what the key managers hold.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel drift\n  keywheel drift --detailed-exitcode    for a nightly job: 6 if there is drift"
)]
pub struct DriftCommand {
    /// Exit with 6 if there is drift
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl DriftCommand {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let options = PlanOptions { refresh: true, as_of: None, state: self.state.state.clone() };
        let workspace = global.workspace(None);
        let planned = if self.format.is_json() {
            block_on(engine::drift(&workspace, &options, &Silent))?
        } else {
            block_on(engine::drift(&workspace, &options, &TextProgress::new()))?
        };
        if planned.desired.repository.failed {
            return Err(super::validate::refused(&planned.desired));
        }
        let drift = render::drift::DriftDocument::new(&planned);
        if self.format.is_json() {
            output::json(&Versioned::new(&drift))?;
        } else {
            output::text(&render::drift::draw(&drift, global.view()))?;
        }
        Ok(ExitStatus::Partly
            .when(drift.is_incomplete())
            .or(ExitStatus::Drift.when(self.detailed_exitcode && !drift.is_empty())))
    }
}
