//! Why an object is as it is: where each of its values comes from, whether it is due, and what would stop a rotation now.
//! Reads the documents and the state database; no key manager is asked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::diagnostic::Place;
use crate::document::{Inherited, Located, Repository};
use crate::model::{
    Address, EncryptionKey, KeyRecord, KeyState, Name, ObjectRef, PolicyStatus, Recorded, RotationPolicy, Timestamp,
};
use crate::plan::{self, KeyTiming, Reason, Verdict, continued_key, key_timing, verdict};
use crate::schedule::{Decision, Hold, KeyHistory, Timing};

use super::load::{Known, load_with_record};
use super::status::{StatusEntry, StatusFilter, report};
use super::{EngineError, Workspace, clock, names, planning};

/// How many coming rotations are shown.
const UPCOMING: usize = 10;

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
    /// The effective value of each field.
    pub fields: Vec<Field>,
    /// The zone of its policy's local times.
    pub timezone: Option<String>,
    /// Is it due (for a policy: is any key of it), and why or why not?
    pub due: Reason,
    /// Its next rotations, if each happens when it can start.
    pub upcoming: Vec<Upcoming>,
    /// A policy's keys, as they were applied.
    pub keys: Vec<StatusEntry>,
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
}

/// A field, and who set it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its effective value.
    pub value: Value,
    /// Who set it.
    pub origin: FieldOrigin,
    /// Where, if the document itself did.
    pub place: Option<Place>,
}

/// Who set a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldOrigin {
    /// The document itself.
    Document,
    /// `defaults` of the tenant.
    Tenant,
    /// `defaults` of `keywheel.yaml`.
    Config,
    /// The built-in default.
    Default,
    /// The document that was applied last; it is gone from git.
    Record,
}

/// A coming rotation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Upcoming {
    /// When, in UTC.
    pub at: Timestamp,
    /// When, in the policy's zone.
    pub local: String,
    /// Of which key.
    pub key_name: Name,
}

/// Something that would stop a rotation now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Obstacle {
    /// What.
    pub reason: Reason,
    /// Until when; absent where that depends on a person.
    pub until: Option<Timestamp>,
}

/// Explains what `address` names.
///
/// # Errors
/// There is no such object, its tenant's documents have errors, or the database could not be read.
pub async fn explain(workspace: &Workspace, state: Option<&str>, address: &Address) -> Result<Explained, EngineError> {
    let Known { desired, recorded, .. } = load_with_record(workspace, state).await?;
    let rotation_enabled = planning::rotation_enabled()?;
    let failed = desired.repository.failed || desired.repository.failed_tenants.contains(&address.tenant_id);
    if failed {
        let message =
            format!("the documents of tenant {} have errors: nothing can be said of {address}", address.tenant_id);
        return Err(EngineError::new("explain/documents", message).help("`keywheel validate` shows them"));
    }
    let wanted = desired.repository;
    let applied = planning::applied_repository(&wanted, &recorded);
    let view = View { wanted: &wanted, applied: &applied, recorded: &recorded, rotation_enabled, now: clock::now() };
    let objects: Vec<Explanation> = view.policy(address).into_iter().chain(view.key(address)).collect();
    if objects.is_empty() {
        return Err(view.unknown(address));
    }
    Ok(Explained { as_of: view.now, objects })
}

/// What git says and what was applied, at one instant.
struct View<'a> {
    wanted: &'a Repository,
    applied: &'a Repository,
    recorded: &'a Recorded,
    rotation_enabled: bool,
    now: Timestamp,
}

