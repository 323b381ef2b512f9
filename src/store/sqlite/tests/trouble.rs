//! Files that are no databases, disks that are full, locks that others hold.

use std::path::Path;

use sqlx::ConnectOptions as _;

use super::{by_hand, closed, empty, files};
use crate::confined::{Confinement, SmallDisk, is_confined, read_only};
use crate::store::conformance::samples::{key, policy};
use crate::store::conformance::{SAMPLES, holder, lease, scopes};
use crate::store::sqlite::{Sqlite, Writing, open_or_create, open_read_only, options};
use crate::store::{ReadState, State, StoreError, Write, back_up};

/// What both ways of opening say.
async fn refusals(path: &Path) -> [StoreError; 2] {
    [open_read_only(path).await.unwrap_err(), open_or_create(path).await.unwrap_err()]
}

#[tokio::test]
async fn what_is_no_database_is_damaged_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    std::fs::write(&path, "apiVersion: keywheel/v1\n".repeat(100)).unwrap();
    let before = files(directory.path());
    for refused in refusals(&path).await {
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
    }
    assert_eq!(files(directory.path()), before);
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.db");
    std::fs::write(&path, "").unwrap();
    by_hand(&path, "CREATE TABLE bookmarks (url TEXT)").await.unwrap();
    for refused in refusals(&path).await {
        assert!(refused.to_string().contains("not one of keywheel's"), "{refused}");
    }
}

#[tokio::test]
async fn a_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for refused in refusals(directory.path()).await {
        assert!(refused.to_string().contains("is a folder"), "{refused}");
    }
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_damaged() {
    let (_directory, path) = closed().await;
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let read = match open_read_only(&path).await {
        Ok(state) => state.recorded().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_named() {
    let (_directory, path) = closed().await;
    by_hand(&path, "UPDATE key_rotation_policies SET created_at = 'yesterday'").await.unwrap();
    let state = open_read_only(&path).await.unwrap();
    let damaged = state.recorded().await.unwrap_err().to_string();
    for part in ["key_rotation_policies", "01900000-0000-7000-8000-000000000001", "yesterday"] {
        assert!(damaged.contains(part), "{damaged}");
    }
}

#[tokio::test]
async fn a_missing_table_is_damage() {
    let (_directory, path) = closed().await;
    by_hand(&path, "DROP TABLE documents").await.unwrap();
    let damaged = open_read_only(&path).await.unwrap().recorded().await.unwrap_err();
    assert!(matches!(damaged, StoreError::Corrupt { .. }), "{damaged:?}");
}

/// Makes a file or directory unchangeable while it lives.
struct Unchangeable<'a>(&'a Path);

impl<'a> Unchangeable<'a> {
    fn make(path: &'a Path) -> Self {
        read_only(path);
        Self(path)
    }
}

impl Drop for Unchangeable<'_> {
    fn drop(&mut self) {
        let mut permissions = std::fs::metadata(self.0).unwrap().permissions();
        #[expect(clippy::permissions_set_readonly_false, reason = "the directory is about to be removed")]
        permissions.set_readonly(false);
        let _ = std::fs::set_permissions(self.0, permissions);
    }
}

#[tokio::test]
async fn a_read_only_file_is_read_and_refuses_writers() {
    let name = concat!(module_path!(), "::a_read_only_file_is_read_and_refuses_writers");
    if !is_confined(Confinement::Modes, name) {
        return;
    }
    let (_directory, path) = closed().await;
    let _guard = Unchangeable::make(&path);
    assert_eq!(open_read_only(&path).await.unwrap().recorded().await.unwrap().policies.len(), 1);
    let refused = open_or_create(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_read_only_directory_is_read_and_refuses_the_first_write() {
    let name = concat!(module_path!(), "::a_read_only_directory_is_read_and_refuses_the_first_write");
    if !is_confined(Confinement::Modes, name) {
        return;
    }
    let (directory, path) = closed().await;
    let _guard = Unchangeable::make(directory.path());
    assert_eq!(open_read_only(&path).await.unwrap().recorded().await.unwrap().policies.len(), 1);
    let refused = match open_or_create(&path).await {
        Ok(state) => state.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 60).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(StoreError::ReadOnly { .. })), "{refused:?}");
    let refused = open_or_create(&directory.path().join("new.db")).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_journal_that_cannot_be_made_refuses_the_write() {
    let (directory, path) = closed().await;
    let state = open_or_create(&path).await.unwrap();
    // A link to where nothing can be made stops every user.
    let journal = directory.path().join("state.db-journal");
    std::os::unix::fs::symlink("/no/such/directory/journal", journal).unwrap();
    let refused = state.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 60).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly { .. })), "{refused:?}");
}

