//! Which commits changed which files of the policy repository since a commit, and how each was signed.

use std::collections::BTreeSet;
use std::path::Path;

use git2::{Commit, DiffOptions, Oid, Tree};

use super::error::git;
use super::{Ancestry, CONFIG_FILE, POLICIES_FOLDER, Repo, SourceError, origin};
use crate::model::Timestamp;

/// What changed since a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// How the two commits are related.
    pub since: Since,
    /// The commits that changed what differs now, the newest first.
    pub commits: Vec<Change>,
    /// Files that differ although no commit since then changed them: commits that did are gone from the history.
    pub unexplained: Vec<String>,
    /// The newest commit, with no files.
    pub head: Change,
}

/// What became of the earlier commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// It is part of the history.
    Ancestor,
    /// It is here, and not part of the history: a branch was moved by force.
    Rewritten,
    /// It is not in this clone, whose history is whole.
    Gone,
}

/// A commit, and what it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit.
    pub commit: String,
    /// `Ada Lovelace <ada@example.org>`.
    pub author: String,
    /// When it was committed, as it says itself.
    pub committed_at: Option<Timestamp>,
    /// The files, by their paths in the policy repository.
    pub files: Vec<String>,
    /// Its signature, and what was signed.
    pub signature: Option<CommitSignature>,
}

/// A signature of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSignature {
    /// As it stands in the commit.
    pub armour: String,
    /// The commit without it.
    pub signed: Vec<u8>,
}

/// A file's content and kind in a commit; none where it is not there.
type Entry = Option<(Oid, i32)>;

impl Repo {
    /// What changed under `policies/` and in `keywheel.yaml` from the commit `base` to the commit `head`, both full ids.
    ///
    /// Only files that differ between the two count. A merge changed a file if it is neither what both sides had nor what
    /// one side made of what they have in common.
    ///
    /// # Errors
    /// [`SourceError::Shallow`] if the clone's history ends before `base`.
    pub fn changes(&self, base: &str, head: &str) -> Result<Changes, SourceError> {
        let head = self.commit(head)?;
        let mut changes =
            Changes { since: Since::Ancestor, commits: Vec::new(), unexplained: Vec::new(), head: self.change(&head) };
        let Ok(base) = Oid::from_str(base).and_then(|id| self.git.find_commit(id)) else {
            if self.is_shallow() {
                return Err(SourceError::Shallow { ancestor: base.into(), descendant: head.id().to_string() });
            }
            changes.since = Since::Gone;
            return Ok(changes);
        };
        changes.since = match self.contains(&base.id().to_string(), &head.id().to_string())? {
            Ancestry::Yes => Since::Ancestor,
            Ancestry::No => Since::Rewritten,
            Ancestry::Unknown => {
                let (ancestor, descendant) = (base.id().to_string(), head.id().to_string());
                return Err(SourceError::Shallow { ancestor, descendant });
            }
        };
        let net = self.differing(Some(&base), &head)?;
        let mut unexplained = net.clone();
        if net.is_empty() {
            return Ok(changes);
        }
        let failed = git("follow the history");
        let mut walk = self.git.revwalk().map_err(&failed)?;
        walk.set_sorting(git2::Sort::TOPOLOGICAL).map_err(&failed)?;
        walk.push(head.id()).map_err(&failed)?;
        walk.hide(base.id()).map_err(&failed)?;
        for id in walk {
            let commit = self.git.find_commit(id.map_err(&failed)?).map_err(&failed)?;
            let files: Vec<String> = self.changed_by(&commit)?.intersection(&net).cloned().collect();
            if files.is_empty() {
                continue;
            }
            unexplained.retain(|file| !files.contains(file));
            let files = files.iter().map(|file| self.inside(file)).collect();
            changes.commits.push(Change { files, ..self.change(&commit) });
        }
        changes.unexplained = unexplained.iter().map(|file| self.inside(file)).collect();
        Ok(changes)
    }

