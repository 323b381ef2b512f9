//! `init`: the first files of a policy repository, ready to be committed and applied.
//!
//! Nothing that exists is overwritten, and a second run writes nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::document;
use crate::model::Name;
use crate::source::{CONFIG_FILE, POLICIES_FOLDER};

use super::EngineError;

/// Where editors look for the schema: the first line of every document names it.
const SCHEMA: &str = "schema/keywheel.v1.json";

/// What git must not keep: the state, the keys of the local provider, and saved plans.
const IGNORED: &[&str] = &["/.keywheel/", "/plan.json"];

/// Where GitHub looks for jobs.
const WORKFLOWS: &str = ".github/workflows";

/// A file of the examples for CI, which the tests run.
macro_rules! example {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ci/", $name))
    };
}

/// What stands for the tenant's name in the templates.
const TENANT: &str = "TENANT";

/// What `init` did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InitReport {
    /// The files that were written or added to, relative to the directory.
    pub written: Vec<String>,
    /// The files that were there already, and stay as they are.
    pub kept: Vec<String>,
    /// The file with the tenant's policies and keys: what to edit next.
    pub policies: String,
    /// Is the directory in no git repository yet?
    pub needs_git: bool,
}

/// Writes the first files of a policy repository into `dir`, which is made if it is not there.
///
/// # Errors
/// A file cannot be read or written; what was written before stays.
pub fn init(dir: &Path, tenant: &Name) -> Result<InitReport, EngineError> {
    let of_tenant = |template: &str| template.replace(TENANT, tenant.as_str());
    let policies = format!("{POLICIES_FOLDER}/{tenant}/keys.yaml");
    let files = [
        (CONFIG_FILE.to_owned(), include_str!("init/keywheel.yaml").to_owned()),
        (format!("{POLICIES_FOLDER}/{tenant}/tenant.yaml"), of_tenant(include_str!("init/tenant.yaml"))),
        (policies.clone(), of_tenant(include_str!("init/keys.yaml"))),
        (format!("tests/{tenant}.test.yaml"), of_tenant(include_str!("init/test.yaml"))),
        (SCHEMA.to_owned(), format!("{:#}\n", document::schema())),
        (format!("{WORKFLOWS}/keywheel-review.yaml"), example!("github/keywheel-review.yaml").to_owned()),
        (format!("{WORKFLOWS}/keywheel-apply.yaml"), example!("github/keywheel-apply.yaml").to_owned()),
    ];
    let is_in_git = |dir: &Path| dir.ancestors().any(|folder| folder.join(".git").exists());
    let needs_git = !std::path::absolute(dir).is_ok_and(|dir| is_in_git(&dir));
    let mut report = InitReport { policies, needs_git, ..InitReport::default() };
    for (name, content) in files {
        let path = dir.join(&name);
        let is_new = create(&path, &content).map_err(failed(&path))?;
        if is_new { report.written.push(name) } else { report.kept.push(name) }
    }
    let path = dir.join(".gitignore");
    let is_changed = ignore(&path).map_err(failed(&path))?;
    if is_changed { &mut report.written } else { &mut report.kept }.push(".gitignore".to_owned());
    Ok(report)
}

/// Writes a file that is not there yet, and says whether it did.
fn create(path: &Path, content: &str) -> io::Result<bool> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(content.as_bytes()).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Adds the lines that a `.gitignore` lacks, and says whether it lacked any.
fn ignore(path: &Path) -> io::Result<bool> {
    let present = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    // `.keywheel/`, `/.keywheel` and `/.keywheel/` all keep it out.
    let bare = |line: &str| line.trim().trim_matches('/').to_owned();
    let is_present = |wanted: &str| present.lines().any(|line| bare(line) == bare(wanted));
    let missing: Vec<&str> = IGNORED.iter().copied().filter(|line| !is_present(line)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let start = if present.is_empty() || present.ends_with('\n') { "" } else { "\n" };
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{start}{}\n", missing.join("\n")).as_bytes())?;
    Ok(true)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path: PathBuf = path.to_owned();
    move |error| {
        EngineError::new("init/write", format!("cannot write {}: {error}", path.display()))
            .help("choose another directory with -C, or make this one writable; run init again, nothing is overwritten")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Selection, Workspace, load};

    fn tenant() -> Name {
        Name::new("my-team").unwrap()
    }

    fn git_init(dir: &Path) {
        let run = std::process::Command::new("git").args(["init", "-q"]).current_dir(dir).status().unwrap();
        assert!(run.success());
    }

    fn contents(dir: &Path, report: &InitReport) -> Vec<String> {
        let names = report.written.iter().chain(&report.kept);
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.into_iter().map(|name| fs::read_to_string(dir.join(name)).unwrap()).collect()
    }

    #[test]
    fn a_new_repository_has_no_findings_and_a_key_under_a_policy() {
        let dir = tempfile::tempdir().unwrap();
        git_init(dir.path());
        let report = init(dir.path(), &tenant()).unwrap();
        assert_eq!((report.written.len(), report.kept.len(), report.needs_git), (8, 0, false));
        let desired = load(&Workspace { dir: dir.path().to_owned(), selection: Selection::WorkTree }).unwrap();
        assert!(desired.findings.is_empty(), "{:#?}", desired.findings);
        assert_eq!((desired.repository.policies.len(), desired.repository.keys.len()), (1, 1));
        assert!(desired.repository.tenants.contains_key(&tenant()));
    }

    #[test]
    fn the_first_tests_of_a_new_repository_hold() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), &tenant()).unwrap();
        let workspace = Workspace { dir: dir.path().to_owned(), selection: Selection::WorkTree };
        let report = crate::engine::run_tests(&workspace, &[]).unwrap();
        assert!(report.is_good() && report.passed > 0, "{report:#?}");
    }

    #[test]
    fn a_second_run_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let first = init(dir.path(), &tenant()).unwrap();
        assert!(first.needs_git);
        let before = contents(dir.path(), &first);
        let second = init(dir.path(), &tenant()).unwrap();
        assert_eq!(second.written, Vec::<String>::new());
        assert_eq!(contents(dir.path(), &second), before);
    }

    #[test]
    fn what_exists_is_kept_and_what_is_missing_is_added() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONFIG_FILE), "mine").unwrap();
        fs::write(dir.path().join(".gitignore"), "/target\n.keywheel/").unwrap();
        let report = init(dir.path(), &tenant()).unwrap();
        assert_eq!(report.kept, [CONFIG_FILE]);
        assert_eq!(fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap(), "mine");
        let ignored = fs::read_to_string(dir.path().join(".gitignore")).unwrap();
        assert_eq!(ignored, "/target\n.keywheel/\n/plan.json\n");
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(POLICIES_FOLDER), "").unwrap();
        let error = init(dir.path(), &tenant()).unwrap_err();
        assert_eq!(error.code, "init/write");
        assert!(error.message.contains("policies"), "{}", error.message);
    }
}