/// More than the little room that is left takes.
fn many() -> Vec<Write> {
    (0..2_000).map(|number| Write::Key(Box::new(key(number, "acme", &format!("key {number}"))))).collect()
}

/// Fills the disk in the middle of a commit, and expects that nothing of it is there and everything before is.
async fn fills_up(state: &Sqlite<Writing>) {
    let lease = lease(state).await;
    state.commit(&lease, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await.unwrap();
    let before = state.recorded().await.unwrap();
    let full = state.commit(&lease, &many()).await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    assert_eq!(state.recorded().await.unwrap(), before);
    state.commit(&lease, &[Write::Policy(Box::new(policy(2, "acme", "Weekly")))]).await.unwrap();
}

#[tokio::test]
async fn a_full_database_takes_nothing_of_a_batch() {
    let (_directory, state) = empty().await;
    // SQLite's own limit has the same end as a full disk, and needs no privileges.
    sqlx::query("PRAGMA max_page_count = 80").execute(&mut state.session().await.connection).await.unwrap();
    fills_up(&state).await;
}

#[tokio::test]
async fn a_full_disk_takes_nothing_of_a_batch() {
    if !is_confined(Confinement::OwnMounts, concat!(module_path!(), "::a_full_disk_takes_nothing_of_a_batch")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _disk = SmallDisk::at(folder.path(), "400k");
    let state = open_or_create(&folder.path().join("state.db")).await.unwrap();
    fills_up(&state).await;
}

/// Makes a state give up on others' locks at once.
async fn without_patience<Access: Send + Sync>(state: &Sqlite<Access>) {
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut state.session().await.connection).await.unwrap();
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_an_error_of_its_own() {
    let (_directory, path) = closed().await;
    let (reader, writer) = (open_read_only(&path).await.unwrap(), open_or_create(&path).await.unwrap());
    without_patience(&reader).await;
    without_patience(&writer).await;
    let mut other = options(&path).connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let busy = reader.recorded().await.unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy:?}");
    let busy = writer.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 60).await.unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy:?}");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    writer.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 60).await.unwrap();
    reader.recorded().await.unwrap();
}

#[tokio::test]
async fn a_plan_reads_while_an_apply_writes() {
    let (_directory, path) = closed().await;
    let reader = open_read_only(&path).await.unwrap();
    let mut apply = options(&path).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut apply).await.unwrap();
    sqlx::query("UPDATE key_rotation_policies SET description = 'not yet'").execute(&mut apply).await.unwrap();
    // Not committed, so not seen; and the journal of a running apply is not taken for a crashed one's.
    for state in [reader, open_read_only(&path).await.unwrap()] {
        let policy = state.recorded().await.unwrap().policies.into_values().next().unwrap();
        assert_eq!(policy.policy.description, None);
    }
}

#[tokio::test]
async fn a_backup_is_made_beside_a_writer_and_shows_one_instant() {
    let (directory, path) = closed().await;
    let (reader, writer) = (open_read_only(&path).await.unwrap(), open_or_create(&path).await.unwrap());
    let lease = lease(&writer).await;
    let write = async {
        for number in 10..60 {
            let policy = Write::Policy(Box::new(policy(number, "acme", &format!("policy {number}"))));
            let key = Write::Key(Box::new(key(number, "acme", &format!("key {number}"))));
            writer.commit(&lease, &[policy, key]).await.unwrap();
        }
    };
    let copy = async {
        for number in 0..5 {
            let file = directory.path().join(format!("backup-{number}.db"));
            back_up(&reader, &file).await.unwrap();
            let recorded = open_read_only(&file).await.unwrap().recorded().await.unwrap();
            // One policy was there before.
            assert_eq!(recorded.policies.len(), recorded.keys.len() + 1, "half a batch was copied");
        }
    };
    futures::join!(write, copy);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_a_batch_whole_or_not_at_all() {
    let (_directory, state) = empty().await;
    let lease = lease(&state).await;
    let writes = many();
    let (mut whole, mut nothing) = (0, 0);
    for polls in 0..12 {
        let mut commit = Box::pin(state.commit(&lease, &writes));
        for _ in 0..polls {
            if futures::poll!(commit.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(commit);
        // The very next calls find no transaction of the one that was left.
        state.renew(&lease, 60).await.unwrap();
        match state.recorded().await.unwrap().keys.len() {
            0 => nothing += 1,
            2_000 => whole += 1,
            part => panic!("{part} of 2,000 keys are there"),
        }
    }
    assert!(nothing > 0, "no commit was left early enough ({whole} were whole)");
    state.commit(&lease, &writes).await.unwrap();
    assert_eq!(state.recorded().await.unwrap().keys.len(), 2_000);
}
