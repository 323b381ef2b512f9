//! The schema: its versions, and how a database comes to the newest one.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::Failure;

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
const OLDEST_READABLE: i64 = 1;

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

/// Brings a database to the newest schema, inside a transaction.
///
/// The first migration makes the very tables that a lock could lie in, so the lock is one of PostgreSQL's own: it ends
/// with the transaction, so that a pooler cannot keep it, and whoever waited for it sees what the first one did.
pub(super) async fn migrate(connection: &mut PgConnection, migrations: &[Migration]) -> Result<(), Failure> {
    let known = newest(migrations);
    match found(connection).await? {
        Some(found) if found == known => {
            // A standby, or a role that may only read, says so now and not in the middle of the work.
            sqlx::raw_sql("UPDATE meta SET id = id WHERE false").execute(connection).await?;
            return Ok(());
        }
        Some(found) if found > known => return Err(Failure::Newer { found, known }),
        _ => {}
    }
    // `keyw`, and the schema in which the tables are.
    let sql = "SELECT pg_advisory_xact_lock(1801812343, coalesce(hashtext(current_schema()), 0))";
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    let from = match found(connection).await? {
        Some(found) if found > known => return Err(Failure::Newer { found, known }),
        found => found.unwrap_or(0),
    };
    for migration in migrations.iter().filter(|migration| migration.version > from) {
        sqlx::raw_sql(migration.sql).execute(&mut *connection).await?;
    }
    if from == 0 {
        // The lineage is a random UUID, version 4 (RFC 9562 section 5.4).
        let sql = "INSERT INTO meta (id, lineage, schema_version, created_at)
             VALUES (1, gen_random_uuid(), 0, clock_timestamp())";
        sqlx::raw_sql(sql).execute(&mut *connection).await?;
    }
    if from < known {
        let query = sqlx::query("UPDATE meta SET schema_version = $1").bind(known).persistent(false);
        query.execute(connection).await?;
    }
    Ok(())
}
