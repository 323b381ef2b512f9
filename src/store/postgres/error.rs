//! What PostgreSQL's error codes mean for the caller.

use std::borrow::Cow;

use crate::store::StoreError;

/// What went wrong, before it is said where.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no state database in this schema.
    Missing,
    /// PostgreSQL, the network or the driver failed.
    Sql(sqlx::Error),
    /// The same while a connection was made.
    Connecting(sqlx::Error),
    /// No answer came in time.
    TimedOut,
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

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

// PostgreSQL's error codes (postgresql.org/docs/15/errcodes-appendix.html).
const READ_ONLY_SQL_TRANSACTION: &str = "25006";
const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: &str = "25P03";
const INVALID_CATALOG_NAME: &str = "3D000";
const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
const UNTRANSLATABLE_CHARACTER: &str = "22P05";
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const UNDEFINED_COLUMN: &str = "42703";
const UNDEFINED_TABLE: &str = "42P01";
const DUPLICATE_TABLE: &str = "42P07";
const DISK_FULL: &str = "53100";
const TOO_MANY_CONNECTIONS: &str = "53300";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const ADMIN_SHUTDOWN: &str = "57P01";
const CRASH_SHUTDOWN: &str = "57P02";
const CANNOT_CONNECT_NOW: &str = "57P03";

impl Failure {
    /// May the first transaction go better on a new connection? What could not be reached then is not waited for, unless
    /// the server says that it will soon be ready.
    pub(super) fn is_worth_repeating_at_first(&self) -> bool {
        match self {
            Self::TimedOut => false,
            Self::Connecting(_) => matches!(self.code().as_deref(), Some(CANNOT_CONNECT_NOW | TOO_MANY_CONNECTIONS)),
            other => other.is_worth_repeating(),
        }
    }

    /// May the same transaction go better on a new connection? Either it was certainly rolled back, or nobody knows.
    pub(super) fn is_worth_repeating(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Sql(error) | Self::Connecting(error)
                if matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) =>
            {
                true
            }
            _ => self.code().is_some_and(|code| {
                // Class 08 is that of lost connections; PgBouncer reports its own troubles in it.
                code.starts_with("08")
                    || matches!(
                        &*code,
                        SERIALIZATION_FAILURE
                            | DEADLOCK_DETECTED
                            | TOO_MANY_CONNECTIONS
                            | ADMIN_SHUTDOWN
                            | CRASH_SHUTDOWN
                            | CANNOT_CONNECT_NOW
                            | IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                    )
            }),
        }
    }

    /// Is it the server that is missed, and not another transaction that is in the way?
    pub(super) fn is_lost_connection(&self) -> bool {
        let in_the_way = [SERIALIZATION_FAILURE, DEADLOCK_DETECTED, IDLE_IN_TRANSACTION_SESSION_TIMEOUT];
        self.is_worth_repeating() && !self.code().is_some_and(|code| in_the_way.contains(&&*code))
    }

    fn code(&self) -> Option<String> {
        match self {
            Self::Sql(error) | Self::Connecting(error) => error.as_database_error()?.code().map(Cow::into_owned),
            _ => None,
        }
    }

    /// The error for the caller.
    pub(super) fn at(self, location: &str) -> StoreError {
        let location = location.to_owned();
        match self {
            Self::Missing => StoreError::Missing { location },
            Self::Store(error) => error,
            Self::Corrupt(message) => StoreError::Corrupt { location, message },
            Self::Newer { found, known } => StoreError::Newer { location, found, known },
            Self::Other(message) => StoreError::Other { location, message },
            Self::TimedOut => {
                StoreError::Unreachable { location, message: "the server did not answer in time".to_owned() }
            }
            Self::Sql(error) | Self::Connecting(error) => sql_error(location, &error),
        }
    }
}

fn sql_error(location: String, error: &sqlx::Error) -> StoreError {
    let Some(database) = error.as_database_error() else {
        let message = match error {
            // The word of the system, without that of the driver.
            sqlx::Error::Io(error) => error.to_string(),
            sqlx::Error::Configuration(error) => {
                let message = error.to_string();
                message.strip_prefix("error with configuration: ").unwrap_or(&message).to_owned()
            }
            error => error.to_string(),
        };
        return StoreError::Unreachable { location, message };
    };
    let message = database.message().to_owned();
    let code = database.code().unwrap_or_default();
    match &*code {
        DISK_FULL => StoreError::Full { location },
        READ_ONLY_SQL_TRANSACTION | INSUFFICIENT_PRIVILEGE => StoreError::ReadOnly { location, message },
        LOCK_NOT_AVAILABLE => StoreError::Busy { location },
        INVALID_CATALOG_NAME => StoreError::Unreachable {
            location,
            message: format!("{message}: create it first, keywheel makes only its tables"),
        },
        TOO_MANY_CONNECTIONS | ADMIN_SHUTDOWN | CRASH_SHUTDOWN | CANNOT_CONNECT_NOW => {
            StoreError::Unreachable { location, message }
        }
        DUPLICATE_TABLE => StoreError::Other {
            location,
            message: format!("{message}, and it is not keywheel's: give keywheel a schema or a database of its own"),
        },
        // A table or column that every schema has.
        UNDEFINED_TABLE | UNDEFINED_COLUMN => StoreError::Corrupt { location, message },
        UNTRANSLATABLE_CHARACTER | CHARACTER_NOT_IN_REPERTOIRE => StoreError::Conflict {
            message: "a text has the character U+0000, which PostgreSQL does not keep".to_owned(),
        },
        // Classes: 08 lost connections, 28 refused logins, 22 values that their column cannot hold, 23 broken rules.
        code if code.starts_with("08") || code.starts_with("28") => StoreError::Unreachable { location, message },
        code if code.starts_with("22") || code.starts_with("23") => {
            StoreError::Conflict { message: constraint(database.constraint(), &message) }
        }
        _ => StoreError::Other { location, message },
    }
}

/// Says what a constraint stands for.
fn constraint(name: Option<&str>, message: &str) -> String {
    let meaning = match name {
        Some("rotations_unfinished") => "the key has an unfinished rotation already",
        Some("key_rotation_policies_live_name") => "the tenant has a policy of this name already",
        Some("encryption_keys_live_name") => "the tenant has a key of this name already",
        Some("key_versions_number") => "the key has a version of this number already",
        Some(name) if name.ends_with("_fkey") => "it names something that is not recorded",
        _ => return message.to_owned(),
    };
    format!("{meaning} ({message})")
}
