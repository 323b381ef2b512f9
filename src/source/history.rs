//! Which commit is part of which history.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;

use git2::{ErrorCode, Oid, Repository};

use super::error::{git, io};
use super::{Repo, SourceError};

/// Is a commit part of another's history?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ancestry {
    /// It is, or is the same commit.
    Yes,
    /// It certainly is not.
    No,
    /// The clone is shallow, and its history ends before the answer.
    Unknown,
}

/// Is a commit on a branch?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnBranch {
    /// It is.
    Yes {
        /// The ref that shows it: the branch itself, or a remote's copy of it.
        via: String,
    },
    /// It is on none of these.
    No {
        /// The refs that were looked at.
        looked_at: Vec<String>,
    },
}

/// What a branch is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeBase {
    /// The commit, a full id.
    pub commit: String,
    /// Did the branch leave the ref there? If not, the two have no history in common, and it is the ref's own commit.
    pub is_common: bool,
}

impl Repo {
    /// The commit where `head` left `base`, or, where they have no history in common, the commit of `base`. Without
    /// `head`, that of the work tree.
    ///
    /// # Errors
    /// [`SourceError::UnknownRevision`] and its like; [`SourceError::Shallow`] if the history ends before the answer.
    pub fn merge_base(&self, base: &str, head: Option<&str>) -> Result<MergeBase, SourceError> {
        let base_id = self.commit(base)?.id();
        let head_id = self.commit(head.unwrap_or("HEAD"))?.id();
        match self.git.merge_base(base_id, head_id) {
            Ok(common) => Ok(MergeBase { commit: common.to_string(), is_common: true }),
            Err(e) if e.code() == ErrorCode::NotFound => {
                if self.git.is_shallow() {
                    return Err(SourceError::Shallow {
                        ancestor: base.into(),
                        descendant: head.unwrap_or("HEAD").into(),
                    });
                }
                Ok(MergeBase { commit: base_id.to_string(), is_common: false })
            }
            Err(e) => Err(git("find where two histories part")(e)),
        }
    }

    /// Does the clone lack a part of the history?
    pub fn is_shallow(&self) -> bool {
        self.git.is_shallow()
    }

    /// Is the commit `ancestor` part of the history of the commit `descendant`? Both are full ids.
    ///
    /// An `ancestor` that a full clone does not have is not in any of its histories: it was rewritten away.
    ///
    /// # Errors
    /// [`SourceError::UnknownRevision`] if `descendant` is not in this clone.
    pub fn contains(&self, ancestor: &str, descendant: &str) -> Result<Ancestry, SourceError> {
        let descendant = self.commit(descendant)?.id();
        let ancestor = Oid::from_str(ancestor).map_err(|_| self.unknown(ancestor))?;
        ancestry(&self.git, ancestor, descendant)
    }

