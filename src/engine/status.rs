//! `status`: every key that was applied, how it stands, and when it is rotated next.
//!
//! It speaks of what is in force: keys, policies and freezes as they were applied last. Edits that nobody has applied yet
//! are `plan`'s to show, and `explain`'s. The next rotation is computed, never read from the record's cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::document::Repository;
use crate::model::{
    Address, KeyRecord, KeyState, KmsProvider, Name, ObjectKind, ObjectRef, Origin, Phase, PolicyStatus, Recorded,
    RotationCause, RotationPolicy, RotationRecord, Timestamp, VersionRecord, Workflow, words,
};
use crate::plan::{KeyTiming, KeyUnder, Reason, Verdict, continued_key, verdict};
use crate::schedule::{Decision, TZ_VERSION};

use super::load::{Known, load_with_record};
use super::planning::{applied_repository, rotation_enabled};
use super::{EngineError, Undelivered, Workspace, alerts, clock, names};

words! {
    /// How a key stands, seen from its next rotation.
    Standing {
        /// Its first version is not ready yet.
        Pending = "pending",
        /// It is in use, and not due.
        Active = "active",
        /// It is due, and something holds it back for now.
        Waiting = "waiting",
        /// It is due.
        Due = "due",
        /// It missed a slot.
        Overdue = "overdue",
        /// It was rolled back, and waits for a person's `release`.
        Held = "held",
        /// It kept failing, and waits for a person's `resume`.
        Parked = "parked",
    }
}
words! {
    /// The order of the keys. What needs a person first comes first.
    StatusOrder {
        /// By tenant and name.
        Name = "name",
        /// The one that is rotated next first.
        Next = "next",
        /// The one whose last rotation is longest ago first, never rotated ones before it.
        Last = "last",
        /// The one with the oldest primary version first.
        Age = "age",
    }
}

/// Which keys, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusFilter {
    /// Of this tenant.
    pub tenant_id: Option<Name>,
    /// Under a policy of this name.
    pub policy: Option<Name>,
    /// That stand like this.
    pub state: Option<Standing>,
    /// The order.
    pub order: StatusOrder,
}

impl Default for StatusFilter {
    fn default() -> Self {
        Self { tenant_id: None, policy: None, state: None, order: StatusOrder::Name }
    }
}

/// The keys that match.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StatusReport {
    /// The instant that it speaks of.
    pub as_of: Timestamp,
    /// The version of the tz database that its times were computed with.
    pub tz_version: &'static str,
    /// The commit that was applied last; absent before the first apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<Origin>,
    /// Where there is no state database yet; absent where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_database_at: Option<String>,
    /// Does `KEY_ROTATION_ENABLED` let anything start?
    pub rotation_enabled: bool,
    /// How many of the keys below stand how; zeros left out.
    pub summary: BTreeMap<Standing, usize>,
    /// How many keys there are in all, without any filter.
    pub total: usize,
    /// How many keys of the documents were not applied yet.
    pub not_applied: usize,
    /// Messages of the outbox that no receiver has taken.
    pub undelivered: Undelivered,
    /// Old versions of the keys below that will be destroyed, the next one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending_destructions: Vec<PendingDestruction>,
    /// The keys.
    pub keys: Vec<StatusEntry>,
    /// What a person should look at.
    pub findings: Vec<Finding>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StatusEntry {
    /// Its tenant.
    pub tenant_id: Name,
    /// Its name.
    pub key_name: Name,
    /// The class of data that it protects.
    pub key_type: String,
    /// The key manager that holds it.
    pub kms_provider: KmsProvider,
    /// How it stands.
    pub state: Standing,
    /// Why it stands so, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The policy by which it rotates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_policy: Option<Name>,
    /// Is that policy suspended?
    pub suspended: bool,
    /// The version that encrypts now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_version: Option<PrimaryVersion>,
    /// When it was last rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rotation_at: Option<Timestamp>,
    /// When it can be rotated next; in the past where it is due. Absent where nothing but a person makes it due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation_at: Option<Timestamp>,
    /// What was begun on it and is not finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
}

