//! Why an object is as it is: where each of its values comes from, whether it is due, and what would stop a rotation now.
//!
//! It speaks of the documents as they are read now, because the next apply goes by them, and says beside each field what
//! was applied if that is something else. What has no document any more, or one with errors, is told from the record.
//! No key manager is asked.

mod due;
mod fields;
mod obstacles;
#[cfg(test)]
mod tests;
mod upcoming;

use schemars::JsonSchema;
use serde::Serialize;

use crate::diagnostic::Place;
use crate::document::Repository;
use crate::model::{
    Address, EncryptionKey, KeyRecord, Name, ObjectRef, PolicyRecord, Recorded, Timestamp, VersionRecord, VersionState,
};
use crate::plan::{KeyTiming, Verdict, continued_key, continued_policy, verdict};
use crate::store::{HistoryEntry, HistoryFilter};

pub use due::Due;
pub use fields::{Field, FieldOrigin};
pub use obstacles::Obstacle;
pub use upcoming::Upcoming;

use super::load::{Known, load_with_record};
use super::status::{StatusEntry, StatusFilter, report};
use super::{EngineError, Workspace, clock, names, planning};

/// How many coming rotations, and how many past ones, are shown.
const SHOWN: u32 = 10;

/// Everything that an address names: a policy, a key, or one of each.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Explained {
    /// The instant.
    pub as_of: Timestamp,
    /// The objects.
    pub objects: Vec<Explanation>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Explanation {
    /// Which.
    pub object: ObjectRef,
    /// How its document stands to the record.
    pub applied: Applied,
    /// Where its document begins; absent where the record alone speaks for it.
    pub place: Option<Place>,
    /// The effective value of each field.
    pub fields: Vec<Field>,
    /// The zone of its policy's local times.
    pub timezone: Option<String>,
    /// Is it due (for a policy: is any key of it), and why or why not?
    pub due: Due,
    /// Its next rotations, if each happens when it can start.
    pub upcoming: Vec<Upcoming>,
    /// What a person has to do before those rotations come true.
    pub upcoming_once: Option<String>,
    /// A policy's keys, as they were applied.
    pub keys: Vec<StatusEntry>,
    /// The keys whose documents name the policy, and that are not applied yet.
    pub new_keys: Vec<Name>,
    /// A key's versions, the newest first.
    pub versions: Vec<Version>,
    /// A key's last rotations, the newest first.
    pub rotations: Vec<HistoryEntry>,
    /// What would stop a rotation now.
    pub obstacles: Vec<Obstacle>,
}

/// How a document stands to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// It was applied as it is.
    Yes,
    /// It was never applied.
    NotYet,
    /// It was edited since it was applied.
    Edited,
    /// Its document is gone: the next apply lets it go.
    Gone,
    /// Documents have errors: this is what was applied last.
    Errors,
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Version {
    /// Counts the versions of the key, from 1.
    pub number: u32,
    /// What the key manager calls it.
    pub provider_ref: String,
    /// Its state.
    pub state: VersionState,
    /// Was it made, and never used, because the answer to its creation was lost?
    pub orphan: bool,
    /// When its material was made, by the key manager's clock.
    pub created_at: Option<Timestamp>,
    /// When it became primary.
    pub activated_at: Option<Timestamp>,
    /// When it stopped being primary.
    pub deactivated_at: Option<Timestamp>,
    /// When it stopped decrypting; only while it is disabled or its destruction is scheduled.
    pub disabled_at: Option<Timestamp>,
    /// When it will be destroyed; only while its destruction is scheduled.
    pub destroy_at: Option<Timestamp>,
    /// When it became known to be in the wrong hands.
    pub compromised_at: Option<Timestamp>,
}

impl From<VersionRecord> for Version {
    fn from(version: VersionRecord) -> Self {
        let is_doomed = version.state == VersionState::PendingDestruction;
        let decrypts = !is_doomed && version.state != VersionState::Disabled;
        Self {
            number: version.number,
            provider_ref: version.provider_ref,
            state: version.state,
            orphan: version.orphan,
            created_at: version.provider_created_at,
            activated_at: version.activated_at,
            deactivated_at: version.deactivated_at,
            disabled_at: version.disabled_at.filter(|_| !decrypts),
            destroy_at: version.destroy_at.filter(|_| is_doomed),
            compromised_at: version.compromised_at,
        }
    }
}