impl View<'_> {
    fn policy(&self, address: &Address) -> Option<Explanation> {
        let record = self.recorded.policies.get(address);
        let (policy, applied) = match (self.wanted.policies.get(address), record) {
            (Some(policy), None) => (policy, Applied::NotYet),
            (Some(policy), Some(record)) if record.policy == policy.value => (policy, Applied::Yes),
            (Some(policy), Some(_)) => (policy, Applied::Edited),
            (None, Some(_)) => (self.applied.policies.get(address)?, Applied::Gone),
            (None, None) => return None,
        };
        let repository = if applied == Applied::Gone { self.applied } else { self.wanted };
        let timings = KeyTiming::new(repository);
        let timing = timings.of(address);
        let named = |key: &EncryptionKey| {
            key.tenant_id == address.tenant_id && key.rotation_policy.as_ref() == Some(&address.name)
        };
        let keys: Vec<(&Address, &EncryptionKey)> =
            repository.keys.iter().map(|(address, key)| (address, &key.value)).filter(|(_, key)| named(key)).collect();
        let mut upcoming: Vec<Upcoming> = keys
            .iter()
            .flat_map(|(key, document)| self.upcoming(&timings, timing, key, document, self.record_of(key, document)))
            .collect();
        upcoming.sort();
        upcoming.truncate(UPCOMING);
        let filter = StatusFilter {
            tenant_id: Some(address.tenant_id.clone()),
            policy: Some(address.name.clone()),
            ..StatusFilter::default()
        };
        // A policy that is not applied yet has no key in the record.
        let statuses = report(self.wanted, self.recorded, &filter, self.rotation_enabled, self.now)
            .map_or_else(|_| Vec::new(), |report| report.keys);
        let due =
            keys.iter().filter(|(key, document)| self.is_due(&timings, address, &policy.value, key, document)).count();
        let due = match (keys.len(), due) {
            (0, _) => Reason::new("no_keys", "no key names it"),
            (1, 0) => Reason::new("not_due", "its one key is not due"),
            (1, _) => Reason::new("due", "its one key is due"),
            (all, 0) => Reason::new("not_due", format!("none of its {all} keys is due")),
            (all, due) => Reason::new("due", format!("of its {all} keys, {due} are due")),
        };
        let mut obstacles = self.switched_off();
        obstacles.extend(stopped_policy(&policy.value));
        if let Some(timing) = timing {
            // What holds every key of it: the freezes that name a class of data or a tenant name theirs.
            obstacles.extend(closed(timing, &timings.freezes(address, &policy.value.key_type), self.now));
        }
        Some(Explanation {
            object: ObjectRef::policy(address),
            applied,
            fields: fields(policy, applied),
            timezone: Some(policy.value.timezone.clone()),
            due,
            upcoming: if policy.value.status == PolicyStatus::Suspended { Vec::new() } else { upcoming },
            keys: statuses,
            obstacles,
        })
    }

    fn key(&self, address: &Address) -> Option<Explanation> {
        let (key, record, applied) = match (self.wanted.keys.get(address), self.recorded.keys.get(address)) {
            (Some(key), _) => match self.record_of(address, &key.value) {
                None => (key, None, Applied::NotYet),
                Some(record) if record.key == key.value => (key, Some(record), Applied::Yes),
                Some(record) => (key, Some(record), Applied::Edited),
            },
            (None, Some(record)) => (self.applied.keys.get(address)?, Some(record), Applied::Gone),
            (None, None) => return None,
        };
        let repository = if applied == Applied::Gone { self.applied } else { self.wanted };
        let timings = KeyTiming::new(repository);
        let policy =
            key.value.rotation_policy.as_ref().and_then(|name| {
                repository.policies.get_key_value(&Address::new(address.tenant_id.clone(), name.clone()))
            });
        let timing = policy.and_then(|(address, _)| timings.of(address));
        let mut obstacles = self.switched_off();
        let mut upcoming = Vec::new();
        let mut due = Reason::new("no_policy", "it names no policy: no time makes it due");
        if let Some((policy_address, policy)) = policy {
            obstacles.extend(stopped_policy(&policy.value));
            let decision =
                record.and_then(|record| key_timing(&timings, policy_address, address, &key.value, record, self.now));
            due = why_due(record, decision.as_ref(), &policy.value, self.now);
            if let Some(timing) = timing {
                obstacles.extend(closed(timing, &timings.freezes(address, &key.value.key_type), self.now));
            }
            obstacles.extend(decision.as_ref().and_then(too_early));
            if policy.value.status == PolicyStatus::Active {
                upcoming = self.upcoming(&timings, timing, address, &key.value, record);
            }
        }
        obstacles.extend(self.stopped_key(record));
        Some(Explanation {
            object: ObjectRef::key(address),
            applied,
            fields: fields(key, applied),
            timezone: policy.map(|(_, policy)| policy.value.timezone.clone()),
            due,
            upcoming,
            keys: Vec::new(),
            obstacles,
        })
    }

    fn record_of(&self, address: &Address, key: &EncryptionKey) -> Option<&KeyRecord> {
        continued_key(self.wanted, self.recorded, address, key).map(|(_, record)| record)
    }

    fn is_due(
        &self,
        timings: &KeyTiming<'_>,
        address: &Address,
        policy: &RotationPolicy,
        key: &Address,
        document: &EncryptionKey,
    ) -> bool {
        let Some(record) = self.record_of(key, document) else { return false };
        key_timing(timings, address, key, document, record, self.now)
            .is_some_and(|decision| verdict(&decision, policy, self.now) != Verdict::Quiet)
    }

    /// The next rotations of a key; one that is not applied yet counts from now.
    fn upcoming(
        &self,
        timings: &KeyTiming<'_>,
        timing: Option<&Timing>,
        address: &Address,
        key: &EncryptionKey,
        record: Option<&KeyRecord>,
    ) -> Vec<Upcoming> {
        let Some(timing) = timing else { return Vec::new() };
        let new =
            KeyHistory { version_created_at: Some(self.now), managed_since: Some(self.now), ..KeyHistory::default() };
        let history = record.map_or(new, plan::history);
        let freezes = timings.freezes(address, &key.key_type);
        timing
            .upcoming(address, &history, &freezes, self.now, UPCOMING)
            .into_iter()
            .map(|at| {
                let local = at.with_timezone(&timing.timezone()).format("%Y-%m-%dT%H:%M:%S%:z").to_string();
                Upcoming { at, local, key_name: address.name.clone() }
            })
            .collect()
    }

    fn switched_off(&self) -> Vec<Obstacle> {
        let off = Reason::new("switched_off", "KEY_ROTATION_ENABLED=false starts nothing");
        if self.rotation_enabled { Vec::new() } else { vec![Obstacle { reason: off, until: None }] }
    }

    fn stopped_key(&self, record: Option<&KeyRecord>) -> Vec<Obstacle> {
        let mut found = Vec::new();
        let mut stop =
            |code: &str, message: String| found.push(Obstacle { reason: Reason::new(code, message), until: None });
        let Some(record) = record else {
            stop("not_applied", "it is not applied yet: `keywheel apply` makes or adopts it".to_owned());
            return found;
        };
        let because = record.state_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        match record.state {
            KeyState::Active => {}
            KeyState::Pending => stop("pending", format!("its first version is not ready{because}")),
            KeyState::Held => stop("held", format!("it was rolled back, and is held until `release`{because}")),
            KeyState::Parked => stop("parked", format!("it kept failing, and is parked until `resume`{because}")),
            KeyState::Forgotten => stop("forgotten", "it left keywheel's care".to_owned()),
        }
        if let Some(rotation) = self.recorded.unfinished_of(record.id) {
            let message =
                format!("its {} is unfinished ({}): the next apply goes on with it", rotation.workflow, rotation.phase);
            stop("unfinished", message);
        }
        found
    }

    fn unknown(&self, address: &Address) -> EngineError {
        let known =
            [self.wanted, self.applied].into_iter().flat_map(|side| side.policies.keys().chain(side.keys.keys()));
        names::unknown_address("policy or key", address, known)
    }
}

