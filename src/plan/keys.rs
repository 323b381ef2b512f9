//! Keys: create, adopt, change, forget; drift; and the work that the clock asks for.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Finding;
use crate::document::{Located, Repository};
use crate::model::{
    Address, EncryptionKey, KeyRecord, Name, ObjectRef, Observation, ObservedKey, Recorded, VersionRecord, VersionState,
};

use super::build::{Draft, Paired, created, due_work, names, observation, removed, updated, wait};
use super::compare::{FieldDiff, compare, fields};
use super::due::KeyTiming;
use super::{Action, Change, Drift, Inputs, Precondition, Reason, UNANSWERED, retention};

/// Fields that are fixed when a key is made: what changes them is another key.
const FIXED: &[&str] = &["kms_provider", "kms_region", "key_spec", "key_usage", "multi_region", "tenant_id"];

/// How much is planned of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What git changes, what the key managers hold, and what the clock asks for.
    Everything,
    /// What git changes, where nobody was asked.
    Documents,
}

/// Plans every key.
pub(super) fn keys(
    inputs: &Inputs<'_>,
    left_out: &BTreeMap<Name, String>,
    policies: &Paired<'_>,
    extent: Extent,
    draft: &mut Draft,
) {
    let (desired, recorded) = (inputs.desired, inputs.recorded);
    let timings = KeyTiming::new(desired);
    let owners = owners(recorded);
    let unfinished: BTreeSet<_> = recorded.unfinished.iter().map(|rotation| rotation.key_id).collect();
    let mut continued: BTreeSet<&Address> = BTreeSet::new();
    let mut newcomers: BTreeMap<&Name, Vec<(&Address, &EncryptionKey)>> = BTreeMap::new();
    for (address, key) in &desired.keys {
        let record = continued_key(desired, recorded, address, &key.value);
        if let Some((before, _)) = record {
            continued.insert(before);
        }
        if left_out.contains_key(&address.tenant_id) {
            continue;
        }
        match record {
            None => {
                newcomers.entry(&address.tenant_id).or_default().push((address, &key.value));
                match extent {
                    Extent::Everything => new_key(inputs, &owners, address, key, draft),
                    Extent::Documents => introduced(address, &key.value, draft),
                }
            }
            // What was begun is finished first, under the policy that it began with.
            Some((_, record)) if unfinished.contains(&record.id) => {}
            Some((_, record)) => {
                let is_possible = edited(inputs, policies, address, key, record, draft);
                if is_possible && extent == Extent::Everything {
                    known_key(inputs, &timings, address, &key.value, record, draft);
                }
            }
        }
    }
    for (address, record) in &recorded.keys {
        if continued.contains(address) || left_out.contains_key(&address.tenant_id) || unfinished.contains(&record.id) {
            continue;
        }
        if let Some(doomed) = inputs.retired.doomed.get(&record.id) {
            let numbers = doomed.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let message = format!(
                "the document of {address} is gone, and the destruction of its version {numbers} is scheduled: without it \
                 nobody could cancel that any more"
            );
            let finding = Finding::error("key/pending-destruction", message).help(
                "put the document back. To keep what they encrypted, say `old_key_disposition: keep`, apply, and remove it \
                 then; else remove it once they are destroyed",
            );
            draft.diagnostics.push(finding.of(ObjectRef::key(address)));
            continue;
        }
        let mut why =
            "its document is gone: the key stays as it is at the provider, and is no longer rotated".to_owned();
        let alike = |(_, new): &&(&Address, &EncryptionKey)| {
            new.kms_provider == record.key.kms_provider
                && new.kms_key_id.is_none()
                && new.rotation_policy == record.key.rotation_policy
        };
        if let Some((new, _)) = newcomers.get(&address.tenant_id).and_then(|new| new.iter().find(alike)) {
            why = format!(
                "{why}. If {} is its new name, add `previous_name: {}` there: as it stands, a new key is made, and what \
                 this one encrypted is not readable under that name",
                new.name, address.name
            );
        }
        draft.changes.push(removed(ObjectRef::key(address), Action::Forget, &record.key, record.revision, &why));
    }
}

