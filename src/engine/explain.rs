//! Why an object is as it is: where each of its values comes from, whether it is due, and what would stop a rotation now.
//! Reads the documents and the state database; no key manager is asked.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::diagnostic::Place;
use crate::document::{Inherited, Kind, Located, Repository};
use crate::model::{
    Address, EncryptionKey, KeyRecord, KeyState, Name, ObjectRef, PolicyStatus, Recorded, RotationPolicy, Timestamp,
    VersionRecord, VersionState,
};
use crate::plan::{self, KeyTiming, Reason, Verdict, continued_key, key_timing, verdict};
use crate::provider::capabilities;
use crate::schedule::{Decision, Hold, KeyHistory, Timing};
use crate::store::{HistoryEntry, HistoryFilter};

use super::load::{Known, load_with_record};
use super::providers::place;
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
}

/// A field, and who set it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its effective value; null where it is not set.
    pub value: Value,
    /// The value that was applied last, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<Value>,
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
    /// The key manager: its own way, or its settings in `keywheel.yaml`.
    Provider,
    /// The built-in default.
    Default,
    /// The document that was applied last: it is gone from git, or has errors there.
    Record,
}

/// A coming rotation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Upcoming {
    /// When, in UTC.
    pub at: Timestamp,
    /// When, in the policy's zone.
    pub local: String,
    /// What that zone is called then, such as `CEST`.
    pub zone: String,
    /// Of which key.
    pub key_name: Name,
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
    /// When it became known to be in the wrong hands.
    pub compromised_at: Option<Timestamp>,
}

