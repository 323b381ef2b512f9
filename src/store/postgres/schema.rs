//! The schema: its versions, and how a database comes to the newest one.

use std::io;
use std::path::{Path, PathBuf};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::{Failure, backup, lease, read};
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

/// All steps, in their order. They lead to the same schemas as SQLite's of the same number.
pub(super) const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, sql: include_str!("../migrations/postgres/0001_initial.sql") }];

/// The oldest schema that this build still reads: the one before the newest.
pub(super) const OLDEST_READABLE: i64 = 1;

fn newest(migrations: &[Migration]) -> i64 {
    migrations.last().map_or(0, |migration| migration.version)
}

/// The schema of a database, or none if there is no state database where its connections look.
///
/// The catalogue is read as a table. `to_regclass` would answer from the session's cache, which does not hear of what
/// others made while this transaction waited for a lock.
pub(super) async fn found(connection: &mut PgConnection) -> Result<Option<i64>, Failure> {
    let sql = "SELECT count(DISTINCT relname) = 2 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
               WHERE relname IN ('meta', 'key_rotation_policies') AND nspname = ANY (current_schemas(false))";
    if !sqlx::query(sql).persistent(false).fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
        return Ok(None);
    }
    let sql = "SELECT schema_version FROM meta";
    let row = sqlx::query(sql).persistent(false).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| Failure::Corrupt("it has no row in meta".to_owned()))?;
    Ok(Some(row.try_get(0)?))
}

/// Is its schema one that this build reads?
pub(super) async fn check_readable(connection: &mut PgConnection) -> Result<(), Failure> {
    let known = newest(MIGRATIONS);
    match found(connection).await? {
        None => Err(Failure::Missing),
        Some(found) if found > known => Err(Failure::Newer { found, known }),
        Some(found) if found < OLDEST_READABLE => Err(Failure::Other(format!(
            "its schema is {found}, and this keywheel reads schemas from {OLDEST_READABLE}: an apply migrates it"
        ))),
        Some(_) => Ok(()),
    }
}

/// Has a database the newest schema? One that has can be written, too.
pub(super) async fn is_newest(connection: &mut PgConnection, migrations: &[Migration]) -> Result<bool, Failure> {
    let known = newest(migrations);
    match found(connection).await? {
        Some(found) if found > known => Err(Failure::Newer { found, known }),
        Some(found) if found == known => {
            // A standby, or a role that may only read, says so now and not in the middle of the work.
            sqlx::raw_sql("UPDATE meta SET id = id WHERE false").execute(connection).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Brings a database to the newest schema, inside a transaction. Before anything is changed, a database that has something
/// in it is copied into a file in `backups`.
///
/// The first migration makes the very tables that a lock could lie in, so the lock is one of PostgreSQL's own: it ends
/// with the transaction, so that a pooler cannot keep it, and whoever waited for it sees what the first one did.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    migrations: &[Migration],
    backups: &Path,
) -> Result<Option<Migrated>, Failure> {
    // `keyw`, and the schema in which the tables are.
    let sql = "SELECT pg_advisory_xact_lock(1801812343, coalesce(hashtext(current_schema()), 0))";
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    if is_newest(connection, migrations).await? {
        return Ok(None);
    }
    let (from, known) = (found(connection).await?, newest(migrations));
    let backup = match from {
        Some(schema) => {
            lease::unused(connection).await?;
            Some(back_up(connection, schema, backups).await?)
        }
        None => None,
    };
    let from = from.unwrap_or(0);
    for migration in migrations.iter().filter(|migration| migration.version > from) {
        sqlx::raw_sql(migration.sql).execute(&mut *connection).await?;
    }
    if from == 0 {
        // The lineage is a random UUID, version 4 (RFC 9562 section 5.4).
        let sql = "INSERT INTO meta (id, lineage, schema_version, created_at)
             VALUES (1, gen_random_uuid(), 0, clock_timestamp())";
        sqlx::raw_sql(sql).execute(&mut *connection).await?;
    }
    let query = sqlx::query("UPDATE meta SET schema_version = $1").bind(known).persistent(false);
    query.execute(connection).await?;
    Ok(backup.map(|backup| Migrated { from, to: known, backup }))
}

/// Copies the database while nobody writes to it, to `LINEAGE.schema-N.db`.
///
/// One of an earlier migration from the same schema gives way: it is of a database that was restored since.
async fn back_up(connection: &mut PgConnection, schema: i64, backups: &Path) -> Result<PathBuf, Failure> {
    // The file is written meanwhile, and the server hears nothing.
    let sql = "SELECT set_config('idle_in_transaction_session_timeout', '10min', true)";
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    let lineage = read::identity(connection).await?.lineage;
    let to = backups.join(format!("{lineage}.schema-{schema}.db"));
    let refused = |message: String| StoreError::NoBackup { backup: to.display().to_string(), message };
    let unwritten = |error: io::Error| refused(error.to_string());
    let file = beside(&to).map_err(unwritten)?;
    match backup::copy_out(connection, file.path(), true).await {
        // What PostgreSQL said is for the caller to judge: it may be worth repeating.
        Err(Failure::Store(error)) => return Err(refused(error.to_string()).into()),
        done => done?,
    }
    file.persist(&to).map_err(|error| unwritten(error.error))?;
    sync_directory(&to).map_err(unwritten)?;
    Ok(to)
}