/// The record that a desired key continues: its own, or that of the name that it had before.
#[must_use]
pub fn continued_key<'a>(
    desired: &Repository,
    recorded: &'a Recorded,
    address: &Address,
    key: &EncryptionKey,
) -> Option<(&'a Address, &'a KeyRecord)> {
    recorded.keys.get_key_value(address).or_else(|| {
        let earlier = Address::new(address.tenant_id.clone(), key.previous_name.clone()?);
        if desired.keys.contains_key(&earlier) { None } else { recorded.keys.get_key_value(&earlier) }
    })
}

/// A key that is not in the record: made, or adopted.
fn new_key(
    inputs: &Inputs<'_>,
    owners: &Owners<'_>,
    address: &Address,
    key: &Located<EncryptionKey>,
    draft: &mut Draft,
) {
    let document = &key.value;
    let refuse = |draft: &mut Draft, field, refusal| refuse(draft, address, key, field, refusal);
    let observed = match observation(inputs, address) {
        Some(Observation::Unknown { why }) => {
            let action = if document.kms_key_id.is_some() { Action::Adopt } else { Action::Create };
            let reason = Reason::new(UNANSWERED, format!("the key manager gave no usable answer: {why}"));
            return wait(draft, address, action, reason, None);
        }
        Some(Observation::Present(observed)) => Some(observed),
        Some(Observation::Missing) | None => None,
    };
    if document.kms_key_id.is_some() {
        return adopted_key(inputs, owners, address, key, observed, draft);
    }
    if let Some(primary) = observed.and_then(|observed| observed.primary.as_ref()) {
        let alias = document.kms_alias.as_deref().unwrap_or_default();
        let refusal = Finding::error("key/alias-exists", format!("{alias} exists already, and leads to {primary}"))
            .help(format!(
                "to adopt that key, add the line `kms_key_id: {primary}`; to make a new one, choose another alias"
            ));
        return refuse(draft, "kms_alias", refusal);
    }
    if !inputs.rotation_enabled {
        let reason = Reason::new("switched_off", "new, and KEY_ROTATION_ENABLED=false starts nothing");
        return wait(draft, address, Action::Create, reason, None);
    }
    made(address, document, draft);
}

/// A document of a key that is not in the record, where nobody can say what the key manager holds.
fn introduced(address: &Address, document: &EncryptionKey, draft: &mut Draft) {
    match &document.kms_key_id {
        Some(id) => draft.changes.push(Change {
            action: Action::Adopt,
            ..created(ObjectRef::key(address), document, Reason::new("new", comes_under_care(id)))
        }),
        None => made(address, document, draft),
    }
}

fn made(address: &Address, document: &EncryptionKey, draft: &mut Draft) {
    let reason = match &document.rotation_policy {
        Some(policy) => format!("a new {} key under policy {policy}", document.kms_provider),
        None => format!("a new {} key without a policy", document.kms_provider),
    };
    draft.changes.push(created(ObjectRef::key(address), document, Reason::new("new", reason)));
}

fn comes_under_care(id: &str) -> String {
    format!("{id} comes under keywheel's care; nothing is rotated by that")
}

/// A finding about a new key, at the field that it is about.
fn refuse(draft: &mut Draft, address: &Address, key: &Located<EncryptionKey>, field: &str, refusal: Finding) {
    let place = key.fields.get(field).unwrap_or(&key.place);
    draft.diagnostics.push(refusal.at(place.clone(), None).of(ObjectRef::key(address)));
}