impl From<VersionRecord> for Version {
    fn from(version: VersionRecord) -> Self {
        Self {
            number: version.number,
            provider_ref: version.provider_ref,
            state: version.state,
            orphan: version.orphan,
            created_at: version.provider_created_at,
            activated_at: version.activated_at,
            deactivated_at: version.deactivated_at,
            compromised_at: version.compromised_at,
        }
    }
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
    let Known { desired, state, recorded } = load_with_record(workspace, state).await?;
    let rotation_enabled = planning::rotation_enabled()?;
    // Documents with errors say nothing for sure: their tenants are told of as they were applied.
    let applied = planning::applied_repository(&desired.repository, &recorded);
    let has_errors = desired.repository.failed || desired.repository.failed_tenants.contains(&address.tenant_id);
    let wanted = if has_errors { &applied } else { &desired.repository };
    let dirty = desired.dirty.as_slice();
    let now = clock::now();
    let view = View { wanted, applied: &applied, recorded: &recorded, has_errors, dirty, rotation_enabled, now };
    let mut objects: Vec<Explanation> = view.policy(address).into_iter().collect();
    if let Some(mut key) = view.key(address) {
        if let (Some(state), Some(record)) = (&state, view.key_record(address)) {
            key.versions = state.versions(record.id).await?.into_iter().rev().map(Version::from).collect();
            let limit = u32::try_from(UPCOMING).ok();
            let filter = HistoryFilter { key: Some(record.address()), limit, ..HistoryFilter::default() };
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
    wanted: &'a Repository,
    applied: &'a Repository,
    recorded: &'a Recorded,
    /// Do documents with errors keep its tenant out of the plan?
    has_errors: bool,
    /// What is not committed.
    dirty: &'a [String],
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
        let mut obstacles = self.nothing_starts();
        obstacles.extend(stopped_policy(&policy.value));
        if let Some(timing) = timing {
            // What holds every key of it: the freezes that name a class of data or a tenant name theirs.
            obstacles.extend(closed(timing, &timings.freezes(address, &policy.value.key_type), self.now));
        }
        Some(Explanation {
            object: ObjectRef::policy(address),
            applied,
            fields: self.policy_fields(policy, applied, record.map(|record| &record.policy)),
            timezone: Some(policy.value.timezone.clone()),
            due,
            upcoming: if policy.value.status == PolicyStatus::Suspended { Vec::new() } else { upcoming },
            keys: statuses,
            versions: Vec::new(),
            rotations: Vec::new(),
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
        let mut obstacles = self.nothing_starts();
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
            fields: self.key_fields(key, applied, record.map(|record| &record.key)),
            timezone: policy.map(|(_, policy)| policy.value.timezone.clone()),
            due,
            upcoming,
            keys: Vec::new(),
            versions: Vec::new(),
            rotations: Vec::new(),
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
                let local = at.with_timezone(&timing.timezone());
                let (local, zone) = (local.format("%Y-%m-%dT%H:%M:%S%:z").to_string(), local.format("%Z").to_string());
                Upcoming { at, local, zone, key_name: address.name.clone() }
            })
            .collect()
    }

    fn policy_fields(
        &self,
        policy: &Located<RotationPolicy>,
        applied: Applied,
        record: Option<&RotationPolicy>,
    ) -> Vec<Field> {
        let mut fields = fields(Kind::RotationPolicy, policy, self.is_recorded(applied), record);
        let strategy = capabilities(policy.value.kms_provider).strategies.first();
        fall_back(&mut fields, "rotation_strategy", strategy.map(|strategy| strategy.as_str().into()));
        fields
    }

    fn key_fields(&self, key: &Located<EncryptionKey>, applied: Applied, record: Option<&EncryptionKey>) -> Vec<Field> {
        let mut fields = fields(Kind::EncryptionKey, key, self.is_recorded(applied), record);
        let region = place(&self.wanted.config.providers, &key.value).region;
        fall_back(&mut fields, "kms_region", region.map(Value::from));
        fields
    }

    /// Is the record the only thing that speaks for an object?
    fn is_recorded(&self, applied: Applied) -> bool {
        self.has_errors || applied == Applied::Gone
    }

    /// What stops every rotation of the tenant.
    fn nothing_starts(&self) -> Vec<Obstacle> {
        let mut found = Vec::new();
        let mut stop = |code: &str, message: String| {
            found.push(Obstacle { reason: Reason::new(code, message), until: None });
        };
        if self.has_errors {
            let message = "documents have errors, and nothing is planned until they are corrected: `keywheel validate`";
            stop("documents", message.to_owned());
        }
        if let Some(first) = self.dirty.first() {
            let more = if self.dirty.len() > 1 { format!(" and {} more", self.dirty.len() - 1) } else { String::new() };
            stop("uncommitted", format!("{first}{more} is not committed: `keywheel apply` refuses that"));
        }
        if !self.rotation_enabled {
            stop("switched_off", "KEY_ROTATION_ENABLED=false starts nothing".to_owned());
        }
        found
    }

    fn key_record(&self, address: &Address) -> Option<&KeyRecord> {
        match self.wanted.keys.get(address) {
            Some(key) => self.record_of(address, &key.value),
            None => self.recorded.keys.get(address),
        }
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

/// Each field of a kind with its effective value, who set it, and what was applied if that differs.
fn fields<T: Serialize>(kind: Kind, document: &Located<T>, from_record: bool, record: Option<&T>) -> Vec<Field> {
    let values = |document: &T| match serde_json::to_value(document) {
        Ok(Value::Object(values)) => values,
        _ => Map::new(),
    };
    let wanted = values(&document.value);
    let recorded = record.map(values);
    let value = |values: &Map<String, Value>, name: &str| values.get(name).cloned().unwrap_or_default();
    let field = |name: &&str| {
        let place = document.fields.get(name).cloned();
        let origin = match (&place, document.inherited.get(*name)) {
            _ if from_record => FieldOrigin::Record,
            (Some(_), _) => FieldOrigin::Document,
            (None, Some(Inherited::Tenant)) => FieldOrigin::Tenant,
            (None, Some(Inherited::Config)) => FieldOrigin::Config,
            (None, None) => FieldOrigin::Default,
        };
        let effective = value(&wanted, name);
        let applied = recorded.as_ref().map(|recorded| value(recorded, name)).filter(|applied| *applied != effective);
        Field { name: (*name).to_owned(), value: effective, applied, origin, place }
    };
    kind.fields().iter().map(field).collect()
}

/// A field that nobody set takes this value from the key manager, or from its settings.
fn fall_back(fields: &mut [Field], name: &str, value: Option<Value>) {
    let field = fields.iter_mut().find(|field| field.name == name && field.value.is_null());
    if let (Some(field), Some(value)) = (field, value) {
        field.value = value;
        field.origin = FieldOrigin::Provider;
    }
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
