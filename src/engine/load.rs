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
    /// Where a database was looked for, without a password; none where `keywheel.yaml` does not tell.
    pub looked_at: Option<String>,
    /// Was that place named on the command line?
    pub is_named: bool,
}

impl Known {
    /// For what works on a record alone.
    pub(super) fn with_state(self) -> Result<(Desired, Box<dyn ReadState>, Recorded), EngineError> {
        let error = self.no_database();
        let Self { desired, state, recorded, .. } = self;
        Ok((desired, state.ok_or(error)?, recorded))
    }

    /// For what can tell of a record before there is one: where a database was looked for in vain.
    ///
    /// # Errors
    /// That there is none is a mistake: of `keywheel.yaml`, or of the command line.
    pub(super) fn before_the_first_apply(&self) -> Result<Option<String>, EngineError> {
        if self.state.is_none() && (self.desired.repository.failed || self.is_named) {
            return Err(self.no_database());
        }
        Ok(self.looked_at.clone().filter(|_| self.state.is_none()))
    }

    fn no_database(&self) -> EngineError {
        if self.desired.repository.failed {
            return EngineError::new(
                "state/unknown",
                "keywheel.yaml has errors: it does not say where the state database is",
            )
            .help("`keywheel validate` shows them");
        }
        let place = self.looked_at.as_deref().unwrap_or("the place that keywheel.yaml names");
        EngineError::new("state/missing", format!("there is no state database at {place} yet")).help(if self.is_named {
            "name one that there is: without --state it is the one of keywheel.yaml"
        } else {
            "`keywheel apply` makes it, and the keys; if there was one, check `state` in keywheel.yaml"
        })
    }
}

/// Reads the record while the documents are checked. Who has an alias in the record keeps it.
pub(super) async fn load_with_record(workspace: &Workspace, state: Option<&str>) -> Result<Known, EngineError> {
    load_at(workspace, state, clock::now()).await
}

/// [`load_with_record`] as it is at an instant.
pub(super) async fn load_at(workspace: &Workspace, named: Option<&str>, now: Timestamp) -> Result<Known, EngineError> {
    let (root, snapshot) = snapshot(workspace)?;
    let config = document::config(snapshot.config.as_ref());
    let location = config.map(|config| planning::location(&root, named.unwrap_or(&config.state)));
    let looked_at = location.as_ref().and_then(|location| location.as_ref().ok()).map(ToString::to_string);
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
    let recorded = Arc::unwrap_or_clone(recorded);
    Ok(Known { desired, state, recorded, looked_at, is_named: named.is_some() })
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
