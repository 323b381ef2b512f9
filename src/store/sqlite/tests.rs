//! What is SQLite's own: the file, its journal, its errors. What every state database does is in the conformance suite.

mod crash;
mod files;
mod integrity;
mod trouble;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::{Sqlite, Writing, open_or_create, options};
use crate::store::conformance::conformance;

conformance!(super::empty);

/// An empty state database in a directory of its own.
async fn empty() -> (tempfile::TempDir, Sqlite<Writing>) {
    let directory = tempfile::tempdir().unwrap();
    let state = open_or_create(&directory.path().join("state.db")).await.unwrap();
    (directory, state)
}

/// The path of a state database that nobody has open, with one policy in it.
async fn closed() -> (tempfile::TempDir, PathBuf) {
    use crate::store::Write;
    use crate::store::conformance::{samples::policy, write};
    let (directory, state) = empty().await;
    write(&state, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await;
    state.session.into_inner().connection.close().await.unwrap();
    let path = directory.path().join("state.db");
    (directory, path)
}

/// Runs SQL as a person with a plain client would.
async fn by_hand(path: &Path, sql: &str) -> Result<(), sqlx::Error> {
    use sqlx::ConnectOptions;
    let mut connection: SqliteConnection = options(path).connect().await?;
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.map(|_| ());
    connection.close().await?;
    done
}

/// Every file of a directory: a hash of its content, and its time of change.
fn files(directory: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
            let mut hash = DefaultHasher::new();
            std::fs::read(&path).unwrap().hash(&mut hash);
            (path, (hash.finish(), changed))
        })
        .collect()
}
