//! `keywheel validate`.

use clap::Args;

use crate::diagnostic::Finding;
use crate::engine::{self, Desired};
use crate::render::findings;
use crate::render::style::{self, paint};
use crate::render::text::count;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::forms::FormArg;
use super::output;

/// Check every document, and show all mistakes at once
///
/// Three passes: YAML and JSON schema; each document's own sense; the whole set. Each finding has its place, a stable code,
/// and what to do. No database and no key manager is asked.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel validate\n  keywheel validate --ref origin/main --format json\n  keywheel validate --format github\n  keywheel validate --format markdown >comment.md    for a pull request"
)]
pub struct Validate {
    /// Check the documents of this commit, branch or tag instead of the work tree
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    #[command(flatten)]
    format: FormArg,
}

impl Validate {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let desired = engine::load(&global.workspace(self.reference.as_deref()))?;
        let found = &desired.findings;
        let status = ExitStatus::Error.when(found.iter().any(Finding::is_error));
        if let Some(text) = self.format.of_check(found, desired.repository.documents) {
            output::bytes(text.as_bytes())?;
            return Ok(status);
        }
        if self.format.is_json() {
            output::json(&findings::report(found))?;
            return Ok(status);
        }
        let mut text = findings::draw(found, true, global.view().columns());
        if status == ExitStatus::Done {
            let documents = count(desired.repository.documents, "document");
            text.push_str(&format!("{} {documents} checked.\n", paint(style::GOOD, "Valid.")));
        }
        output::text(&text)?;
        Ok(status)
    }
}

/// Shows the findings of documents that nothing can be planned from, on standard error.
pub fn refused(desired: &Desired) -> CliError {
    output::note(&findings::draw(&desired.findings, true, output::error_columns()));
    CliError::new("documents/invalid", "a document that holds for all tenants has errors: nothing was planned")
        .help("`keywheel validate` shows them")
}
