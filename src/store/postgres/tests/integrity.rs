//! The schema itself, and an audit log that somebody tampers with.

use sqlx::{ConnectOptions as _, Row as _};

use super::empty;
use crate::store::conformance::{samples, write};
use crate::store::{ReadState, Write};

#[tokio::test]
async fn the_tables_have_the_columns_that_sqlites_have() {
    let (database, _state) = empty().await;
    let sql = "SELECT string_agg(table_name || '.' || column_name, ' ' ORDER BY table_name, ordinal_position)
               FROM information_schema.columns WHERE table_schema = 'public'
                   AND table_name <> 'batches'";
    let ours = database.query(sql).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(crate::store::sqlite::open_or_create(&path).await.unwrap());
    let mut sqlite = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let sql = "SELECT t.name || '.' || c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
               WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.cid";
    let theirs = sqlx::query(sql).fetch_all(&mut sqlite).await.unwrap();
    let theirs: Vec<String> = theirs.iter().map(|row| row.get(0)).collect();
    let (mut ours, mut theirs): (Vec<_>, Vec<_>) = (ours.split(' ').collect(), theirs.iter().map(|s| &**s).collect());
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn other_tools_find_native_types() {
    let (database, state) = empty().await;
    let mut policy = samples::policy(1, "acme", "Daily");
    policy.policy.compliance_tags = vec!["HIPAA".to_owned(), "SOC2".to_owned()];
    write(&state, &[Write::Policy(Box::new(policy))]).await;
    let sql = "SELECT pg_typeof(id), pg_typeof(created_at), pg_typeof(compliance_tags), pg_typeof(enable_rollback),
               pg_typeof(rotation_time_of_day), compliance_tags ? 'SOC2' FROM key_rotation_policies";
    assert_eq!(database.query(sql).unwrap(), "uuid|timestamp with time zone|jsonb|boolean|time without time zone|t");
}

#[tokio::test]
async fn a_word_that_is_none_is_refused() {
    let (database, state) = empty().await;
    write(&state, &[Write::Policy(Box::new(samples::policy(1, "acme", "Daily")))]).await;
    for column in ["kms_provider", "rotation_trigger", "status", "rotation_strategy", "old_key_disposition"] {
        let refused = database.query(&format!("UPDATE key_rotation_policies SET {column} = 'x'")).unwrap_err();
        assert!(refused.contains("violates check constraint"), "{refused}");
    }
}

#[tokio::test]
async fn a_policy_that_is_deleted_by_hand_unlinks_its_keys() {
    let (database, state) = empty().await;
    let policy = samples::policy(1, "acme", "Daily");
    let mut key = samples::key(2, "acme", "patients");
    key.rotation_policy_id = Some(policy.id);
    write(&state, &[Write::Policy(Box::new(policy)), Write::Key(Box::new(key.clone()))]).await;
    database.query("DELETE FROM key_rotation_policies").unwrap();
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.keys[&key.address()].rotation_policy_id, None);
}

#[tokio::test]
async fn the_audit_log_is_append_only() {
    let (database, state) = empty().await;
    let entry = || Write::Audit(Box::new(samples::audit("acme", "key.created")));
    write(&state, &[entry(), entry()]).await;
    for sql in [
        "UPDATE audit_log SET actor = 'nobody'",
        "UPDATE audit_log SET actor = 'nobody' WHERE false",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "TRUNCATE audit_log, rotation_steps CASCADE",
        "INSERT INTO audit_log SELECT tenant_id, 9, at, actor, commit_id, correlation_id, action, object_kind,
             object_name, before, after, hash FROM audit_log WHERE seq = 1",
        "INSERT INTO audit_log SELECT * FROM audit_log WHERE seq = 1
             ON CONFLICT (tenant_id, seq) DO UPDATE SET actor = 'nobody'",
    ] {
        let refused = database.query(sql).unwrap_err();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    assert_eq!(state.verify_audit().await.unwrap().entries, 2);
}

#[tokio::test]
async fn whoever_overrides_the_triggers_is_found() {
    let (database, state) = empty().await;
    let entries: Vec<_> = ["a", "b", "c"].map(|action| Write::Audit(Box::new(samples::audit("acme", action)))).into();
    write(&state, &entries).await;
    database
        .query("SET session_replication_role = replica; UPDATE audit_log SET actor = 'nobody' WHERE seq = 2")
        .unwrap();
    assert_eq!(state.verify_audit().await.unwrap().broken.map(|link| link.seq), Some(2));
}
