//! From a directory or a ref to checked documents.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use crate::document::{self, Keeper};
use crate::model::{Address, EncryptionKey, Recorded, Timestamp};
use crate::plan::Sources;
use crate::provider::capabilities;
use crate::source::{Repo, Snapshot, SourceError, read_directory};
use crate::store::ReadState;

use super::{Desired, EngineError, Selection, Workspace, clock, planning};

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
    let (root, snapshot) = snapshot(workspace)?;
    Ok(check(root, snapshot, clock::now(), &|_, _| None))
}

/// Documents, and what is recorded of them.
pub(super) struct Known {
    pub desired: Desired,
    /// None where there is no database yet.
    pub state: Option<Box<dyn ReadState>>,
    pub recorded: Recorded,
}

impl Known {
    /// For what works on a record alone.
    pub(super) fn with_state(self) -> Result<(Desired, Box<dyn ReadState>, Recorded), EngineError> {
        let Self { desired, state, recorded } = self;
        let Some(state) = state else {
            return Err(if desired.repository.failed {
                EngineError::new(
                    "state/unknown",
                    "keywheel.yaml has errors: it does not say where the state database is",
                )
                .help("`keywheel validate` shows them")
            } else {
                EngineError::new("state/missing", "there is no state database yet")
                    .help("`keywheel apply` makes the keys first")
            });
        };
        Ok((desired, state, recorded))
    }
}

/// Reads the record while the documents are checked. Who has an alias in the record keeps it.
pub(super) async fn load_with_record(workspace: &Workspace, state: Option<&str>) -> Result<Known, EngineError> {
    load_at(workspace, state, clock::now()).await
}

/// [`load_with_record`] as it is at an instant.
pub(super) async fn load_at(workspace: &Workspace, state: Option<&str>, now: Timestamp) -> Result<Known, EngineError> {
    let (root, snapshot) = snapshot(workspace)?;
    let config = document::config(snapshot.config.as_ref());
    let location = config.map(|config| planning::location(&root, state.unwrap_or(&config.state)));
    let (send, receive) = mpsc::channel::<Arc<Recorded>>();
    let checking = tokio::task::spawn_blocking(move || {
        let recorded = OnceCell::new();
        // The record is waited for only where an alias is contested.
        check(root, snapshot, now, &|name, claimants| {
            let recorded = recorded.get_or_init(|| receive.recv().ok());
            recorded.as_ref().and_then(|recorded| owner(recorded, name, claimants))
        })
    });
    let read = async {
        let Some(location) = location else { return Ok((None, Recorded::default())) };
        let Some(state) = planning::open_state(&location?).await? else { return Ok((None, Recorded::default())) };
        let recorded = state.recorded().await?;
        Ok::<_, EngineError>((Some(state), recorded))
    };
    let read = read.await.map(|(state, recorded)| (state, Arc::new(recorded)));
    if let Ok((_, recorded)) = &read {
        // Nobody listens where nothing is contested.
        let _ = send.send(recorded.clone());
    }
    drop(send);
    let desired = checking
        .await
        .map_err(|error| EngineError::new("documents/check", format!("checking the documents stopped: {error}")))?;
    let (state, recorded) = match read {
        // What is wrong with the documents comes first: it may be `keywheel.yaml` that leads to the wrong database.
        Err(_) if desired.repository.failed => (None, Arc::default()),
        read => read?,
    };
    Ok(Known { desired, state, recorded: Arc::unwrap_or_clone(recorded) })
}

/// The claimant that has `name` in the record, if exactly one has.
fn owner(recorded: &Recorded, name: &str, claimants: &[&EncryptionKey]) -> Option<usize> {
    let has = |key: &EncryptionKey| {
        let names = [Some(&key.key_name), key.previous_name.as_ref()];
        names.into_iter().flatten().any(|key_name| {
            let record = recorded.keys.get(&Address::new(key.tenant_id.clone(), key_name.clone()));
            record.is_some_and(|record| {
                let primary = record.primary_version.as_ref().map(|version| version.provider_ref.as_str());
                record.key.kms_alias.as_deref() == Some(name)
                    || [record.key.kms_key_id.as_deref(), primary].into_iter().flatten().any(|id| id.ends_with(name))
            })
        })
    };
    let mut owners = (0..).zip(claimants).filter(|(_, key)| has(key)).map(|(index, _)| index);
    owners.next().filter(|_| owners.next().is_none())
}

/// Where relative paths start.
pub(super) fn root_of(workspace: &Workspace) -> Result<PathBuf, EngineError> {
    match open(&workspace.dir) {
        Ok(repo) => Ok(root(&repo, &workspace.dir)),
        Err(SourceError::NotARepository { .. }) => Ok(workspace.dir.clone()),
        Err(error) => Err(error.into()),
    }
}

/// The files of a workspace.
pub(super) fn snapshot(workspace: &Workspace) -> Result<(PathBuf, Snapshot), EngineError> {
    match (open(&workspace.dir), &workspace.selection) {
        (Ok(repo), Selection::Ref(reference)) => Ok((root(&repo, &workspace.dir), repo.read_ref(reference)?)),
        (Ok(repo), Selection::WorkTree) => Ok((root(&repo, &workspace.dir), repo.read_worktree()?)),
        (Err(SourceError::NotARepository { .. }), Selection::WorkTree) => {
            Ok((workspace.dir.clone(), read_directory(&workspace.dir)?))
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
pub(super) fn root(repo: &Repo, dir: &Path) -> PathBuf {
    repo.root().unwrap_or_else(|| dir.to_owned())
}

fn check(root: PathBuf, snapshot: Snapshot, now: Timestamp, keeper: &Keeper<'_>) -> Desired {
    let loaded = document::load_with_record(snapshot.config.as_ref(), &snapshot.files, capabilities, now, keeper);
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
