//! Two states of a policy repository, of which most is the same: what differs is found by the ids of trees, and only what
//! is asked for is read.

use std::collections::BTreeMap;

use git2::{ObjectType, Odb, Oid, Repository, Tree};
use rayon::prelude::*;

use super::error::git;
use super::listing::{self, Entry, Listing};
use super::{CONFIG_FILE, POLICIES_FOLDER, Repo, SourceError, origin, worktree};
use crate::document::SourceFile;
use crate::model::Origin;

/// Below so many files reading is not worth a second look at the repository.
const ALONE: usize = 64;

/// The documents at a commit, and those after it.
pub struct Comparison<'r> {
    repo: &'r Repo,
    /// The tree of `policies/` before, where there is one.
    policies: Option<Oid>,
    before: BTreeMap<String, Entry>,
    after: BTreeMap<String, Entry>,
    /// The commit that was read, or that the work tree is based on.
    pub origin: Option<Origin>,
    /// The tree id of `policies/` after; none if there is no such folder.
    pub policies_tree: Option<String>,
    /// The blob id of `keywheel.yaml` after; none if there is no such file.
    pub config_blob: Option<String>,
    /// What differs from the commit in the work tree.
    pub dirty: Vec<String>,
}

/// A file that is the same before and after, and was not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its path in the policy repository.
    pub path: String,
    id: Oid,
    is_link: bool,
}

/// What one side of a comparison has beside the files that are the same on both.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// `keywheel.yaml`, changed or not.
    pub config: Option<SourceFile>,
    /// The changed files.
    pub files: Vec<SourceFile>,
}

impl Repo {
    /// Compares the documents of the commit `base` with those of `head`, or of the work tree.
    ///
    /// # Errors
    /// As [`Repo::read_ref`] and [`Repo::read_worktree`]; that `base` has no documents at all is none.
    pub fn compare(&self, base: &str, head: Option<&str>) -> Result<Comparison<'_>, SourceError> {
        let before = self.documents(Some(&self.commit(base)?))?;
        let commit = match self.commit(head.unwrap_or("HEAD")) {
            Ok(commit) => Some(commit),
            Err(SourceError::Unborn { .. }) if head.is_none() => None,
            Err(e) => return Err(e),
        };
        let after = self.documents(commit.as_ref())?;
        let mut comparison = Comparison {
            repo: self,
            policies: before.policies,
            before: before.config.into_iter().map(|entry| (CONFIG_FILE.to_owned(), entry)).collect(),
            after: after.config.into_iter().map(|entry| (CONFIG_FILE.to_owned(), entry)).collect(),
            origin: commit.as_ref().map(origin),
            policies_tree: after.policies.map(|id| id.to_string()),
            config_blob: None,
            dirty: Vec::new(),
        };
        comparison.descend(after.policies)?;
        if head.is_none() {
            comparison.lay_over(commit.as_ref())?;
        }
        comparison.config_blob = comparison.after.get(CONFIG_FILE).map(|entry| entry.id.to_string());
        if comparison.policies_tree.is_none() && comparison.config_blob.is_none() && comparison.dirty.is_empty() {
            let place = self.root().unwrap_or_else(|| self.git.path().join(&self.prefix));
            return Err(SourceError::NoPolicies { place });
        }
        Ok(comparison)
    }

    fn documents(&self, commit: Option<&git2::Commit<'_>>) -> Result<Top, SourceError> {
        let mut top = Top::default();
        let Some(commit) = commit else { return Ok(top) };
        let Some(root) = listing::root(&self.git, commit, &self.prefix)? else { return Ok(top) };
        top.config = listing::config(&root)?;
        if let Some(policies) = root.get_name(POLICIES_FOLDER) {
            let tree = listing::find_folder(&self.git, policies.filemode(), policies.id(), POLICIES_FOLDER)?;
            top.policies = Some(tree.id());
        }
        Ok(top)
    }
}

/// What a commit's policy root holds.
#[derive(Default)]
struct Top {
    config: Option<Entry>,
    policies: Option<Oid>,
}

