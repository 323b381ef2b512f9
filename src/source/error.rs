//! What can go wrong between a repository and its documents, and what to do about it.

use std::path::{Path, PathBuf};

use super::{CONFIG_FILE, MAX_FILE_SIZE, POLICIES_FOLDER};
use crate::diagnostic::Finding;

/// Why a repository's documents could not be read. [`SourceError::help`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no repository here or above.
    #[error("{} is not in a git repository", start.display())]
    NotARepository {
        /// Where it was looked for.
        start: PathBuf,
    },
    /// Git's own guard against repositories of other users (`safe.directory`).
    #[error("the git repository at {} belongs to another user, so git does not trust it", path.display())]
    Owner {
        /// The repository.
        path: PathBuf,
    },
    /// The repository uses a feature that libgit2 cannot read.
    #[error("the git repository at {} uses {feature}, which keywheel cannot read", path.display())]
    Unsupported {
        /// The repository.
        path: PathBuf,
        /// The feature, in git's words.
        feature: String,
    },
    /// A bare repository was asked for its work tree.
    #[error("{} is a bare repository: it has no work tree", path.display())]
    Bare {
        /// The repository.
        path: PathBuf,
    },
    /// The branch has no commit yet.
    #[error("the branch {branch} has no commit yet")]
    Unborn {
        /// Its short name.
        branch: String,
    },
    /// Nothing has this name.
    #[error("there is no branch, tag or commit {reference:?} in this clone")]
    UnknownRevision {
        /// What was asked for.
        reference: String,
        /// The name that was probably meant.
        similar: Option<String>,
        /// Is the history incomplete?
        shallow: bool,
    },
    /// Several objects begin with this id.
    #[error("{reference:?} is the beginning of several commit ids")]
    Ambiguous {
        /// What was asked for.
        reference: String,
    },
    /// The name leads to something else.
    #[error("{reference:?} is a {kind}, not a commit")]
    NotACommit {
        /// What was asked for.
        reference: String,
        /// What it is.
        kind: &'static str,
    },
    /// Neither `policies/` nor `keywheel.yaml` is there.
    #[error("there is neither a {POLICIES_FOLDER} folder with a document nor a {CONFIG_FILE} in {}", place.display())]
    NoPolicies {
        /// Where the policy repository's root was expected.
        place: PathBuf,
    },
    /// A folder was expected.
    #[error("{path} is {what}, not a folder")]
    NotAFolder {
        /// Its path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A file was expected.
    #[error("{path} is a folder, not a file")]
    NotAFile {
        /// Its path.
        path: String,
    },
    /// Documents in another repository, whose content this commit does not hold.
    #[error("{path} is a git repository of its own (a submodule): its documents are not part of this commit")]
    Submodule {
        /// Its path.
        path: String,
    },
    /// The commit holds a pointer, the content is elsewhere.
    #[error("{path} is kept in Git LFS: the commit holds a pointer to it and not its text")]
    Lfs {
        /// Its path.
        path: String,
    },
    /// More than [`MAX_FILE_SIZE`].
    #[error("{path} has {} MiB, and a file of more than {} MiB is not read", size / 1024 / 1024, MAX_FILE_SIZE / 1024 / 1024)]
    TooLarge {
        /// Its path.
        path: String,
        /// Its size in bytes.
        size: u64,
    },
    /// More files, or a longer path, than any policy repository has.
    #[error("{path}... goes too far: {limit}")]
    Excessive {
        /// The beginning of the path.
        path: String,
        /// The limit.
        limit: &'static str,
    },
    /// The object database lacks something that the commit names.
    #[error("the object {id} of {path} is missing from this clone")]
    MissingObject {
        /// What it is, from the policy root, or the revision.
        path: String,
        /// Its id.
        id: String,
    },
    /// A file name that is not text.
    #[error("the file name {path:?} is not valid UTF-8")]
    NotUtf8 {
        /// The name, with the bytes in question replaced.
        path: String,
    },
    /// The policy root lies elsewhere.
    #[error("{} is not inside the git repository {}", folder.display(), top.display())]
    OutsideRepository {
        /// What was asked for.
        folder: PathBuf,
        /// The top of the repository.
        top: PathBuf,
    },
    /// The branch that commits must be on is not in this clone.
    #[error("this clone has no branch {reference}{}", all_of(looked_at))]
    NoBranch {
        /// The branch.
        reference: String,
        /// The refs that were looked for.
        looked_at: Vec<String>,
    },
    /// The history ends before the question is answered.
    #[error("this is a shallow clone: its history does not show whether {ancestor} is part of {descendant}")]
    Shallow {
        /// The commit that was looked for.
        ancestor: String,
        /// The commit or ref in whose history.
        descendant: String,
    },
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Git failed in a way that has no name above.
    #[error("git could not {doing}")]
    Git {
        /// What was tried.
        doing: &'static str,
        /// What libgit2 said.
        #[source]
        source: git2::Error,
    },
}

