//! Leases and fencing tokens.

use chrono::TimeDelta;

use super::samples::policy;
use super::{holder, lease};
use crate::store::{State, StoreError, Write};

pub(crate) async fn a_lease_is_held_by_one_until_it_is_given_back(state: &impl State) {
    let first = lease(state).await;
    let refused = state.acquire("apply", &holder("bob@ci"), 60).await;
    let Err(StoreError::Locked { scope, who, pid, operation, since, until }) = refused else { panic!("{refused:?}") };
    assert_eq!((&*scope, &*who, pid, &*operation), ("apply", "alice@laptop", 42, "apply"));
    assert!(until - since >= TimeDelta::seconds(59), "{since} {until}");

    state.renew(&first, 600).await.unwrap();
    let Err(StoreError::Locked { until: renewed, .. }) = state.acquire("apply", &holder("bob@ci"), 60).await else {
        panic!("it was free")
    };
    assert!(renewed > until);

    state.release(&first).await.unwrap();
    let second = state.acquire("apply", &holder("bob@ci"), 60).await.unwrap();
    assert!(second.token > first.token);
    // Giving back a lost one does nothing.
    state.release(&first).await.unwrap();
    assert!(matches!(state.acquire("apply", &holder("carol@ci"), 60).await, Err(StoreError::Locked { .. })));
}

pub(crate) async fn an_expired_lease_is_taken_over_with_a_higher_token(state: &impl State) {
    // A lease of no seconds has expired when it is made.
    let first = state.acquire("apply", &holder("alice@laptop"), 0).await.unwrap();
    let second = state.acquire("apply", &holder("bob@ci"), 60).await.unwrap();
    assert!(second.token > first.token);
    let lost = state.renew(&first, 60).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
}

pub(crate) async fn a_lost_lease_writes_nothing(state: &impl State) {
    let lost = state.acquire("apply", &holder("alice@laptop"), 0).await.unwrap();
    let held = state.acquire("apply", &holder("bob@ci"), 60).await.unwrap();
    let write = [Write::Policy(Box::new(policy(1, "acme", "Daily")))];
    let refused = state.commit(&lost, &write).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    assert!(state.recorded().await.unwrap().is_empty());

    state.commit(&held, &write).await.unwrap();
    state.release(&held).await.unwrap();
    let refused = state.commit(&held, &write).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "it was given back: {refused:?}");
}

pub(crate) async fn a_lease_that_expired_unnoticed_still_counts(state: &impl State) {
    let lease = state.acquire("apply", &holder("alice@laptop"), 0).await.unwrap();
    state.commit(&lease, &[Write::Policy(Box::new(policy(1, "acme", "Daily")))]).await.unwrap();
    state.renew(&lease, 60).await.unwrap();
}

pub(crate) async fn leases_on_different_scopes_do_not_meet(state: &impl State) {
    let apply = lease(state).await;
    let daemon = state.acquire("daemon", &holder("bob@ci"), 60).await.unwrap();
    for lease in [apply, daemon] {
        state.commit(&lease, &[]).await.unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "the database's clock is held against this machine's")]
pub(crate) async fn the_clock_is_the_databases_own(state: &impl State) {
    let before = chrono::Utc::now() - TimeDelta::seconds(1);
    let now = state.now().await.unwrap();
    assert!(before <= now && now <= chrono::Utc::now() + TimeDelta::seconds(1), "{now}");
}

pub(crate) async fn a_lease_is_listed_and_can_be_taken_away(state: &impl State) {
    let held = lease(state).await;
    let listed = state.leases().await.unwrap();
    let [record] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((&*record.scope, record.token, &*record.who, record.pid), ("apply", held.token, "alice@laptop", 42));
    assert!(!record.expired && record.until > record.since, "{record:?}");

    let other = crate::store::Lease { token: held.token + 1, ..held.clone() };
    assert!(!state.break_lease(&other).await.unwrap(), "it was not held under that token");
    assert!(state.break_lease(&held).await.unwrap());
    assert!(state.leases().await.unwrap().is_empty());
    let write = [Write::Policy(Box::new(policy(1, "acme", "Daily")))];
    assert!(matches!(state.commit(&held, &write).await, Err(StoreError::LeaseLost { .. })));
    assert!(matches!(state.renew(&held, 60).await, Err(StoreError::LeaseLost { .. })));
    let next = state.acquire("apply", &holder("bob@ci"), 60).await.unwrap();
    assert!(next.token > held.token + 1, "a token that was taken away does not come back");
}
