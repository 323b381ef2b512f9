//! Leases: the right to write, of one worker at a time for each of what a lease is on.
//!
//! A lease is taken on a set of scopes in one transaction, and has one fencing token, from a counter that only grows. So
//! the token names the lease, every commit checks one row whatever the lease is on, and a lease that loses one of its
//! scopes to somebody else is lost as a whole. Work on different tenants does not meet.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rows::TenantOrAll;
use super::{StoreError, Write};
use crate::model::{Name, ObjectRef, Timestamp};

/// What a lease is on, of everything that is recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseScope {
    /// What belongs to no tenant: `keywheel.yaml`, and the rules for all of them.
    Repository,
    /// A tenant: its document, policies, keys and rules.
    Tenant(Name),
}

impl LeaseScope {
    /// What somebody has to hold who writes about an object.
    #[must_use]
    pub fn of(object: &ObjectRef) -> Self {
        object.tenant_id.clone().map_or(Self::Repository, Self::Tenant)
    }
}

impl From<TenantOrAll> for LeaseScope {
    fn from(TenantOrAll(tenant_id): TenantOrAll) -> Self {
        tenant_id.map_or(Self::Repository, Self::Tenant)
    }
}

impl fmt::Display for LeaseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository => f.write_str("the repository as a whole"),
            Self::Tenant(tenant_id) => write!(f, "tenant {tenant_id}"),
        }
    }
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `user@host`.
    pub who: String,
    /// The process.
    pub pid: u32,
    /// What it does: `apply`.
    pub operation: String,
    /// The run.
    pub correlation_id: String,
}

/// The right to write, until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The fencing token: higher than that of every lease before it.
    pub token: i64,
    /// What it is on.
    pub scopes: Arc<BTreeSet<LeaseScope>>,
}

impl Lease {
    pub(super) fn new(token: i64, scopes: BTreeSet<LeaseScope>) -> Self {
        Self { token, scopes: Arc::new(scopes) }
    }

    pub(super) fn narrowed(&self, scopes: &BTreeSet<LeaseScope>) -> Self {
        Self::new(self.token, self.scopes.intersection(scopes).cloned().collect())
    }

    /// Is it on this tenant?
    #[must_use]
    pub fn is_on(&self, tenant_id: &Name) -> bool {
        self.scopes.contains(&LeaseScope::Tenant(tenant_id.clone()))
    }

    /// Refuses a write about what the lease is not on. A write that names its object by identity alone (a version, a step,
    /// a tombstone) is not looked at: the one that goes with it names the tenant.
    pub(super) fn covers(&self, writes: &[Write]) -> Result<(), StoreError> {
        let missing = writes.iter().filter_map(scope_of).find(|scope| !self.scopes.contains(scope));
        missing.map_or(Ok(()), |scope| {
            let message = format!("a write about {scope} under lease {}, which is not on it", self.token);
            Err(StoreError::Conflict { message })
        })
    }
}

pub(super) fn scope_of(write: &Write) -> Option<LeaseScope> {
    let tenant = |tenant_id: &Name| Some(LeaseScope::Tenant(tenant_id.clone()));
    match write {
        Write::Policy(record) => tenant(&record.policy.tenant_id),
        Write::Key(record) => tenant(&record.key.tenant_id),
        Write::Rotation(record) => tenant(&record.address.tenant_id),
        Write::Document(record) => Some(LeaseScope::of(&record.object)),
        Write::RemoveDocument(object) => Some(LeaseScope::of(object)),
        Write::Audit(entry) => Some(LeaseScope::of(&entry.object)),
        Write::Outbox(delivery) => Some(LeaseScope::of(&delivery.message.object)),
        // Those by identity alone, and the one list of what was applied.
        Write::RemovePolicy { .. }
        | Write::ForgetKey { .. }
        | Write::Version(_)
        | Write::Step(_)
        | Write::AppliedPlan(_) => None,
    }
}

/// What the holder of a lease that was broken did, of which a call may still be on its way.
pub(super) const BROKEN: &str = " (broken)";

/// A lease as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeaseRecord {
    /// Its fencing token, which names it.
    pub token: i64,
    /// Is it on what belongs to no tenant?
    pub repository: bool,
    /// The tenants that it is on.
    pub tenants: Vec<Name>,
    /// Who has it: `user@host`.
    pub who: String,
    /// Their process.
    pub pid: u32,
    /// What they do.
    pub operation: String,
    /// Since when.
    pub since: Timestamp,
    /// When it frees itself, unless it is prolonged.
    pub until: Timestamp,
    /// Has it expired, so that the next one who asks gets it?
    pub expired: bool,
}

impl LeaseRecord {
    /// Was it taken away from its holder?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.operation.ends_with(BROKEN)
    }

    /// What it is on.
    pub fn scopes(&self) -> impl Iterator<Item = LeaseScope> {
        let repository = self.repository.then_some(LeaseScope::Repository);
        repository.into_iter().chain(self.tenants.iter().cloned().map(LeaseScope::Tenant))
    }
}

/// Scopes as a database takes them: a JSON array of their names.
pub(super) fn names(scopes: &BTreeSet<LeaseScope>) -> Result<String, StoreError> {
    let name = |scope: &LeaseScope| match scope {
        LeaseScope::Repository => TenantOrAll(None),
        LeaseScope::Tenant(tenant_id) => TenantOrAll(Some(tenant_id.clone())),
    };
    let names: Vec<_> = scopes.iter().map(name).collect();
    serde_json::to_string(&names).map_err(|error| StoreError::Conflict { message: error.to_string() })
}

/// What [`names`] made: whether the repository is among them, and the tenants.
pub(super) fn parse_names(names: &str) -> Result<(bool, Vec<Name>), serde_json::Error> {
    let names: Vec<TenantOrAll> = serde_json::from_str(names)?;
    let repository = names.iter().any(|name| name.0.is_none());
    Ok((repository, names.into_iter().filter_map(|name| name.0).collect()))
}
