//! The schema itself, and an audit log that somebody tampers with.

use sqlx::Row as _;

use super::{by_hand, empty};
use crate::model::{Disposition, KeyState, KmsProvider, Outcome, Phase, PolicyStatus, RotationCause, RotationStrategy};
use crate::model::{RotationTrigger, Step, VersionState, Workflow};
use crate::store::conformance::{samples, write};
use crate::store::sqlite::schema::MIGRATIONS;
use crate::store::sqlite::{Sqlite, Writing};
use crate::store::{ReadState, Write};

/// Every column of a table.
async fn columns(state: &Sqlite<Writing>, table: &'static str) -> Vec<String> {
    let rows = sqlx::query("SELECT name FROM pragma_table_info(?1)").bind(table);
    let rows = rows.fetch_all(&mut state.session().await.connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_tables_have_the_columns_that_the_documents_promise() {
    let (_directory, state) = empty().await;
    let policies = columns(&state, "key_rotation_policies").await;
    for column in [
        "id",
        "tenant_id",
        "policy_name",
        "description",
        "key_type",
        "kms_provider",
        "rotation_trigger",
        "status",
        "rotation_interval_days",
        "rotation_time_of_day",
        "timezone",
        "max_usage_count",
        "usage_threshold_warning",
        "rotation_events",
        "enable_rollback",
        "rollback_period_hours",
        "retain_old_keys_days",
        "notification_settings",
        "compliance_tags",
        "authorized_services",
        "created_by_token_id",
        "last_modified_by_token_id",
        "correlation_id",
        "last_rotation_at",
        "next_rotation_at",
        "created_at",
        "updated_at",
    ] {
        assert!(policies.iter().any(|name| name == column), "{column}");
    }
    let keys = columns(&state, "encryption_keys").await;
    for column in
        ["tenant_id", "key_name", "key_type", "kms_provider", "kms_key_id", "kms_region", "rotation_policy_id"]
    {
        assert!(keys.iter().any(|name| name == column), "{column}");
    }
    let tables = [
        "audit_log",
        "leases",
        "lease_scopes",
        "outbox",
        "usage_counters",
        "events",
        "api_tokens",
        "applied_plans",
        "documents",
    ];
    for table in tables {
        assert!(!columns(&state, table).await.is_empty(), "{table}");
    }
}

#[tokio::test]
async fn a_policy_that_is_deleted_by_hand_unlinks_its_keys() {
    let (directory, state) = empty().await;
    let policy = samples::policy(1, "acme", "Daily");
    let mut key = samples::key(2, "acme", "patients");
    key.rotation_policy_id = Some(policy.id);
    write(&state, &[Write::Policy(Box::new(policy)), Write::Key(Box::new(key.clone()))]).await;
    by_hand(&directory.path().join("state.db"), "DELETE FROM key_rotation_policies").await.unwrap();
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.keys[&key.address()].rotation_policy_id, None);
}

#[test]
fn every_word_of_the_model_is_one_of_the_schema() {
    let schema: String = MIGRATIONS.iter().map(|migration| migration.sql).collect();
    // Whatever the line breaks: the list of words as the CHECK has it.
    let schema = schema.split_whitespace().collect::<Vec<_>>().join(" ");
    let lists = [
        ("kms_provider", words(KmsProvider::ALL)),
        ("rotation_trigger", words(RotationTrigger::ALL)),
        ("status", words(PolicyStatus::ALL)),
        ("rotation_strategy", words(RotationStrategy::ALL)),
        ("old_key_disposition", words(Disposition::ALL)),
        ("state", words(KeyState::ALL)),
        ("state", words(VersionState::ALL)),
        ("workflow", words(Workflow::ALL)),
        ("phase", words(Phase::ALL)),
        ("open_step", words(Step::ALL)),
        ("cause", words(RotationCause::ALL)),
        ("outcome", words(Outcome::ALL)),
    ];
    for (column, words) in lists {
        assert!(schema.contains(&format!("CHECK ({column} IN ({words}))")), "{column}: {words}");
    }
}

fn words<T: ToString>(all: &[T]) -> String {
    all.iter().map(|word| format!("'{}'", word.to_string())).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn unfinished_rotations_and_histories_are_found_by_index() {
    let (_directory, state) = empty().await;
    for (sql, index) in [
        ("SELECT * FROM rotations WHERE phase NOT IN ('settled', 'abandoned')", "rotations_unfinished"),
        ("SELECT * FROM rotations WHERE tenant_id = 'acme' ORDER BY started_at DESC", "rotations_tenant_id"),
        ("SELECT * FROM rotations ORDER BY started_at DESC LIMIT 50", "rotations_started_at"),
        ("SELECT * FROM rotations WHERE correlation_id = 'x'", "rotations_correlation_id"),
        ("SELECT * FROM rotation_steps WHERE rotation_id = 'x' ORDER BY seq", "rotation_steps_rotation_id"),
        ("SELECT * FROM key_versions WHERE key_id = 'x' ORDER BY number", "key_versions_number"),
    ] {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let plan = query.fetch_all(&mut state.session().await.connection).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{sql}: {plan:?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{sql}: {plan:?}");
    }
}

/// Two tenants with five links each.
async fn audited() -> (tempfile::TempDir, Sqlite<Writing>) {
    let (directory, state) = empty().await;
    let entries: Vec<_> = ["acme", "globex"]
        .iter()
        .flat_map(|tenant| (0..5).map(move |number| samples::audit(tenant, &format!("action.{number}"))))
        .map(|entry| Write::Audit(Box::new(entry)))
        .collect();
    write(&state, &entries).await;
    (directory, state)
}

#[tokio::test]
async fn the_audit_log_cannot_be_changed_or_shortened() {
    let (directory, state) = audited().await;
    for sql in [
        "UPDATE audit_log SET actor = 'mallory'",
        "DELETE FROM audit_log WHERE seq = 5",
        "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log WHERE seq = 1",
    ] {
        let refused = by_hand(&directory.path().join("state.db"), sql).await.unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    assert_eq!(state.verify_audit().await.unwrap().broken, None);
}

#[tokio::test]
async fn the_first_broken_link_is_named() {
    let tampered = [
        ("UPDATE audit_log SET actor = 'mallory' WHERE tenant_id = 'acme' AND seq = 3", 3, "do not belong together"),
        ("UPDATE audit_log SET after = '{}' WHERE tenant_id = 'acme' AND seq = 5", 5, "do not belong together"),
        (
            "UPDATE audit_log SET hash = replace(hash, 'a', 'b') WHERE tenant_id = 'acme' AND seq = 2",
            2,
            "belong together",
        ),
        ("UPDATE audit_log SET seq = seq + 10 WHERE tenant_id = 'acme' AND seq = 5", 5, "missing"),
        ("DELETE FROM audit_log WHERE tenant_id = 'acme' AND seq = 4", 4, "missing"),
        ("DELETE FROM audit_log WHERE tenant_id = 'acme' AND seq = 1", 1, "missing"),
        ("UPDATE audit_log SET at = 'never' WHERE tenant_id = 'acme' AND seq = 4", 4, "makes no sense"),
        ("UPDATE audit_log SET tenant_id = 'globex', seq = 6 WHERE tenant_id = 'acme' AND seq = 1", 1, "missing"),
    ];
    for (sql, seq, what) in tampered {
        let (directory, state) = audited().await;
        // Who can write the file can remove its triggers.
        let sql = format!("DROP TRIGGER audit_log_is_never_changed; DROP TRIGGER audit_log_is_never_shortened; {sql}");
        by_hand(&directory.path().join("state.db"), &sql).await.unwrap();
        let check = state.verify_audit().await.unwrap();
        let broken = check.broken.unwrap_or_else(|| panic!("not seen: {sql}"));
        assert_eq!((broken.tenant_id, broken.seq), (Some(samples::name("acme")), seq), "{sql}");
        assert!(broken.what.contains(what), "{sql}: {}", broken.what);
    }
}

#[tokio::test]
async fn a_link_can_be_checked_by_hand() {
    // The hash before, then the columns as RFC 8785 has them: what a person would pipe into `sha256sum`.
    let (_directory, state) = empty().await;
    write(&state, &[Write::Audit(Box::new(samples::audit("acme", "key.created")))]).await;
    let content = r#"{"action":"key.created","actor":"alice@example.org","after":{"a":"ü","b":[1,2]},"at":"2026-11-23T00:00:00.000000Z","before":null,"commit_id":"5f3c0de","correlation_id":"run-1","object_kind":"EncryptionKey","object_name":"a key","seq":1,"tenant_id":"acme"}"#;
    let link = format!("{}{content}", "0".repeat(64));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, link.as_bytes());
    let hash = hash.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let head = state.verify_audit().await.unwrap().heads.remove(0);
    assert_eq!(head.hash, hash);
}
