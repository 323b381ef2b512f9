//! Leases and fencing tokens.

use chrono::TimeDelta;

use super::samples::{audit, policy};
use super::{holder, lease, scopes};
use crate::model::Name;
use crate::store::{LeaseScope, State, StoreError, Write};

fn about(number: u64, tenant: &str) -> [Write; 2] {
    [Write::Policy(Box::new(policy(number, tenant, "Daily"))), Write::Audit(Box::new(audit(tenant, "policy.created")))]
}

fn tenant(name: &str) -> LeaseScope {
    LeaseScope::Tenant(Name::new(name).unwrap())
}

pub(crate) async fn a_lease_is_held_by_one_until_it_is_given_back(state: &impl State) {
    let acme = scopes(&["acme"]);
    let first = state.acquire(&acme, &holder("alice@laptop"), 60).await.unwrap();
    let refused = state.acquire(&acme, &holder("bob@ci"), 60).await;
    let Err(StoreError::Locked { scope, who, pid, operation, since, until }) = refused else { panic!("{refused:?}") };
    assert_eq!((scope, &*who, pid, &*operation), (tenant("acme"), "alice@laptop", 42, "apply"));
    assert!(until - since >= TimeDelta::seconds(59), "{since} {until}");

    state.renew(&first, 600).await.unwrap();
    let Err(StoreError::Locked { until: renewed, .. }) = state.acquire(&acme, &holder("bob@ci"), 60).await else {
        panic!("it was free")
    };
    assert!(renewed > until);

    state.release(&first).await.unwrap();
    let second = state.acquire(&acme, &holder("bob@ci"), 60).await.unwrap();
    assert!(second.token > first.token);
    // Giving back a lost one does nothing.
    state.release(&first).await.unwrap();
    assert!(matches!(state.acquire(&acme, &holder("carol@ci"), 60).await, Err(StoreError::Locked { .. })));
}

pub(crate) async fn an_expired_lease_is_taken_over_with_a_higher_token(state: &impl State) {
    // A lease of no seconds has expired when it is made.
    let first = state.acquire(&scopes(&["acme"]), &holder("alice@laptop"), 0).await.unwrap();
    let second = state.acquire(&scopes(&["acme"]), &holder("bob@ci"), 60).await.unwrap();
    assert!(second.token > first.token);
    let lost = state.renew(&first, 60).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
}

pub(crate) async fn a_lost_lease_writes_nothing(state: &impl State) {
    let lost = state.acquire(&scopes(&["acme"]), &holder("alice@laptop"), 0).await.unwrap();
    let held = state.acquire(&scopes(&["acme"]), &holder("bob@ci"), 60).await.unwrap();
    let write = about(1, "acme");
    let refused = state.commit(&lost, &write).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    assert!(state.recorded().await.unwrap().is_empty());

    state.commit(&held, &write).await.unwrap();
    state.release(&held).await.unwrap();
    let refused = state.commit(&held, &write).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "it was given back: {refused:?}");
}

pub(crate) async fn a_lease_that_expired_unnoticed_still_counts(state: &impl State) {
    let lease = state.acquire(&scopes(&["acme"]), &holder("alice@laptop"), 0).await.unwrap();
    state.commit(&lease, &about(1, "acme")).await.unwrap();
    state.renew(&lease, 60).await.unwrap();
}

pub(crate) async fn work_on_different_tenants_does_not_meet(state: &impl State) {
    let alice = state.acquire(&scopes(&["acme", "globex"]), &holder("alice@laptop"), 60).await.unwrap();
    let bob = state.acquire(&scopes(&["other"]), &holder("bob@ci"), 60).await.unwrap();
    let carol = state.acquire(&scopes(&[""]), &holder("carol@ci"), 60).await.unwrap();
    state.commit(&alice, &about(10, "acme")).await.unwrap();
    state.commit(&alice, &about(11, "globex")).await.unwrap();
    state.commit(&bob, &about(20, "other")).await.unwrap();
    state.commit(&carol, &[]).await.unwrap();
    let recorded = state.recorded().await.unwrap();
    assert_eq!(recorded.policies.len(), 3);
    assert_eq!(state.verify_audit().await.unwrap().broken, None);
}