/// The version that encrypts now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PrimaryVersion {
    /// Counts the versions of the key, from 1.
    pub number: u32,
    /// What the provider calls it.
    pub provider_ref: String,
    /// When its material was made, as far as that is known; otherwise when it was recorded.
    pub created_at: Timestamp,
    /// Its age in whole days.
    pub age_days: i64,
    /// How often it was used, as far as that was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_count: Option<u64>,
}

/// An old version whose destruction is scheduled; `keywheel enable` cancels it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct PendingDestruction {
    /// When it will be destroyed, and with it what it encrypted.
    pub destroy_at: Timestamp,
    /// The key's tenant.
    pub tenant_id: Name,
    /// The key's name.
    pub key_name: Name,
    /// The number of the version.
    pub version: u32,
}

/// A workflow that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unfinished {
    /// Its identity.
    pub rotation_id: Uuid,
    /// Which workflow.
    pub workflow: Workflow,
    /// How far it has come.
    pub phase: Phase,
    /// When it began.
    pub started_at: Timestamp,
    /// How often its current step was tried.
    pub attempt: u32,
    /// The error that it met last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How the applied keys stand now.
///
/// # Errors
/// The documents or the state database cannot be read, `state` leads to none, or the filter names a tenant or policy that nobody knows.
pub async fn status(
    workspace: &Workspace,
    state: Option<&str>,
    filter: &StatusFilter,
) -> Result<StatusReport, EngineError> {
    let known = load_with_record(workspace, state).await?;
    let no_database_at = known.before_the_first_apply()?;
    let Known { desired, recorded, state, .. } = known;
    let now = clock::now();
    let report = report(&desired.repository, &recorded, filter, rotation_enabled()?, now)?;
    let Some(state) = state else { return Ok(StatusReport { no_database_at, ..report }) };
    let shown: BTreeSet<(&Name, &Name)> = report.keys.iter().map(|key| (&key.tenant_id, &key.key_name)).collect();
    let of_all = filter.policy.is_none() && filter.state.is_none();
    let concerns = |object: &ObjectRef| match (object.kind, &object.tenant_id) {
        (ObjectKind::EncryptionKey, Some(tenant_id)) => shown.contains(&(tenant_id, &object.name)),
        (_, tenant_id) => of_all && (filter.tenant_id.is_none() || filter.tenant_id == *tenant_id),
    };
    let applied = applied_repository(&desired.repository, &recorded);
    let findings = alerts::found(&applied, &recorded, Some(&*state), &[], concerns, now).await?;
    let keys: BTreeMap<Uuid, &KeyRecord> = recorded.keys.values().map(|record| (record.id, record)).collect();
    let pending = state.old_versions(now, false).await?.versions.into_iter().filter_map(|version| {
        let key = &keys.get(&version.key_id).filter(|_| version.is_pending_at(now))?.key;
        let (tenant_id, key_name) = (key.tenant_id.clone(), key.key_name.clone());
        let is_shown = shown.contains(&(&tenant_id, &key_name));
        let destroy_at = version.destroy_at.filter(|_| is_shown)?;
        Some(PendingDestruction { destroy_at, tenant_id, key_name, version: version.number })
    });
    let mut pending_destructions: Vec<_> = pending.collect();
    pending_destructions.sort_unstable();
    drop(shown);
    Ok(StatusReport { undelivered: state.undelivered().await?, findings, pending_destructions, ..report })
}

