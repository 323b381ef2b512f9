//! Files that only their owner may read, made whole or not at all.

use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// A file that is to be put in another one's place.
pub(super) struct Replacement<'a> {
    path: &'a Path,
    file: BufWriter<tempfile::NamedTempFile>,
}

impl<'a> Replacement<'a> {
    /// An empty one, with mode 0600.
    pub(super) fn beside(path: &'a Path) -> io::Result<Self> {
        Ok(Self { path, file: BufWriter::new(tempfile::NamedTempFile::new_in(folder_of(path))?) })
    }

    /// Adds to it.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Syncs it, and gives it its name. After an error the other file is as it was.
    pub(super) fn put_in_place(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Makes names durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a file with mode 0600, and its folder with mode 0700 where there is none. False: it existed, and was not touched.
///
/// The content is written beside the file and synced before the file gets its name, so that no crash leaves a part of
/// it; the folder is synced before this returns.
pub(super) fn create(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<bool> {
    let folder = folder_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Its mode is 0600 from the start.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    let made = match temporary.persist_noclobber(path) {
        Ok(_) => true,
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error.error),
    };
    // Also for a file that another process has just made, and may not have synced yet.
    sync_folder(path)?;
    Ok(made)
}
