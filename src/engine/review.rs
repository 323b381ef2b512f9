//! Reviews: two commits, or a commit and the work tree, compared without any database and any key manager.
//!
//! # Invariant
//! Nothing but git and, where one is given, a state snapshot is read. `keywheel.yaml` of either side is only ever compared:
//! whatever a pull request writes into it, nothing is opened that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use crate::diagnostic::Finding;
use crate::document;
use crate::model::Timestamp;
use crate::plan::{self, Base, Review, Sources, StateSnapshot};
use crate::provider::capabilities;
use crate::source::{CONFIG_FILE, MergeBase, POLICIES_FOLDER, Snapshot};

use super::{Desired, EngineError, Planned, Selection, Workspace, clock, load};

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
    let base = repo.read_ref(&commit)?;
    let head = match head_ref {
        Some(reference) => repo.read_ref(reference)?,
        None => repo.read_worktree()?,
    };
    let changed = changed_files(&base, &head);
    let check =
        |snapshot: &Snapshot| document::load_to_compare(snapshot.config.as_ref(), &snapshot.files, capabilities, now);
    let (before, after) = (check(&base), check(&head));
    let mut findings = concerning(after.findings, &before.findings, &changed);
    if !is_common {
        let message = format!("{} and these documents have no history in common", options.base);
        findings.push(
            Finding::warning("review/no-common-history", message)
                .help("they are compared with the ref itself: what others changed there shows up as undone here"),
        );
    }
    let sources = Sources {
        commit: head.origin.as_ref().map(|origin| origin.commit.clone()),
        policies_tree: head.policies_tree,
        config_blob: head.config_blob,
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
        origin: head.origin,
        dirty: head.dirty,
    };
    Ok(Planned { desired, plan })
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

/// The files that are not the same on both sides.
fn changed_files(base: &Snapshot, head: &Snapshot) -> BTreeSet<String> {
    let files = |snapshot: &Snapshot| -> BTreeMap<String, std::sync::Arc<[u8]>> {
        snapshot.files.iter().map(|file| (file.path.to_string(), file.content.clone())).collect()
    };
    let (before, after) = (files(base), files(head));
    let differs = |path: &&String| before.get(*path) != after.get(*path);
    before.keys().chain(after.keys()).filter(differs).cloned().collect()
}

/// The findings that a review shows: all of those in a file that the change touches or that holds for every tenant, and
/// elsewhere those that the base does not have.
fn concerning(found: Vec<Finding>, before: &[Finding], changed: &BTreeSet<String>) -> Vec<Finding> {
    let shown: Vec<bool> = {
        let known: BTreeSet<_> = before.iter().map(identity).collect();
        let is_shown = |finding| {
            let Finding { place, code, .. }: &Finding = finding;
            let file = place.as_ref().map_or("", |place| &place.file);
            let is_claim = matches!(code.as_ref(), "set/alias-taken" | "set/key-id-taken");
            let is_here = !is_claim && (holds_for_all(file) || changed.contains(file));
            is_here || !known.contains(&identity(finding))
        };
        found.iter().map(is_shown).collect()
    };
    found.into_iter().zip(shown).filter_map(|(finding, is_shown)| is_shown.then_some(finding)).collect()
}

/// Is a file nobody's own?
fn holds_for_all(file: &str) -> bool {
    let below = file.strip_prefix(POLICIES_FOLDER).and_then(|rest| rest.strip_prefix('/'));
    file == CONFIG_FILE || file.is_empty() || below.is_some_and(|below| !below.contains('/'))
}

/// What a finding is, wherever in its file it stands.
fn identity(finding: &Finding) -> impl Ord + '_ {
    let Finding { code, severity, message, place, object, tenant_id, .. } = finding;
    (code, severity, message, place.as_ref().map(|place| &place.file), object, tenant_id)
}
