//! Files that only their owner may read, made whole or not at all.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a file with mode 0600, and its folder with mode 0700 where there is none. False: it existed, and was not touched.
///
/// The content is written beside the file and synced before the file gets its name, so that no crash leaves a part of
/// it; the folder is synced before this returns.
pub(super) fn create(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<bool> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
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
    File::open(folder)?.sync_all()?;
    Ok(made)
}
