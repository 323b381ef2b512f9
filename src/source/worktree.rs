//! Files on disk, with the ids and the content that `git add` would give them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use git2::{IndexEntry, IndexEntryExtendedFlag, ObjectType, Odb, Oid, Repository, Status, StatusOptions};

use super::error::{self, git, io, not_utf8};
use super::listing::{self, Entry, Listing};
use super::{CONFIG_FILE, POLICIES_FOLDER, Snapshot, SourceError};

/// Lays what `git status` says over the files of the commit, and names what it touched.
///
/// Only `policies/` and `keywheel.yaml` are looked at: a status of a whole large repository takes seconds.
pub(super) fn overlay(
    repository: &Repository,
    prefix: &str,
    listing: &mut Listing,
) -> Result<Vec<String>, SourceError> {
    let top = repository.workdir().ok_or_else(|| SourceError::Bare { path: repository.path().into() })?;
    let changes = changes(repository, prefix)?;
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let reader = Reader::new(repository, top)?;
    let mut dirty = Vec::with_capacity(changes.len());
    for (full, status) in changes {
        // Git names a folder, and not the files in it, where that is a repository of its own.
        if let Some(repository) = full.strip_suffix('/') {
            return Err(SourceError::Submodule { path: repository.into() });
        }
        listing::check_size_of_tree(&full, dirty.len())?;
        let path = full.strip_prefix(prefix).map_or(full.as_str(), |path| path.trim_start_matches('/'));
        let left_out = reader.left_out(&full, status)?;
        if left_out.is_some() && !is_staged(status) {
            continue;
        }
        let now = match left_out {
            Some(staged) => Some(staged),
            None if status.is_wt_deleted() || (status.is_index_deleted() && !status.is_wt_new()) => None,
            None => reader.read(&full, path, listing.get(path))?,
        };
        match now {
            Some(entry) if path == POLICIES_FOLDER => return Err(listing::not_a_folder(path, entry.mode)),
            Some(_) if path.strip_prefix(CONFIG_FILE).is_some_and(|below| below.starts_with('/')) => {
                return Err(SourceError::NotAFile { path: CONFIG_FILE.into() });
            }
            Some(entry) => listing.insert(path.to_owned(), entry),
            None => listing.remove(path),
        }
        dirty.push(path.to_owned());
    }
    dirty.sort_unstable();
    Ok(dirty)
}

/// What differs from HEAD, by its path from the top.
fn changes(repository: &Repository, prefix: &str) -> Result<Vec<(String, Status)>, SourceError> {
    let mut options = StatusOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(true)
        .include_ignored(false)
        .disable_pathspec_match(true)
        .pathspec(under(prefix, CONFIG_FILE))
        .pathspec(under(prefix, POLICIES_FOLDER));
    let statuses = repository.statuses(Some(&mut options)).map_err(|e| match error::unsupported(e.message()) {
        Some(feature) => SourceError::Unsupported { path: repository.path().into(), feature },
        None => git("compare the work tree with its commit")(e),
    })?;
    statuses
        .iter()
        .map(|entry| {
            let path = std::str::from_utf8(entry.path_bytes());
            let path = path
                .map_err(|_| SourceError::NotUtf8 { path: String::from_utf8_lossy(entry.path_bytes()).into_owned() })?;
            Ok((path.to_owned(), entry.status()))
        })
        .collect()
}

fn is_staged(status: Status) -> bool {
    status.is_index_new() || status.is_index_modified() || status.is_index_deleted() || status.is_index_typechange()
}

/// Reads changed files through git's filters (line ends, `ident`).
///
/// libgit2 applies them only while it writes a blob, so it writes to an object database that is in memory and nowhere
/// else.
struct Reader<'r> {
    repository: &'r Repository,
    top: &'r Path,
    scratch: Repository,
    /// Does the file system know which files are executable?
    file_mode: bool,
}

impl<'r> Reader<'r> {
    fn new(repository: &'r Repository, top: &'r Path) -> Result<Self, SourceError> {
        let failed = git("prepare the reading of changed files");
        let scratch = super::open(repository.path()).map_err(&failed)?;
        scratch.set_workdir(top, false).map_err(&failed)?;
        let memory = Odb::new().map_err(&failed)?;
        memory.add_new_mempack_backend(1).map_err(&failed)?;
        scratch.set_odb(&memory).map_err(&failed)?;
        let file_mode = repository.config().and_then(|config| config.get_bool("core.filemode")).unwrap_or(true);
        Ok(Self { repository, top, scratch, file_mode })
    }