/// The pure part of [`status`].
pub(super) fn report(
    desired: &Repository,
    recorded: &Recorded,
    filter: &StatusFilter,
    rotation_enabled: bool,
    now: Timestamp,
) -> Result<StatusReport, EngineError> {
    known(desired, recorded, filter)?;
    let applied = applied_repository(desired, recorded);
    let timings = KeyTiming::new(&applied);
    let mut keys: Vec<StatusEntry> = recorded
        .keys
        .iter()
        .filter(|(address, record)| {
            filter.tenant_id.as_ref().is_none_or(|tenant_id| *tenant_id == address.tenant_id)
                && filter.policy.as_ref().is_none_or(|policy| record.key.rotation_policy.as_ref() == Some(policy))
        })
        .map(|(address, record)| {
            let policy = policy_of(&applied, address, record);
            let used = recorded.usage_of(record);
            let outlook = outlook(&timings, policy, address, record, used, rotation_enabled, now);
            entry(record, used, policy, outlook, recorded.unfinished_of(record.id), now)
        })
        .filter(|entry| filter.state.is_none_or(|state| state == entry.state))
        .collect();
    sort(&mut keys, filter.order);
    let mut summary = BTreeMap::new();
    for entry in &keys {
        *summary.entry(entry.state).or_insert(0) += 1;
    }
    let new = desired.keys.iter().filter(|(key, it)| continued_key(desired, recorded, key, &it.value).is_none());
    Ok(StatusReport {
        as_of: now,
        tz_version: TZ_VERSION,
        applied: recorded.last_applied.as_ref().map(|last| last.origin.clone()),
        no_database_at: None,
        rotation_enabled,
        summary,
        total: recorded.keys.len(),
        not_applied: new.count(),
        undelivered: Undelivered::default(),
        pending_destructions: Vec::new(),
        keys,
        findings: Vec::new(),
    })
}

/// A filter that names what nobody knows is a mistake, and not an empty list.
fn known(desired: &Repository, recorded: &Recorded, filter: &StatusFilter) -> Result<(), EngineError> {
    let mut tenants = recorded.tenants().chain(desired.tenants.keys());
    let mut tenants_of_keys = desired.keys.keys().map(|address| &address.tenant_id);
    if let Some(tenant) = &filter.tenant_id
        && !tenants.any(|known| known == tenant)
        && !tenants_of_keys.any(|known| known == tenant)
    {
        return Err(names::unknown_tenant(tenant, recorded.tenants().chain(desired.tenants.keys())));
    }
    let policies = || recorded.policies.keys().chain(desired.policies.keys()).map(|address| &address.name);
    if let Some(policy) = &filter.policy
        && !policies().any(|known| known == policy)
    {
        let message = format!("there is no policy {policy}");
        let otherwise = "`keywheel status` lists every key with its policy";
        let known = policies().map(Name::as_str);
        return Err(names::unknown("names/unknown-policy", message, policy.as_str(), known, otherwise));
    }
    Ok(())
}

/// The policy of a key, among the documents that count.
pub(super) fn policy_of<'a>(
    documents: &'a Repository,
    address: &Address,
    record: &KeyRecord,
) -> Option<(&'a Address, &'a RotationPolicy)> {
    let policy = Address::new(address.tenant_id.clone(), record.key.rotation_policy.clone()?);
    documents.policies.get_key_value(&policy).map(|(policy, located)| (policy, &located.value))
}

/// How a key stands, why, and when it can be rotated next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outlook {
    pub standing: Standing,
    pub reason: Option<Reason>,
    pub decision: Option<Decision>,
    pub next: Option<Timestamp>,
}

