//! Which files there are, with their ids; and their reading, all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Oid, Repository};

use super::error::git;
use super::{CONFIG_FILE, MAX_FILE_SIZE, POLICIES_FOLDER, Snapshot, SourceError};
use crate::document::SourceFile;

/// Git's file modes, as they stand in trees.
pub(super) const REGULAR: i32 = 0o100_644;
pub(super) const EXECUTABLE: i32 = 0o100_755;
pub(super) const SYMLINK: i32 = 0o120_000;
pub(super) const SUBMODULE: i32 = 0o160_000;

/// Five times the files of the largest repository that keywheel is measured with, at a document each.
const MAX_ENTRIES: usize = 500_000;

/// Four times as long as a tenant's and a document's name can be together; and so no tree is deeper than 512.
const MAX_PATH: usize = 1024;

/// What every pointer file of Git LFS begins with (its specification, version 1).
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// `keywheel.yaml` and the files under `policies/`, by their paths from the policy root.
#[derive(Default)]
pub(super) struct Listing {
    entries: BTreeMap<String, Entry>,
}

/// One file: what a tree says about it.
#[derive(Clone)]
pub(super) struct Entry {
    /// Git's mode.
    pub(super) mode: i32,
    /// Its blob.
    pub(super) id: Oid,
    /// Its content, where the object database may not have it.
    pub(super) content: Option<Arc<[u8]>>,
}

impl Listing {
    /// The files of a commit.
    pub(super) fn of_commit(
        repository: &Repository,
        commit: &git2::Commit<'_>,
        prefix: &str,
    ) -> Result<Self, SourceError> {
        let mut listing = Self::default();
        let Some(root) = root(repository, commit, prefix)? else { return Ok(listing) };
        if let Some(config) = config(&root)? {
            listing.insert(CONFIG_FILE.into(), config);
        }
        if let Some(policies) = root.get_name(POLICIES_FOLDER) {
            let tree = find_folder(repository, policies.filemode(), policies.id(), POLICIES_FOLDER)?;
            listing.walk(repository, tree)?;
        }
        Ok(listing)
    }

    /// Adds every file of `policies/`. The folders still to be read are a list and not the call stack, so that no depth
    /// overflows it.
    fn walk<'r>(&mut self, repository: &'r Repository, policies: git2::Tree<'r>) -> Result<(), SourceError> {
        let mut folders = vec![(POLICIES_FOLDER.to_owned(), policies)];
        let mut seen = 0;
        while let Some((folder, tree)) = folders.pop() {
            seen += tree.len();
            check_size_of_tree(&folder, seen)?;
            for entry in &tree {
                let Ok(name) = entry.name() else {
                    let path = join(&folder, &String::from_utf8_lossy(entry.name_bytes()));
                    return Err(SourceError::NotUtf8 { path });
                };
                let path = join(&folder, name);
                if entry.kind() == Some(ObjectType::Tree) {
                    let tree = find_tree(repository, entry.id(), &path)?;
                    folders.push((path, tree));
                } else {
                    self.insert(path, Entry { mode: entry.filemode(), id: entry.id(), content: None });
                }
            }
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, path: String, entry: Entry) {
        self.entries.insert(path, entry);
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.entries.remove(path);
    }

    pub(super) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub(super) fn take(&mut self, path: &str) -> Option<Entry> {
        self.entries.remove(path)
    }

    /// The id that git gives the tree of `policies/`.
    pub(super) fn policies_tree(&self) -> Result<Option<Oid>, SourceError> {
        let mut root = Folder::default();
        for (path, entry) in &self.entries {
            root.insert(path, entry);
        }
        root.folders.get(POLICIES_FOLDER).map(Folder::id).transpose()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads every file. `repository` is where the blobs without content of their own are.
    pub(super) fn read(&self, repository: Option<&Repository>) -> Result<Snapshot, SourceError> {
        let database = repository.map(Repository::odb).transpose().map_err(git("open the object database"))?;
        let mut snapshot = Snapshot {
            origin: None,
            commit_time: None,
            policies_tree: None,
            config_blob: None,
            config: None,
            files: Vec::with_capacity(self.entries.len()),
            dirty: Vec::new(),
        };
        for (path, entry) in &self.entries {
            if entry.mode == SUBMODULE {
                return Err(SourceError::Submodule { path: path.into() });
            }
            if path == CONFIG_FILE {
                snapshot.config_blob = Some(entry.id.to_string());
                snapshot.config = Some(read_entry(database.as_ref(), path, entry)?);
            } else if entry.mode == SYMLINK || can_hold_documents(path) {
                snapshot.files.push(read_entry(database.as_ref(), path, entry)?);
            }
        }
        snapshot.policies_tree = self.policies_tree()?.map(|id| id.to_string());
        Ok(snapshot)
    }
}

/// The tree of the policy root; none if the commit has no such folder.
pub(super) fn root<'r>(
    repository: &'r Repository,
    commit: &git2::Commit<'_>,
    prefix: &str,
) -> Result<Option<git2::Tree<'r>>, SourceError> {
    let mut root = find_tree(repository, commit.tree_id(), "the commit's tree")?;
    let mut walked = String::new();
    for name in prefix.split('/').filter(|name| !name.is_empty()) {
        let Some((mode, id)) = root.get_name(name).map(|entry| (entry.filemode(), entry.id())) else {
            return Ok(None);
        };
        walked = join(&walked, name);
        root = find_folder(repository, mode, id, &walked)?;
    }
    Ok(Some(root))
}

