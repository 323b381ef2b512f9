//! From a directory or a ref to checked documents.

use std::path::{Path, PathBuf};

use crate::document;
use crate::plan::Sources;
use crate::provider::capabilities;
use crate::source::{Repo, Snapshot, SourceError, read_directory};

use super::{Desired, EngineError, Selection, Workspace};

impl From<SourceError> for EngineError {
    fn from(error: SourceError) -> Self {
        Self::new(error.code(), error.to_string()).help(error.help())
    }
}

/// Reads and checks the documents of a workspace.
///
/// A plain directory without git is read too, as its work tree; it has no origin then, and cannot be applied.
///
/// # Errors
/// The documents could not be read at all. What is wrong *in* them is in [`Desired::findings`].
pub fn load(workspace: &Workspace) -> Result<Desired, EngineError> {
    match (open(&workspace.dir), &workspace.selection) {
        (Ok(repo), Selection::Ref(reference)) => Ok(check(root(&repo, &workspace.dir), repo.read_ref(reference)?)),
        (Ok(repo), Selection::WorkTree) => Ok(check(root(&repo, &workspace.dir), repo.read_worktree()?)),
        (Err(SourceError::NotARepository { .. }), Selection::WorkTree) => {
            let snapshot = read_directory(&workspace.dir)?;
            Ok(check(workspace.dir.clone(), snapshot))
        }
        (Err(error), _) => Err(error.into()),
    }
}

/// The git repository around a directory. Where the directory has documents of its own, it is the policy repository's
/// top; otherwise the work tree's top is.
pub(super) fn open(dir: &Path) -> Result<Repo, SourceError> {
    let repo = Repo::discover(dir)?;
    let has_documents =
        dir.join(crate::source::CONFIG_FILE).exists() || dir.join(crate::source::POLICIES_FOLDER).exists();
    if has_documents { repo.rooted_at(dir) } else { Ok(repo) }
}

/// A bare repository has no work tree: relative paths of its `keywheel.yaml` start where it lies.
fn root(repo: &Repo, dir: &Path) -> PathBuf {
    repo.root().unwrap_or_else(|| dir.to_owned())
}

fn check(root: PathBuf, snapshot: Snapshot) -> Desired {
    let loaded = document::load(snapshot.config.as_ref(), &snapshot.files, capabilities);
    Desired {
        root,
        repository: loaded.repository,
        findings: loaded.findings,
        sources: Sources {
            commit: snapshot.origin.as_ref().map(|origin| origin.commit.clone()),
            policies_tree: snapshot.policies_tree,
            config_blob: snapshot.config_blob,
        },
        origin: snapshot.origin,
        dirty: snapshot.dirty,
    }
}
