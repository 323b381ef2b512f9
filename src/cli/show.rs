//! `keywheel show`.

use std::path::PathBuf;

use clap::Args;

use crate::plan::PlanDocument;
use crate::render;

use super::args::{FormatArg, Global};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::plan;

/// Show a saved plan
///
/// Reads the file alone: no database, no key manager, no repository. A plan that was altered is refused.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel show plan.json\n  keywheel show plan.json --format json | jq .summary"
)]
pub struct Show {
    /// A file that `keywheel plan --out` wrote
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    #[command(flatten)]
    format: FormatArg,
}

impl Show {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let (plan, expires_at) = plan::read(&self.plan)?;
        if self.format.is_json() {
            output::json(&PlanDocument::from(plan))?;
        } else {
            output::text(&render::plan::draw(&plan, global.view()))?;
            output::note(&format!("\nIt can be applied until {}.", render::time::instant(expires_at)));
        }
        Ok(ExitStatus::Done)
    }
}
