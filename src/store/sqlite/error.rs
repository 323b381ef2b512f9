//! What SQLite's result codes mean for the caller.

use std::io;

use crate::store::StoreError;

/// What went wrong, before it is said where.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no database.
    Missing,
    /// It is a folder.
    Folder,
    /// SQLite or its driver failed.
    Sql(sqlx::Error),
    /// The file system failed.
    Io(io::Error),
    /// The same while writing, where a refusal means that the database is read-only.
    Writing(Box<Self>),
    /// Its content makes no sense.
    Corrupt(String),
    /// A newer keywheel wrote it.
    Newer {
        found: i64,
        known: i64,
    },
    /// It is clear already.
    Store(StoreError),
    Other(String),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

// SQLite's primary result codes (sqlite.org/rescode.html).
const ERROR: i32 = 1;
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
const NOTADB: i32 = 26;
/// The extended code of a journal that a reader may not roll back.
const READONLY_ROLLBACK: i32 = 776;
/// The extended code of a file that ends in the middle of a page.
const IOERR_SHORT_READ: i32 = 522;

impl Failure {
    /// Marks what happened while writing.
    pub(super) fn while_writing(self) -> Self {
        Self::Writing(Box::new(self))
    }

    /// Is there a journal that must be rolled back before anything can be read?
    pub(super) fn needs_rollback(&self) -> bool {
        matches!(self, Self::Sql(error) if code(error) == Some(READONLY_ROLLBACK))
    }

    /// Is it the answer of SQLite to a file that it cannot open?
    pub(super) fn cannot_open(&self) -> bool {
        matches!(self, Self::Sql(error) if code(error).is_some_and(|code| code & 0xff == CANTOPEN))
    }

    /// The error for the caller.
    pub(super) fn at(self, location: &str) -> StoreError {
        let location = location.to_owned();
        match self {
            Self::Missing => StoreError::Missing { location },
            Self::Folder => StoreError::Folder { location },
            Self::Store(error) => error,
            Self::Corrupt(message) => StoreError::Corrupt { location, message },
            Self::Newer { found, known } => StoreError::Newer { location, found, known },
            Self::Other(message) => StoreError::Other { location, message },
            Self::Io(error) => io_error(location, &error, false),
            Self::Sql(error) => sql_error(location, &error, false),
            Self::Writing(inner) => match *inner {
                Self::Io(error) => io_error(location, &error, true),
                Self::Sql(error) => sql_error(location, &error, true),
                other => other.at(&location),
            },
        }
    }
}

fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

fn io_error(location: String, error: &io::Error, writing: bool) -> StoreError {
    let message = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { location },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if writing => {
            StoreError::ReadOnly { location, message }
        }
        _ => StoreError::Other { location, message },
    }
}

fn sql_error(location: String, error: &sqlx::Error, writing: bool) -> StoreError {
    let Some(code) = code(error) else {
        return StoreError::Other { location, message: error.to_string() };
    };
    let message = error.as_database_error().map_or_else(String::new, |error| error.message().to_owned());
    match code & 0xff {
        BUSY | LOCKED => StoreError::Busy { location },
        FULL => StoreError::Full { location },
        CORRUPT | NOTADB => StoreError::Corrupt { location, message },
        IOERR if code == IOERR_SHORT_READ => {
            StoreError::Corrupt { location, message: "the file is too short".to_owned() }
        }
        // A table or column that every schema has.
        ERROR if message.starts_with("no such ") => StoreError::Corrupt { location, message },
        CONSTRAINT => StoreError::Conflict { message: constraint(&message) },
        READONLY => StoreError::ReadOnly { location, message },
        CANTOPEN | PERM if writing => {
            StoreError::ReadOnly { location, message: format!("{message} (the journal beside it, or the file itself)") }
        }
        _ => StoreError::Other { location, message },
    }
}

/// Says what a constraint stands for, where SQLite names only its columns.
fn constraint(message: &str) -> String {
    const MEANINGS: &[(&str, &str)] = &[
        ("rotations.key_id", "the key has an unfinished rotation already"),
        ("key_rotation_policies.policy_name", "the tenant has a policy of this name already"),
        ("encryption_keys.key_name", "the tenant has a key of this name already"),
        ("key_versions.number", "the key has a version of this number already"),
        ("FOREIGN KEY", "it names something that is not recorded"),
    ];
    let meaning = MEANINGS.iter().find(|(columns, _)| message.contains(columns));
    meaning.map_or_else(|| message.to_owned(), |(_, meaning)| format!("{meaning} ({message})"))
}
