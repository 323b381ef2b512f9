//! The schema: its versions, and how a database comes to the newest one.

use std::path::{Path, PathBuf};

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::{Failure, Session, backup, lease, options};
use crate::store::backup::{beside, sync_directory};
use crate::store::{Migrated, StoreError};

/// One step of the schema. What was released is never edited: a change is a new step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    /// The schema that it leads to; the first is 1, and none is left out.
    pub version: i64,
    /// What it does.
    pub sql: &'static str,
}

/// All steps, in their order.
pub(super) const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, sql: include_str!("../migrations/sqlite/0001_initial.sql") }];

/// The oldest schema that this build still reads: the one before the newest.
pub(super) const OLDEST_READABLE: i64 = 1;

/// `application_id` of the file: `keyw`, as the first migration sets it.
const APPLICATION_ID: i64 = 0x6b65_7977;

/// This instant by SQLite's clock, in the form of every column of time. SQLite counts in milliseconds.
pub(super) const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')";

/// The steps of this process; a test may plant one more.
pub(super) fn migrations() -> &'static [Migration] {
    #[cfg(test)]
    if let Some(planted) = planted::MIGRATIONS.get() {
        return planted;
    }
    MIGRATIONS
}

fn newest(migrations: &[Migration]) -> i64 {
    migrations.last().map_or(0, |migration| migration.version)
}

/// The schema of a database, or none if there is nothing in it yet.
pub(super) async fn found(connection: &mut SqliteConnection) -> Result<Option<i64>, Failure> {
    let tables: i64 =
        sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?.try_get(0)?;
    if tables == 0 {
        return Ok(None);
    }
    let id: i64 = sqlx::query("PRAGMA application_id").fetch_one(&mut *connection).await?.try_get(0)?;
    if id != APPLICATION_ID {
        return Err(Failure::Corrupt("it is an SQLite database, and not one of keywheel's".to_owned()));
    }
    let row = sqlx::query("SELECT schema_version FROM meta").fetch_optional(&mut *connection).await?;
    let row = row.ok_or_else(|| Failure::Corrupt("it has no row in meta".to_owned()))?;
    Ok(Some(row.try_get(0)?))
}

/// Is its schema one that this build reads?
pub(super) async fn check_readable(connection: &mut SqliteConnection) -> Result<(), Failure> {
    let known = newest(migrations());
    match found(connection).await? {
        None => Err(Failure::Missing),
        Some(found) if found > known => Err(Failure::Newer { found, known }),
        Some(found) if found < OLDEST_READABLE => Err(Failure::Other(format!(
            "its schema is {found}, and this keywheel reads schemas from {OLDEST_READABLE}: an apply migrates it"
        ))),
        Some(_) => Ok(()),
    }
}

/// Brings a database to the newest schema, inside a transaction that has the write lock. Before anything is changed, a
/// database that has something in it is copied to `PATH.schema-N`: without that copy it stays as it is.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    migrations: &[Migration],
) -> Result<Option<Migrated>, Failure> {
    let known = newest(migrations);
    match found(connection).await? {
        Some(found) if found == known => {
            // SQLite opens a file that it may not write for reading, in silence, and says so at the first write: this
            // one, which changes nothing.
            sqlx::query("UPDATE meta SET id = id WHERE false").execute(connection).await?;
            Ok(None)
        }
        Some(found) if found > known => Err(Failure::Newer { found, known }),
        Some(found) => {
            unused(connection).await?;
            let backup = backup_path(path, found);
            back_up(path, &backup).await?;
            run(connection, found, migrations).await?;
            Ok(Some(Migrated { from: found, to: known, backup }))
        }
        None => run(connection, 0, migrations).await.map(|()| None),
    }
}

/// Nobody works on a database while its schema changes: a migration is not begun under somebody's lease.
async fn unused(connection: &mut SqliteConnection) -> Result<(), Failure> {
    lease::in_the_way(connection, None).await?.map_or(Ok(()), |locked| Err(locked.into()))
}

pub(super) async fn run(connection: &mut SqliteConnection, from: i64, migrations: &[Migration]) -> Result<(), Failure> {
    for migration in migrations.iter().filter(|migration| migration.version > from) {
        sqlx::raw_sql(migration.sql).execute(&mut *connection).await?;
    }
    if from == 0 {
        // The lineage is a random UUID, version 4 (RFC 9562 section 5.4).
        let sql = format!(
            "INSERT INTO meta (id, lineage, schema_version, created_at)
             SELECT 1, lower(substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-'
                 || substr('89ab', 1 + (random() & 3), 1) || substr(h, 18, 3) || '-' || substr(h, 21)), 0, {NOW}
             FROM (SELECT hex(randomblob(16)) AS h)"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    sqlx::query("UPDATE meta SET schema_version = ?1").bind(newest(migrations)).execute(connection).await?;
    Ok(())
}

fn backup_path(path: &Path, schema: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{schema}"));
    name.into()
}

/// Copies the database through SQLite, which reads past the lock that the migration holds; a copy of the file by hand
/// would drop this process's locks on it when it closes the file.
///
/// One of an earlier migration from the same schema gives way: it is of a database that was restored since.
async fn back_up(path: &Path, to: &Path) -> Result<(), Failure> {
    let work = async {
        // SQLite fills an empty file, and leaves it its permissions.
        let file = beside(to)?;
        let mut session = Session::connect(options(path)).await?;
        backup::vacuum_into(&mut session.connection, file.path()).await?;
        backup::read_copy(file.path()).await?;
        file.persist(to).map_err(|error| error.error)?;
        Ok::<_, Failure>(sync_directory(to)?)
    };
    work.await.map_err(|failure| {
        let (backup, message) = (to.display().to_string(), failure.at(&path.display().to_string()).to_string());
        StoreError::NoBackup { backup, message }.into()
    })
}

/// A step more than there is: databases of the newest schema are older ones then.
#[cfg(test)]
pub(crate) mod planted {
    use std::cell::Cell;

    use super::Migration;

    thread_local! {
        pub(super) static MIGRATIONS: Cell<Option<&'static [Migration]>> = const { Cell::new(None) };
    }

    /// The newest schema that there is.
    pub(crate) fn newest() -> i64 {
        super::newest(super::MIGRATIONS)
    }

    /// Plants it for the rest of the test, whose thread this is. Gives the schema that it leads to.
    pub(crate) fn migration(sql: &'static str) -> i64 {
        let version = newest() + 1;
        let all = super::MIGRATIONS.iter().copied().chain([Migration { version, sql }]).collect();
        MIGRATIONS.set(Some(Vec::leak(all)));
        version
    }
}
