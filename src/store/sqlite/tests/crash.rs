//! A process that dies in the middle of a commit.
//!
//! The process is this test binary itself, told by an environment variable which part it has to play, and killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{closed, files};
use crate::store::conformance::samples::{id, key, version};
use crate::store::conformance::{SAMPLES, holder, scopes, write};
use crate::store::sqlite::{Begin, Session, open_or_create, open_read_only, options};
use crate::store::{ReadState, State, Write};

/// Where the child finds the database.
const DATABASE: &str = "KEYWHEEL_TEST_CRASH_DATABASE";

/// Starts one of the `child_` tests below; it ends only by being killed.
fn start(child: &str, database: &Path) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("store::sqlite::tests::crash::{child}")]);
    command.env(DATABASE, database).stdout(Stdio::piped()).stderr(Stdio::null());
    Killed(command.spawn().unwrap())
}

/// A child that is killed when it is dropped, as hard as it goes.
struct Killed(Child);

impl Killed {
    /// Reads what the child says up to a line that ends so.
    fn wait_for(&mut self, end: &str) -> String {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        lines.map(Result::unwrap).find(|line| line.ends_with(end)).unwrap_or_else(|| panic!("no {end:?}"))
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// None where nobody started the test as a child: it has nothing to do then.
fn database() -> Option<PathBuf> {
    std::env::var_os(DATABASE).map(PathBuf::from)
}

/// Writes into the file in the middle of a transaction, and waits to be killed.
#[tokio::test]
async fn child_that_stops_in_the_middle_of_a_transaction() {
    let Some(database) = database() else { return };
    let mut session = Session::connect(options(&database)).await.unwrap();
    // With room for ten pages only, SQLite writes changed pages into the file long before the commit.
    for sql in ["PRAGMA cache_size = 10", "PRAGMA cache_spill = 10"] {
        sqlx::query(sql).execute(&mut session.connection).await.unwrap();
    }
    session.begin(Begin::Write).await.unwrap();
    let change = "UPDATE encryption_keys SET description = 'half' || hex(randomblob(500))";
    sqlx::query(change).execute(&mut session.connection).await.unwrap();
    println!("stopped");
    std::future::pending::<()>().await;
}

/// Commits one batch after the other, and says so after each.
#[tokio::test]
async fn child_that_commits_without_end() {
    let Some(database) = database() else { return };
    let state = open_or_create(&database).await.unwrap();
    let lease = state.acquire(&scopes(SAMPLES), &holder("child"), 0).await.unwrap();
    for number in 0.. {
        state.commit(&lease, &batch(number)).await.unwrap();
        println!("{number} committed");
    }
}

/// A key and its first version: neither is ever there without the other.
fn batch(number: u64) -> [Write; 3] {
    let mut key = key(1_000 + number, "acme", &format!("key {number}"));
    let version = version(1_000_000 + number, key.id, 1);
    key.primary_version = Some(version.clone());
    let audit = crate::store::conformance::samples::audit("acme", "key.created");
    [Write::Key(Box::new(key)), Write::Version(Box::new(version)), Write::Audit(Box::new(audit))]
}

/// A database with a journal that must be rolled back before it can be read.
async fn crashed() -> (tempfile::TempDir, PathBuf) {
    let (directory, path) = closed().await;
    let state = open_or_create(&path).await.unwrap();
    let keys: Vec<_> =
        (10..400).map(|number| Write::Key(Box::new(key(number, "acme", &format!("key {number}"))))).collect();
    write(&state, &keys).await;
    drop(state);
    start("child_that_stops_in_the_middle_of_a_transaction", &path).wait_for("stopped");
    assert!(std::fs::metadata(directory.path().join("state.db-journal")).unwrap().len() > 0, "nothing to roll back");
    (directory, path)
}

#[tokio::test]
async fn a_reader_sees_what_was_committed_and_leaves_the_journal_of_a_crash_alone() {
    let (directory, path) = crashed().await;
    let before = files(directory.path());
    let state = open_read_only(&path).await.unwrap();
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.keys.len(), 390);
    assert!(recorded.keys.values().all(|record| record.key.description.is_none()));
    drop(state);
    assert_eq!(files(directory.path()), before);
}

#[tokio::test]
async fn a_writer_rolls_back_the_journal_of_a_crash() {
    let (directory, path) = crashed().await;
    let state = open_or_create(&path).await.unwrap();
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.keys.len(), 390);
    assert!(recorded.keys.values().all(|record| record.key.description.is_none()));
    assert!(!directory.path().join("state.db-journal").exists());
}

#[tokio::test]
#[expect(clippy::used_underscore_binding, reason = "the copy is held to be dropped, and only this test looks at it")]
async fn a_copy_for_reading_is_gone_once_it_was_read() {
    let (_directory, path) = crashed().await;
    let state = open_read_only(&path).await.unwrap();
    let copy = state.access._copy.as_ref().unwrap().path().to_owned();
    assert!(copy.exists());
    drop(state);
    assert!(!copy.exists());
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_and_no_batch_is_there_by_half() {
    let (_directory, path) = closed().await;
    for round in 0..5_u64 {
        let last = {
            let mut child = start("child_that_commits_without_end", &path);
            // Killed a little later in each round, and at no particular point of a commit.
            child.wait_for(&format!("{} committed", round * 7 + 3));
            round * 7 + 3
        };
        let state = open_read_only(&path).await.unwrap();
        let recorded = state.recorded().await.unwrap();
        for number in 0..=last {
            assert!(recorded.keys.values().any(|record| record.id == id(1_000 + number)), "{number} of {last}");
        }
        let versions = state.all_versions().await.unwrap();
        assert_eq!(versions.len(), recorded.keys.len());
        assert!(recorded.keys.values().all(|record| record.primary_version.is_some()));
        assert_eq!(state.verify_audit().await.unwrap().broken, None);
    }
}
