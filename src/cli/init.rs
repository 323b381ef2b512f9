//! `keywheel init`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use clap::Args;

use crate::model::Name;
use crate::render::schemas;
use crate::render::style::{self, paint};

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;

/// Begin a policy repository: settings, a first tenant with a policy and a key, and a CI example
///
/// Nothing that exists is overwritten.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  keywheel init\n  keywheel -C policies-repo init --tenant healthcare-org-123")]
pub struct Init {
    /// The first tenant: a team, a customer, a product
    #[arg(long, value_name = "TENANT", default_value = "my-team")]
    tenant: Name,
}

/// The lines of `.gitignore`: state, keys and saved plans are no documents.
const IGNORED: &[&str] = &["/.keywheel/", "/plan.json"];

impl Init {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let root = &global.dir;
        let output = global.output();
        let of_tenant = |template: &str| template.replace("TENANT", self.tenant.as_str());
        let folder = format!("policies/{}", self.tenant);
        let files = [
            ("keywheel.yaml".to_owned(), include_str!("init/keywheel.yaml").to_owned()),
            (format!("{folder}/tenant.yaml"), of_tenant(include_str!("init/tenant.yaml"))),
            (format!("{folder}/quarterly.yaml"), of_tenant(include_str!("init/policies.yaml"))),
            ("schema/keywheel.v1.json".to_owned(), schemas::text(&crate::document::schema())),
            (".github/workflows/keywheel.yaml".to_owned(), include_str!("init/workflow.yaml").to_owned()),
        ];
        let mut text = String::new();
        let mut written = 0;
        for (name, content) in &files {
            let is_new = create(&root.join(name), content)?;
            written += usize::from(is_new);
            text += &row(is_new, name);
        }
        let is_new = ignore(&root.join(".gitignore"))?;
        written += usize::from(is_new);
        text += &row(is_new, ".gitignore");
        text += &match written {
            0 => "\nEverything is here already: nothing was written.\n".to_owned(),
            _ => next_steps(global, &self.tenant),
        };
        output.text(&text)?;
        Ok(ExitStatus::Done)
    }
}

fn row(is_new: bool, name: &str) -> String {
    if is_new {
        format!("{} {name}\n", paint(style::ADD, "+"))
    } else {
        format!("{}\n", paint(style::DIM, &format!("  {name} is here already, and stays as it is")))
    }
}

/// Writes a file that is not there yet, and says whether it did.
fn create(path: &Path, content: &str) -> Result<bool, CliError> {
    let failed = |error: std::io::Error| CliError::file("write", path, &error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(content.as_bytes()).map(|()| true).map_err(failed),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Adds the lines that `.gitignore` lacks, and says whether it lacked any.
fn ignore(path: &Path) -> Result<bool, CliError> {
    let failed = |error: std::io::Error| CliError::file("write", path, &error);
    let present = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(CliError::file("read", path, &error)),
    };
    let mut missing: String = IGNORED
        .iter()
        .filter(|line| !present.lines().any(|known| known.trim() == **line))
        .map(|line| format!("{line}\n"))
        .collect();
    if missing.is_empty() {
        return Ok(false);
    }
    if !present.is_empty() && !present.ends_with('\n') {
        missing.insert(0, '\n');
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    file.write_all(missing.as_bytes()).map_err(failed)?;
    Ok(true)
}

fn next_steps(global: &Global, tenant: &Name) -> String {
    let dir = &global.dir;
    let (git, keywheel) = if dir == Path::new(".") {
        ("git".to_owned(), "keywheel".to_owned())
    } else {
        (format!("git -C {}", dir.display()), format!("keywheel -C {}", dir.display()))
    };
    let is_repository = dir.ancestors().any(|folder| folder.join(".git").exists());
    let init = if is_repository { String::new() } else { format!("  {git} init\n") };
    format!(
        "\n{}\n\n{init}  {git} add .\n  {git} commit -m \"keywheel: first policies\"\n  {keywheel} plan\n  {keywheel} apply\n\n\
         Then edit policies/{tenant}/quarterly.yaml: an editor that knows yaml-language-server checks it as you type.\n",
        paint(style::HEADING, "What to type next:"),
    )
}
