//! Connections that are lost, at the worst of moments.

use super::cut::{Cut, Proxy};
use super::server::{self, Server};
use super::{empty, location};
use crate::model::Phase;
use crate::store::conformance::samples::{audit, key, rotation};
use crate::store::conformance::{SAMPLES, holder, lease, scopes};
use crate::store::postgres::{Postgres, Writing, open_or_create};
use crate::store::{State, StoreError, Write};

/// An empty state database behind a proxy that cuts.
async fn behind_proxy() -> (server::Database, Proxy, Postgres<Writing>) {
    let database = server::database();
    let proxy = Proxy::start(database.port);
    let url = server::url(proxy.port, &database.name) + "?sslmode=disable";
    let state = open_or_create(&location(&url)).await.unwrap();
    (database, proxy, state)
}

/// A batch that shows when it is written twice: a link of the chain, and a step of a journal.
fn batch(number: u64) -> Vec<Write> {
    let key = key(1, "acme", "patients");
    let rotation = rotation(2, &key, Phase::Settled);
    let step = crate::model::StepRecord {
        detail: Some(number.to_string()),
        ..crate::store::conformance::samples::step(
            rotation.id,
            crate::model::Step::Create,
            crate::model::Outcome::Started,
        )
    };
    let audit = audit("acme", &format!("batch {number}"));
    vec![
        Write::Key(Box::new(key)),
        Write::Rotation(Box::new(rotation)),
        Write::Step(step),
        Write::Audit(Box::new(audit)),
    ]
}

/// Each batch up to this one is there once, in its order.
async fn written_once_each(state: &impl State, batches: u64) {
    let id = crate::store::conformance::samples::id(2);
    let journal = state.journal(id).await.unwrap();
    let numbers: Vec<_> = journal.into_iter().map(|step| step.detail.unwrap().parse::<u64>().unwrap()).collect();
    assert_eq!(numbers, (0..batches).collect::<Vec<_>>());
    let check = state.verify_audit().await.unwrap();
    assert_eq!((check.entries, check.broken), (batches, None));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_out_and_not_repeated() {
    let (_database, proxy, state) = behind_proxy().await;
    let lease = lease(&state).await;
    for number in 0..6 {
        proxy.cut([Some(if number % 2 == 0 { Cut::After } else { Cut::Before })]);
        state.commit(&lease, &batch(number)).await.unwrap();
    }
    assert_eq!(proxy.count(), 6);
    written_once_each(&state, 6).await;
}

#[tokio::test]
async fn a_commit_that_is_cut_again_and_again_is_written_once() {
    let (_database, proxy, state) = behind_proxy().await;
    let lease = lease(&state).await;
    proxy.cut([Cut::Before, Cut::Before, Cut::After, Cut::After].map(Some));
    state.commit(&lease, &batch(0)).await.unwrap();
    assert_eq!(proxy.count(), 4);
    written_once_each(&state, 1).await;
}

#[tokio::test]
async fn a_commit_is_written_once_wherever_in_its_transaction_the_connection_is_cut() {
    let (_database, proxy, state) = behind_proxy().await;
    let lease = lease(&state).await;
    // At another of its messages each time, and by turns before the server hears of it and after it has answered.
    proxy.cut_after((0..12).map(|number| 24 + number));
    let mut written = 0;
    while proxy.count() < 12 {
        state.commit(&lease, &batch(written)).await.unwrap();
        written += 1;
    }
    written_once_each(&state, written).await;
}

#[tokio::test]
async fn a_written_batch_counts_even_if_the_lease_was_lost_before_that_was_known() {
    let (database, proxy, state) = behind_proxy().await;
    let lease = state.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 0).await.unwrap();
    // Somebody takes the expired lease over between the commit and the question.
    let trigger = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
                       'BEGIN DELETE FROM leases; RETURN NULL; END';
                   CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON batches DEFERRABLE INITIALLY DEFERRED
                       FOR EACH ROW EXECUTE FUNCTION lose()";
    database.query(trigger).unwrap();
    proxy.cut([Some(Cut::After)]);
    state.commit(&lease, &batch(0)).await.unwrap();
    written_once_each(&state, 1).await;
    let lost = state.commit(&lease, &batch(1)).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    written_once_each(&state, 1).await;
}

#[tokio::test]
async fn a_lease_whose_answer_is_lost_is_ours() {
    let (_database, proxy, state) = behind_proxy().await;
    proxy.cut([Some(Cut::After)]);
    let lease = lease(&state).await;
    state.commit(&lease, &batch(0)).await.unwrap();
    proxy.cut([Some(Cut::After)]);
    state.renew(&lease, 60).await.unwrap();
    proxy.cut([Some(Cut::After)]);
    state.release(&lease).await.unwrap();
    assert_eq!(proxy.count(), 3);
    // And another process of the same person does not take it for its own.
    let second = state.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 60).await.unwrap();
    let refused = state.acquire(&scopes(SAMPLES), &holder("alice@laptop"), 60).await;
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
    assert!(second.token > lease.token);
}

#[tokio::test]
async fn a_refused_batch_is_refused_once_and_for_all() {
    let (_database, proxy, state) = behind_proxy().await;
    let lease = lease(&state).await;
    let [Write::Step(mut step)] = [batch(0).swap_remove(2)] else { panic!("a step") };
    step.rotation_id = crate::store::conformance::samples::id(77);
    let refused = state.commit(&lease, &[Write::Step(step)]).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(proxy.count(), 0);
}

#[tokio::test]
async fn idle_connections_that_were_ended_are_replaced() {
    let (database, state) = empty().await;
    let lease = lease(&state).await;
    for number in 0..3 {
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'keywheel'
                     AND datname = current_database()";
        assert_ne!(database.query(ended).unwrap(), "0");
        state.commit(&lease, &batch(number)).await.unwrap();
    }
    written_once_each(&state, 3).await;
}

#[tokio::test]
async fn a_server_that_restarts_in_the_middle_of_an_apply_is_waited_for() {
    let server = Server::start("");
    let state = open_or_create(&location(&server.url("postgres"))).await.unwrap();
    let lease = lease(&state).await;
    for (number, mode) in ["immediate", "fast", "immediate"].into_iter().enumerate() {
        state.commit(&lease, &batch(2 * number as u64)).await.unwrap();
        server.stop(mode);
        let restart = tokio::task::spawn_blocking({
            let server = server.clone();
            move || server.start_again(&[])
        });
        let batch = batch(2 * number as u64 + 1);
        state.commit(&lease, &batch).await.unwrap();
        restart.await.unwrap();
    }
    state.renew(&lease, 60).await.unwrap();
    written_once_each(&state, 6).await;
}

#[tokio::test]
async fn commits_that_a_crashing_server_interrupts_are_written_once_each() {
    let server = Server::start("");
    let state = open_or_create(&location(&server.url("postgres"))).await.unwrap();
    let lease = lease(&state).await;
    let (progress, made) = std::sync::mpsc::channel::<u64>();
    let crashes = tokio::task::spawn_blocking({
        let server = server.clone();
        move || {
            // At no particular point of the commit that runs by then.
            for mark in [5, 17, 30, 46] {
                while made.recv().unwrap() < mark {}
                server.stop("immediate");
                server.start_again(&[]);
            }
        }
    });
    let mut batches = 0;
    while !crashes.is_finished() {
        state.commit(&lease, &batch(batches)).await.unwrap();
        batches += 1;
        // Nobody listens after the last crash.
        let _ = progress.send(batches);
    }
    crashes.await.unwrap();
    written_once_each(&state, batches).await;
}
