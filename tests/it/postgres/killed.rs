//! Applies that are killed: the next one finishes what they began, and makes nothing twice.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use super::{APPLY, sandbox};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Database, database};
use crate::support::sandbox::Sandbox;

/// Starts a command and kills it once it has said so many lines; says whether it was still running.
fn killed_after(sandbox: &Sandbox, arguments: &[&str], lines: usize) -> bool {
    let mut run = sandbox.keywheel(&[arguments, &["--format", "json"]].concat());
    let mut child = run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = said.take(lines).count();
    let _ = child.kill();
    said == lines && child.wait().unwrap().signal() == Some(9)
}

/// The lock of a process that died frees itself in time: the test does not wait for it.
fn let_the_lock_expire(database: &Database) {
    // There is no lock where it died before it had made the tables.
    let _ = database.query("UPDATE leases SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL");
}

#[test]
fn keys_are_made_and_rotated_once_however_often_apply_is_killed() {
    const KEYS: usize = 30;
    let database = database();
    let pooler = PgBouncer::start(database.port, 2);
    let sandbox = sandbox(&pooler.url(&database.name), KEYS);
    let mut killed = 0;
    // Each time a little later: in the middle of what the one before it left, and of what it has not begun.
    for lines in 1..20 {
        killed += usize::from(killed_after(&sandbox, APPLY, lines));
        let_the_lock_expire(&database);
    }
    assert!(killed >= 10, "only {killed} were killed in the middle");
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    sandbox.keywheel(&["audit", "verify"]).exits(0);
    let versions =
        "SELECT count(*), count(DISTINCT key_id), count(*) FILTER (WHERE state = 'active') FROM key_versions";
    assert_eq!(database.query(versions).unwrap(), format!("{KEYS}|{KEYS}|{KEYS}"));
    assert_eq!(database.query("SELECT count(*) FROM rotations WHERE phase <> 'settled'").unwrap(), "0");
    assert_eq!(
        database.query("SELECT count(*) FROM audit_log WHERE action = 'key.created'").unwrap(),
        KEYS.to_string()
    );

    for lines in 1..6 {
        killed_after(&sandbox, &["rotate", "acme/key-000", "--reason", "a test", "--auto-approve"], lines);
        let_the_lock_expire(&database);
        sandbox.keywheel(APPLY).exits(0);
    }
    sandbox.keywheel(&["audit", "verify"]).exits(0);
    let active = "SELECT count(*) FROM key_versions WHERE state = 'active'";
    assert_eq!(database.query(active).unwrap(), KEYS.to_string());
    assert_eq!(database.query("SELECT count(*) FROM rotations WHERE phase <> 'settled'").unwrap(), "0");
}
