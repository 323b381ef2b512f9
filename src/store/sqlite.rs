//! The state database as an SQLite file.
//!
//! [`open_read_only`] gives what a plan may have, [`open_or_create`] what an apply needs; only what the latter returns
//! has the writing methods.
//!
//! *Rollback journal, not write-ahead log.* A reader of a write-ahead log creates files beside the database (`-shm`,
//! `-wal`), and cannot read where it may not write. With the rollback journal a plan opens the file read-only and
//! leaves the directory as it was; one writer at a time is what the lease asks for anyway. If a crash left a journal
//! that must be rolled back first, the reader does so on a copy in a temporary directory.
//!
//! *Durability.* `synchronous = EXTRA`: when a commit returns, its bytes and the removal of its journal are on the
//! disk, so that an intent is durable before its side effect.
//!
//! *Rows travel as JSON.* A commit sends all rows of a table as one parameter, which `jsonb_each` takes apart inside
//! SQLite, and a read fetches each row as one `json_array`. Every statement and every value that crosses to SQLite's
//! thread costs far more than the JSON does: with 45 columns, rows as JSON are read more than twice as fast as columns
//! one by one, and a statement for each row would not reach a tenth of the rate. Columns stay the single truth.
//!
//! Must not know: what any of it means.

mod backup;
mod error;
mod lease;
mod outbox;
mod read;
mod rescue;
mod schema;
mod usage;
mod write;

#[cfg(test)]
pub(crate) use schema::planted;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use tokio::sync::{Mutex, MutexGuard};

pub(super) use self::backup::NewFile;
pub use self::backup::{Copied, read_copy};
use self::error::Failure;
use super::{Migrated, StoreError};

/// How long a statement waits for another process's lock before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How many rows may wait between SQLite's thread and ours: enough that neither waits for the other row by row.
const ROWS_IN_FLIGHT: usize = 2048;

/// SQLite's page cache, in KiB as SQLite wants it (negative). Rows of one apply lie together, so that a plan and a batch
/// of writes each come back to few pages.
const CACHE_KIB: &str = "-4096";

/// An open SQLite state database; `Access` is [`Reading`] or [`Writing`].
#[derive(Debug)]
pub struct Sqlite<Access> {
    session: Mutex<Session>,
    /// The file's path, for messages.
    location: String,
    /// Dropped after the session: it may own the directory that the session reads from.
    access: Access,
}

/// The access of a plan: nothing is written.
#[derive(Debug)]
pub struct Reading {
    /// Where a copy lies, if the database itself could not be read without writing.
    _copy: Option<tempfile::TempDir>,
}

/// The access of an apply.
#[derive(Debug)]
pub struct Writing {
    migrated: Option<Migrated>,
}

/// Opens a state database to read it. Neither it nor anything beside it is written.
///
/// # Errors
/// [`StoreError::Missing`] if there is none; [`StoreError::Newer`], [`StoreError::Corrupt`] if it cannot be understood.
pub async fn open_read_only(path: &Path) -> Result<Sqlite<Reading>, StoreError> {
    let location = path.display().to_string();
    match reader(path).await {
        Ok((session, copy)) => Ok(Sqlite { session: Mutex::new(session), location, access: Reading { _copy: copy } }),
        Err(failure) => Err(failure.at(&location)),
    }
}

/// Opens a state database to write it; makes or migrates it where that is needed.
///
/// A missing directory is made for the owner alone (0700), and so is the file (0600).
///
/// # Errors
/// [`StoreError::ReadOnly`], [`StoreError::Full`], and those of [`open_read_only`] except the first.
pub async fn open_or_create(path: &Path) -> Result<Sqlite<Writing>, StoreError> {
    let location = path.display().to_string();
    match writer(path).await {
        Ok((session, migrated)) => Ok(Sqlite { session: Mutex::new(session), location, access: Writing { migrated } }),
        Err(failure) => Err(failure.at(&location)),
    }
}