/// The setting of the two large CI systems that makes a clone whole.
const WHOLE_HISTORY: &str = "in CI clone the whole history: `fetch-depth: 0` for actions/checkout on GitHub, \
                             `GIT_DEPTH: 0` as a variable on GitLab; by hand: `git fetch --unshallow`";

/// The setting of a clone that has every object.
const FULL_CLONE: &str = "a partial clone leaves objects out: clone without `--filter` (for actions/checkout on \
                          GitHub, leave out `filter`)";

impl SourceError {
    /// A stable code; documented, and safe to filter by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotARepository { .. } => "source/not-a-repository",
            Self::Owner { .. } => "source/owner",
            Self::Unsupported { .. } => "source/unsupported-repository",
            Self::Bare { .. } => "source/bare",
            Self::Unborn { .. } => "source/no-commit",
            Self::UnknownRevision { .. } | Self::Ambiguous { .. } | Self::NotACommit { .. } => "source/revision",
            Self::NoPolicies { .. } => "source/no-policies",
            Self::NotAFolder { .. } | Self::NotAFile { .. } => "source/not-a-folder",
            Self::Submodule { .. } => "source/submodule",
            Self::Lfs { .. } => "source/lfs",
            Self::TooLarge { .. } | Self::Excessive { .. } => "source/too-large",
            Self::MissingObject { .. } => "source/missing-object",
            Self::NotUtf8 { .. } => "source/file-name",
            Self::OutsideRepository { .. } => "source/outside-repository",
            Self::NoBranch { .. } => "source/no-branch",
            Self::Shallow { .. } => "source/shallow",
            Self::Io { .. } => "source/io",
            Self::Git { .. } => "source/git",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NotARepository { .. } => {
                "run it in a clone of the policy repository, or make one with `git init` and `keywheel init`".into()
            }
            Self::Owner { path } => format!(
                "if you trust it: `git config --global --add safe.directory {}`; in a container, check out as the \
                 user that runs keywheel",
                path.display()
            ),
            Self::Unsupported { feature, .. } if feature.contains("partial clone") => FULL_CLONE.into(),
            Self::Unsupported { feature, .. } if feature.contains("sparse index") => {
                "turn the sparse index off: `git sparse-checkout reapply --no-sparse-index`".into()
            }
            Self::Unsupported { .. } => {
                "read it from an ordinary clone: SHA-1 objects, `git clone --ref-format=files`".into()
            }
            Self::Bare { .. } => "name the commit to read, for instance `--ref HEAD`".into(),
            Self::Unborn { .. } => format!("commit first: `git add {POLICIES_FOLDER} && git commit`"),
            Self::UnknownRevision { similar: Some(similar), .. } => format!("did you mean {similar:?}?"),
            Self::UnknownRevision { shallow: true, .. } => {
                format!("it may be in the part of the history that this shallow clone leaves out; {WHOLE_HISTORY}")
            }
            Self::UnknownRevision { .. } => {
                "`git branch --all` and `git tag` list what there is; `git fetch` brings what is newer".into()
            }
            Self::Ambiguous { .. } => "write more characters of the id".into(),
            Self::NotACommit { .. } => "name a branch, a tag of a commit, or a commit".into(),
            Self::NoPolicies { .. } => {
                "`keywheel init` makes a first one; if it lies in a folder of this repository, name it with `--dir`"
                    .into()
            }
            Self::NotAFolder { path, .. } => format!("make {path} a folder with the documents in it"),
            Self::NotAFile { path } => format!("{path} must be a file"),
            Self::Submodule { .. } => {
                "put the documents themselves into this repository, so that one commit pins them all".into()
            }
            Self::Lfs { path } => format!(
                "keep it in git itself: leave {path} out of `filter=lfs` in .gitattributes, then \
                 `git add --renormalize {path}` and commit"
            ),
            Self::TooLarge { .. } | Self::Excessive { .. } => {
                format!("{POLICIES_FOLDER} is for documents: move it elsewhere")
            }
            Self::MissingObject { .. } => {
                format!("{FULL_CLONE}; if this one is full, `git fsck` shows how it is damaged")
            }
            Self::NotUtf8 { .. } => "rename the file".into(),
            Self::OutsideRepository { .. } => "name a folder inside the repository".into(),
            Self::NoBranch { reference, .. } => {
                let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
                format!(
                    "fetch it: `git fetch origin {branch}:refs/remotes/origin/{branch}`, or correct `apply_from` in \
                     {CONFIG_FILE}"
                )
            }
            Self::Shallow { .. } => WHOLE_HISTORY.into(),
            Self::Io { .. } => "check that the file is there and readable".into(),
            Self::Git { .. } => "`git status` and `git fsck` in the repository may say more".into(),
        }
    }

    /// The error as a finding, with the reason that stands behind it.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let mut message = self.to_string();
        if let Some(reason) = std::error::Error::source(self) {
            message = format!("{message}: {reason}");
        }
        Finding::error(self.code(), message).help(self.help())
    }
}

