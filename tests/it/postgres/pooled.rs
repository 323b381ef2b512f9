//! Through `PgBouncer` in transaction mode, where each transaction may be on another server connection.

use super::{APPLY, discreet, sandbox};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::database;

#[test]
fn two_appliers_at_once_make_the_tables_and_each_key_once_through_a_pool_of_two() {
    let database = database();
    let pooler = PgBouncer::start(database.port, 2);
    // Two jobs of one repository; neither has seen the database, and its tables are still to be made.
    let sandbox = sandbox(&pooler.url(&database.name), 50);
    let apply = || {
        let run = sandbox.keywheel(&["apply", "--auto-approve", "--lock-timeout", "120s", "-vv"]);
        discreet(run.ends())
    };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(apply);
        let second = scope.spawn(apply);
        (first.join().unwrap(), second.join().unwrap())
    });
    let statuses = [first.status, second.status];
    assert!(statuses.contains(&Some(0)), "{first:?}\n{second:?}");
    // Whoever planned before the other one wrote plans again, or says that its plan is stale; nothing else.
    assert!(statuses.iter().all(|status| matches!(status, Some(0 | 4))), "{first:?}\n{second:?}");
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    assert_eq!(database.query("SELECT count(*), count(DISTINCT key_id) FROM key_versions").unwrap(), "50|50");
}

#[test]
fn every_command_works_through_a_pool_of_one() {
    let database = database();
    let pooler = PgBouncer::start(database.port, 1);
    let sandbox = sandbox(&pooler.url(&database.name), 2);
    let missing = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    discreet(sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(2));
    assert_eq!(database.query(missing).unwrap(), "0", "a plan makes no table");
    for arguments in [
        APPLY,
        &["plan", "--detailed-exitcode"],
        &["rotate", "acme/key-000", "--reason", "a test", "--auto-approve"],
        &["status"],
        &["history"],
        &["explain", "acme/Nightly"],
        &["drift"],
    ] {
        discreet(sandbox.keywheel(arguments).exits(0));
    }
    assert_eq!(database.query("SELECT count(*) FROM key_versions").unwrap(), "3");
}
