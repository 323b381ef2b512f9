//! Reviews: two commits, or a commit and the work tree, compared without any database and any key manager.
//!
//! # Invariant
//! Nothing but git and, where one is given, a state snapshot is read. `keywheel.yaml` of either side is only ever compared:
//! whatever a pull request writes into it, nothing is opened that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use crate::diagnostic::Finding;
use crate::document::{self, Loaded, Needles, Reach, Repository, SourceFile};
use crate::model::{Name, Timestamp};
use crate::plan::{self, Base, Review, Sources, StateSnapshot};
use crate::provider::capabilities;
use crate::source::{Comparison, MergeBase, Side, Unread};

use super::{Desired, EngineError, Planned, Selection, Workspace, clock, load, ownership};

/// How a review is made.
#[derive(Debug, Clone)]
pub struct ReviewOptions {
    /// What the documents are compared with: a branch, a tag or a commit.
    pub base: String,
    /// A file that `state snapshot` wrote.
    pub snapshot: Option<String>,
    /// Another instant than now.
    pub as_of: Option<Timestamp>,
}

/// Compares the documents of a workspace with those of the commit where their branch left `base`.
///
/// # Errors
/// The documents of either side could not be read at all, or the snapshot is none. What is wrong *in* the documents is in
/// the plan's diagnostics.
pub fn review(workspace: &Workspace, options: &ReviewOptions) -> Result<Planned, EngineError> {
    let ages = options.snapshot.as_deref().map(read_snapshot).transpose()?;
    let now = options.as_of.unwrap_or_else(clock::now);
    let repo = load::open(&workspace.dir)?;
    let head_ref = match &workspace.selection {
        Selection::Ref(reference) => Some(reference.as_str()),
        Selection::WorkTree => None,
    };
    let MergeBase { commit, is_common } = repo.merge_base(&options.base, head_ref)?;
    let comparison = repo.compare(&commit, head_ref)?;
    let Compared { before, after, changed } = compare(&comparison, now)?;
    let mut findings = document::concerning(&after.findings, &before.findings, &changed);
    if !is_common {
        let message = format!("{} and these documents have no history in common", options.base);
        findings.push(
            Finding::warning("review/no-common-history", message)
                .help("they are compared with the ref itself: what others changed there shows up as undone here"),
        );
    }
    findings.extend(base_errors(&before, &options.base));
    if let Some(origin) = &comparison.origin {
        findings.extend(ownership::review(&repo, &commit, &origin.commit, &before.repository, now)?);
    }
    let sources = Sources {
        commit: comparison.origin.as_ref().map(|origin| origin.commit.clone()),
        policies_tree: comparison.policies_tree.clone(),
        config_blob: comparison.config_blob.clone(),
    };
    let plan = plan::review(&Review {
        base: &before.repository,
        head: &after.repository,
        findings: &findings,
        sources: &sources,
        compared_with: &Base { reference: options.base.clone(), commit },
        ages: ages.as_ref(),
        capabilities,
        now,
    });
    let desired = Desired {
        root: load::root(&repo, &workspace.dir),
        repository: after.repository,
        findings,
        sources,
        origin: comparison.origin.clone(),
        dirty: comparison.dirty.clone(),
    };
    Ok(Planned { desired, plan })
}

/// What the base has wrong cannot be compared with: its documents are taken as not there.
fn base_errors(before: &Loaded, base: &str) -> Option<Finding> {
    let Repository { failed, failed_tenants, .. } = &before.repository;
    let whose = if *failed {
        "keywheel.yaml, or a document for all tenants,".to_owned()
    } else if failed_tenants.is_empty() {
        return None;
    } else {
        let names: Vec<String> = failed_tenants.iter().map(ToString::to_string).collect();
        format!("the documents of {}", ownership::some(&names))
    };
    let message =
        format!("{whose} had errors in {base}: what they said is not known, and may be shown as new or as a default");
    Some(Finding::warning("review/base-errors", message).help("look at the files themselves, too: git diff"))
}