fn all_of(refs: &[String]) -> String {
    if refs.len() > 1 { format!(" (looked for {})", refs.join(", ")) } else { String::new() }
}

/// An error of libgit2 that no variant names.
pub(super) fn git(doing: &'static str) -> impl Fn(git2::Error) -> SourceError {
    move |source| SourceError::Git { doing, source }
}

pub(super) fn io(path: &Path, source: std::io::Error) -> SourceError {
    SourceError::Io { path: path.into(), source }
}

pub(super) fn not_utf8(path: &Path) -> SourceError {
    SourceError::NotUtf8 { path: path.to_string_lossy().into_owned() }
}

/// Why a repository cannot be opened. libgit2 tells unknown features apart by its message alone.
pub(super) fn opening(start: &Path, e: git2::Error) -> SourceError {
    let path = start.to_owned();
    match e.code() {
        git2::ErrorCode::NotFound => return SourceError::NotARepository { start: path },
        git2::ErrorCode::Owner => return SourceError::Owner { path: owned_path(&e).unwrap_or(path) },
        _ => {}
    }
    match unsupported(e.message()) {
        Some(feature) => SourceError::Unsupported { path, feature },
        None => git("open the repository")(e),
    }
}

/// The feature that libgit2 does not know, from its message.
pub(super) fn unsupported(message: &str) -> Option<String> {
    let extension = message.strip_prefix("unsupported extension name extensions.");
    Some(match extension {
        Some("partialclone") => "missing objects by design (a partial clone, `--filter`)".into(),
        Some("refstorage") => "reftable refs (extensions.refStorage)".into(),
        Some(other) => format!("the extension {other}"),
        None if message.contains("object format") => "an object format other than SHA-1".into(),
        None if message.contains("unsupported mandatory extension") => "a sparse index".into(),
        None => return None,
    })
}

/// The path in libgit2's "repository path '...' is not owned by current user".
fn owned_path(e: &git2::Error) -> Option<PathBuf> {
    let path = e.message().split('\'').nth(1)?;
    Some(PathBuf::from(path.strip_suffix('/').unwrap_or(path)))
}
