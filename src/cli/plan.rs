//! `keywheel plan`.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use crate::diagnostic::Finding;
use crate::engine::{self, PlanOptions, Planned, ReviewOptions};
use crate::model::Timestamp;
use crate::plan::approvals::NEEDED;
use crate::plan::{Plan, PlanDocument, Saved};

use super::args::{Global, instant};
use super::error::CliError;
use super::exit::ExitStatus;
use super::forms::FormArg;
use super::out;
use super::output;
use super::progress::{Silent, TextProgress};
use super::runtime::block_on;

/// Show what apply would do, and why; nothing is written
///
/// Compares the documents with the state database and with what the key managers hold. A saved plan (--out) can be
/// reviewed with `show` and applied with `apply FILE`, which does what is in it or nothing.
///
/// With --base, it is a review of a change: the documents are compared with those of the commit where their branch left REF
/// (`git merge-base`), so that what others merged meanwhile is not in it; where the two have no history in common, with REF
/// itself. No database and no key manager is asked, and nothing that keywheel.yaml names is opened, so that it is safe for
/// pull requests of strangers. Each change is shown with what follows from it. Where changes are signed or approved, the owners
/// and settings of before say who may: commits that none of their owners signed are warned of, and so is what will need approvals.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct PlanCommand {
    /// Plan the documents of this commit, branch or tag instead of the work tree
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Review a change: compare with the documents where the branch left REF, instead of with the record
    #[arg(long, value_name = "REF", conflicts_with = "refresh")]
    base: Option<String>,
    /// Save the plan to FILE, for `show` and `apply FILE`; an older plan that is there is replaced, and no other file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Ask the key managers what they hold; with false, trust the record
    #[arg(
        long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true"
    )]
    refresh: bool,
    /// Plan for another instant: what will be due at Christmas?
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    as_of: Option<Timestamp>,
    /// Another state database than keywheel.yaml names, as sqlite:PATH, a postgres:// URL without a password, or '${NAME}' of an
    /// environment variable that holds either; with --base, a file of `state snapshot`, for the keys' ages
    #[arg(long, visible_alias = "state-url", value_name = "URL")]
    state: Option<String>,
    /// Exit with 2 if there are changes, and with 6 if there is drift alone
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    format: FormArg,
}

const EXAMPLES: &str = "\
Examples:
  keywheel plan                            what would apply do now?
  keywheel plan --out plan.json            save it, for `keywheel apply plan.json`
  keywheel plan --ref origin/main --as-of 2026-12-24
  keywheel plan --base origin/main         review a branch: what it changes, and what follows
  keywheel plan --base origin/main --ref feature --state ages.json
  keywheel plan --detailed-exitcode        for CI: 0 no changes, 2 changes, 6 drift";

impl PlanCommand {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        out::check(self.out.as_deref())?;
        let Planned { desired, plan } = self.make(global)?;
        // A review shows its mistakes where it shows the change.
        if desired.repository.failed && self.base.is_none() {
            return Err(super::validate::refused(&desired));
        }
        let status = ExitStatus::Error.when(desired.repository.failed).or(status(&plan, self.detailed_exitcode));
        if !self.format.is_json() {
            self.format.print(&plan, global.view())?;
        }
        let (not_applicable, refused) = (plan.not_applicable.clone(), is_refused(&plan));
        let needs_approval = plan.diagnostics.iter().any(|finding| finding.code == NEEDED);
        let document = PlanDocument::from(plan);
        if let Some(path) = &self.out {
            out::save(path, |writer| document.write(writer))?;
            let path = path.display();
            output::note(&match not_applicable {
                None if refused => format!("\nSaved to {path}, to be read: as it stands, apply refuses it."),
                None if needs_approval => {
                    format!(
                        "\nSaved to {path}. Let its owners approve it: keywheel approve {path}; then: keywheel apply {path}"
                    )
                }
                None => format!("\nSaved to {path}. To apply exactly this: keywheel apply {path}"),
                Some(why) => format!("\nSaved to {path}, to be read: a plan made {why} is not applied."),
            });
        }
        if self.format.is_json() {
            output::json(&document)?;
        }
        Ok(status)
    }

    fn make(&self, global: &Global) -> Result<Planned, CliError> {
        let workspace = global.workspace(self.reference.as_deref());
        if let Some(base) = &self.base {
            let options = ReviewOptions { base: base.clone(), snapshot: self.state.clone(), as_of: self.as_of };
            return Ok(engine::review(&workspace, &options)?);
        }
        let options = PlanOptions { refresh: self.refresh, as_of: self.as_of, state: self.state.clone() };
        Ok(if self.format.is_json() {
            block_on(engine::plan(&workspace, &options, &Silent))?
        } else {
            block_on(engine::plan(&workspace, &options, &TextProgress::new()))?
        })
    }
}

/// Would apply do nothing of it, as it stands?
fn is_refused(plan: &Plan) -> bool {
    let unsigned = |finding: &Finding| finding.is_error() && finding.code.starts_with("signature/");
    !plan.refusals.is_empty() || plan.diagnostics.iter().any(unsigned)
}

/// How `plan` and `show` exit.
pub fn status(plan: &Plan, detailed: bool) -> ExitStatus {
    let incomplete = !plan.left_out.is_empty()
        || plan.unanswered().next().is_some()
        || plan.diagnostics.iter().any(Finding::is_error);
    ExitStatus::Refused
        .when(is_refused(plan))
        .or(ExitStatus::Partly.when(incomplete))
        .or(ExitStatus::Changes.when(detailed && !plan.is_empty()))
        .or(ExitStatus::Drift.when(detailed && plan.is_empty() && !plan.drift.is_empty()))
}

/// Reads a saved plan.
pub fn read(path: &Path) -> Result<Saved, CliError> {
    let file = File::open(path)
        .map_err(|error| CliError::file("read", path, &error).help("save a plan first: keywheel plan --out FILE"))?;
    crate::plan::parse(file).map_err(|error| {
        CliError::new("plan/file", format!("{}: {error}", path.display()))
            .status(ExitStatus::Stale)
            .help("make a new plan: keywheel plan --out FILE")
    })
}