    /// What is on disk; none if nothing is that git would take.
    fn read(&self, full: &str, path: &str, before: Option<&Entry>) -> Result<Option<Entry>, SourceError> {
        let on_disk = self.top.join(full);
        let metadata = match fs::symlink_metadata(&on_disk) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(&on_disk, e)),
        };
        if metadata.is_dir() {
            return Err(SourceError::Submodule { path: path.into() });
        }
        // libgit2 would follow a link.
        if metadata.is_symlink() {
            return link(&on_disk).map(Some);
        }
        if !metadata.is_file() {
            return Ok(None);
        }
        listing::check_size(path, metadata.len())?;
        self.lend_staged(full)?;
        let id = self.scratch.blob_path(&on_disk).map_err(git("read a changed file"))?;
        let content = self.scratch.find_blob(id).map_err(git("read a changed file"))?.content().into();
        let mode = match before {
            Some(before) if !self.file_mode && before.mode != listing::SYMLINK => before.mode,
            _ if self.file_mode && is_executable(&metadata) => listing::EXECUTABLE,
            _ => listing::REGULAR,
        };
        Ok(Some(Entry { mode, id, content: Some(content) }))
    }

    /// The staged state of a file that a sparse checkout leaves out of the work tree. To libgit2 it looks deleted.
    fn left_out(&self, full: &str, status: Status) -> Result<Option<Entry>, SourceError> {
        if !status.is_wt_deleted() {
            return Ok(None);
        }
        let flag = IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
        let staged = self.staged(full)?.filter(|staged| staged.flags_extended & flag != 0);
        Ok(staged.map(|staged| {
            let mode = i32::try_from(staged.mode).unwrap_or(listing::REGULAR);
            Entry { mode, id: staged.id, content: None }
        }))
    }

    fn staged(&self, full: &str) -> Result<Option<IndexEntry>, SourceError> {
        let index = self.repository.index().map_err(git("read the index"))?;
        Ok(index.get_path(Path::new(full), 0))
    }

    /// Gives the memory the staged content of a file: git keeps the carriage returns of a file that already has them.
    fn lend_staged(&self, full: &str) -> Result<(), SourceError> {
        let Some(staged) = self.staged(full)? else { return Ok(()) };
        let Ok(blob) = self.repository.find_blob(staged.id) else { return Ok(()) };
        self.scratch.blob(blob.content()).map_err(git("read a changed file"))?;
        Ok(())
    }
}

/// Reads a folder that need not be in a repository. The ids are those that git would give, without any filter; every
/// file counts, since nothing says which ones to ignore.
///
/// # Errors
/// As [`super::Repo::read_worktree`].
pub fn read_directory(root: &Path) -> Result<Snapshot, SourceError> {
    let mut listing = Listing::default();
    let config = root.join(CONFIG_FILE);
    match fs::symlink_metadata(&config) {
        Ok(metadata) if metadata.is_dir() => return Err(SourceError::NotAFile { path: CONFIG_FILE.into() }),
        Ok(metadata) => add(&mut listing, &config, CONFIG_FILE.into(), &metadata)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(io(&config, e)),
    }
    let policies = root.join(POLICIES_FOLDER);
    match fs::symlink_metadata(&policies) {
        Ok(metadata) if metadata.is_dir() => walk(&mut listing, policies)?,
        Ok(metadata) => {
            let mode = if metadata.is_symlink() { listing::SYMLINK } else { listing::REGULAR };
            return Err(listing::not_a_folder(POLICIES_FOLDER, mode));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(io(&policies, e)),
    }
    if listing.is_empty() {
        return Err(SourceError::NoPolicies { place: root.into() });
    }
    listing.read(None)
}

fn walk(listing: &mut Listing, policies: PathBuf) -> Result<(), SourceError> {
    let mut folders = vec![(policies, POLICIES_FOLDER.to_owned())];
    let mut seen = 0;
    while let Some((folder, path)) = folders.pop() {
        listing::check_size_of_tree(&path, seen)?;
        for entry in fs::read_dir(&folder).map_err(|e| io(&folder, e))? {
            let entry = entry.map_err(|e| io(&folder, e))?;
            seen += 1;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| not_utf8(&Path::new(&path).join(&name)))?;
            let (on_disk, path) = (entry.path(), format!("{path}/{name}"));
            let metadata = entry.metadata().map_err(|e| io(&on_disk, e))?;
            if metadata.is_dir() {
                folders.push((on_disk, path));
            } else {
                add(listing, &on_disk, path, &metadata)?;
            }
        }
    }
    Ok(())
}

/// Adds a file or a symbolic link. Pipes, sockets and devices are passed over, as git does.
fn add(listing: &mut Listing, on_disk: &Path, path: String, metadata: &fs::Metadata) -> Result<(), SourceError> {
    if metadata.is_symlink() {
        listing.insert(path, link(on_disk)?);
    } else if metadata.is_file() {
        listing::check_size(&path, metadata.len())?;
        let mode = if is_executable(metadata) { listing::EXECUTABLE } else { listing::REGULAR };
        listing.insert(path, entry(mode, fs::read(on_disk).map_err(|e| io(on_disk, e))?)?);
    }
    Ok(())
}

/// A symbolic link, whose content is its target.
fn link(on_disk: &Path) -> Result<Entry, SourceError> {
    let target = fs::read_link(on_disk).map_err(|e| io(on_disk, e))?;
    entry(listing::SYMLINK, target.into_os_string().into_encoded_bytes())
}

fn entry(mode: i32, content: Vec<u8>) -> Result<Entry, SourceError> {
    let id = Oid::hash_object(ObjectType::Blob, &content).map_err(git("name a file"))?;
    Ok(Entry { mode, id, content: Some(content.into()) })
}

/// The path of `name` in the policy root, from the top.
fn under(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}
