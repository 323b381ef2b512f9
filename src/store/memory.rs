//! A state database in memory, for tests of what is above it.
//!
//! It has the semantics of the real ones, and passes their conformance suite: a batch is written whole or not at all,
//! under the newest fencing token; names, version numbers and unfinished rotations are unique; references are checked at
//! the end of a batch; the audit log is the real chain. It leaves out copies ([`ReadState::page`],
//! [`ReadState::back_up`], [`State::copy_from`]).
//!
//! Its clock is given to it, and [`Promises`] lets a test take one of its promises away.

mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use super::audit::AuditHead;
use super::rows::{AuditRow, PolicyRow};
use super::{Holder, Identity, Lease, LeaseScope, StoreError, Write};
use crate::model::{
    AppliedPlan, AuditEntry, Channel, Delivery, DocumentRecord, KeyRecord, KeyState, Name, ObjectRef, Phase,
    PolicyRecord, RotationRecord, StepRecord, Timestamp, VersionRecord,
};

/// The database.
pub(crate) struct Memory {
    clock: fn() -> Timestamp,
    identity: Identity,
    promises: Promises,
    tables: Mutex<Tables>,
}

/// What the database promises; a test that takes a promise away shows what it is good for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promises {
    /// A write under another token than the newest is refused.
    pub fencing: bool,
    /// A lease is held by one at a time.
    pub exclusive_leases: bool,
    /// A key has at most one unfinished rotation.
    pub one_unfinished_rotation: bool,
}

impl Promises {
    pub(crate) const ALL: Self = Self { fencing: true, exclusive_leases: true, one_unfinished_rotation: true };
}

/// Everything that is in it. Records are shared, so that a copy to go back to is cheap.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    policies: BTreeMap<Uuid, Arc<Live<PolicyRecord>>>,
    keys: BTreeMap<Uuid, Arc<Live<KeyRecord>>>,
    pub versions: BTreeMap<Uuid, Arc<VersionRecord>>,
    pub rotations: BTreeMap<Uuid, Arc<RotationRecord>>,
    pub steps: Vec<Arc<StepRecord>>,
    documents: BTreeMap<ObjectRef, Arc<DocumentRecord>>,
    audit: BTreeMap<Option<Name>, Vec<Arc<AuditRow>>>,
    plans: Vec<Arc<AppliedPlan>>,
    outbox: BTreeMap<(Uuid, Channel, String), Arc<Delivery>>,
    usage: BTreeMap<(Uuid, String), u64>,
    leases: BTreeMap<i64, HeldLease>,
    last_token: i64,
}

/// A record, and when it was removed.
#[derive(Clone)]
struct Live<T> {
    record: T,
    removed_at: Option<Timestamp>,
}

#[derive(Clone)]
struct HeldLease {
    scopes: BTreeSet<LeaseScope>,
    holder: Holder,
    since: Timestamp,
    until: Option<Timestamp>,
}

impl Memory {
    pub(crate) fn new(clock: fn() -> Timestamp, lineage: Uuid, promises: Promises) -> Self {
        let identity = Identity { lineage, created_at: clock() };
        Self { clock, identity, promises, tables: Mutex::default() }
    }