/// A key that exists at the provider: what the document says of it must be so.
fn adopted_key(
    inputs: &Inputs<'_>,
    owners: &Owners<'_>,
    address: &Address,
    key: &Located<EncryptionKey>,
    observed: Option<&ObservedKey>,
    draft: &mut Draft,
) {
    let document = &key.value;
    let refuse = |draft: &mut Draft, field, refusal| refuse(draft, address, key, field, refusal);
    let Some(named) = observed.and_then(|observed| observed.named.as_ref()) else {
        if observation(inputs, address).is_none() {
            let reason = Reason::new("provider_not_asked", "the key manager was not asked");
            return wait(draft, address, Action::Adopt, reason, None);
        }
        let id = document.kms_key_id.as_deref().unwrap_or_default();
        let refusal = Finding::error("key/not-found", format!("{} has no key {id}", document.kms_provider))
            .help("check the id, the region and the account; without `kms_key_id` a new key is made");
        return refuse(draft, "kms_key_id", refusal);
    };
    let primary = observed.and_then(|observed| observed.primary.as_ref());
    if let (Some(alias), Some(primary)) = (&document.kms_alias, primary)
        && primary != named
    {
        let message = format!("{alias} leads to {primary}, and kms_key_id to {named}");
        let refusal = Finding::error("key/alias-leads-elsewhere", message)
            .help(format!("name the key that the alias leads to: `kms_key_id: {primary}`"));
        return refuse(draft, "kms_key_id", refusal);
    }
    if let Some(alias) = &document.kms_alias
        && primary.is_none()
    {
        let message = format!("{alias} does not exist, and kms_key_id leads to {named}");
        let refusal = Finding::error("key/alias-not-found", message)
            .help(format!("create the alias first, so that it leads to {named}: it is what applications use"));
        return refuse(draft, "kms_alias", refusal);
    }
    let state = observed.and_then(|observed| version_state(observed, named));
    if state.is_some_and(|state| {
        !matches!(state, VersionState::Active | VersionState::PreActivation | VersionState::Deactivated)
    }) {
        let message = format!("{named} is {}", state.map_or("unusable", VersionState::as_str));
        let refusal =
            Finding::error("key/not-usable", message).help("enable the key at the provider, or adopt another one");
        return refuse(draft, "kms_key_id", refusal);
    }
    if let Some(owner) = owners.get(named.as_str()).filter(|owner| **owner != address) {
        let refusal = Finding::error("key/owned", format!("{named} is a version of {owner}"))
            .help(format!("one key belongs to one tenant and one document: forget {owner} first"));
        return refuse(draft, "kms_key_id", refusal);
    }
    let mut after = fields(document);
    after.insert("provider_ref".to_owned(), named.clone().into());
    let mut message = comes_under_care(named);
    let differing = observed.map(|observed| differing_settings(document, observed)).unwrap_or_default();
    if !differing.is_empty() {
        message = format!("{message}; its {} becomes what the document says", names(&differing));
    }
    let FieldDiff { before, after: settings, .. } = differing;
    after.extend(settings);
    let reason = Reason::new("new", message);
    let change = Change::new(ObjectRef::key(address), Action::Adopt, reason, Precondition::default());
    let before = Some(before).filter(|before| !before.is_empty());
    draft.changes.push(Change { before, after: Some(after), ..change });
}

/// The recorded key that has a version as its primary.
type Owners<'a> = BTreeMap<&'a str, &'a Address>;

fn owners(recorded: &Recorded) -> Owners<'_> {
    recorded.keys.iter().filter_map(|(address, record)| Some((primary(record)?, address))).collect()
}

/// A key that is in the record, and whose document says something else. False if a key cannot become that.
fn edited(
    inputs: &Inputs<'_>,
    policies: &Paired<'_>,
    address: &Address,
    key: &Located<EncryptionKey>,
    record: &KeyRecord,
    draft: &mut Draft,
) -> bool {
    let document = &key.value;
    if record.key == *document {
        return true;
    }
    let diff = compare(&record.key, document);
    if let Some(field) = FIXED.iter().find(|field| diff.touches(field)) {
        let finding = Finding::error(
            "key/fixed-field",
            format!("{field} of {address} is fixed when a key is made: it cannot go from {}", diff.words(field)),
        )
        .help(format!(
            "undo the edit; or forget this key (remove its document, apply) and add one under another name with the new {field}"
        ));
        refuse(draft, address, key, field, finding);
        return false;
    }
    if !diff.is_empty() {
        let (action, reason) = key_change(inputs, policies, address, document, record, &diff);
        draft.changes.push(updated(ObjectRef::key(address), action, diff, record.revision, reason));
    }
    true
}