/// Looks at one recorded key as the planner does.
pub(super) fn outlook(
    timings: &KeyTiming<'_>,
    policy: Option<(&Address, &RotationPolicy)>,
    address: &Address,
    record: &KeyRecord,
    used: u64,
    rotation_enabled: bool,
    now: Timestamp,
) -> Outlook {
    let under = policy.map(|(policy_address, policy)| KeyUnder {
        policy_address,
        policy,
        address,
        document: &record.key,
        record,
        used,
    });
    let (decision, verdict) = under.map_or((None, Verdict::Quiet), |under| verdict(timings, &under, now));
    let suspended = policy.is_some_and(|(_, policy)| policy.status == PolicyStatus::Suspended);
    let held = |code| record.state_reason.clone().map(|why| Reason::new(code, why));
    let (standing, reason) = match (record.state, verdict) {
        (KeyState::Pending, _) => (Standing::Pending, held("pending")),
        (KeyState::Held, _) => (Standing::Held, held("held")),
        (KeyState::Parked, _) => (Standing::Parked, held("parked")),
        (KeyState::Active | KeyState::Forgotten, Verdict::Quiet) => (Standing::Active, None),
        (_, Verdict::Wait { reason, .. }) => (Standing::Waiting, Some(reason)),
        (_, Verdict::Rotate { .. }) if !rotation_enabled => {
            let reason = Reason::new("switched_off", "due, and KEY_ROTATION_ENABLED=false starts nothing");
            (Standing::Waiting, Some(reason))
        }
        (_, Verdict::Rotate { cause, reason }) => {
            let standing = if cause == RotationCause::Overdue { Standing::Overdue } else { Standing::Due };
            (standing, Some(Reason::new(cause.as_str(), reason)))
        }
    };
    let next = match &decision {
        // What waits for a person rotates at no instant.
        _ if suspended || matches!(standing, Standing::Held | Standing::Parked) => None,
        Some(Decision::NotDue { starts_at, .. } | Decision::Waiting { starts_at, .. }) => *starts_at,
        Some(Decision::Due { slot, .. }) => Some(*slot),
        Some(Decision::Unscheduled) | None => None,
    };
    Outlook { standing, reason, decision, next }
}

fn entry(
    record: &KeyRecord,
    used: u64,
    policy: Option<(&Address, &RotationPolicy)>,
    outlook: Outlook,
    unfinished: Option<&RotationRecord>,
    now: Timestamp,
) -> StatusEntry {
    StatusEntry {
        tenant_id: record.key.tenant_id.clone(),
        key_name: record.key.key_name.clone(),
        key_type: record.key.key_type.clone(),
        kms_provider: record.key.kms_provider,
        state: outlook.standing,
        reason: outlook.reason,
        rotation_policy: record.key.rotation_policy.clone(),
        suspended: policy.is_some_and(|(_, policy)| policy.status == PolicyStatus::Suspended),
        primary_version: record.primary_version.as_ref().map(|version| primary(version, used, now)),
        last_rotation_at: record.last_rotation_at,
        next_rotation_at: outlook.next,
        unfinished: unfinished.map(unfinished_rotation),
    }
}

fn primary(version: &VersionRecord, used: u64, now: Timestamp) -> PrimaryVersion {
    let created_at = version.provider_created_at.or(version.activated_at).unwrap_or(version.created_at);
    PrimaryVersion {
        number: version.number,
        provider_ref: version.provider_ref.clone(),
        created_at,
        age_days: (now - created_at).num_days().max(0),
        usage_count: Some(used).filter(|used| *used > 0),
    }
}

pub(super) fn unfinished_rotation(rotation: &RotationRecord) -> Unfinished {
    Unfinished {
        rotation_id: rotation.id,
        workflow: rotation.workflow,
        phase: rotation.phase,
        started_at: rotation.started_at,
        attempt: rotation.attempt,
        error: rotation.error.clone(),
    }
}

/// Stable, so that equal keys stay in the order of their names.
fn sort(keys: &mut [StatusEntry], order: StatusOrder) {
    match order {
        StatusOrder::Name => {}
        StatusOrder::Next => keys.sort_by_key(|key| (key.next_rotation_at.is_none(), key.next_rotation_at)),
        StatusOrder::Last => keys.sort_by_key(|key| key.last_rotation_at),
        StatusOrder::Age => keys.sort_by_key(|key| {
            let created_at = key.primary_version.as_ref().map(|version| version.created_at);
            (created_at.is_none(), created_at)
        }),
    }
}

#[cfg(test)]
mod tests;