fn read_snapshot(text: &str) -> Result<StateSnapshot, EngineError> {
    if text.starts_with("sqlite:") || text.contains("://") || text.starts_with("${") {
        return Err(EngineError::new("review/database", "with --base, --state takes a state snapshot, not a database").help(
            "a review opens no database, so that a pull request cannot make it do so: write the ages to a file where the \
             database is at hand, `keywheel state snapshot --out FILE`, and pass that",
        ));
    }
    let path = Path::new(text);
    let failed = |message: String| {
        EngineError::new("review/snapshot", format!("{}: {message}", path.display()))
            .help("write a new one: keywheel state snapshot --out FILE")
    };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    StateSnapshot::parse(file).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests;

/// As much of the earlier and the later documents as tells them apart.
struct Compared {
    before: Loaded,
    after: Loaded,
    /// The paths of the changed files.
    changed: BTreeSet<String>,
}

/// Reads the changed files, and of the others those that the change reaches.
fn compare(comparison: &Comparison<'_>, now: Timestamp) -> Result<Compared, EngineError> {
    let (mut base, mut head) = comparison.sides()?;
    let changed = base.files.iter().chain(&head.files).map(|file| file.path.to_string()).collect();
    let mut unchanged = Unchanged::new(comparison);
    let for_all = comparison.unchanged(None)?;
    let mut more = comparison.read(&for_all)?;
    loop {
        base.files.extend(more.iter().cloned());
        head.files.extend(more);
        let check = |side: &Side| {
            document::load_to_compare(side.config.as_ref(), &side.files, &unchanged.known, capabilities, now)
        };
        let (before, after) = (check(&base), check(&head));
        more = unchanged.take(&document::reach(&before, &after, &changed))?;
        if more.is_empty() {
            let folders = unchanged.known.len();
            more = unchanged.take(&document::reach_of_findings(&before, &after, &changed))?;
            if more.is_empty() && unchanged.known.len() == folders {
                return Ok(Compared { before, after, changed });
            }
        }
    }
}

/// The files that a change leaves alone, and that were not needed until now.
struct Unchanged<'c, 'r> {
    comparison: &'c Comparison<'r>,
    /// Those of a folder that was looked into, with their content where they were searched.
    folders: BTreeMap<String, Vec<Candidate>>,
    /// The names that were looked for in a folder.
    searched: BTreeMap<String, BTreeSet<String>>,
    /// The folders with documents, once it was asked which ones there are.
    known: BTreeSet<Name>,
}

/// A file that may be needed yet.
struct Candidate {
    file: Unread,
    content: Option<SourceFile>,
}

impl<'c, 'r> Unchanged<'c, 'r> {
    fn new(comparison: &'c Comparison<'r>) -> Self {
        Self { comparison, folders: BTreeMap::new(), searched: BTreeMap::new(), known: BTreeSet::new() }
    }

    /// The files that are asked for and were not taken yet.
    fn take(&mut self, reach: &Reach) -> Result<Vec<SourceFile>, EngineError> {
        if reach.folders && self.known.is_empty() {
            for folder in self.comparison.folders()? {
                let has_documents = !self.comparison.unchanged(Some(&folder))?.is_empty();
                self.known.extend(Name::new(folder).ok().filter(|_| has_documents));
            }
        }
        let mut taken = Vec::new();
        if reach.everything {
            for folder in self.comparison.folders()? {
                taken.extend(self.rest_of(&folder)?);
            }
            return Ok(taken);
        }
        for folder in &reach.whole {
            taken.extend(self.rest_of(folder.as_str())?);
        }
        let folders: Vec<String> = reach.named.keys().map(Name::to_string).collect();
        self.fill(&folders)?;
        for (folder, names) in &reach.named {
            taken.extend(self.search(folder.as_str(), names)?);
        }
        if !reach.everywhere.is_empty() {
            let folders = self.comparison.folders()?;
            self.fill(&folders)?;
            for folder in folders {
                taken.extend(self.search(&folder, &reach.everywhere)?);
            }
        }
        Ok(taken)
    }

    fn folder(&mut self, folder: &str) -> Result<&mut Vec<Candidate>, EngineError> {
        if !self.folders.contains_key(folder) {
            let files = self.comparison.unchanged(Some(folder))?;
            let candidates = files.into_iter().map(|file| Candidate { file, content: None }).collect();
            self.folders.insert(folder.to_owned(), candidates);
        }
        Ok(self.folders.entry(folder.to_owned()).or_default())
    }

    /// Everything in a folder.
    fn rest_of(&mut self, folder: &str) -> Result<Vec<SourceFile>, EngineError> {
        let comparison = self.comparison;
        let candidates = std::mem::take(self.folder(folder)?);
        let (read, unread): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|it| it.content.is_some());
        let unread: Vec<Unread> = unread.into_iter().map(|it| it.file).collect();
        let mut files = comparison.read(&unread)?;
        files.extend(read.into_iter().filter_map(|it| it.content));
        Ok(files)
    }

    /// Reads what of some folders was not read yet, all at once.
    fn fill(&mut self, folders: &[String]) -> Result<(), EngineError> {
        for folder in folders {
            self.folder(folder)?;
        }
        let wanted: BTreeSet<&String> = folders.iter().collect();
        let mut unread: Vec<&mut Candidate> = (self.folders.iter_mut())
            .filter(|(folder, _)| wanted.contains(folder))
            .flat_map(|(_, candidates)| candidates)
            .filter(|candidate| candidate.content.is_none())
            .collect();
        let files: Vec<Unread> = unread.iter().map(|candidate| candidate.file.clone()).collect();
        for (candidate, content) in unread.iter_mut().zip(self.comparison.read(&files)?) {
            candidate.content = Some(content);
        }
        Ok(())
    }

    /// What in a folder, whose files were read, may have one of the names.
    fn search(&mut self, folder: &str, names: &BTreeSet<String>) -> Result<Vec<SourceFile>, EngineError> {
        let searched = self.searched.entry(folder.to_owned()).or_default();
        let fresh: BTreeSet<String> = names.difference(searched).cloned().collect();
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        searched.extend(fresh.iter().cloned());
        let candidates = self.folder(folder)?;
        let needles = Needles::new(&fresh);
        let is_found =
            |candidate: &Candidate| candidate.content.as_ref().is_some_and(|file| needles.may_be_in(&file.content));
        let (found, rest): (Vec<_>, Vec<_>) = std::mem::take(candidates).into_iter().partition(is_found);
        *candidates = rest;
        Ok(found.into_iter().filter_map(|candidate| candidate.content).collect())
    }
}