impl Comparison<'_> {
    /// The files of `policies/` that differ, and `keywheel.yaml`, as they are before and after.
    ///
    /// # Errors
    /// As [`Repo::read_ref`].
    pub fn sides(&self) -> Result<(Side, Side), SourceError> {
        let database = self.repo.git.odb().map_err(git("open the object database"))?;
        let read = |entries: &BTreeMap<String, Entry>| {
            let mut side = Side::default();
            for (path, entry) in entries {
                if entry.mode == listing::SUBMODULE {
                    return Err(SourceError::Submodule { path: path.clone() });
                }
                if path == CONFIG_FILE {
                    side.config = Some(listing::read_entry(Some(&database), path, entry)?);
                } else if entry.mode == listing::SYMLINK || listing::can_hold_documents(path) {
                    side.files.push(listing::read_entry(Some(&database), path, entry)?);
                }
            }
            Ok(side)
        };
        Ok((read(&self.before)?, read(&self.after)?))
    }

    /// The folders right under `policies/` that the earlier documents have.
    ///
    /// # Errors
    /// As [`Repo::read_ref`].
    pub fn folders(&self) -> Result<Vec<String>, SourceError> {
        let Some(policies) = self.policies else { return Ok(Vec::new()) };
        let tree = listing::find_tree(&self.repo.git, policies, POLICIES_FOLDER)?;
        let folders = tree.iter().filter(|entry| entry.kind() == Some(ObjectType::Tree));
        Ok(folders.filter_map(|entry| entry.name().ok().map(str::to_owned)).collect())
    }

    /// The unchanged files in a folder right under `policies/`, or, without one, right in `policies/`.
    ///
    /// # Errors
    /// As [`Repo::read_ref`].
    pub fn unchanged(&self, folder: Option<&str>) -> Result<Vec<Unread>, SourceError> {
        let repository = &self.repo.git;
        let Some(policies) = self.policies else { return Ok(Vec::new()) };
        let policies = listing::find_tree(repository, policies, POLICIES_FOLDER)?;
        let (tree, path) = match folder {
            None => (policies, POLICIES_FOLDER.to_owned()),
            Some(folder) => {
                let path = format!("{POLICIES_FOLDER}/{folder}");
                let entry = policies.get_name(folder).filter(|entry| entry.kind() == Some(ObjectType::Tree));
                let Some(entry) = entry else { return Ok(Vec::new()) };
                (listing::find_tree(repository, entry.id(), &path)?, path)
            }
        };
        let mut unread = Vec::new();
        let mut folders = vec![(path, tree)];
        let mut seen = 0;
        while let Some((within, tree)) = folders.pop() {
            seen += tree.len();
            listing::check_size_of_tree(&within, seen)?;
            for entry in &tree {
                let path = name(&entry, &within)?;
                if entry.kind() == Some(ObjectType::Tree) {
                    if folder.is_some() {
                        let tree = listing::find_tree(repository, entry.id(), &path)?;
                        folders.push((path, tree));
                    }
                    continue;
                }
                let is_link = entry.filemode() == listing::SYMLINK;
                if !self.is_changed(&path) && (is_link || listing::can_hold_documents(&path)) {
                    unread.push(Unread { path, id: entry.id(), is_link });
                }
            }
        }
        Ok(unread)
    }

    /// Reads unchanged files, in parallel where there are many.
    ///
    /// # Errors
    /// As [`Repo::read_ref`].
    pub fn read(&self, files: &[Unread]) -> Result<Vec<SourceFile>, SourceError> {
        let read = |database: &Odb<'_>, files: &[Unread]| -> Result<Vec<SourceFile>, SourceError> {
            let read = |file: &Unread| {
                let mode = if file.is_link { listing::SYMLINK } else { listing::REGULAR };
                listing::read_entry(Some(database), &file.path, &Entry { mode, id: file.id, content: None })
            };
            files.iter().map(read).collect()
        };
        let failed = git("open the object database");
        if files.len() <= ALONE {
            return read(&self.repo.git.odb().map_err(failed)?, files);
        }
        let share = files.len().div_ceil(rayon::current_num_threads().max(1));
        let path = self.repo.git.path();
        let shares: Vec<_> = files
            .par_chunks(share)
            .map(|files| {
                // libgit2's objects stay on their thread.
                let repository = Repository::open(path).map_err(git("open the repository once more"))?;
                read(&repository.odb().map_err(git("open the object database"))?, files)
            })
            .collect::<Result<_, SourceError>>()?;
        Ok(shares.into_iter().flatten().collect())
    }

    fn is_changed(&self, path: &str) -> bool {
        self.before.contains_key(path) || self.after.contains_key(path)
    }

    /// Finds what differs below `policies/`. Folders with equal ids are equal, and not entered.
    fn descend(&mut self, after: Option<Oid>) -> Result<(), SourceError> {
        let repository = &self.repo.git;
        let mut pairs = vec![(POLICIES_FOLDER.to_owned(), self.policies, after)];
        let mut seen = 0;
        while let Some((folder, before, after)) = pairs.pop() {
            if before == after {
                continue;
            }
            let find = |id: Option<Oid>| id.map(|id| listing::find_tree(repository, id, &folder)).transpose();
            let (before, after) = (find(before)?, find(after)?);
            seen += before.as_ref().map_or(0, Tree::len) + after.as_ref().map_or(0, Tree::len);
            listing::check_size_of_tree(&folder, seen / 2)?;
            let mut folders: BTreeMap<String, (Option<Oid>, Option<Oid>)> = BTreeMap::new();
            let mut keep = |tree: &Option<Tree<'_>>, other: &Option<Tree<'_>>, is_before: bool| {
                for entry in tree.iter().flatten() {
                    let same = |theirs: &git2::TreeEntry<'_>| {
                        theirs.id() == entry.id() && theirs.filemode() == entry.filemode()
                    };
                    if other
                        .as_ref()
                        .and_then(|other| other.get_name_bytes(entry.name_bytes()))
                        .is_some_and(|it| same(&it))
                    {
                        continue;
                    }
                    let path = name(&entry, &folder)?;
                    if entry.kind() == Some(ObjectType::Tree) {
                        let pair = folders.entry(path).or_default();
                        *if is_before { &mut pair.0 } else { &mut pair.1 } = Some(entry.id());
                    } else {
                        let side = if is_before { &mut self.before } else { &mut self.after };
                        side.insert(path, Entry { mode: entry.filemode(), id: entry.id(), content: None });
                    }
                }
                Ok::<_, SourceError>(())
            };
            keep(&before, &after, true)?;
            keep(&after, &before, false)?;
            pairs.extend(folders.into_iter().map(|(path, (before, after))| (path, before, after)));
        }
        Ok(())
    }

    /// What `git status` says, on top of the commit that the work tree is based on.
    fn lay_over(&mut self, commit: Option<&git2::Commit<'_>>) -> Result<(), SourceError> {
        let mut listing = Listing::default();
        let (repository, prefix) = (&self.repo.git, &self.repo.prefix);
        self.dirty = worktree::overlay(repository, prefix, &mut listing)?;
        if self.dirty.is_empty() {
            return Ok(());
        }
        let mut whole = match commit {
            Some(commit) => Listing::of_commit(repository, commit, prefix)?,
            None => Listing::default(),
        };
        let policies = self.policies.map(|id| listing::find_tree(repository, id, POLICIES_FOLDER)).transpose()?;
        for path in &self.dirty {
            // What the branch left alone was not told apart from the base until now.
            if let (false, Some(policies)) = (self.is_changed(path), &policies)
                && let Some(below) = path.strip_prefix(POLICIES_FOLDER).and_then(|rest| rest.strip_prefix('/'))
                && let Ok(entry) = policies.get_path(std::path::Path::new(below))
            {
                self.before.insert(path.clone(), Entry { mode: entry.filemode(), id: entry.id(), content: None });
            }
            if let Some(entry) = listing.take(path) {
                whole.insert(path.clone(), entry.clone());
                self.after.insert(path.clone(), entry);
            } else {
                whole.remove(path);
                self.after.remove(path);
            }
        }
        self.policies_tree = whole.policies_tree()?.map(|id| id.to_string());
        Ok(())
    }
}

/// The path of an entry of a tree.
fn name(entry: &git2::TreeEntry<'_>, folder: &str) -> Result<String, SourceError> {
    match entry.name() {
        Ok(name) => Ok(format!("{folder}/{name}")),
        Err(_) => {
            Err(SourceError::NotUtf8 { path: format!("{folder}/{}", String::from_utf8_lossy(entry.name_bytes())) })
        }
    }
}