/// A key that is in the record: drifted, due.
fn known_key(
    inputs: &Inputs<'_>,
    timings: &KeyTiming<'_>,
    address: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    draft: &mut Draft,
) {
    match observation(inputs, address) {
        Some(Observation::Unknown { why }) => {
            let reason = Reason::new(UNANSWERED, format!("the key manager gave no usable answer: {why}"));
            return wait(draft, address, Action::Rotate, reason, None);
        }
        Some(Observation::Missing) => {
            draft.drift.push(Drift {
                object: ObjectRef::key(address),
                field: "key".to_owned(),
                reason: Reason::new("missing", "the key manager has no such key: find out what became of it"),
                recorded: primary(record).map(str::to_owned),
                observed: None,
            });
            return;
        }
        Some(Observation::Present(observed)) if drifted(address, document, record, observed, draft) => return,
        Some(Observation::Present(_)) | None => {}
    }
    due_work(inputs, timings, address, document, record, draft);
    retention::work(inputs, timings, address, document, record, draft);
}

fn primary(record: &KeyRecord) -> Option<&str> {
    record.primary_version.as_ref().map(|version| version.provider_ref.as_str())
}

fn key_change(
    inputs: &Inputs<'_>,
    policies: &Paired<'_>,
    address: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    diff: &FieldDiff,
) -> (Action, Reason) {
    if diff.touches("key_name") {
        return (Action::Rename, Reason::new("rename", format!("renamed from {}", record.key.key_name)));
    }
    if diff.touches("rotation_policy") {
        let Some(policy) = &document.rotation_policy else {
            return (Action::Unlink, Reason::new("unlink", "it has no policy any more, and is not rotated"));
        };
        let wanted = Address::new(address.tenant_id.clone(), policy.clone());
        let same = policies.get(&wanted).is_some_and(|paired| Some(paired.id) == record.rotation_policy_id);
        return if same {
            (Action::Update, Reason::new("edited", "its policy was renamed"))
        } else {
            (Action::Link, Reason::new("link", format!("its policy is {policy} from now on")))
        };
    }
    let mut message = format!("{} changed", names(diff));
    if diff.touches("kms_alias") {
        if let Some(alias) = &document.kms_alias {
            message = format!("{message}; {alias} will lead to the primary, and the old alias stays as it is");
        }
        if let Some(Observation::Present(observed)) = observation(inputs, address)
            && let Some(elsewhere) = observed.primary.as_deref().filter(|target| Some(*target) != primary(record))
        {
            message = format!("{message}; it leads to {elsewhere} now");
        }
    }
    if diff.only("key_policy") {
        message = format!("{message}; it counts for keys that are created, and this one keeps its own");
    }
    (Action::Update, Reason::new("edited", message))
}

/// Compares the record with the provider. True if the key must be left alone until a person has looked.
fn drifted(
    address: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    observed: &ObservedKey,
    draft: &mut Draft,
) -> bool {
    let object = ObjectRef::key(address);
    let recorded = primary(record);
    let alias_edited = record.key.kms_alias != document.kms_alias;
    if !alias_edited && observed.primary.as_deref() != recorded {
        draft.drift.push(Drift {
            object,
            field: "primary".to_owned(),
            reason: Reason::new(
                "primary_moved",
                "its stable name leads to another version than the recorded one: it is not rotated until they agree again",
            ),
            recorded: recorded.map(str::to_owned),
            observed: observed.primary.clone(),
        });
        return true;
    }
    let state = recorded.and_then(|primary| version_state(observed, primary));
    if let Some(state) = state.filter(|state| *state != VersionState::Active && !alias_edited) {
        draft.drift.push(Drift {
            object,
            field: "state".to_owned(),
            reason: Reason::new(
                "primary_unusable",
                format!("its primary version is {state} at the key manager: applications cannot use it"),
            ),
            recorded: Some(VersionState::Active.to_string()),
            observed: Some(state.to_string()),
        });
        return true;
    }
    let restored = differing_settings(document, observed);
    for (field, wanted) in &restored.after {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        draft.drift.push(Drift {
            object: object.clone(),
            field: field.clone(),
            reason: Reason::new("settings", "it was changed at the key manager, and is set again"),
            recorded: text(wanted),
            observed: restored.before.get(field).and_then(text),
        });
    }
    if !restored.is_empty() && record.key == *document {
        let reason = Reason::new("drift", format!("{} was changed at the key manager", names(&restored)));
        draft.changes.push(updated(object, Action::Restore, restored, record.revision, reason));
    }
    false
}

