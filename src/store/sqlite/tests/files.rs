//! Opening, making and migrating the file.

use sqlx::{Connection as _, Row as _};

use super::{by_hand, closed, empty, files};
use crate::store::conformance::{OLDER_SCHEMAS, unanswered};
use crate::store::sqlite::schema::{self, MIGRATIONS, Migration};
use crate::store::sqlite::{Begin, Failure, Session, create_file, open_or_create, open_read_only, options};
use crate::store::{HistoryFilter, ReadState, StoreError};

#[tokio::test]
async fn reading_leaves_the_directory_as_it_was() {
    let (directory, path) = closed().await;
    let before = files(directory.path());
    let state = open_read_only(&path).await.unwrap();
    assert_eq!(state.recorded().await.unwrap().policies.len(), 1);
    state.all_versions().await.unwrap();
    state.history(&HistoryFilter::default()).await.unwrap();
    state.verify_audit().await.unwrap();
    state.now().await.unwrap();
    assert_eq!(files(directory.path()), before);
    drop(state);
    assert_eq!(files(directory.path()), before);
}

#[tokio::test]
async fn where_there_is_no_database_a_reader_makes_none() {
    let directory = tempfile::tempdir().unwrap();
    for path in ["state.db", "no/such/directory/state.db"] {
        let missing = open_read_only(&directory.path().join(path)).await.unwrap_err();
        assert!(matches!(missing, StoreError::Missing { .. }), "{missing:?}");
        assert!(missing.to_string().contains(path), "{missing}");
    }
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn what_a_crash_leaves_before_the_first_commit_is_no_database_yet() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    std::fs::write(&path, "").unwrap();
    let missing = open_read_only(&path).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing:?}");
    open_or_create(&path).await.unwrap();
    open_read_only(&path).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_opened_again_is_the_same() {
    let (_directory, path) = closed().await;
    let first = open_read_only(&path).await.unwrap().recorded().await.unwrap();
    let again = open_or_create(&path).await.unwrap().recorded().await.unwrap();
    assert_eq!(first, again);
    assert!(first.lineage.is_some());
}

#[tokio::test]
async fn two_databases_have_two_lineages() {
    let ((_a, first), (_b, second)) = (empty().await, empty().await);
    assert_ne!(first.recorded().await.unwrap().lineage, second.recorded().await.unwrap().lineage);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_its_directory_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/here/state.db");
    open_or_create(&path).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn two_that_make_the_same_database_at_once_make_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let opened = futures::future::join_all((0..8).map(|_| open_or_create(&path))).await;
    let mut lineages = Vec::new();
    for state in opened {
        lineages.push(state.unwrap().recorded().await.unwrap().lineage);
    }
    lineages.dedup();
    assert_eq!(lineages.len(), 1);
}

fn newest() -> i64 {
    MIGRATIONS.last().unwrap().version
}

/// The migrations, and one more.
fn with_another(sql: &'static str) -> Vec<Migration> {
    MIGRATIONS.iter().copied().chain([Migration { version: newest() + 1, sql }]).collect()
}

