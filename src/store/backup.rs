//! Backups: a copy of a state database as an SQLite file, whichever database it is. One format restores into either.
//!
//! Invariant: a file of the wanted name is there only if the copy is whole, durable and read again. It is its owner's
//! alone, and never stands in the place of another file.

use std::io;
use std::path::{Path, PathBuf};

use super::sqlite::{self, Copied};
use super::{ReadState, StoreError};

/// What opening a database has changed: its schema was an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The schema that it had.
    pub from: i64,
    /// The schema that it has now.
    pub to: i64,
    /// The copy that was made before.
    pub backup: PathBuf,
}

/// Writes a copy of everything that a database holds at one instant; others may work on it meanwhile.
///
/// # Errors
/// [`StoreError::NoBackup`] with the reason; there is no file then, or the one that was there.
pub async fn back_up(state: &dyn ReadState, to: &Path) -> Result<Copied, StoreError> {
    let refused = |message: String| StoreError::NoBackup { backup: to.display().to_string(), message };
    let unwritten = |error: io::Error| refused(error.to_string());
    if to.symlink_metadata().is_ok() {
        return Err(refused("there is a file of this name already".to_owned()));
    }
    let file = beside(to).map_err(unwritten)?;
    state.back_up(file.path()).await.map_err(|error| refused(error.to_string()))?;
    let copied = sqlite::read_copy(file.path()).await.map_err(|error| refused(error.to_string()))?;
    file.persist_noclobber(to).map_err(|error| unwritten(error.error))?;
    sync_directory(to).map_err(unwritten)?;
    Ok(copied)
}

/// An empty file that nobody else can read, in the directory in which a file is to be.
pub(super) fn beside(to: &Path) -> io::Result<tempfile::NamedTempFile> {
    let directory = directory(to);
    std::fs::create_dir_all(directory)?;
    tempfile::Builder::new().prefix(".keywheel-").suffix(".partial").tempfile_in(directory)
}

/// Makes the name of a file durable.
pub(super) fn sync_directory(of: &Path) -> io::Result<()> {
    if cfg!(unix) { std::fs::File::open(directory(of))?.sync_all() } else { Ok(()) }
}

fn directory(of: &Path) -> &Path {
    of.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
