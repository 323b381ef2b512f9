//! `keywheel show`.

use std::path::PathBuf;

use clap::Args;

use crate::engine::clock;
use crate::plan::PlanDocument;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::forms::FormArg;
use super::output;
use super::plan;

/// Show a saved plan
///
/// Reads the file alone: no database, no key manager, no repository. A plan that was altered is refused. It says until when the
/// plan can be applied, and of how many approvals that it needs it has how many, by which keys; whose those are, and whether they
/// count, is for `apply` to say.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Show {
    /// A file that `keywheel plan --out` wrote
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    #[command(flatten)]
    format: FormArg,
}

const EXAMPLES: &str = "\
Examples:
  keywheel show plan.json
  keywheel show plan.json --format json | jq .summary
  keywheel show plan.json --format markdown >comment.md    for a pull request
  keywheel show plan.json --format html >plan.html         to read and to print";

impl Show {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let saved = plan::read(&self.plan)?;
        if self.format.is_json() {
            output::json(&PlanDocument::from(saved))?;
            return Ok(ExitStatus::Done);
        }
        self.format.print_saved(&saved, clock::now(), global.view())?;
        Ok(ExitStatus::Done)
    }
}
