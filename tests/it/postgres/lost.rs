//! Applies whose connection to the database is cut, and whose database restarts.

use super::{APPLY, discreet, sandbox};
use crate::support::cut::{Cut, Proxy};
use crate::support::postgres::{Server, database, url};

/// Each key has one version, its chain is whole, and there is nothing left to do.
const TWINS: &str =
    "SELECT count(*) FROM (SELECT key_id FROM key_versions GROUP BY key_id HAVING count(*) > 1) AS twins";

#[test]
fn an_apply_whose_commits_go_unanswered_ends_as_if_nothing_had_been() {
    let database = database();
    let proxy = Proxy::start(database.port);
    let sandbox = sandbox(&(url(proxy.port, &database.name) + "?sslmode=disable"), 10);
    // The first commits are those of reading and of making the tables.
    let pattern = [None, Some(Cut::After), None, Some(Cut::Before)];
    proxy.cut([None; 6].into_iter().chain(pattern.into_iter().cycle().take(24)));
    discreet(sandbox.keywheel(APPLY).exits(0));
    assert!(proxy.count() > 5, "{}", proxy.count());
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    assert_eq!(database.query(TWINS).unwrap(), "0");
    let gaps =
        "SELECT count(*) FROM (SELECT count(*) AS n, max(seq) AS last FROM audit_log GROUP BY tenant_id) AS chains
                WHERE n <> last";
    assert_eq!(database.query(gaps).unwrap(), "0");
}

#[test]
fn an_apply_goes_on_after_its_server_crashed_and_restarted() {
    let server = Server::start("");
    let sandbox = sandbox(&server.url("postgres"), 300);
    let crash = || {
        // In the middle: some keys are there, and others are not yet.
        let begun = |answer: Result<String, String>| answer.is_ok_and(|count| count != "0");
        while !begun(server.query("postgres", "SELECT count(*) FROM rotations")) {}
        server.stop("immediate");
        server.start_again(&[]);
    };
    let done = std::thread::scope(|scope| {
        let apply = scope.spawn(|| sandbox.keywheel(APPLY).ends());
        crash();
        apply.join().unwrap()
    });
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(server.log().contains("database system was not properly shut down"));
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    assert_eq!(server.query("postgres", TWINS).unwrap(), "0");
    assert_eq!(server.query("postgres", "SELECT count(*) FROM key_versions").unwrap(), "300");
    assert_eq!(server.query("postgres", "SELECT max(token) FROM leases").unwrap(), "1", "the lease survived");
}