/// `keywheel.yaml` of a policy root.
pub(super) fn config(root: &git2::Tree<'_>) -> Result<Option<Entry>, SourceError> {
    let Some(config) = root.get_name(CONFIG_FILE) else { return Ok(None) };
    if config.kind() == Some(ObjectType::Tree) {
        return Err(SourceError::NotAFile { path: CONFIG_FILE.into() });
    }
    Ok(Some(Entry { mode: config.filemode(), id: config.id(), content: None }))
}

/// A tree in the making.
#[derive(Default)]
struct Folder<'a> {
    files: BTreeMap<&'a str, &'a Entry>,
    folders: BTreeMap<&'a str, Folder<'a>>,
}

impl<'a> Folder<'a> {
    fn insert(&mut self, path: &'a str, entry: &'a Entry) {
        match path.split_once('/') {
            Some((folder, rest)) => self.folders.entry(folder).or_default().insert(rest, entry),
            None => drop(self.files.insert(path, entry)),
        }
    }

    /// Git's tree object: `MODE NAME\0ID` for each entry, sorted by bytes as if a folder's name ended in `/`.
    fn id(&self) -> Result<Oid, SourceError> {
        let mut lines = BTreeMap::new();
        for (name, entry) in &self.files {
            lines.insert((*name).to_owned(), (*name, format!("{:o}", entry.mode), entry.id));
        }
        for (name, folder) in &self.folders {
            lines.insert(format!("{name}/"), (*name, "40000".to_owned(), folder.id()?));
        }
        let mut object = Vec::new();
        for (name, mode, id) in lines.values() {
            object.extend_from_slice(mode.as_bytes());
            object.push(b' ');
            object.extend_from_slice(name.as_bytes());
            object.push(0);
            object.extend_from_slice(id.as_bytes());
        }
        Oid::hash_object(ObjectType::Tree, &object).map_err(git("name a tree"))
    }
}

pub(super) fn read_entry(
    database: Option<&git2::Odb<'_>>,
    path: &str,
    entry: &Entry,
) -> Result<SourceFile, SourceError> {
    let content = match (&entry.content, database) {
        (Some(content), _) => Arc::clone(content),
        (None, Some(database)) => read_blob(database, path, entry.id)?,
        (None, None) => return Err(SourceError::MissingObject { path: path.into(), id: entry.id.to_string() }),
    };
    if content.starts_with(LFS_POINTER) {
        return Err(SourceError::Lfs { path: path.into() });
    }
    Ok(SourceFile { path: path.into(), content, symlink: entry.mode == SYMLINK })
}

/// Other files (a README, a picture in Git LFS) count for the tree's id and are never read.
pub(super) fn can_hold_documents(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| {
        // Whoever writes `.YAML` means it, and a file that is passed over in silence would look like a removal.
        ["yaml", "yml"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// The content of a blob, whose size is looked at before anything is unpacked.
pub(super) fn read_blob(database: &git2::Odb<'_>, path: &str, id: Oid) -> Result<Arc<[u8]>, SourceError> {
    let failed = |e| missing_or(path, id, "read a file", e);
    let (size, _) = database.read_header(id).map_err(failed)?;
    check_size(path, size as u64)?;
    Ok(database.read(id).map_err(failed)?.data().into())
}

pub(super) fn check_size(path: &str, size: u64) -> Result<(), SourceError> {
    if size > MAX_FILE_SIZE { Err(SourceError::TooLarge { path: path.into(), size }) } else { Ok(()) }
}

/// Keeps a tree that repeats itself ("git bomb"), or is endlessly deep, from using up memory or stack.
pub(super) fn check_size_of_tree(path: &str, seen: usize) -> Result<(), SourceError> {
    let limit = match path.len() {
        _ if seen > MAX_ENTRIES => "more than 500,000 files and folders are not read",
        length if length > MAX_PATH => "a path of more than 1,024 bytes is not read",
        _ => return Ok(()),
    };
    Err(SourceError::Excessive { path: path.chars().take(64).collect(), limit })
}

pub(super) fn find_folder<'r>(
    repository: &'r Repository,
    mode: i32,
    id: Oid,
    path: &str,
) -> Result<git2::Tree<'r>, SourceError> {
    match mode {
        REGULAR | EXECUTABLE | SYMLINK | SUBMODULE => Err(not_a_folder(path, mode)),
        _ => find_tree(repository, id, path),
    }
}

/// Why something with this mode cannot be entered.
pub(super) fn not_a_folder(path: &str, mode: i32) -> SourceError {
    let what = match mode {
        SUBMODULE => return SourceError::Submodule { path: path.into() },
        SYMLINK => "a symbolic link",
        _ => "a file",
    };
    SourceError::NotAFolder { path: path.into(), what }
}

pub(super) fn find_tree<'r>(repository: &'r Repository, id: Oid, path: &str) -> Result<git2::Tree<'r>, SourceError> {
    repository.find_tree(id).map_err(|e| missing_or(path, id, "read a folder", e))
}

fn missing_or(path: &str, id: Oid, doing: &'static str, e: git2::Error) -> SourceError {
    match e.code() {
        ErrorCode::NotFound => SourceError::MissingObject { path: path.into(), id: id.to_string() },
        _ => git(doing)(e),
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