    /// A commit, and how it is signed.
    fn change(&self, commit: &Commit<'_>) -> Change {
        let signature = self.git.extract_signature(&commit.id(), None).ok().map(|(signature, signed)| {
            CommitSignature { armour: String::from_utf8_lossy(&signature).into_owned(), signed: signed.to_vec() }
        });
        Change {
            commit: commit.id().to_string(),
            author: origin(commit).author,
            committed_at: Timestamp::from_timestamp(commit.time().seconds(), 0),
            files: Vec::new(),
            signature,
        }
    }

    /// The files that a commit itself changed.
    fn changed_by(&self, commit: &Commit<'_>) -> Result<BTreeSet<String>, SourceError> {
        let parents: Vec<Commit<'_>> = commit.parents().collect();
        let [first, rest @ ..] = parents.as_slice() else { return self.differing(None, commit) };
        let mut files = self.differing(Some(first), commit)?;
        for parent in rest {
            files.extend(self.differing(Some(parent), commit)?);
        }
        if rest.is_empty() {
            return Ok(files);
        }
        let failed = git("read a merge");
        // More than one base, or more than two sides: what the sides agree about is theirs, and the rest the merge's.
        let base = match rest {
            [second] => match self.git.merge_bases(first.id(), second.id()) {
                Ok(bases) if bases.len() == 1 => bases.first().copied(),
                Ok(_) => None,
                Err(error) if error.code() == git2::ErrorCode::NotFound => None,
                Err(error) => return Err(failed(error)),
            },
            _ => None,
        };
        let base = base.map(|id| self.git.find_commit(id)?.tree()).transpose().map_err(&failed)?;
        let trees: Vec<Tree<'_>> = parents.iter().map(Commit::tree).collect::<Result<_, _>>().map_err(&failed)?;
        let merged = commit.tree().map_err(&failed)?;
        let mut own = BTreeSet::new();
        for file in files {
            let found = entry(&merged, &file)?;
            let sides: Vec<Entry> = trees.iter().map(|tree| entry(tree, &file)).collect::<Result<_, _>>()?;
            let expected = match (sides.as_slice(), &base) {
                (sides, _) if sides.iter().all(|side| Some(side) == sides.first()) => sides.first().copied(),
                ([one, other], Some(base)) => match entry(base, &file)? {
                    before if before == *one => Some(*other),
                    before if before == *other => Some(*one),
                    _ => None,
                },
                _ => None,
            };
            if expected != Some(found) {
                own.insert(file);
            }
        }
        Ok(own)
    }

    /// The files of the policy repository that differ between two commits.
    fn differing(&self, old: Option<&Commit<'_>>, new: &Commit<'_>) -> Result<BTreeSet<String>, SourceError> {
        let failed = git("compare two commits");
        let old = old.map(Commit::tree).transpose().map_err(&failed)?;
        let new = new.tree().map_err(&failed)?;
        let mut options = DiffOptions::new();
        options.disable_pathspec_match(true).include_typechange(true).skip_binary_check(true);
        options.pathspec(self.outside(POLICIES_FOLDER)).pathspec(self.outside(CONFIG_FILE));
        let diff = self.git.diff_tree_to_tree(old.as_ref(), Some(&new), Some(&mut options)).map_err(&failed)?;
        let paths = diff.deltas().flat_map(|delta| {
            [delta.old_file().path_bytes(), delta.new_file().path_bytes()].map(|path| path.map(<[u8]>::to_vec))
        });
        let names = paths.flatten().map(|path| {
            String::from_utf8(path)
                .map_err(|path| super::error::not_utf8(Path::new(&*String::from_utf8_lossy(path.as_bytes()))))
        });
        names.collect()
    }

    /// A path of the policy repository as git has it.
    fn outside(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }

    /// A path of git as the policy repository has it.
    fn inside(&self, path: &str) -> String {
        let inside = path.strip_prefix(&self.prefix).unwrap_or(path);
        inside.trim_start_matches('/').to_owned()
    }
}

fn entry(tree: &Tree<'_>, path: &str) -> Result<Entry, SourceError> {
    match tree.get_path(Path::new(path)) {
        Ok(found) => Ok(Some((found.id(), found.filemode()))),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(git("read a tree")(error)),
    }
}
