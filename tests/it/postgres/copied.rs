//! `state copy`: a team outgrows its SQLite file.

use super::{APPLY, discreet, documents};
use crate::support::postgres::database;
use crate::support::sandbox::Sandbox;

const SQLITE: &str = "sqlite:.keywheel/state.db";
const TO_TEAM: &[&str] = &["state", "copy", SQLITE, "${TEAM_STATE}"];

/// A repository with a history, and the URL of an empty database in its environment.
fn with_history(url: &str) -> Sandbox {
    let mut sandbox = Sandbox::with("state: ${KEYWHEEL_STATE}\n", &documents(3));
    sandbox.set("KEYWHEEL_STATE", SQLITE);
    sandbox.set("TEAM_STATE", url);
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&["rotate", "acme/key-000", "--reason", "a test", "--auto-approve"]).exits(0);
    sandbox
}

#[test]
fn a_state_moves_to_postgresql_with_its_history_and_back() {
    let database = database();
    let mut sandbox = with_history(&database.url);
    let history =
        |sandbox: &Sandbox| sandbox.keywheel(&["history", "--format", "json"]).exits(0).json()["rotations"].take();
    let audit = |sandbox: &Sandbox| sandbox.keywheel(&["audit", "export"]).exits(0).stdout;
    let before = (history(&sandbox), audit(&sandbox));

    let report = discreet(sandbox.keywheel(&[TO_TEAM, &["--format", "json"]].concat()).exits(0)).json();
    let rows = |table: &str| {
        let tables = report["tables"].as_array().unwrap();
        tables.iter().find(|row| row["table"] == table).unwrap()["rows"].as_u64().unwrap()
    };
    assert_eq!((rows("encryption_keys"), rows("key_versions"), rows("rotations")), (3, 4, 4));
    assert_eq!(report["audit_entries"].as_u64(), Some(rows("audit_log")));
    assert_eq!(report["lineage"].as_str(), Some(database.query("SELECT lineage FROM meta").unwrap().as_str()));

    sandbox.set("KEYWHEEL_STATE", &database.url);
    assert_eq!((history(&sandbox), audit(&sandbox)), before);
    sandbox.keywheel(&["audit", "verify"]).exits(0);
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    sandbox.keywheel(&["rotate", "acme/key-001", "--reason", "a test", "--auto-approve"]).exits(0);
    sandbox.keywheel(&["audit", "verify"]).exits(0);

    let back = &["state", "copy", "${TEAM_STATE}", "sqlite:back.db"];
    discreet(sandbox.keywheel(back).exits(0)).says("every row is the same");
    let after = (history(&sandbox), audit(&sandbox));
    sandbox.set("KEYWHEEL_STATE", "sqlite:back.db");
    assert_eq!((history(&sandbox), audit(&sandbox)), after);
    sandbox.keywheel(&["audit", "verify"]).exits(0);
}

#[test]
fn nothing_is_copied_over_what_is_there_or_from_what_is_not() {
    let database = database();
    let sandbox = with_history(&database.url);
    let missing = &["state", "copy", "sqlite:typing-mistake.db", "${TEAM_STATE}"];
    sandbox.keywheel(missing).exits(1).error("state/missing");
    assert!(!sandbox.dir().join("typing-mistake.db").exists());
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(database.query(tables).unwrap(), "0");

    sandbox.keywheel(&["state", "copy", SQLITE, SQLITE]).exits(1).error("state/same");
    sandbox.keywheel(&["state", "copy", SQLITE, &database.url]).exits(1).error("state/password");
    sandbox.keywheel(TO_TEAM).exits(0);
    sandbox.keywheel(TO_TEAM).exits(3).error("state/not-empty");
}

#[test]
fn nothing_is_copied_while_somebody_works() {
    let database = database();
    let sandbox = with_history(&database.url);
    sandbox.tamper("UPDATE leases SET expires_at = '2999-01-01T00:00:00.000000Z'");
    sandbox.keywheel(TO_TEAM).exits(5).error("state/locked");
    sandbox.tamper("UPDATE leases SET expires_at = NULL");
    sandbox.keywheel(TO_TEAM).exits(0);
    assert_eq!(database.query("SELECT count(*) FROM leases WHERE expires_at IS NOT NULL").unwrap(), "0");
}

#[test]
fn a_broken_audit_log_is_not_copied() {
    let database = database();
    let sandbox = with_history(&database.url);
    sandbox.tamper("DROP TRIGGER audit_log_is_never_changed; UPDATE audit_log SET actor = 'nobody' WHERE seq = 2");
    sandbox.keywheel(TO_TEAM).exits(3).error("state/audit-broken");
    assert_eq!(database.query("SELECT count(*) FROM encryption_keys").unwrap(), "0");
}