/// Each field with who set it.
fn fields<T: Serialize>(document: &Located<T>, applied: Applied) -> Vec<Field> {
    let Ok(Value::Object(values)) = serde_json::to_value(&document.value) else { return Vec::new() };
    let values: Map<String, Value> = values;
    let inherited: &BTreeMap<String, Inherited> = &document.inherited;
    values
        .into_iter()
        .map(|(name, value)| {
            let place = document.fields.get(&name).cloned();
            let origin = match (applied, &place, inherited.get(&name)) {
                (Applied::Gone, ..) => FieldOrigin::Record,
                (_, Some(_), _) => FieldOrigin::Document,
                (_, None, Some(Inherited::Tenant)) => FieldOrigin::Tenant,
                (_, None, Some(Inherited::Config)) => FieldOrigin::Config,
                (_, None, None) => FieldOrigin::Default,
            };
            Field { name, value, origin, place }
        })
        .collect()
}

fn why_due(record: Option<&KeyRecord>, decision: Option<&Decision>, policy: &RotationPolicy, now: Timestamp) -> Reason {
    if record.is_none() {
        return Reason::new("not_applied", "it is not applied yet");
    }
    match decision {
        None | Some(Decision::Unscheduled) => Reason::new(
            "unscheduled",
            format!("no time makes it due: its policy's trigger is {}", policy.rotation_trigger),
        ),
        Some(Decision::NotDue { slot, starts_at }) => {
            let message = match starts_at {
                Some(at) if at == slot => format!("its next slot is {}", instant(*slot)),
                Some(at) => format!("its next slot is {}, and it can start at {}", instant(*slot), instant(*at)),
                None => format!("its next slot is {}, and no window opens within two years", instant(*slot)),
            };
            Reason::new("not_due", message)
        }
        Some(decision) => match verdict(decision, policy, now) {
            Verdict::Quiet => Reason::new("not_due", "nothing is due"),
            Verdict::Rotate { cause, reason } => Reason::new(cause.as_str(), reason),
            Verdict::Wait { reason, .. } => reason,
        },
    }
}

fn stopped_policy(policy: &RotationPolicy) -> Option<Obstacle> {
    let message = format!("policy {} is suspended: it starts nothing", policy.policy_name);
    (policy.status == PolicyStatus::Suspended)
        .then(|| Obstacle { reason: Reason::new("suspended", message), until: None })
}

/// A window that is not open, or a freeze.
fn closed(timing: &Timing, freezes: &[&crate::model::Freeze], now: Timestamp) -> Option<Obstacle> {
    let (hold, until) = timing.open_at(freezes, now).err()?;
    let reason = match hold {
        Hold::Freeze(name) => Reason::new("freeze", format!("the freeze {name:?} holds")),
        _ => Reason::new("window", "no window of rotation_windows is open"),
    };
    Some(Obstacle { reason, until })
}

/// What holds a due key back besides windows and freezes.
fn too_early(decision: &Decision) -> Option<Obstacle> {
    let Decision::Waiting { hold, starts_at, .. } = decision else { return None };
    let reason = match hold {
        Hold::Window | Hold::Freeze(_) => return None,
        Hold::Spread => Reason::new("spread", "its share of rotation_spread_minutes has not passed"),
        Hold::MinimumGap => Reason::new("minimum_gap", "its last rotation was too short a time ago"),
        Hold::FirstSlotAfterAdoption => {
            Reason::new("adopted_overdue", "it was adopted overdue, and waits for its policy's first slot since")
        }
    };
    Some(Obstacle { reason, until: *starts_at })
}

fn instant(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
