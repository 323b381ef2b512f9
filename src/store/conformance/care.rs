//! Backups, and what a database finds wrong with itself.

use super::lease;
use super::samples::{key, policy};
use crate::store::{Location, State, Write, back_up, open_read_only};

pub(crate) async fn a_backup_shows_one_instant(state: &impl State) {
    const BATCHES: u64 = 40;
    let lease = lease(state).await;
    let folder = tempfile::tempdir().unwrap();
    let write = async {
        for number in 0..BATCHES {
            let policy = Write::Policy(Box::new(policy(number, "acme", &format!("policy {number}"))));
            let key = Write::Key(Box::new(key(number, "acme", &format!("key {number}"))));
            state.commit(&lease, &[policy, key]).await.unwrap();
        }
    };
    let copy = async {
        let mut sizes = Vec::new();
        for number in 0..5 {
            let file = folder.path().join(format!("backup-{number}.db"));
            back_up(state, &file).await.unwrap();
            let recorded = open_read_only(&Location::Sqlite(file)).await.unwrap().recorded().await.unwrap();
            assert_eq!(recorded.policies.len(), recorded.keys.len(), "half a batch was copied");
            sizes.push(recorded.keys.len());
        }
        sizes
    };
    let ((), sizes) = futures::join!(write, copy);
    assert!(sizes.is_sorted(), "{sizes:?}");
    let last = folder.path().join("last.db");
    let copied = back_up(state, &last).await.unwrap();
    let (_, policies) = copied.tables.iter().find(|(table, _)| *table == "key_rotation_policies").unwrap();
    assert_eq!(policies.rows, BATCHES);
    let copy = open_read_only(&Location::Sqlite(last)).await.unwrap();
    assert_eq!(copy.recorded().await.unwrap(), state.recorded().await.unwrap());
    assert_eq!(copy.identity().await.unwrap(), state.identity().await.unwrap());
    assert_eq!(copy.leases().await.unwrap(), [], "nobody holds a lease in a copy");
}

pub(crate) async fn a_sound_database_has_no_problems(state: &impl State) {
    assert_eq!(state.problems().await.unwrap(), [""; 0]);
}
