//! `test`: users' own cases, found, planned and compared.
//!
//! # Invariant
//! Nothing but files is read: no database, no key manager, no clock. The same files give the same report on any day.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use crate::diagnostic::{Finding, Place};
use crate::document::{self, GivenTest, SourceFile, TestSource};
use crate::model::{Address, RecordedKey, Timestamp};
use crate::plan::{Mismatch, Situation, mismatches};
use crate::provider::capabilities;
use crate::source::{CONFIG_FILE, POLICIES_FOLDER};

use super::{EngineError, Workspace, load};

/// How the name of a file of tests ends.
pub const TEST_ENDINGS: [&str; 2] = [".test.yaml", ".test.yml"];

/// Where tests are looked for.
const TESTS_FOLDER: &str = "tests";

/// What became of the cases.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct TestReport {
    /// How many hold.
    pub passed: usize,
    /// How many do not.
    pub failed: usize,
    /// Each case, in the order of files and of places in them.
    pub cases: Vec<CaseReport>,
    /// What is wrong with the files of tests; what could not be read was not run.
    pub findings: Vec<Finding>,
}

impl TestReport {
    /// Does everything hold?
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failed == 0 && !self.findings.iter().any(Finding::is_error)
    }
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CaseReport {
    /// The test that it is a case of.
    pub test: String,
    /// What is expected, in words.
    pub name: String,
    /// Where its name stands.
    pub place: Place,
    /// The instant that it was planned for.
    pub now: Timestamp,
    /// Does it hold?
    pub passed: bool,
    /// The lists of the plan that are not as they were expected.
    pub mismatches: Vec<Mismatch>,
    /// What is wrong with what the case is made of.
    pub findings: Vec<Finding>,
}

/// Runs the tests in `paths`; without any, those under `tests/` and `policies/`.
///
/// # Errors
/// A file cannot be read, or there is no test.
pub fn run_tests(workspace: &Workspace, paths: &[PathBuf]) -> Result<TestReport, EngineError> {
    let root = load::root_of(workspace)?;
    let snapshot = match load::snapshot(workspace) {
        // Tests may bring all of their documents with them.
        Err(error) if error.code == NO_POLICIES => None,
        snapshot => Some(snapshot?.1),
    };
    let files = find(&root, paths)?;
    let files: Vec<SourceFile> = files.iter().map(|path| read(&root, path)).collect::<Result<_, _>>()?;
    let source = TestSource {
        config: snapshot.as_ref().and_then(|snapshot| snapshot.config.as_ref()),
        config_path: CONFIG_FILE,
        files: snapshot.as_ref().map_or(&[], |snapshot| &snapshot.files),
    };
    let mut report = TestReport::default();
    for file in &files {
        let mut tests = document::test_file(file);
        report.findings.append(&mut tests.findings);
        for given in &tests.tests {
            let cases: Vec<usize> = (0..given.test.cases.len()).collect();
            report.cases.par_extend(cases.into_par_iter().filter_map(|index| run(given, index, source, &file.path)));
        }
    }
    report.passed = report.cases.iter().filter(|case| case.passed).count();
    report.failed = report.cases.len() - report.passed;
    Ok(report)
}

const NO_POLICIES: &str = "source/no-policies";

fn run(given: &GivenTest<'_>, index: usize, source: TestSource<'_>, file: &str) -> Option<CaseReport> {
    let case = given.test.cases.get(index)?;
    let shared = given.test.recorded.iter().flat_map(|recorded| &recorded.keys);
    let keys: BTreeMap<Address, &RecordedKey> = shared.chain(&case.keys).map(|key| (key.key.clone(), key)).collect();
    let loaded = given.given(source, capabilities, case.now);
    let before = given.applied_before(source, capabilities, case.now);
    // Without documents of its own, the record holds those that are given.
    let is_recorded = given.test.recorded.is_some() || !case.keys.is_empty();
    let applied = before.as_ref().or_else(|| is_recorded.then_some(&loaded));
    let situation = Situation { given: &loaded, applied, keys: &keys, capabilities, now: case.now };
    let place = given.place(index);
    let mut findings: Vec<Finding> = (situation.unknown_keys().into_iter())
        .map(|key| {
            let message = format!("the key {key} is recorded, and no document tells what it is");
            let help = "name a key of the documents that are given, or add its document to `recorded.documents`";
            Finding::error("test/unknown-key", message).help(help).at(place.clone(), None)
        })
        .collect();
    findings.extend(twice(given.test.recorded.iter().flat_map(|recorded| &recorded.keys), &place));
    findings.extend(twice(case.keys.iter(), &place));
    let of_the_record = before.iter().flat_map(|before| &before.findings);
    let is_here = |finding: &Finding| finding.place.as_ref().is_some_and(|place| *place.file == *file);
    let is_new = |finding: &Finding| finding.is_error() && is_here(finding) && !loaded.findings.contains(finding);
    findings.extend(of_the_record.filter(|finding| is_new(finding)).cloned());
    let mismatches = mismatches(&case.expect, &situation.plan());
    Some(CaseReport {
        test: given.test.name.clone(),
        name: case.name.clone(),
        place,
        now: case.now,
        passed: mismatches.is_empty() && findings.is_empty(),
        mismatches,
        findings,
    })
}

/// Keys that stand in a list twice: which of their ages is meant, nobody can know.
fn twice<'k>(keys: impl Iterator<Item = &'k RecordedKey>, place: &Place) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let repeated = keys.filter(|key| !seen.insert(&key.key));
    let finding = |key: &RecordedKey| {
        Finding::error("test/key-twice", format!("the key {} is recorded twice", key.key))
            .help("keep one of the entries; a key that is otherwise in one case stands in `keys` of that case")
            .at(place.clone(), None)
    };
    repeated.map(finding).collect()
}

/// The files of tests that are meant, each once, sorted.
fn find(root: &Path, paths: &[PathBuf]) -> Result<Vec<PathBuf>, EngineError> {
    let mut files = Vec::new();
    if paths.is_empty() {
        for folder in [root.join(TESTS_FOLDER), root.join(POLICIES_FOLDER)].iter().filter(|folder| folder.is_dir()) {
            collect(folder, &mut files)?;
        }
    }
    for path in paths {
        if fs::metadata(path).map_err(failed(path))?.is_dir() {
            collect(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        let help = format!("write one: `{TESTS_FOLDER}/keys{}`, as `keywheel init` does", TEST_ENDINGS[0]);
        return Err(EngineError::new("test/none", "there are no tests").help(help));
    }
    Ok(files)
}

/// Adds every file of tests in a folder. Symbolic links are not followed.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), EngineError> {
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let kind = entry.file_type().map_err(failed(&entry.path()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() && !name.starts_with('.') {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && TEST_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path) -> Result<SourceFile, EngineError> {
    let content = fs::read(path).map_err(failed(path))?;
    let shown = path.strip_prefix(root).unwrap_or(path);
    let shown = shown.strip_prefix("./").unwrap_or(shown).to_string_lossy().replace('\\', "/");
    Ok(SourceFile { path: shown.into(), content: Arc::from(content), symlink: false })
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |error| EngineError::new("test/read", format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceError;

    #[test]
    fn a_repository_without_documents_has_the_code_that_is_looked_for() {
        assert_eq!(SourceError::NoPolicies { place: PathBuf::new() }.code(), NO_POLICIES);
    }
}
