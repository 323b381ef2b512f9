//! Reading what cannot be read without writing: a copy, in a temporary directory, on which SQLite may write.
//!
//! Two things make a copy necessary: a journal that a crash left behind, which has to be rolled back before anything
//! can be read; and a file that some other program has switched to a write-ahead log.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Failure, Session, options};

/// How often a copy is tried while somebody else changes the files.
const ATTEMPTS: u32 = 5;

/// A copy, and the directory that it lies in.
#[derive(Debug)]
pub(super) struct Copy {
    pub path: PathBuf,
    pub directory: tempfile::TempDir,
}

/// Would reading the file create others beside it?
///
/// SQLite refuses to read a file with a write-ahead log if it is told not to lock it (`sqlite3PagerWalSupported` in
/// SQLite's `pager.c`). That answer is all that is taken from it: without locks, anything else that it says may be
/// wrong. Looking into the file's header without SQLite would drop this process's locks when the file is closed.
pub(super) async fn needed(path: &Path) -> bool {
    let Some(uri) = without_locks(path) else { return false };
    let answer = async {
        let mut session = Session::connect(options(Path::new(&uri)).read_only(true)).await?;
        sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut session.connection).await?;
        Ok(())
    };
    answer.await.is_err_and(|failure: Failure| failure.cannot_open())
}

/// The path as a URI that asks for no locks (sqlite.org/uri.html). Every byte that could mean something is escaped.
fn without_locks(path: &Path) -> Option<String> {
    let mut uri = "file:".to_owned();
    for byte in path.to_str()?.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.extend(format!("%{byte:02X}").chars()),
        }
    }
    Some(uri + "?nolock=1")
}

/// Copies the database, its journal and its log. Nobody may change them meanwhile; if somebody did, it is tried again.
pub(super) fn copy(path: &Path) -> Result<Copy, Failure> {
    let directory = tempfile::Builder::new().prefix("keywheel-").tempdir()?;
    let to = directory.path().join("state.db");
    for _ in 0..ATTEMPTS {
        let before = fingerprint(path)?;
        for suffix in ["-journal", "-wal", ""] {
            match fs::copy(beside(path, suffix), beside(&to, suffix)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    remove(&beside(&to, suffix))?;
                }
                result => {
                    result?;
                }
            }
        }
        if fingerprint(path)? == before {
            return Ok(Copy { path: to, directory });
        }
    }
    Err(Failure::Other("it changes all the time, and could not be copied to be read".to_owned()))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Length and time of change of the three files.
fn fingerprint(path: &Path) -> io::Result<Vec<Option<(u64, SystemTime)>>> {
    let one = |suffix| match fs::metadata(beside(path, suffix)) {
        Ok(found) => Ok(Some((found.len(), found.modified()?))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    ["-journal", "-wal", ""].into_iter().map(one).collect()
}
