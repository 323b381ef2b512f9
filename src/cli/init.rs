//! `keywheel init`.

use std::path::Path;

use clap::Args;

use crate::engine::{self, InitReport};
use crate::model::Name;
use crate::render::style::{self, paint};

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;

/// Begin a policy repository: settings, a first tenant with a policy and a key, tests of them, and a CI example
///
/// Nothing that exists is overwritten.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  keywheel init\n  keywheel -C policies-repo init --tenant healthcare-org-123")]
pub struct Init {
    /// The first tenant: a team, a customer, a product
    #[arg(long, value_name = "TENANT", default_value = "my-team")]
    tenant: Name,
}

impl Init {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let report = engine::init(&global.dir, &self.tenant)?;
        let written = report.written.iter().map(|name| format!("{} {name}", paint(style::ADD, "+")));
        let stays = |name| paint(style::DIM, &format!("  {name} is here already, and stays as it is"));
        let kept = report.kept.iter().map(stays);
        let files: Vec<String> = written.chain(kept).collect();
        let next = match report.written.as_slice() {
            [] => "Everything is here already: nothing was written.\n".to_owned(),
            _ => next_steps(global, &report),
        };
        output::text(&format!(
            "{}

{next}",
            files.join(
                "
"
            )
        ))?;
        Ok(ExitStatus::Done)
    }
}

fn next_steps(global: &Global, report: &InitReport) -> String {
    let dir = &global.dir;
    let (git, keywheel) = if dir == Path::new(".") {
        ("git".to_owned(), "keywheel".to_owned())
    } else {
        (format!("git -C {}", dir.display()), format!("keywheel -C {}", dir.display()))
    };
    let init = if report.needs_git { format!("  {git} init\n") } else { String::new() };
    format!(
        "{}\n\n{init}  {git} add .\n  {git} commit -m \"keywheel: first policies\"\n  {keywheel} plan\n  {keywheel} apply\n\n\
         Then edit {}: an editor that knows yaml-language-server checks it as you type. The jobs in .github/workflows\n\
         want the address of your binary and your roles; without GitHub, remove them.\n",
        paint(style::HEADING, "What to type next:"),
        report.policies,
    )
}
