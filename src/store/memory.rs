//! A state database in memory, for tests of what is above it.
//!
//! It has the semantics of the real ones, and passes their conformance suite: a batch is written whole or not at all,
//! under the newest fencing token; names, version numbers and unfinished rotations are unique; references are checked at
//! the end of a batch; the audit log is the real chain. It leaves out copies ([`ReadState::page`],
//! [`ReadState::back_up`], [`State::copy_from`]).
//!
//! Its clock is given to it, and [`Promises`] lets a test take one of its promises away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::TimeDelta;
use serde_json::Value;
use uuid::Uuid;

use super::audit::{AuditCheck, AuditHead, AuditLink};
use super::rows::{AuditRow, PolicyRow};
use super::{
    AuditFilter, HistoryEntry, HistoryFilter, Holder, Identity, Lease, LeaseRecord, LeaseScope, Migrated, OldVersions,
    OutboxFilter, ReadState, State, StoreError, Table, Undelivered, Write,
};
use crate::model::{
    Address, AppliedPlan, AuditEntry, Channel, Delivery, Disposition, DocumentRecord, KeyRecord, KeyState, Name,
    ObjectKind, ObjectRef, Phase, PolicyRecord, Recorded, RotationRecord, StepRecord, Timestamp, VersionRecord,
    VersionState,
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

#[async_trait]
impl ReadState for Memory {
    async fn recorded(&self) -> Result<Recorded, StoreError> {
        let tables = self.tables();
        let policies = tables.policies.values().filter(|live| live.removed_at.is_none()).map(|live| &live.record);
        let address =
            |record: &PolicyRecord| Address::new(record.policy.tenant_id.clone(), record.policy.policy_name.clone());
        let mut unfinished: Vec<_> = tables.unfinished().cloned().collect();
        unfinished.sort_by_key(|rotation| (rotation.started_at, rotation.id));
        Ok(Recorded {
            lineage: Some(self.identity.lineage),
            policies: policies.map(|record| (address(record), record.clone())).collect(),
            keys: tables.keys().map(|key| (key.address(), key)).collect(),
            documents: tables.documents.iter().map(|(object, record)| (object.clone(), (**record).clone())).collect(),
            unfinished,
            // Of two that began at once, the one that was written last.
            last_applied: tables.plans.last().map(|plan| (**plan).clone()),
        })
    }

    async fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError> {
        let tables = self.tables();
        Ok(tables.keys.get(&id).map(|live| tables.joined(&live.record)))
    }

    async fn versions(&self, key_id: Uuid) -> Result<Vec<VersionRecord>, StoreError> {
        let tables = self.tables();
        let mut found: Vec<_> = tables
            .versions
            .values()
            .filter(|version| version.key_id == key_id)
            .map(|version| (**version).clone())
            .collect();
        found.sort_by_key(|version| version.number);
        Ok(found)
    }

    async fn all_versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        let tables = self.tables();
        let live = |key: Uuid| tables.keys.get(&key).is_some_and(|key| key.removed_at.is_none());
        let versions = tables.versions.values().filter(|version| live(version.key_id));
        let mut found: Vec<_> = versions.map(|version| (**version).clone()).collect();
        found.sort_by_key(|version| (version.key_id, version.number));
        Ok(found)
    }

    async fn old_versions(&self, now: Timestamp, kept: bool) -> Result<OldVersions, StoreError> {
        let tables = self.tables();
        let tenant = |version: &VersionRecord| {
            let key = tables.keys.get(&version.key_id).filter(|key| key.removed_at.is_none());
            key.map(|key| key.record.key.tenant_id.clone())
        };
        let is_old = |version: &VersionRecord| {
            let terms = version.retention.as_ref().map(|terms| terms.old_key_disposition);
            let has_passed = version.retain_until.is_some_and(|until| until <= now);
            let governed = kept || terms.is_some_and(|disposition| disposition != Disposition::Keep);
            match version.state {
                VersionState::PendingDestruction => true,
                VersionState::Disabled => !version.orphan,
                VersionState::Deactivated => !version.orphan && has_passed && governed,
                _ => false,
            }
        };
        let live = || tables.versions.values().filter(|version| tenant(version).is_some());
        let mut versions: Vec<_> =
            live().filter(|version| is_old(version)).map(|version| (**version).clone()).collect();
        versions.sort_by_key(|version| (version.key_id, version.number));
        let mut existing = BTreeMap::new();
        if !versions.is_empty() {
            for tenant in live().filter(|version| version.state != VersionState::Destroyed).filter_map(|it| tenant(it))
            {
                *existing.entry(tenant).or_default() += 1;
            }
        }
        Ok(OldVersions { versions, existing })
    }

    async fn journal(&self, rotation_id: Uuid) -> Result<Vec<StepRecord>, StoreError> {
        let tables = self.tables();
        let steps = tables.steps.iter().filter(|step| step.rotation_id == rotation_id);
        Ok(steps.map(|step| (**step).clone()).collect())
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError> {
        let tables = self.tables();
        let HistoryFilter { tenant_id, key, phase, since, correlation_id, limit } = filter;
        let is_of = |rotation: &RotationRecord, address: &Address| {
            let now = tables.keys.get(&rotation.key_id).map(|live| live.record.address());
            rotation.address == *address || now.as_ref() == Some(address)
        };
        let mut found: Vec<&RotationRecord> = tables
            .rotations
            .values()
            .map(|rotation| &**rotation)
            .filter(|rotation| tenant_id.as_ref().is_none_or(|tenant_id| rotation.address.tenant_id == *tenant_id))
            .filter(|rotation| key.as_ref().is_none_or(|address| is_of(rotation, address)))
            .filter(|rotation| phase.is_none_or(|phase| rotation.phase == phase))
            .filter(|rotation| since.is_none_or(|since| rotation.started_at >= since))
            .filter(|rotation| correlation_id.as_ref().is_none_or(|run| rotation.correlation_id == *run))
            .collect();
        found.sort_by_key(|rotation| std::cmp::Reverse((rotation.started_at, rotation.id)));
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(found.into_iter().take(limit).cloned().map(HistoryEntry::from).collect())
    }

    async fn applied_plan(&self, digest: &str) -> Result<Option<AppliedPlan>, StoreError> {
        Ok(self.tables().plans.iter().find(|plan| plan.digest == digest).map(|plan| (**plan).clone()))
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditLink>, StoreError> {
        let AuditFilter { tenant_id, object, since, until, limit } = filter;
        let is_about = |row: &AuditRow, object: &Address| {
            row.tenant_id.0.as_ref() == Some(&object.tenant_id)
                && row.object_name == object.name
                && matches!(row.object_kind, ObjectKind::RotationPolicy | ObjectKind::EncryptionKey)
        };
        let tables = self.tables();
        let mut found: Vec<&AuditRow> = tables
            .links()
            .filter(|row| tenant_id.is_none() || row.tenant_id.0 == *tenant_id)
            .filter(|row| object.as_ref().is_none_or(|object| is_about(row, object)))
            .filter(|row| since.is_none_or(|since| row.at.0 >= since) && until.is_none_or(|until| row.at.0 <= until))
            .collect();
        found.sort_by_key(|row| (std::cmp::Reverse(row.at.0), row.tenant_id.0.clone(), std::cmp::Reverse(row.seq)));
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(found.into_iter().take(limit).map(link).collect())
    }

    async fn audit_after(&self, after: Option<(&str, u64)>, limit: u32) -> Result<Vec<AuditLink>, StoreError> {
        let place = |row: &AuditRow| (row.tenant_id.0.as_ref().map_or("", Name::as_str).to_owned(), row.seq);
        let after = after.map_or_else(|| (String::new(), 0), |(tenant_id, seq)| (tenant_id.to_owned(), seq));
        let tables = self.tables();
        Ok(tables.links().filter(|row| place(row) > after).take(limit as usize).map(link).collect())
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        let now = (self.clock)();
        let tables = self.tables();
        let held = tables.leases.iter().filter_map(|(token, lease)| Some((*token, lease, lease.until?)));
        let tenant = |scope: &LeaseScope| match scope {
            LeaseScope::Repository => None,
            LeaseScope::Tenant(tenant_id) => Some(tenant_id.clone()),
        };
        let record = |(token, lease, until): (i64, &HeldLease, Timestamp)| LeaseRecord {
            token,
            repository: lease.scopes.contains(&LeaseScope::Repository),
            tenants: lease.scopes.iter().filter_map(tenant).collect(),
            who: lease.holder.who.clone(),
            pid: lease.holder.pid,
            operation: lease.holder.operation.clone(),
            since: lease.since,
            until,
            expired: until <= now,
        };
        Ok(held.map(record).collect())
    }

    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>, StoreError> {
        let OutboxFilter { tenant_id, undelivered, limit } = filter;
        let tables = self.tables();
        let mut found: Vec<_> = tables
            .outbox
            .values()
            .filter(|delivery| tenant_id.is_none() || delivery.message.object.tenant_id == *tenant_id)
            .filter(|delivery| !undelivered || delivery.sent_at.is_none())
            .collect();
        found.sort_by_key(|delivery| {
            let Delivery { message, channel, receiver, .. } = &***delivery;
            (std::cmp::Reverse((message.at, message.id)), channel.as_str(), receiver.clone())
        });
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(found.into_iter().take(limit).map(|delivery| (**delivery).clone()).collect())
    }

    async fn undelivered(&self) -> Result<Undelivered, StoreError> {
        let tables = self.tables();
        let mut count = Undelivered::default();
        for delivery in tables.outbox.values().filter(|delivery| delivery.sent_at.is_none()) {
            *(if delivery.given_up_at.is_some() { &mut count.given_up } else { &mut count.waiting }) += 1;
        }
        Ok(count)
    }

    async fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        let mut check = AuditCheck::default();
        for row in self.tables().links() {
            check.take(row);
        }
        Ok(check)
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        Ok(self.identity.clone())
    }

    async fn page(&self, _table: &Table, _after: u64) -> Result<Vec<String>, StoreError> {
        Err(left_out())
    }

    async fn back_up(&self, _to: &Path) -> Result<(), StoreError> {
        Err(left_out())
    }

    async fn problems(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok((self.clock)())
    }
}

#[async_trait]
impl State for Memory {
    async fn acquire(&self, scopes: &BTreeSet<LeaseScope>, holder: &Holder, seconds: u32) -> Result<Lease, StoreError> {
        let now = (self.clock)();
        let mut tables = self.tables();
        let overlapping = tables.leases.iter().filter(|(_, held)| !held.scopes.is_disjoint(scopes));
        let live =
            overlapping.filter(|(_, held)| self.promises.exclusive_leases && held.until.is_some_and(|at| at > now));
        let in_the_way = live.flat_map(|(_, held)| held.scopes.intersection(scopes).map(move |scope| (scope, held)));
        if let Some((scope, HeldLease { holder, since, until, .. })) = in_the_way.min_by_key(|(scope, _)| *scope) {
            let Holder { who, pid, operation, .. } = holder.clone();
            let (scope, since, until) = (scope.clone(), *since, until.unwrap_or(now));
            return Err(StoreError::Locked { scope, who, pid, operation, since, until });
        }
        if self.promises.fencing && self.promises.exclusive_leases {
            // What is left on these scopes was given back or has expired, and is lost as a whole.
            tables.leases.retain(|_, held| held.scopes.is_disjoint(scopes));
        }
        tables.last_token += 1;
        let token = tables.last_token;
        let until = Some(now + TimeDelta::seconds(i64::from(seconds)));
        tables.leases.insert(token, HeldLease { scopes: scopes.clone(), holder: holder.clone(), since: now, until });
        Ok(Lease::new(token, scopes.clone()))
    }

    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError> {
        let now = (self.clock)();
        self.tables().held(lease)?.until = Some(now + TimeDelta::seconds(i64::from(seconds)));
        Ok(())
    }

    async fn narrow(&self, lease: &Lease, scopes: &BTreeSet<LeaseScope>) -> Result<Lease, StoreError> {
        if let Some(held) = self.tables().leases.get_mut(&lease.token) {
            held.scopes.retain(|scope| scopes.contains(scope));
        }
        Ok(lease.narrowed(scopes))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        if let Ok(held) = self.tables().held(lease) {
            held.until = None;
        }
        Ok(())
    }

    async fn break_lease(&self, token: i64, entry: &AuditEntry) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(held) = tables.leases.get_mut(&token).filter(|held| held.until.is_some()) else { return Ok(false) };
        held.until = None;
        tables.link(entry)?;
        Ok(true)
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        lease.covers(writes)?;
        let mut tables = self.tables();
        if self.promises.fencing {
            tables.held(lease)?;
        }
        let before = tables.clone();
        let written = writes.iter().try_for_each(|write| tables.write(self.promises, write));
        let written = written.and_then(|()| tables.references(writes));
        if written.is_err() {
            *tables = before;
        }
        written
    }

    async fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let mut tables = self.tables();
        let waits = |delivery: &Delivery| delivery.next_attempt_at.is_some_and(|at| at <= now);
        let mut waiting: Vec<_> = tables.outbox.values_mut().filter(|delivery| waits(delivery)).collect();
        waiting.sort_by_key(|delivery| (delivery.message.at, place(delivery)));
        let claimed = waiting.into_iter().take(limit as usize).map(|delivery| {
            let delivery = Arc::make_mut(delivery);
            (delivery.attempt, delivery.next_attempt_at) = (delivery.attempt + 1, Some(until));
            delivery.clone()
        });
        Ok(claimed.collect())
    }

    async fn conclude(&self, concluded: &[(u32, Delivery)]) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let is_open = |known: &Delivery| known.sent_at.is_none() && known.given_up_at.is_none();
        for (claimed, delivery) in concluded {
            let known = tables.outbox.get_mut(&place(delivery));
            if let Some(known) = known.filter(|known| known.attempt == *claimed && is_open(known)) {
                *known = Arc::new(delivery.clone());
            }
        }
        Ok(())
    }

    async fn revive(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut revived = 0;
        for delivery in self.tables().outbox.values_mut().filter(|delivery| delivery.given_up_at.is_some()) {
            let delivery = Arc::make_mut(delivery);
            (delivery.given_up_at, delivery.attempt, delivery.next_attempt_at) = (None, 0, Some(now));
            revived += 1;
        }
        Ok(revived)
    }

    fn migrated(&self) -> Option<&Migrated> {
        None
    }

    async fn copy_from(&self, _lease: &Lease, _source: &dyn ReadState) -> Result<(), StoreError> {
        Err(left_out())
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

fn link(row: &AuditRow) -> AuditLink {
    AuditLink {
        seq: row.seq,
        at: row.at.0,
        actor: row.actor.clone(),
        commit: row.commit_id.clone(),
        correlation_id: row.correlation_id.clone(),
        action: row.action.clone(),
        object: ObjectRef { kind: row.object_kind, tenant_id: row.tenant_id.0.clone(), name: row.object_name.clone() },
        before: row.before.as_ref().map(|json| json.0.clone()),
        after: row.after.as_ref().map(|json| json.0.clone()),
        hash: row.hash.clone(),
    }
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