    /// What is in it now.
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// The keys that are not forgotten.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeyRecord> {
        self.keys.values().filter(|key| key.removed_at.is_none()).map(|key| self.joined(&key.record))
    }

    /// How often each primary version was used.
    fn usage(&self) -> BTreeMap<Uuid, u64> {
        let primaries: BTreeSet<Uuid> = self.keys().filter_map(|key| Some(key.primary_version?.id)).collect();
        let mut sums = BTreeMap::new();
        for ((version, _), total) in self.usage.iter().filter(|((version, _), _)| primaries.contains(version)) {
            let sum: &mut u64 = sums.entry(*version).or_default();
            *sum = sum.saturating_add(*total);
        }
        sums
    }

    /// The unfinished rotations.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &RotationRecord> {
        self.rotations.values().map(|rotation| &**rotation).filter(|rotation| is_unfinished(rotation))
    }

    /// The audit log: whose chain, what was done, and the fields after it.
    pub(crate) fn audited(&self) -> impl Iterator<Item = (Option<&Name>, &str, Option<&Value>)> {
        self.links().map(|row| (row.tenant_id.0.as_ref(), row.action.as_str(), row.after.as_ref().map(|json| &json.0)))
    }

    fn joined(&self, key: &KeyRecord) -> KeyRecord {
        let primary = key.primary_version.as_ref().and_then(|version| self.versions.get(&version.id));
        KeyRecord { primary_version: primary.map(|version| (**version).clone()), ..key.clone() }
    }

    fn write(&mut self, promises: Promises, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Policy(record) => {
                self.policies.insert(record.id, Arc::new(Live { record: as_stored(record)?, removed_at: None }));
                let name = |live: &Live<PolicyRecord>| {
                    (live.record.policy.tenant_id.clone(), live.record.policy.policy_name.clone())
                };
                unique(self.policies.values().filter(|live| live.removed_at.is_none()).map(|live| name(live)))
                    .map_err(|()| conflict("the tenant has a policy of this name already"))?;
            }
            Write::RemovePolicy { id, at } => {
                if let Some(live) = self.policies.get_mut(id).filter(|live| live.removed_at.is_none()) {
                    let record = PolicyRecord { updated_at: *at, ..live.record.clone() };
                    *live = Arc::new(Live { record, removed_at: Some(*at) });
                }
                for key in self.keys.values_mut().filter(|key| key.record.rotation_policy_id == Some(*id)) {
                    Arc::make_mut(key).record.rotation_policy_id = None;
                }
            }
            Write::Key(record) => {
                let before = self.keys.get(&record.id).and_then(|live| live.removed_at);
                let removed_at = (record.state == KeyState::Forgotten).then(|| before.unwrap_or(record.updated_at));
                self.keys.insert(record.id, Arc::new(Live { record: (**record).clone(), removed_at }));
                unique(self.keys.values().filter(|live| live.removed_at.is_none()).map(|live| live.record.address()))
                    .map_err(|()| conflict("the tenant has a key of this name already"))?;
            }
            Write::ForgetKey { id, at } => {
                if let Some(live) = self.keys.get_mut(id).filter(|live| live.removed_at.is_none()) {
                    let record = KeyRecord { state: KeyState::Forgotten, updated_at: *at, ..live.record.clone() };
                    *live = Arc::new(Live { record, removed_at: Some(*at) });
                }
            }
            Write::Version(record) => {
                self.versions.insert(record.id, Arc::new((**record).clone()));
                unique(self.versions.values().map(|version| (version.key_id, version.number)))
                    .map_err(|()| conflict("the key has a version of this number already"))?;
            }
            Write::Rotation(record) => {
                self.rotations.insert(record.id, Arc::new((**record).clone()));
                if promises.one_unfinished_rotation {
                    unique(self.unfinished().map(|rotation| rotation.key_id))
                        .map_err(|()| conflict("the key has an unfinished rotation already"))?;
                }
            }
            Write::Step(record) => self.steps.push(Arc::new(record.clone())),
            Write::Document(record) => {
                self.documents.insert(record.object.clone(), Arc::new((**record).clone()));
            }
            Write::RemoveDocument(object) => {
                self.documents.remove(object);
            }
            Write::Audit(entry) => self.link(entry)?,
            // In the order in which they were begun.
            Write::AppliedPlan(plan) => match self.plans.iter_mut().find(|known| known.digest == plan.digest) {
                Some(known) if known.started_at == plan.started_at => *known = Arc::new((**plan).clone()),
                _ => {
                    self.plans.retain(|known| known.digest != plan.digest);
                    self.plans.push(Arc::new((**plan).clone()));
                }
            },
            Write::Outbox(delivery) => {
                self.outbox.entry(place(delivery)).or_insert_with(|| Arc::new((**delivery).clone()));
            }
        }
        Ok(())
    }

    fn link(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let chain = self.audit.entry(entry.object.tenant_id.clone()).or_default();
        let mut head = AuditHead::start(entry.object.tenant_id.clone());
        if let Some(last) = chain.last() {
            (head.seq, head.hash) = (last.seq, last.hash.clone());
        }
        chain.push(Arc::new(head.append(entry).map_err(|error| conflict(&error.to_string()))?));
        Ok(())
    }

    /// Does every reference of these writes lead somewhere?
    fn references(&self, writes: &[Write]) -> Result<(), StoreError> {
        let lead_somewhere = writes.iter().all(|write| match write {
            Write::Key(key) => {
                key.rotation_policy_id.is_none_or(|id| self.policies.contains_key(&id))
                    && key.primary_version.as_ref().is_none_or(|version| self.versions.contains_key(&version.id))
            }
            Write::Version(version) => self.keys.contains_key(&version.key_id),
            Write::Rotation(rotation) => self.keys.contains_key(&rotation.key_id),
            Write::Step(step) => self.rotations.contains_key(&step.rotation_id),
            _ => true,
        });
        if lead_somewhere { Ok(()) } else { Err(conflict("it names something that is not recorded")) }
    }

    fn held(&mut self, lease: &Lease) -> Result<&mut HeldLease, StoreError> {
        let held = self.leases.get_mut(&lease.token).filter(|held| held.until.is_some());
        held.ok_or(StoreError::LeaseLost { token: lease.token })
    }

    fn links(&self) -> impl Iterator<Item = &AuditRow> {
        self.audit.values().flatten().map(|row| &**row)
    }
}

/// A message is there once for each receiver.
fn place(delivery: &Delivery) -> (Uuid, Channel, String) {
    (delivery.message.id, delivery.channel, delivery.receiver.clone())
}

fn is_unfinished(rotation: &RotationRecord) -> bool {
    !matches!(rotation.phase, Phase::Settled | Phase::Abandoned)
}

fn unique<T: Ord>(values: impl Iterator<Item = T>) -> Result<(), ()> {
    let mut seen = BTreeSet::new();
    for value in values {
        if !seen.insert(value) {
            return Err(());
        }
    }
    Ok(())
}

/// A policy with secrets goes through its row, which never holds one.
fn as_stored(record: &PolicyRecord) -> Result<PolicyRecord, StoreError> {
    if record.policy.notification_settings.is_none() {
        return Ok(record.clone());
    }
    let stored = serde_json::to_string(&PolicyRow::from(record)).map_err(|error| conflict(&error.to_string()))?;
    let row: PolicyRow = serde_json::from_str(&stored).map_err(|error| conflict(&error.to_string()))?;
    Ok(row.into())
}

fn conflict(message: &str) -> StoreError {
    StoreError::Conflict { message: message.to_owned() }
}

fn left_out() -> StoreError {
    StoreError::Other { location: "memory".to_owned(), message: "it keeps no tables that could be copied".to_owned() }
}

mod tests {
    use super::{Memory, Promises};
    use crate::model::Timestamp;
    use crate::store::conformance::conformance;

    #[expect(clippy::disallowed_methods, reason = "the suite holds the database's clock against this machine's")]
    fn now() -> Timestamp {
        let now = chrono::Utc::now();
        chrono::DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap()
    }

    #[expect(clippy::unused_async, reason = "the suite opens every database in this way")]
    async fn empty() -> ((), Memory) {
        ((), Memory::new(now, uuid::Builder::from_random_bytes([7; 16]).into_uuid(), Promises::ALL))
    }

    conformance!(super::empty, without backups);
}
