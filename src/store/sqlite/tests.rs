//! What is SQLite's own: the file, its journal, its errors. What every state database does is in the conformance suite.

use super::{Sqlite, Writing, open_or_create};
use crate::store::conformance::conformance;

/// An empty state database in a directory of its own.
async fn empty() -> (tempfile::TempDir, Sqlite<Writing>) {
    let directory = tempfile::tempdir().unwrap();
    let state = open_or_create(&directory.path().join("state.db")).await.unwrap();
    (directory, state)
}

conformance!(super::empty);
