//! Which leases work takes: work by hand that of its tenant, an apply those of the repository and of every tenant.
//!
//! An apply takes what it can get when its patience ends. A tenant that somebody else works on is left out of it, so that
//! one tenant delays no other; without the repository's own lease there is no apply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::document::Repository;
use crate::model::{Name, Recorded};
use crate::plan::Plan;
use crate::store::{Holder, Lease, LeaseScope, State, StoreError};

use super::journal::LEASE_SECONDS;
use super::{EngineError, Event, Progress, clock, planning};

/// How often a lease that somebody else has is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What a piece of work wants a lease on.
#[derive(Debug)]
pub(super) struct Wanted {
    pub scopes: BTreeSet<LeaseScope>,
    /// Tenants that it cannot leave out.
    pub needed: BTreeSet<Name>,
}

/// A lease that was taken.
#[derive(Debug)]
pub(super) struct Held {
    pub lease: Lease,
    /// When it was asked for.
    pub asked: Instant,
    /// Tenants that somebody else has, and who.
    pub left_out: BTreeMap<Name, String>,
}

impl Wanted {
    /// One tenant, and nothing without it.
    pub(super) fn tenant(tenant_id: &Name) -> Self {
        let scopes = BTreeSet::from([LeaseScope::Tenant(tenant_id.clone())]);
        Self { scopes, needed: BTreeSet::from([tenant_id.clone()]) }
    }

    /// The repository, and every tenant of the documents or the record.
    pub(super) fn everything(repository: &Repository, recorded: &Recorded) -> Self {
        let tenants = documented(repository).chain(tenants(recorded)).cloned();
        let scopes = tenants.map(LeaseScope::Tenant).chain([LeaseScope::Repository]).collect();
        Self { scopes, needed: BTreeSet::new() }
    }
}

/// The tenants of the documents.
fn documented(repository: &Repository) -> impl Iterator<Item = &Name> {
    let Repository { tenants, failed_tenants, policies, keys, .. } = repository;
    let objects = policies.keys().chain(keys.keys()).map(|address| &address.tenant_id);
    tenants.keys().chain(failed_tenants).chain(objects)
}

/// The tenants of the record.
pub(super) fn tenants(recorded: &Recorded) -> impl Iterator<Item = &Name> {
    let objects = recorded.policies.keys().chain(recorded.keys.keys()).map(|address| &address.tenant_id);
    let documents = recorded.documents.keys().filter_map(|object| object.tenant_id.as_ref());
    objects.chain(documents).chain(recorded.unfinished.iter().map(|rotation| &rotation.address.tenant_id))
}

/// Who takes a lease now, and for what.
pub(super) fn holder(operation: &str) -> Holder {
    Holder {
        who: planning::who(),
        pid: std::process::id(),
        operation: operation.to_owned(),
        correlation_id: clock::new_id().to_string(),
    }
}

/// Takes a lease, and waits for it for a while if somebody else has a part of it; an interrupt ends the wait.
///
/// # Errors
/// [`StoreError::Locked`] if they still have something that cannot be left out.
pub(super) async fn acquire(
    state: &dyn State,
    Wanted { mut scopes, needed }: Wanted,
    operation: &str,
    patience: Duration,
    interrupt: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Held, EngineError> {
    let (holder, deadline) = (holder(operation), Instant::now() + patience);
    let mut left_out = BTreeMap::new();
    let mut told = false;
    loop {
        let asked = clock::instant();
        let error = match state.acquire(&scopes, &holder, LEASE_SECONDS).await {
            Ok(lease) => return Ok(Held { lease, asked, left_out }),
            Err(error @ StoreError::Locked { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        if interrupt.load(Ordering::Relaxed) {
            return Err(error.into());
        }
        if Instant::now() < deadline {
            if !told {
                progress.event(Event::Notice { message: format!("waiting: {error}") });
                told = true;
            }
            clock::sleep(ASK_AGAIN).await;
            continue;
        }
        // Everything that somebody has at once: one by one, a large apply would ask ten thousand times.
        for held in state.leases().await?.iter().filter(|held| !held.expired) {
            for scope in held.scopes() {
                if let LeaseScope::Tenant(tenant_id) = &scope
                    && !needed.contains(tenant_id)
                    && scopes.remove(&scope)
                {
                    let why = format!("it is locked by {} (process {}, {})", held.who, held.pid, held.operation);
                    left_out.insert(tenant_id.clone(), why);
                }
            }
        }
        // What the error names was taken away, or was given back meanwhile: it is asked for once more. Whatever an apply
        // cannot do without ends it.
        match &error {
            StoreError::Locked { scope: LeaseScope::Tenant(tenant_id), .. } if !needed.contains(tenant_id) => {}
            _ => return Err(error.into()),
        }
    }
}

/// Takes everything, for work that nobody else may do anything beside.
///
/// # Errors
/// [`StoreError::Locked`] if anybody works on it.
pub(super) async fn acquire_everything(state: &dyn State, holder: &Holder) -> Result<Lease, EngineError> {
    loop {
        let Wanted { scopes, .. } = Wanted::everything(&Repository::default(), &state.recorded().await?);
        let lease = state.acquire(&scopes, holder, LEASE_SECONDS).await?;
        // Nobody adds a tenant without the repository's lease.
        if tenants(&state.recorded().await?).all(|tenant_id| lease.is_on(tenant_id)) {
            return Ok(lease);
        }
        state.release(&lease).await?;
    }
}

/// What an apply still needs for the rest of a plan: everybody else's tenants are free while it works. A rule for all
/// concerns all.
pub(super) fn of_plan(lease: &Lease, plan: &Plan) -> BTreeSet<LeaseScope> {
    if plan.changes.iter().any(|change| change.object.tenant_id.is_none()) {
        return lease.scopes.as_ref().clone();
    }
    plan.changes.iter().map(|change| LeaseScope::of(&change.object)).chain([LeaseScope::Repository]).collect()
}
