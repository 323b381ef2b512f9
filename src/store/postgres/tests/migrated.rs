//! An older schema becomes the newest, and is copied before.

use std::path::Path;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::server::{self, Database};
use super::{empty, location};
use crate::store::conformance::{OLDER_SCHEMAS, samples::policy, unanswered, write};
use crate::store::postgres::error::Failure;
use crate::store::postgres::schema::{MIGRATIONS, Migration, OLDEST_READABLE, migrate};
use crate::store::sqlite::planted;
use crate::store::{Location, Migrated, ReadState, StoreError, Write, open_read_only};

/// The migrations, and one more.
fn with_another(sql: &'static str) -> Vec<Migration> {
    let newest = MIGRATIONS.last().unwrap().version;
    MIGRATIONS.iter().copied().chain([Migration { version: newest + 1, sql }]).collect()
}

/// Migrates in a transaction, as opening a database does.
async fn migrated(database: &Database, to: &[Migration], backups: &Path) -> Result<Option<Migrated>, Failure> {
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL READ COMMITTED").execute(&mut connection).await.unwrap();
    let done = migrate(&mut connection, to, backups).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    sqlx::raw_sql(end).execute(&mut connection).await.unwrap();
    done
}

#[tokio::test]
async fn a_migration_keeps_a_copy_of_what_was_there() {
    let next = with_another("ALTER TABLE meta ADD COLUMN note text; CREATE TABLE extra (x text);");
    let (database, state) = empty().await;
    write(&state, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await;
    let before = state.recorded().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Two appliers: one migrates, and the other finds it done.
    let both = [migrated(&database, &next, folder.path()), migrated(&database, &next, folder.path())];
    let mut done: Vec<_> = futures::future::join_all(both).await.into_iter().map(Result::unwrap).collect();
    done.sort_by_key(Option::is_none);
    let [Some(first), None] = done.as_slice() else { panic!("{done:?}") };
    let newest = MIGRATIONS.last().unwrap().version;
    assert_eq!((first.from, first.to), (newest, newest + 1));
    assert_eq!(database.query("SELECT schema_version FROM meta").unwrap(), (newest + 1).to_string());

    let copy = open_read_only(&Location::Sqlite(first.backup.clone())).await.unwrap();
    assert_eq!(copy.recorded().await.unwrap(), before);
    assert_eq!(copy.identity().await.unwrap(), state.identity().await.unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left beside it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&first.backup).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn without_its_copy_nothing_is_migrated() {
    let next = with_another("CREATE TABLE extra (x text);");
    let (database, _state) = empty().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file and no folder");
    std::fs::write(&file, "").unwrap();
    let refused = migrated(&database, &next, &file).await;
    assert!(matches!(refused, Err(Failure::Store(StoreError::NoBackup { .. }))), "{refused:?}");
    let newest = MIGRATIONS.last().unwrap().version.to_string();
    assert_eq!(database.query("SELECT schema_version FROM meta").unwrap(), newest);
}

#[tokio::test]
async fn a_migration_that_fails_changes_nothing() {
    let broken = with_another("CREATE TABLE extra (x text); SELECT nonsense;");
    let (database, _state) = empty().await;
    let folder = tempfile::tempdir().unwrap();
    let failed = migrated(&database, &broken, folder.path()).await;
    assert!(matches!(failed, Err(Failure::Sql(_))), "{failed:?}");
    assert_eq!(database.query("SELECT count(*) FROM pg_class WHERE relname = 'extra'").unwrap(), "0");
}

#[tokio::test]
async fn every_schema_that_is_read_answers_every_question() {
    let newest = MIGRATIONS.last().unwrap().version;
    assert_eq!(OLDEST_READABLE, (newest - 1).max(1), "{OLDER_SCHEMAS}");
    assert_eq!(newest, planted::newest(), "both databases have the same schemas");
    for version in OLDEST_READABLE..=newest {
        let database = server::database();
        let steps: Vec<_> = MIGRATIONS.iter().copied().filter(|step| step.version <= version).collect();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(migrated(&database, &steps, folder.path()).await.unwrap(), None);
        let state = crate::store::postgres::open_read_only(&location(&database.url)).await.unwrap();
        let unanswered = unanswered(&state).await;
        assert!(unanswered.is_empty(), "schema {version}: {unanswered:#?}\n{OLDER_SCHEMAS}");
    }
}