async fn reader(path: &Path) -> Result<(Session, Option<tempfile::TempDir>), Failure> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::Missing),
        Err(error) => return Err(error.into()),
        Ok(found) if found.is_dir() => return Err(Failure::Folder),
        // What a crash leaves before the first commit.
        Ok(found) if found.len() == 0 => return Err(Failure::Missing),
        Ok(_) => {}
    }
    if !rescue::needed(path).await {
        match readable(options(path).read_only(true)).await {
            Err(failure) if failure.needs_rollback() => {}
            result => return result.map(|session| (session, None)),
        }
    }
    let copy = rescue::copy(path)?;
    Ok((readable(options(&copy.path)).await?, Some(copy.directory)))
}

/// A session on a database whose schema this build reads.
async fn readable(options: SqliteConnectOptions) -> Result<Session, Failure> {
    let mut session = Session::connect(options).await?;
    schema::check_readable(&mut session.connection).await?;
    Ok(session)
}

async fn writer(path: &Path) -> Result<(Session, Option<Migrated>), Failure> {
    create_file(path)?;
    let options = options(path).journal_mode(SqliteJournalMode::Delete).synchronous(SqliteSynchronous::Extra);
    let mut session = Session::connect(options).await.map_err(Failure::while_writing)?;
    session.begin(Begin::Write).await.map_err(Failure::while_writing)?;
    let work = schema::migrate(&mut session.connection, path, schema::migrations()).await;
    let migrated = session.end(work).await.map_err(Failure::while_writing)?;
    Ok((session, migrated))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .row_buffer_size(ROWS_IN_FLIGHT)
        .pragma("cache_size", CACHE_KIB)
        .disable_statement_logging()
}

/// Makes the file and its directory, if they are missing, for their owner alone. A file that exists is not opened:
/// closing it would drop the locks that another connection of this process holds on it.
fn create_file(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(Failure::Folder),
        Ok(_) => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Failure::from(error).while_writing()),
        Err(_) => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut directory = fs::DirBuilder::new();
    directory.recursive(true);
    let mut file = fs::OpenOptions::new();
    file.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        directory.mode(0o700);
        file.mode(0o600);
    }
    let made = parent.map_or(Ok(()), |parent| directory.create(parent)).and_then(|()| file.open(path).map(drop));
    match made {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_file() => Ok(()),
        made => made.map_err(|error| Failure::from(error).while_writing()),
    }
}

impl<Access> Sqlite<Access> {
    /// The connection, with no transaction open on it.
    async fn session(&self) -> MutexGuard<'_, Session> {
        let mut session = self.session.lock().await;
        if session.open {
            // Whoever had it stopped waiting in the middle: what was not committed is not to be.
            session.roll_back().await;
        }
        session
    }

    fn at<T>(&self, result: Result<T, Failure>) -> Result<T, StoreError> {
        result.map_err(|failure| failure.at(&self.location))
    }
}

/// A connection, and whether a transaction may be open on it.
#[derive(Debug)]
struct Session {
    connection: SqliteConnection,
    open: bool,
}

/// How a transaction begins.
#[derive(Debug, Clone, Copy)]
enum Begin {
    /// It only reads, and sees one state throughout.
    Read,
    /// It writes: it has the database's write lock from its beginning.
    Write,
}

impl Session {
    async fn connect(options: SqliteConnectOptions) -> Result<Self, Failure> {
        Ok(Self { connection: options.connect().await?, open: false })
    }

    async fn begin(&mut self, begin: Begin) -> Result<(), Failure> {
        self.open = true;
        let statement = match begin {
            Begin::Read => "BEGIN",
            Begin::Write => "BEGIN IMMEDIATE",
        };
        sqlx::query(statement).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Commits if the work succeeded, and rolls back if it or the commit failed.
    async fn end<T>(&mut self, work: Result<T, Failure>) -> Result<T, Failure> {
        let result = match work {
            Ok(value) => {
                sqlx::query("COMMIT").execute(&mut self.connection).await.map(|_| value).map_err(Failure::from)
            }
            Err(failure) => Err(failure),
        };
        match result {
            Ok(_) => self.open = false,
            Err(_) => self.roll_back().await,
        }
        result
    }

    async fn roll_back(&mut self) {
        // It fails where SQLite has rolled back by itself, as it does when the disk is full: then there is nothing to do.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        self.open = false;
    }
}

#[cfg(test)]
mod tests;
