//! Git: pin a commit, read its documents.
//!
//! A [`Repo`] is a repository and the folder in it (by default its top) that holds `keywheel.yaml` and `policies/`. It
//! gives [`Snapshot`]s: every file of one commit, read from the object database alone ([`Repo::read_ref`]), or of the
//! work tree as `git add` would take it ([`Repo::read_worktree`]). [`read_directory`] does the same for a folder that
//! is in no repository.
//!
//! # Guarantees
//! - Nothing is written: no object, no index, no lock.
//! - Equal content has equal ids: a snapshot's `policies_tree` and `config_blob` are the ids that git itself gives, so a
//!   clean work tree, its commit and a squash of it agree.
//! - What a commit means does not depend on the work tree, the index or a filter.
//!
//! # Decisions
//! The work tree is read as "the commit and what `git status` names", so that unchanged files come from the object
//! database, as they do for a commit, and a file that a sparse checkout leaves out is still part of the set. Reading
//! every file from disk was rejected: its bytes (line ends, `ident`) are not the ones that would be committed.
//!
//! Submodules and Git LFS are refused, not followed: both would let the commit stay the same while documents change.
//!
//! Must not know: what the documents mean, which of them the state database has seen, any text of the command line.

mod changes;
mod comparison;
mod error;
mod history;
mod listing;
mod signing;
mod worktree;

#[cfg(test)]
mod tests;

use std::path::{Component, Path, PathBuf};

use git2::{Repository, RepositoryOpenFlags};

pub use changes::{Change, Changes, CommitSignature, Since};
pub use comparison::{Comparison, Side, Unread};
pub use error::SourceError;
pub use history::{Ancestry, MergeBase, OnBranch};
pub use signing::{Signing, signing};
pub use worktree::read_directory;

use crate::document::SourceFile;
use crate::model::{Origin, Timestamp};
use error::git;
use listing::Listing;

/// The file with the settings of a policy repository.
pub const CONFIG_FILE: &str = "keywheel.yaml";

/// The folder with the documents of a policy repository.
pub const POLICIES_FOLDER: &str = "policies";

/// The largest file that is read. The documents' own limit is far lower; this one only keeps memory bounded.
pub const MAX_FILE_SIZE: u64 = 64 * 1024 * 1024;

/// A git repository, and where in it the policy repository's root is.
pub struct Repo {
    git: Repository,
    /// The root's path from the top, with `/` and without one at either end; empty for the top itself.
    prefix: String,
}

/// The files of a policy repository at one commit, in the work tree, or in a folder.
///
/// All paths are relative to the policy repository's root and have `/`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit that was read, or that the work tree is based on. None before the first commit and outside git.
    pub origin: Option<Origin>,
    /// When that commit was committed.
    pub commit_time: Option<Timestamp>,
    /// The tree id of `policies/`; none if there is no such folder.
    pub policies_tree: Option<String>,
    /// The blob id of `keywheel.yaml`; none if there is no such file.
    pub config_blob: Option<String>,
    /// `keywheel.yaml`.
    pub config: Option<SourceFile>,
    /// Every `.yaml` and `.yml` file and every symbolic link under `policies/`, sorted by path.
    pub files: Vec<SourceFile>,
    /// What differs from the commit in `keywheel.yaml` and `policies/`: staged, not staged, or untracked and not ignored;
    /// sorted.
    pub dirty: Vec<String>,
}

impl Repo {
    /// Finds the repository that `start` lies in: a work tree, a linked one, a folder in one, or a bare repository.
    ///
    /// `GIT_DIR`, `GIT_WORK_TREE`, `GIT_INDEX_FILE`, `GIT_CEILING_DIRECTORIES` and their like are respected as git does.
    ///
    /// # Errors
    /// [`SourceError::NotARepository`], [`SourceError::Owner`] and [`SourceError::Unsupported`].
    pub fn discover(start: &Path) -> Result<Self, SourceError> {
        match open(start) {
            Ok(git) => Ok(Self { git, prefix: String::new() }),
            Err(e) => Err(error::opening(start, e)),
        }
    }