/// The settings that are not as the document says: as they were found, and as they are to be.
fn differing_settings(document: &EncryptionKey, observed: &ObservedKey) -> FieldDiff {
    let mut differing = FieldDiff::default();
    for (field, wanted) in wanted_settings(document) {
        let Some(found) = observed.settings.get(&field).filter(|found| **found != wanted).or_else(|| {
            static EMPTY: String = String::new();
            // A provider that reports tags or a description at all reports every one of them.
            let reports = observed.settings.contains_key("description");
            (reports && !observed.settings.contains_key(&field)).then_some(&EMPTY)
        }) else {
            continue;
        };
        differing.before.insert(field.clone(), found.clone().into());
        differing.after.insert(field, wanted.into());
    }
    differing
}

/// The provider's settings that the document asks for, in the names of [`ObservedKey::settings`].
fn wanted_settings(document: &EncryptionKey) -> impl Iterator<Item = (String, String)> {
    let description = document.description.clone().map(|text| ("description".to_owned(), text));
    let tags = document.tags.iter().map(|(name, value)| (format!("tag:{name}"), value.clone()));
    description.into_iter().chain(tags)
}

pub(super) fn version_state(observed: &ObservedKey, provider_ref: &str) -> Option<VersionState> {
    observed.versions.iter().find(|version| version.provider_ref == provider_ref).map(|version| version.state)
}

/// Recorded versions, other than primaries, that the provider holds in another state than the record says.
#[must_use]
pub fn version_drift(
    desired: &Repository,
    recorded: &Recorded,
    versions: &[VersionRecord],
    observed: &BTreeMap<Address, Observation>,
) -> Vec<Drift> {
    let mut drift = Vec::new();
    for (address, key) in &desired.keys {
        let Some((_, record)) = continued_key(desired, recorded, address, &key.value) else { continue };
        let Some(Observation::Present(found)) = observed.get(address) else { continue };
        let old = versions
            .iter()
            .filter(|version| version.key_id == record.id && Some(version.provider_ref.as_str()) != primary(record));
        for version in old {
            let state = version_state(found, &version.provider_ref);
            if version.state == VersionState::Destroyed && state.is_none() {
                continue;
            }
            // Whether a version is not primary yet or not any more is keywheel's to know, not the provider's.
            let usable =
                |state| matches!(state, VersionState::PreActivation | VersionState::Active | VersionState::Deactivated);
            if state.is_some_and(|state| state == version.state || (usable(state) && usable(version.state))) {
                continue;
            }
            drift.push(Drift {
                object: ObjectRef::key(address),
                field: format!("version {}", version.number),
                reason: Reason::new(
                    "version_state",
                    match version.state {
                        VersionState::Destroyed => format!(
                            "{} was destroyed, and is there again: an older copy of the keys was put back",
                            version.provider_ref
                        ),
                        _ => format!(
                            "{} was changed at the key manager: what it encrypted may not decrypt",
                            version.provider_ref
                        ),
                    },
                ),
                recorded: Some(version.state.to_string()),
                observed: Some(state.map_or("missing", VersionState::as_str).to_owned()),
            });
        }
    }
    drift
}
