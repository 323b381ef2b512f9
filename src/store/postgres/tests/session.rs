//! What a pooler counts on: no statement outside a transaction, no named one, and nothing that stays in a session.

use std::collections::BTreeMap;

use super::location;
use super::server::Server;
use crate::store::conformance::samples::{audit, key, policy};
use crate::store::conformance::{lease, write};
use crate::store::postgres::{open_or_create, open_read_only};
use crate::store::{AuditFilter, HistoryFilter, ReadState, State, Write};

/// The statements of keywheel in the order of the server's log, each with its process: the words that are logged before
/// them say how they came.
fn statements(log: &str) -> Vec<(&str, &str)> {
    let lines = log.lines().filter_map(|line| line.strip_prefix("keywheel "));
    lines
        .filter_map(|line| {
            let (process, rest) = line.split_once(' ')?;
            Some((process, rest.strip_prefix("LOG:  ")?))
        })
        .filter(|(_, line)| line.starts_with("statement: ") || line.starts_with("execute "))
        .collect()
}

#[tokio::test]
async fn every_statement_is_unnamed_and_in_a_transaction_that_it_cannot_outlive() {
    let server = Server::start("log_statement = 'all'\nlog_line_prefix = '%a %p '\n");
    let url = location(&server.url("postgres"));
    let state = open_or_create(&url).await.unwrap();
    let writes = [
        Write::Policy(Box::new(policy(1, "acme", "Daily"))),
        Write::Key(Box::new(key(2, "acme", "patients"))),
        Write::Audit(Box::new(audit("acme", "key.created"))),
    ];
    write(&state, &writes).await;
    let held = lease(&state).await;
    state.renew(&held, 60).await.unwrap();
    state.break_lease(held.token, 60, &audit("acme", "lock.broken")).await.unwrap();
    let reader = open_read_only(&url).await.unwrap();
    reader.recorded().await.unwrap();
    reader.history(&HistoryFilter::default()).await.unwrap();
    reader.audit(&AuditFilter::default()).await.unwrap();
    reader.verify_audit().await.unwrap();
    reader.now().await.unwrap();

    let log = server.log();
    let statements = statements(&log);
    assert!(statements.len() > 60, "{log}");
    let mut is_open = BTreeMap::new();
    for (process, statement) in statements {
        let open = is_open.entry(process).or_insert(false);
        match statement.strip_prefix("statement: ").unwrap_or(statement) {
            begin if begin.starts_with("BEGIN ISOLATION") => *open = true,
            "COMMIT" | "ROLLBACK" => *open = false,
            sql => {
                assert!(*open, "outside a transaction: {sql}");
                assert!(!sql.starts_with("execute ") || sql.starts_with("execute <unnamed>: "), "named: {sql}");
                for word in ["SET ", "LISTEN", "PREPARE", "DECLARE", "CREATE TEMP", "pg_advisory_lock", ", false)"] {
                    assert!(!sql.contains(&format!(": {word}")) && !sql.starts_with(word), "stays: {sql}");
                }
            }
        }
    }
    assert!(is_open.values().all(|open| !open), "{is_open:?}");
}