    /// The same repository with its policy root in `folder`: a path on disk inside the work tree, or, in a bare
    /// repository, a path from the top.
    ///
    /// Whether the folder exists is seen when it is read: it may exist in one commit and not in another.
    ///
    /// # Errors
    /// [`SourceError::OutsideRepository`].
    pub fn rooted_at(self, folder: &Path) -> Result<Self, SourceError> {
        let outside = |top: &Path| SourceError::OutsideRepository { folder: folder.into(), top: top.into() };
        let inside = match self.git.workdir() {
            Some(top) => {
                let absolute = canonical(folder).map_err(|e| error::io(folder, e))?;
                let top = canonical(top).map_err(|e| error::io(top, e))?;
                absolute.strip_prefix(&top).map_err(|_| outside(&top))?.to_owned()
            }
            None => folder.to_owned(),
        };
        let mut names = Vec::new();
        for component in inside.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => names.push(name.to_str().ok_or_else(|| error::not_utf8(&inside))?),
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(outside(self.git.path()));
                }
            }
        }
        let prefix = names.join("/");
        Ok(Self { prefix, ..self })
    }

    /// The policy root's path from the top of the repository, with `/`; empty for the top itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The policy root on disk; none in a bare repository.
    pub fn root(&self) -> Option<PathBuf> {
        let top = self.git.workdir()?;
        Some(if self.prefix.is_empty() { top.to_owned() } else { top.join(&self.prefix) })
    }

    /// Reads the commit that `reference` names: a branch, a tag, an id, `HEAD~1`, anything that `git rev-parse` knows.
    ///
    /// # Errors
    /// [`SourceError`] says what is missing or refused, and [`SourceError::help`] what to do.
    pub fn read_ref(&self, reference: &str) -> Result<Snapshot, SourceError> {
        let commit = self.commit(reference)?;
        let listing = Listing::of_commit(&self.git, &commit, &self.prefix)?;
        self.snapshot(&listing, Some(&commit), Vec::new())
    }

    /// Reads the work tree: what a commit of everything under `policies/`, and of `keywheel.yaml`, would hold.
    ///
    /// # Errors
    /// [`SourceError::Bare`] in a bare repository, and as [`Repo::read_ref`].
    pub fn read_worktree(&self) -> Result<Snapshot, SourceError> {
        let head = match self.commit("HEAD") {
            Ok(commit) => Some(commit),
            Err(SourceError::Unborn { .. }) => None,
            Err(e) => return Err(e),
        };
        let mut listing = match &head {
            Some(commit) => Listing::of_commit(&self.git, commit, &self.prefix)?,
            None => Listing::default(),
        };
        let dirty = worktree::overlay(&self.git, &self.prefix, &mut listing)?;
        self.snapshot(&listing, head.as_ref(), dirty)
    }

    fn snapshot(
        &self,
        listing: &Listing,
        commit: Option<&git2::Commit<'_>>,
        dirty: Vec<String>,
    ) -> Result<Snapshot, SourceError> {
        if listing.is_empty() && dirty.is_empty() {
            let place = self.root().unwrap_or_else(|| self.git.path().join(&self.prefix));
            return Err(SourceError::NoPolicies { place });
        }
        let mut snapshot = listing.read(Some(&self.git))?;
        if let Some(commit) = commit {
            snapshot.origin = Some(origin(commit));
            snapshot.commit_time = Timestamp::from_timestamp(commit.time().seconds(), 0);
        }
        snapshot.dirty = dirty;
        Ok(snapshot)
    }

    /// The commit that `reference` names.
    fn commit(&self, reference: &str) -> Result<git2::Commit<'_>, SourceError> {
        let object = self.git.revparse_single(reference).map_err(|e| self.unresolved(reference, e))?;
        let kind = object.kind().map_or("object", |kind| kind.str());
        object.peel_to_commit().map_err(|e| match e.code() {
            git2::ErrorCode::NotFound => {
                SourceError::MissingObject { path: reference.into(), id: object.id().to_string() }
            }
            _ => SourceError::NotACommit { reference: reference.into(), kind },
        })
    }

    /// Why `reference` names nothing.
    fn unresolved(&self, reference: &str, e: git2::Error) -> SourceError {
        match e.code() {
            git2::ErrorCode::NotFound | git2::ErrorCode::UnbornBranch => {}
            git2::ErrorCode::Ambiguous => return SourceError::Ambiguous { reference: reference.into() },
            git2::ErrorCode::InvalidSpec => return self.unknown(reference),
            _ => return git("resolve a revision")(e),
        }
        let head = self.git.find_reference("HEAD").ok();
        let branch = head.as_ref().and_then(|head| head.symbolic_target().ok().flatten());
        match branch {
            Some(branch) if reference == "HEAD" || branch.strip_prefix("refs/heads/") == Some(reference) => {
                SourceError::Unborn { branch: branch.strip_prefix("refs/heads/").unwrap_or(branch).into() }
            }
            _ => self.unknown(reference),
        }
    }

    fn unknown(&self, reference: &str) -> SourceError {
        SourceError::UnknownRevision {
            reference: reference.into(),
            similar: history::similar_reference(&self.git, reference),
            shallow: self.git.is_shallow(),
        }
    }
}

/// Opens what `start` lies in, unless the environment names a repository. libgit2 looks at `GIT_DIR` only where it is
/// not given a start.
fn open(start: &Path) -> Result<Repository, git2::Error> {
    if std::env::var_os("GIT_DIR").is_some() {
        return Repository::open_from_env();
    }
    Repository::open_ext(start, RepositoryOpenFlags::FROM_ENV, std::iter::empty::<&std::ffi::OsStr>())
}

/// Where a commit comes from, as the record keeps it.
fn origin(commit: &git2::Commit<'_>) -> Origin {
    let person = |who: git2::Signature<'_>| {
        format!("{} <{}>", String::from_utf8_lossy(who.name_bytes()), String::from_utf8_lossy(who.email_bytes()))
    };
    Origin {
        commit: commit.id().to_string(),
        author: person(commit.author()),
        committer: person(commit.committer()),
        signer: None,
    }
}

/// The path without symbolic links. Its last parts need not exist: a folder may be gone from the work tree and still be
/// in the commits.
fn canonical(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&absolute);
    let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
    let existing = existing.canonicalize()?;
    Ok(if rest.as_os_str().is_empty() { existing } else { existing.join(rest) })
}