    /// Is the commit (a full id) on the branch `reference`, such as `refs/heads/main`?
    ///
    /// A CI system checks out a commit without its branch, so that each remote's copy of the branch
    /// (`refs/remotes/origin/main`) counts as well as the branch itself.
    ///
    /// # Errors
    /// [`SourceError::NoBranch`] if there is neither, [`SourceError::Shallow`] if the history ends before the answer.
    pub fn on_branch(&self, commit: &str, reference: &str) -> Result<OnBranch, SourceError> {
        let id = self.commit(commit)?.id();
        let candidates = branch_candidates(&self.git, reference)?;
        let mut looked_at = Vec::new();
        let mut unknown = None;
        for candidate in &candidates {
            let tip = match self.git.find_reference(candidate) {
                Ok(found) => found.peel_to_commit().map_err(git("read the tip of a branch"))?.id(),
                Err(e) if matches!(e.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => continue,
                Err(e) => return Err(git("read a branch")(e)),
            };
            match ancestry(&self.git, id, tip)? {
                Ancestry::Yes => return Ok(OnBranch::Yes { via: candidate.clone() }),
                Ancestry::No => looked_at.push(candidate.clone()),
                Ancestry::Unknown => unknown = Some(candidate.clone()),
            }
        }
        match unknown {
            Some(descendant) => Err(SourceError::Shallow { ancestor: commit.into(), descendant }),
            None if looked_at.is_empty() => {
                Err(SourceError::NoBranch { reference: reference.into(), looked_at: candidates })
            }
            None => Ok(OnBranch::No { looked_at }),
        }
    }
}

/// The refs that can show that a commit is on a branch, the nearest first.
fn branch_candidates(repository: &Repository, reference: &str) -> Result<Vec<String>, SourceError> {
    let full = if reference.starts_with("refs/") { reference.to_owned() } else { format!("refs/heads/{reference}") };
    let mut candidates = vec![full.clone()];
    if let Some(branch) = full.strip_prefix("refs/heads/") {
        let remotes = repository.remotes().map_err(git("list the remotes"))?;
        let names = remotes.iter().filter_map(|name| name.ok().flatten());
        candidates.extend(names.map(|remote| format!("refs/remotes/{remote}/{branch}")));
    }
    Ok(candidates)
}

fn ancestry(repository: &Repository, ancestor: Oid, descendant: Oid) -> Result<Ancestry, SourceError> {
    if ancestor == descendant {
        return Ok(Ancestry::Yes);
    }
    let known = repository.find_commit(ancestor).is_ok();
    let is_part = |of, part| repository.graph_descendant_of(of, part).map_err(git("follow the history"));
    if known && is_part(descendant, ancestor)? {
        return Ok(Ancestry::Yes);
    }
    // Histories have no circles: what comes after a commit is not before it.
    if !repository.is_shallow() || (known && is_part(ancestor, descendant)?) {
        return Ok(Ancestry::No);
    }
    if reaches_boundary(repository, descendant)? { Ok(Ancestry::Unknown) } else { Ok(Ancestry::No) }
}

/// Does the history of a commit meet one whose parents this shallow clone leaves out?
fn reaches_boundary(repository: &Repository, commit: Oid) -> Result<bool, SourceError> {
    let boundary = shallow_commits(repository)?;
    let failed = git("follow the history");
    let mut walk = repository.revwalk().map_err(&failed)?;
    walk.push(commit).map_err(&failed)?;
    for id in walk {
        if boundary.contains(&id.map_err(&failed)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The commits whose parents are left out, as git's file `shallow` lists them.
fn shallow_commits(repository: &Repository) -> Result<HashSet<Oid>, SourceError> {
    let path = repository.commondir().join("shallow");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| Oid::from_str(line.trim()).ok()).collect()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(HashSet::new()),
        Err(e) => Err(io(&path, e)),
    }
}

/// The branch or tag whose name is nearest to one that does not exist, if any is near.
pub(super) fn similar_reference(repository: &Repository, reference: &str) -> Option<String> {
    let wanted = reference.split(['~', '^', '@', ':']).next().filter(|name| !name.is_empty())?;
    if repository.revparse_single(wanted).is_ok() {
        return None;
    }
    let references = repository.references().ok()?;
    let mut best: Option<(f64, String)> = None;
    for found in references.flatten() {
        let Ok(name) = found.shorthand() else { continue };
        let on_remote = found.is_remote() && name.split_once('/').is_some_and(|(_, branch)| branch == wanted);
        // Two branches of one remote are not alike for being of that remote.
        let likeness = match (name.rsplit_once('/'), wanted.rsplit_once('/')) {
            _ if on_remote => 1.0,
            (Some((group, name)), Some((wanted_group, wanted))) if group == wanted_group => {
                strsim::jaro_winkler(name, wanted)
            }
            _ => strsim::jaro_winkler(name, wanted),
        };
        if likeness > 0.85 && best.as_ref().is_none_or(|(most, _)| likeness > *most) {
            best = Some((likeness, name.to_owned()));
        }
    }
    best.map(|(_, name)| name)
}