#[tokio::test]
async fn every_schema_that_is_read_answers_every_question() {
    assert_eq!(schema::OLDEST_READABLE, (newest() - 1).max(1), "{OLDER_SCHEMAS}");
    for version in schema::OLDEST_READABLE..=newest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        create_file(&path).unwrap();
        let steps: Vec<_> = MIGRATIONS.iter().copied().filter(|step| step.version <= version).collect();
        let mut session = Session::connect(options(&path)).await.unwrap();
        session.begin(Begin::Write).await.unwrap();
        let work = schema::run(&mut session.connection, 0, &steps).await;
        session.end(work).await.unwrap();
        session.connection.close().await.unwrap();
        let unanswered = unanswered(&open_read_only(&path).await.unwrap()).await;
        assert!(unanswered.is_empty(), "schema {version}: {unanswered:#?}\n{OLDER_SCHEMAS}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_readers_and_writers() {
    let (_directory, path) = closed().await;
    by_hand(&path, "UPDATE meta SET schema_version = 99").await.unwrap();
    let refusals = [open_read_only(&path).await.err(), open_or_create(&path).await.err()];
    for refused in refusals.into_iter().flatten() {
        assert!(matches!(refused, StoreError::Newer { found: 99, known, .. } if known == newest()), "{refused:?}");
    }
}

#[tokio::test]
async fn a_migration_keeps_a_copy_of_what_was_there() {
    let next = with_another("ALTER TABLE meta ADD COLUMN note TEXT; CREATE TABLE extra (x TEXT) STRICT;");
    let (directory, path) = closed().await;
    let before = open_read_only(&path).await.unwrap().recorded().await.unwrap();
    let mut session = Session::connect(options(&path)).await.unwrap();
    session.begin(Begin::Write).await.unwrap();
    let work = schema::migrate(&mut session.connection, &path, &next).await;
    session.end(work).await.unwrap();
    let version: i64 =
        sqlx::query("SELECT schema_version FROM meta").fetch_one(&mut session.connection).await.unwrap().get(0);
    assert_eq!(version, newest() + 1);
    let copy = directory.path().join(format!("state.db.schema-{}", newest()));
    assert_eq!(open_read_only(&copy).await.unwrap().recorded().await.unwrap(), before);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn without_its_copy_nothing_is_migrated() {
    let next = with_another("CREATE TABLE extra (x TEXT) STRICT;");
    let (directory, path) = closed().await;
    std::fs::create_dir(directory.path().join(format!("state.db.schema-{}", newest()))).unwrap();
    let mut session = Session::connect(options(&path)).await.unwrap();
    session.begin(Begin::Write).await.unwrap();
    let work = schema::migrate(&mut session.connection, &path, &next).await;
    let refused = session.end(work).await;
    assert!(matches!(refused, Err(Failure::Store(StoreError::NoBackup { .. }))), "{refused:?}");
    assert_eq!(schema::found(&mut session.connection).await.unwrap(), Some(newest()));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "something was left beside it");
}

#[tokio::test]
async fn a_migration_that_fails_changes_nothing() {
    let broken = with_another("CREATE TABLE extra (x TEXT) STRICT; SELECT nonsense;");
    let (_directory, path) = closed().await;
    let mut session = Session::connect(options(&path)).await.unwrap();
    session.begin(Begin::Write).await.unwrap();
    let work = schema::migrate(&mut session.connection, &path, &broken).await;
    let failed = session.end(work).await;
    assert!(matches!(failed, Err(Failure::Sql(_))), "{failed:?}");
    let tables: i64 = sqlx::query("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'")
        .fetch_one(&mut session.connection)
        .await
        .unwrap()
        .get(0);
    assert_eq!(tables, 0);
    open_or_create(&path).await.unwrap();
}

#[tokio::test]
async fn a_file_with_a_write_ahead_log_is_read_without_touching_it() {
    let (directory, path) = closed().await;
    // Somebody switched it by hand, and closed it properly.
    by_hand(&path, "PRAGMA journal_mode = WAL; UPDATE key_rotation_policies SET description = 'by hand'")
        .await
        .unwrap();
    let before = files(directory.path());
    assert_eq!(before.len(), 1, "the log is merged: {before:?}");
    let state = open_read_only(&path).await.unwrap();
    let policy = state.recorded().await.unwrap().policies.into_values().next().unwrap();
    assert_eq!(policy.policy.description.as_deref(), Some("by hand"));
    assert_eq!(files(directory.path()), before);
    // A writer switches it back.
    drop(open_or_create(&path).await.unwrap());
    assert_eq!(std::fs::read(&path).unwrap()[18..20], [1, 1]);
}

#[tokio::test]
async fn a_path_with_every_odd_character_is_a_path() {
    let directory = tempfile::tempdir().unwrap();
    for text in ["a b?mode=memory#x&y=%20.db", "file:x.db", "ü'\".db"] {
        let path = directory.path().join(text);
        open_or_create(&path).await.unwrap();
        assert!(path.is_file(), "{text}");
        open_read_only(&path).await.unwrap();
    }
}