pub(crate) async fn whoever_overlaps_is_told_who_has_what(state: &impl State) {
    let alice = state.acquire(&scopes(&["globex", "other"]), &holder("alice@laptop"), 60).await.unwrap();
    let bobs = scopes(&["", "acme", "other"]);
    let refused = state.acquire(&bobs, &holder("bob@ci"), 60).await;
    let Err(StoreError::Locked { scope, who, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((scope, &*who), (tenant("other"), "alice@laptop"));
    // Nothing was taken: all or none.
    let carol = state.acquire(&scopes(&["", "acme"]), &holder("carol@ci"), 60).await.unwrap();
    state.release(&alice).await.unwrap();
    let refused = state.acquire(&bobs, &holder("bob@ci"), 60).await;
    assert!(matches!(refused, Err(StoreError::Locked { scope: LeaseScope::Repository, .. })), "{refused:?}");
    state.release(&carol).await.unwrap();
    state.acquire(&bobs, &holder("bob@ci"), 60).await.unwrap();
}

pub(crate) async fn a_lease_that_loses_one_of_its_scopes_is_lost_as_a_whole(state: &impl State) {
    let first = state.acquire(&scopes(&["", "acme", "globex"]), &holder("alice@laptop"), 0).await.unwrap();
    let second = state.acquire(&scopes(&["globex"]), &holder("bob@ci"), 60).await.unwrap();
    let refused = state.commit(&first, &about(1, "acme")).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    assert!(matches!(state.renew(&first, 60).await, Err(StoreError::LeaseLost { .. })));
    state.release(&first).await.unwrap();
    state.commit(&second, &about(2, "globex")).await.unwrap();
    // And what it was on besides is free.
    let third = state.acquire(&scopes(&["", "acme"]), &holder("carol@ci"), 60).await.unwrap();
    state.commit(&third, &about(3, "acme")).await.unwrap();
    assert_eq!(state.leases().await.unwrap().len(), 2);
}

pub(crate) async fn a_part_of_a_lease_can_be_given_back(state: &impl State) {
    let whole = state.acquire(&scopes(&["", "acme", "globex"]), &holder("alice@laptop"), 60).await.unwrap();
    let part = state.narrow(&whole, &scopes(&["", "acme"])).await.unwrap();
    assert_eq!((part.token, &*part.scopes), (whole.token, &scopes(&["", "acme"])));
    let other = state.acquire(&scopes(&["globex"]), &holder("bob@ci"), 60).await.unwrap();
    state.commit(&other, &about(1, "globex")).await.unwrap();
    state.commit(&part, &about(2, "acme")).await.unwrap();
    let refused = state.commit(&part, &about(3, "globex")).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    let refused = state.acquire(&scopes(&["acme"]), &holder("bob@ci"), 60).await;
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
}

pub(crate) async fn a_lease_writes_about_nothing_that_it_is_not_on(state: &impl State) {
    let lease = state.acquire(&scopes(&["acme"]), &holder("alice@laptop"), 60).await.unwrap();
    for write in about(1, "other") {
        let refused = state.commit(&lease, &[about(2, "acme").into_iter().next().unwrap(), write]).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
    assert!(state.recorded().await.unwrap().is_empty());
}

pub(crate) async fn a_token_is_higher_than_every_token_before(state: &impl State) {
    let mut last = 0;
    for names in [&["acme"][..], &["other"], &["", "acme", "other"], &["globex"]] {
        let lease = state.acquire(&scopes(names), &holder("alice@laptop"), 60).await.unwrap();
        assert!(lease.token > last, "{} after {last}", lease.token);
        last = lease.token;
        state.release(&lease).await.unwrap();
    }
}

pub(crate) async fn a_lease_on_ten_thousand_tenants_is_taken_and_prolonged_in_no_time(state: &impl State) {
    let many = (0..10_000).map(|number| tenant(&format!("tenant-{number}"))).chain([LeaseScope::Repository]).collect();
    let started = std::time::Instant::now();
    for _ in 0..2 {
        let lease = state.acquire(&many, &holder("alice@laptop"), 60).await.unwrap();
        for _ in 0..20 {
            state.commit(&lease, &[]).await.unwrap();
            state.renew(&lease, 60).await.unwrap();
        }
        assert_eq!(state.leases().await.unwrap().first().unwrap().tenants.len(), 10_000);
        state.release(&lease).await.unwrap();
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
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
    assert_eq!((record.token, &*record.who, record.pid), (held.token, "alice@laptop", 42));
    assert_eq!(record.scopes().collect::<std::collections::BTreeSet<_>>(), *held.scopes);
    assert!(!record.expired && record.until > record.since, "{record:?}");

    let entry = audit("acme", "lock.broken");
    assert_eq!(state.break_lease(held.token + 1, 1, &entry).await.unwrap(), None, "nobody had that one");
    assert_eq!(state.verify_audit().await.unwrap().entries, 0);
    let free_at = state.break_lease(held.token, 1, &entry).await.unwrap().unwrap();
    assert!(free_at < record.until && free_at <= state.now().await.unwrap() + TimeDelta::seconds(1), "{free_at}");
    assert_eq!(state.break_lease(held.token, 1, &entry).await.unwrap(), None, "it was taken away already");
    assert_eq!(state.verify_audit().await.unwrap().entries, 1);
    let listed = state.leases().await.unwrap();
    let [broken] = listed.as_slice() else { panic!("{listed:?}") };
    assert!(broken.is_broken() && broken.until == free_at && broken.token > held.token, "{broken:?}");
    assert_eq!(broken.scopes().collect::<std::collections::BTreeSet<_>>(), *held.scopes);
    assert!(matches!(state.commit(&held, &about(1, "acme")).await, Err(StoreError::LeaseLost { .. })));
    assert!(matches!(state.renew(&held, 60).await, Err(StoreError::LeaseLost { .. })));
    let too_early = state.acquire(&held.scopes, &holder("bob@ci"), 60).await;
    assert!(matches!(&too_early, Err(StoreError::Locked { until, .. }) if *until == free_at), "{too_early:?}");
    let next = loop {
        match state.acquire(&held.scopes, &holder("bob@ci"), 60).await {
            Err(StoreError::Locked { .. }) => {}
            next => break next.unwrap(),
        }
    };
    assert!(state.now().await.unwrap() >= free_at);
    assert!(next.token > broken.token, "a token that was taken away does not come back");
}
