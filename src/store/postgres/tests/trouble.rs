//! Servers that are not there, refuse, or hold something else.

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::server::{self, PASSWORD, Server};
use super::{empty, location};
use crate::confined::{Confinement, SmallDisk, is_confined, not_tested};
use crate::store::conformance::samples::{key, policy};
use crate::store::conformance::{SAMPLES, holder, lease, scopes, write};
use crate::store::postgres::{open_or_create, open_read_only};
use crate::store::{Lease, ReadState, State, StoreError, Write};

/// What both ways of opening say; never the password.
async fn refusals(url: &str) -> [StoreError; 2] {
    let url = location(url);
    let errors = [open_read_only(&url).await.unwrap_err(), open_or_create(&url).await.unwrap_err()];
    for error in &errors {
        assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    }
    errors
}

#[tokio::test]
async fn a_database_without_tables_is_missing_to_a_reader_and_stays_so() {
    let database = server::database();
    let missing = open_read_only(&location(&database.url)).await.unwrap_err();
    assert!(matches!(&missing, StoreError::Missing { location } if location.contains(&database.name)), "{missing:?}");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(database.query(tables).unwrap(), "0");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_a_first_run() {
    let database = server::database();
    for error in refusals(&database.url.replace(&database.name, "typing_mistake")).await {
        assert!(error.to_string().contains("\"typing_mistake\" does not exist: create it first"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_repeated() {
    let database = server::database();
    for error in refusals(&database.url.replace(PASSWORD, "wr0ng-s3cret")).await {
        assert!(error.to_string().contains("password authentication failed"), "{error}");
        assert!(!error.to_string().contains("wr0ng-s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_at_once() {
    let begun = std::time::Instant::now();
    for error in refusals(&server::url(server::free_port(), "keywheel")).await {
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    }
    for error in refusals("postgres://me@no-such-host.invalid/keywheel").await {
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    }
    assert!(begun.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (database, state) = empty().await;
    drop(state);
    database.query("UPDATE meta SET schema_version = 99").unwrap();
    for error in refusals(&database.url).await {
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn another_programs_tables_are_left_alone() {
    let database = server::database();
    database.query("CREATE TABLE events (id bigint)").unwrap();
    let refused = open_or_create(&location(&database.url)).await.unwrap_err();
    assert!(refused.to_string().contains("give keywheel a schema or a database of its own"), "{refused}");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(database.query(tables).unwrap(), "1");
}

#[tokio::test]
async fn a_missing_table_is_damage() {
    let (database, state) = empty().await;
    database.query("DROP TABLE documents").unwrap();
    let damaged = state.recorded().await.unwrap_err();
    assert!(matches!(damaged, StoreError::Corrupt { .. }), "{damaged:?}");
}

#[tokio::test]
async fn a_database_that_may_only_be_read_is_read_and_refuses_writers() {
    let (database, state) = empty().await;
    write(&state, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await;
    drop(state);
    database.query(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name)).unwrap();
    let url = location(&database.url);
    assert_eq!(open_read_only(&url).await.unwrap().recorded().await.unwrap().policies.len(), 1);
    let refused = open_or_create(&url).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_role_that_may_only_read_plans_and_does_not_apply() {
    let (database, state) = empty().await;
    write(&state, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await;
    let role = format!("reader_of_{}", database.name);
    database
        .query(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .unwrap();
    let url = location(&database.url.replace("keywheel:", &format!("{role}:")));
    assert_eq!(open_read_only(&url).await.unwrap().recorded().await.unwrap().policies.len(), 1);
    let refused = open_or_create(&url).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
    database.query(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[tokio::test]
async fn many_appliers_make_one_schema() {
    let database = server::database();
    let url = location(&database.url);
    let opened = futures::future::join_all((0..6).map(|_| open_or_create(&url))).await;
    let mut lineages = Vec::new();
    for state in opened {
        lineages.push(state.unwrap().recorded().await.unwrap().lineage);
    }
    lineages.dedup();
    assert_eq!(lineages.len(), 1);
}

#[tokio::test]
async fn of_two_appliers_one_has_the_lease_and_each_commit_is_one_links_length() {
    let (database, first) = empty().await;
    let second = open_or_create(&location(&database.url)).await.unwrap();
    let held = lease(&first).await;
    let locked = second.acquire(&scopes(SAMPLES), &holder("bob@ci"), 60).await;
    assert!(matches!(locked, Err(StoreError::Locked { .. })), "{locked:?}");
    // Under leases on different tenants both write, and neither waits for the other to end.
    let other = second.acquire(&scopes(&["elsewhere"]), &holder("bob@ci"), 60).await.unwrap();
    let entry = |tenant| [Write::Audit(Box::new(crate::store::conformance::samples::audit(tenant, "key.created")))];
    let (entry, others) = (entry("acme"), entry("elsewhere"));
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        firsts.push(first.commit(&held, &entry));
        seconds.push(second.commit(&other, &others));
    }
    for result in futures::future::join_all(firsts.into_iter().chain(seconds)).await {
        result.unwrap();
    }
    let check = first.verify_audit().await.unwrap();
    assert_eq!((check.entries, check.broken), (40, None));
}

#[tokio::test]
async fn a_server_without_a_free_connection_says_so() {
    let server = Server::start("max_connections = 4\nsuperuser_reserved_connections = 3\n");
    server.query("postgres", &format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")).unwrap();
    let url = location(&server.url("postgres").replace("keywheel:", "guest:"));
    let holding = open_read_only(&url).await;
    assert!(matches!(holding, Err(StoreError::Missing { .. })), "{holding:?}");
    server.query("postgres", "ALTER ROLE guest CONNECTION LIMIT 0").unwrap();
    let refused = open_read_only(&url).await.unwrap_err();
    assert!(refused.to_string().contains("too many connections"), "{refused}");
}

#[tokio::test]
async fn a_standby_is_read_and_refuses_writers() {
    let primary = Server::start("");
    let state = open_or_create(&location(&primary.url("postgres"))).await.unwrap();
    write(&state, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await;
    let standby = primary.standby();
    let url = location(&standby.url("postgres"));
    assert_eq!(open_read_only(&url).await.unwrap().recorded().await.unwrap().policies.len(), 1);
    let refused = open_or_create(&url).await.unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_full_disk_takes_nothing_of_a_batch() {
    let name = concat!(module_path!(), "::a_full_disk_takes_nothing_of_a_batch");
    if !is_confined(Confinement::OwnMounts, name) {
        return;
    }
    // PostgreSQL does not run as root, and in a namespace of users there is nobody else.
    let other = std::process::Command::new("setpriv").args(["--reuid=nobody", "--clear-groups", "true"]).output();
    if !other.is_ok_and(|output| output.status.success()) {
        return not_tested(name, "only root can mount a disk for a server that runs as somebody else");
    }
    let folder = tempfile::tempdir().unwrap();
    let _disk = SmallDisk::at(folder.path(), "12m");
    let server = Server::start("");
    server::own(folder.path());
    server.query("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", folder.path().display())).unwrap();
    server.query("postgres", "CREATE DATABASE small TABLESPACE small").unwrap();
    let state = open_or_create(&location(&server.url("small"))).await.unwrap();
    let lease = lease(&state).await;
    state.commit(&lease, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await.unwrap();
    let before = state.recorded().await.unwrap();
    let many: Vec<_> =
        (0..20_000).map(|number| Write::Key(Box::new(key(number, "acme", &format!("key {number}"))))).collect();
    let full = state.commit(&lease, &many).await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    assert_eq!(state.recorded().await.unwrap(), before);
    // PostgreSQL gives the room of what was rolled back free at a vacuum.
    server.query("small", "VACUUM encryption_keys").unwrap();
    state.commit(&lease, &[Write::Policy(Box::new(policy(2, "acme", "Weekly")))]).await.unwrap();
}

#[tokio::test]
async fn a_lease_is_not_taken_over_in_the_middle_of_a_commit() {
    let (database, first) = empty().await;
    let second = open_or_create(&location(&database.url)).await.unwrap();
    // It has expired when it is made, and nobody has taken it over yet.
    let expired = first.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 0).await.unwrap();
    let mut by_hand = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE key_rotation_policies IN SHARE MODE").execute(&mut by_hand).await.unwrap();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let are_waiting = |count: &str| database.query(waiting).unwrap() == count;
    let commit = tokio::spawn(async move {
        let written = first.commit(&expired, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await;
        (written, first)
    });
    while !are_waiting("1") {
        tokio::task::yield_now().await;
    }
    let takeover = tokio::spawn(async move { (second.acquire(&scopes(SAMPLES), &holder("bob@ci"), 60).await, second) });
    while !are_waiting("2") {
        assert!(!takeover.is_finished(), "taken over while its holder could still commit");
        tokio::task::yield_now().await;
    }
    sqlx::raw_sql("COMMIT").execute(&mut by_hand).await.unwrap();
    let (written, first) = commit.await.unwrap();
    written.unwrap();
    let (taken, second) = takeover.await.unwrap();
    assert_eq!(taken.unwrap().token, 2);
    assert_eq!(second.recorded().await.unwrap().policies.len(), 1);
    let late = first.commit(&Lease { token: 1, scopes: scopes(SAMPLES).into() }, &[]).await;
    assert!(matches!(late, Err(StoreError::LeaseLost { .. })), "{late:?}");
}