/// Explains what `address` names.
///
/// # Errors
/// There is no such object, or the documents or the database could not be read.
pub async fn explain(workspace: &Workspace, state: Option<&str>, address: &Address) -> Result<Explained, EngineError> {
    let Known { desired, state, recorded, .. } = load_with_record(workspace, state).await?;
    // Documents with errors say nothing for sure: their tenants are told of as they were applied.
    let applied = planning::applied_repository(&desired.repository, &recorded);
    let has_errors = desired.repository.failed || desired.repository.failed_tenants.contains(&address.tenant_id);
    let wanted = if has_errors { &applied } else { &desired.repository };
    let (dirty, switch, now) = (desired.dirty.as_slice(), planning::rotation_enabled(), clock::now());
    let view = View { wanted, applied: &applied, recorded: &recorded, has_errors, dirty, switch, now };
    let mut objects: Vec<Explanation> = view.policy(address).into_iter().collect();
    if let Some(mut key) = view.key(address) {
        if let (Some(state), Some(record)) = (&state, view.key_record(address)) {
            key.versions = state.versions(record.id).await?.into_iter().rev().map(Version::from).collect();
            let filter = HistoryFilter { key: Some(record.address()), limit: Some(SHOWN), ..HistoryFilter::default() };
            key.rotations = state.history(&filter).await?;
        }
        objects.push(key);
    }
    if objects.is_empty() {
        return Err(view.unknown(address));
    }
    Ok(Explained { as_of: view.now, objects })
}

/// What git says and what was applied, at one instant.
struct View<'a> {
    /// The documents that count.
    wanted: &'a Repository,
    /// The documents as they were applied last.
    applied: &'a Repository,
    recorded: &'a Recorded,
    /// Do documents with errors keep its tenant out of the plan?
    has_errors: bool,
    /// What is not committed.
    dirty: &'a [String],
    /// `KEY_ROTATION_ENABLED`.
    switch: Result<bool, EngineError>,
    now: Timestamp,
}

/// A key whose document names the policy that is explained.
struct KeyOf<'a> {
    address: &'a Address,
    document: &'a EncryptionKey,
    record: Option<&'a KeyRecord>,
}

impl<'a> View<'a> {
    fn policy(&self, address: &Address) -> Option<Explanation> {
        let wanted = self.wanted.policies.get(address);
        let record = self.policy_record(address);
        let policy = wanted.or_else(|| self.applied.policies.get(address))?;
        let fields = self.policy_fields(policy, wanted.is_some(), record.map(|record| &record.policy));
        let applied = self.stands(wanted.is_some(), record.is_some(), &fields);
        let repository = self.side(wanted.is_some());
        let timings = KeyTiming::new(repository);
        let keys: Vec<KeyOf<'_>> = repository
            .keys
            .iter()
            .map(|(key, document)| (key, &document.value))
            .filter(|(key, document)| {
                key.tenant_id == address.tenant_id && document.rotation_policy.as_ref() == Some(&address.name)
            })
            .map(|(key, document)| KeyOf { address: key, document, record: self.record_of(key, document) })
            .collect();
        Some(Explanation {
            object: ObjectRef::policy(address),
            applied,
            place: self.place(&policy.place, applied),
            fields,
            timezone: Some(policy.value.timezone.clone()),
            due: self.policy_due(&timings, address, &policy.value, &keys),
            upcoming: self.upcoming_of_policy(&timings, address, &keys),
            upcoming_once: upcoming::once_policy(applied, &policy.value),
            keys: record.map(|record| self.statuses(address, record)).unwrap_or_default(),
            new_keys: keys.iter().filter(|key| key.record.is_none()).map(|key| key.address.name.clone()).collect(),
            versions: Vec::new(),
            rotations: Vec::new(),
            obstacles: self.policy_obstacles(&timings, address, &policy.value, applied),
        })
    }

    fn key(&self, address: &Address) -> Option<Explanation> {
        let wanted = self.wanted.keys.get(address);
        let record = self.key_record(address);
        let key = wanted.or_else(|| self.applied.keys.get(address))?;
        let fields = self.key_fields(key, wanted.is_some(), record.map(|record| &record.key));
        let applied = self.stands(wanted.is_some(), record.is_some(), &fields);
        let repository = self.side(wanted.is_some());
        let timings = KeyTiming::new(repository);
        let policy = key.value.rotation_policy.as_ref().and_then(|name| {
            let policy = Address::new(address.tenant_id.clone(), name.clone());
            repository.policies.get_key_value(&policy).map(|(address, policy)| (address, &policy.value))
        });
        let of = KeyOf { address, document: &key.value, record };
        let under = policy.and_then(|(address, policy)| self.under(address, policy, &of));
        let (decision, verdict) = under.map_or((None, Verdict::Quiet), |under| verdict(&timings, &under, self.now));
        Some(Explanation {
            object: ObjectRef::key(address),
            applied,
            place: self.place(&key.place, applied),
            fields,
            timezone: policy.map(|(_, policy)| policy.timezone.clone()),
            due: due::key_due(&of, under.as_ref(), decision.as_ref(), &verdict),
            upcoming: policy.map(|(policy, _)| self.upcoming_of_key(&timings, policy, &of)).unwrap_or_default(),
            upcoming_once: upcoming::once_key(applied, record, policy.map(|(_, policy)| policy)),
            keys: Vec::new(),
            new_keys: Vec::new(),
            versions: Vec::new(),
            rotations: Vec::new(),
            obstacles: self.key_obstacles(&timings, policy, &of, decision.as_ref(), applied),
        })
    }

    /// The documents that speak for an object: those of git, or, where it has none there, what was applied.
    fn side(&self, is_wanted: bool) -> &'a Repository {
        if is_wanted { self.wanted } else { self.applied }
    }

    fn stands(&self, is_wanted: bool, is_recorded: bool, fields: &[Field]) -> Applied {
        match (is_wanted, is_recorded) {
            _ if self.has_errors => Applied::Errors,
            (false, _) => Applied::Gone,
            (true, false) => Applied::NotYet,
            (true, true) if fields.iter().any(|field| field.applied.is_some()) => Applied::Edited,
            (true, true) => Applied::Yes,
        }
    }

    fn place(&self, place: &Place, applied: Applied) -> Option<Place> {
        (!matches!(applied, Applied::Gone | Applied::Errors)).then(|| place.clone())
    }

    fn policy_record(&self, address: &Address) -> Option<&'a PolicyRecord> {
        match self.wanted.policies.get(address) {
            Some(policy) => continued_policy(self.wanted, self.recorded, address, &policy.value),
            None => self.recorded.policies.get_key_value(address),
        }
        .map(|(_, record)| record)
    }

    fn key_record(&self, address: &Address) -> Option<&'a KeyRecord> {
        match self.wanted.keys.get(address) {
            Some(key) => self.record_of(address, &key.value),
            None => self.recorded.keys.get(address),
        }
    }

    fn record_of(&self, address: &Address, key: &EncryptionKey) -> Option<&'a KeyRecord> {
        continued_key(self.wanted, self.recorded, address, key).map(|(_, record)| record)
    }

    /// How the keys stand that a policy had when it was applied last, maybe under another name.
    fn statuses(&self, address: &Address, record: &PolicyRecord) -> Vec<StatusEntry> {
        let filter = StatusFilter {
            tenant_id: Some(address.tenant_id.clone()),
            policy: Some(record.policy.policy_name.clone()),
            ..StatusFilter::default()
        };
        let rotation_enabled = *self.switch.as_ref().unwrap_or(&false);
        report(self.wanted, self.recorded, &filter, rotation_enabled, self.now)
            .map_or_else(|_| Vec::new(), |report| report.keys)
    }

    fn unknown(&self, address: &Address) -> EngineError {
        if self.has_errors {
            let message = format!("{address} was not applied, and there are documents with errors");
            return EngineError::new("explain/documents", message).help("`keywheel validate` shows them");
        }
        let known =
            [self.wanted, self.applied].into_iter().flat_map(|side| side.policies.keys().chain(side.keys.keys()));
        names::unknown_address("policy or key", address, known)
    }
}
