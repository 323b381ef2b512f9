//! The record against the key managers: is each recorded version there, in which state, and is there anything with
//! keywheel's marks that the record does not know?

use std::collections::BTreeMap;

use futures::future::join_all;
use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::document::Repository;
use crate::model::{
    Address, KeyRecord, Name, ObjectRef, Observation, ObservedKey, Phase, Recorded, RotationRecord, VersionRecord,
    VersionState,
};
use crate::provider::{Owned, ProviderError, ProviderPlace};
use crate::store::ReadState;

use super::super::EngineError;
use super::super::observe::{KnownVersions, handle};
use super::super::providers::{Observers, place};

/// What the key managers said.
#[derive(Default)]
pub(super) struct Asked {
    pub findings: Vec<Finding>,
    pub answered: usize,
    pub unanswered: usize,
    /// How many places did not list what carries marks.
    pub unlisted: usize,
}

/// A key and everything that is recorded of it.
struct Known<'a> {
    address: &'a Address,
    record: &'a KeyRecord,
    versions: Vec<&'a VersionRecord>,
    unfinished: Option<&'a RotationRecord>,
}

/// Asks every place about its keys, all places at once.
pub(super) async fn check(
    observers: &Observers,
    state: &dyn ReadState,
    recorded: &Recorded,
    desired: &Repository,
    versions: &[VersionRecord],
) -> Result<Asked, EngineError> {
    // What a lost record does not know is where the documents say that keys are.
    let documents = desired.keys.values().map(|key| place(observers.providers(), &key.value));
    let mut places: BTreeMap<ProviderPlace, Vec<Known<'_>>> = documents.map(|place| (place, Vec::new())).collect();
    let mut by_key: BTreeMap<Uuid, Vec<&VersionRecord>> = BTreeMap::new();
    for version in versions {
        by_key.entry(version.key_id).or_default().push(version);
    }
    for (address, record) in &recorded.keys {
        let versions = by_key.remove(&record.id).unwrap_or_default();
        let known = Known { address, record, versions, unfinished: recorded.unfinished_of(record.id) };
        places.entry(place(observers.providers(), &record.key)).or_default().push(known);
    }
    let mut asked = Asked::default();
    let answers = join_all(places.iter().map(|(place, keys)| ask(observers, place, keys))).await;
    for ((place, keys), answer) in places.iter().zip(answers) {
        let (observations, owned) = match answer {
            Ok((observations, owned)) => (observations, owned),
            Err(error) => (vec![Observation::Unknown { why: error.to_string() }; keys.len()], Err(error)),
        };
        for (known, observation) in keys.iter().zip(observations) {
            compare(known, &observation, &mut asked);
        }
        match owned {
            Ok(owned) if recorded.is_unused() => asked.findings.extend(lost_record(place, &owned, desired)),
            Ok(owned) => asked.findings.extend(unrecorded(place, owned, state, recorded).await?),
            Err(error) => {
                asked.unlisted += 1;
                let message =
                    format!("{}: which keys carry keywheel's marks was not answered: {error}", place.provider);
                let finding = Finding::warning("verify/no-answer", message);
                asked.findings.push(finding.help(error.help.unwrap_or_else(|| ASK_AGAIN.to_owned())));
            }
        }
    }
    Ok(asked)
}

const ASK_AGAIN: &str = "it is not known whether the record is right: ask again when the key manager answers";

type Answer = (Vec<Observation>, Result<Vec<Owned>, ProviderError>);

async fn ask(observers: &Observers, place: &ProviderPlace, keys: &[Known<'_>]) -> Result<Answer, ProviderError> {
    let (observer, _) = observers.at(place).await?;
    let handles: Vec<_> = keys
        .iter()
        .map(|known| {
            let refs = known.versions.iter().map(|version| version.provider_ref.clone()).collect();
            handle(
                known.address,
                &known.record.key,
                Some(known.record),
                &KnownVersions::from([(known.record.id, refs)]),
            )
        })
        .collect();
    Ok((observer.observe(&handles).await, observer.owned().await))
}

fn compare(known: &Known<'_>, observation: &Observation, asked: &mut Asked) {
    let Known { address, .. } = known;
    let found = match observation {
        Observation::Unknown { why } => {
            asked.unanswered += 1;
            let message = format!("{address}: its key manager gave no usable answer: {why}");
            let finding = Finding::warning("verify/no-answer", message).help(ASK_AGAIN);
            return asked.findings.push(finding.of(ObjectRef::key(address)));
        }
        Observation::Missing => None,
        Observation::Present(found) => Some(found),
    };
    asked.answered += 1;
    // A key that is being made need not be there yet.
    let Some(primary) = &known.record.primary_version else { return };
    let Some(found) = found else {
        let message = format!("{address}: its key manager has no such key, and version {} is recorded", primary.number);
        let help =
            "find out what became of it; `keywheel state forget` drops it from the record if it is gone for good";
        return asked
            .findings
            .push(Finding::error("verify/missing-key", message).help(help).of(ObjectRef::key(address)));
    };
    asked.findings.extend(led_elsewhere(known, primary, found));
    asked.findings.extend(known.versions.iter().filter_map(|version| other_state(known, primary, version, found)));
}

/// The stable name leads to the recorded primary; while a rotation is under way it may have been moved already.
fn led_elsewhere(known: &Known<'_>, primary: &VersionRecord, found: &ObservedKey) -> Option<Finding> {
    let target = found.primary.as_deref();
    let on_its_way = known.unfinished.and_then(|rotation| rotation.to_ref.as_deref());
    if target == Some(&*primary.provider_ref) || (target.is_some() && target == on_its_way) {
        return None;
    }
    let target = target.unwrap_or("nothing");
    let address = known.address;
    let message = format!("{address}: its stable name leads to {target}, and {} is its primary", primary.provider_ref);
    let help = format!(
        "find out who moved it, and lead it back; after an older backup was restored, `keywheel state reclaim {address} --reason WHY` records it"
    );
    Some(Finding::error("verify/primary-moved", message).help(help).of(ObjectRef::key(address)))
}

/// A recorded version is there, in the recorded state. Whether one is not primary yet or not any more is not the
/// provider's to know.
fn other_state(
    known: &Known<'_>,
    primary: &VersionRecord,
    version: &VersionRecord,
    found: &ObservedKey,
) -> Option<Finding> {
    use VersionState::{Active, Deactivated, Destroyed, PendingDestruction, PreActivation};
    let state = found.versions.iter().find(|held| held.provider_ref == version.provider_ref).map(|held| held.state);
    let usable = |state| matches!(state, PreActivation | Active | Deactivated);
    let as_recorded = match state {
        // Its waiting period is over, and the next apply records that.
        None => matches!(version.state, Destroyed | PendingDestruction),
        Some(state) => state == version.state || (usable(state) && usable(version.state)),
    };
    // What was begun with a version may have been done.
    let on_its_way = known.unfinished.is_some_and(|rotation| rotation.to_ref.as_ref() == Some(&version.provider_ref));
    if as_recorded || on_its_way {
        return None;
    }
    let state = state.map_or("missing", VersionState::as_str);
    let message = format!(
        "{}: version {} ({}) is {state} at its key manager, and recorded as {}",
        known.address, version.number, version.provider_ref, version.state
    );
    let help = if version.id == primary.id {
        "applications cannot use the key: enable the version again, or rotate the key"
    } else {
        "what it encrypted may not decrypt: find out who changed it, and undo that while it can be undone"
    };
    let code = if state == "missing" { "verify/missing-version" } else { "verify/version-state" };
    Some(Finding::error(code, message).help(help).of(ObjectRef::key(known.address)))
}

fn not_recorded(place: &ProviderPlace, address: Option<&Address>, provider_ref: &str) -> Finding {
    let whose = address.map_or_else(|| place.provider.to_string(), ToString::to_string);
    let message = format!("{whose}: {provider_ref} carries this state's marks, and is not recorded");
    let finding = Finding::error("verify/unrecorded", message);
    let keep = "was an older backup restored? It may have encrypted data: do not delete it";
    match address {
        Some(address) => {
            let help = format!("{keep}; `keywheel state reclaim {address} --reason WHY` records it");
            finding.help(help).of(ObjectRef::key(address))
        }
        None => finding.help(format!("{keep}; a document with its `kms_key_id` adopts it")),
    }
}

/// A record with nothing in it, and keys with marks: it is not the one that they were recorded in.
fn lost_record(place: &ProviderPlace, owned: &[Owned], desired: &Repository) -> Option<Finding> {
    // Another repository of other tenants may share the account.
    let is_ours = |tenant: &Name| desired.keys.keys().any(|key| key.tenant_id == *tenant);
    let ours: Vec<&str> = owned
        .iter()
        .filter(|owned| owned.tenant_id.as_ref().is_none_or(is_ours))
        .map(|owned| owned.provider_ref.as_str())
        .collect();
    let some = ours.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let message = match ours.len() {
        0 => return None,
        1 => format!("the record is empty, and a key of {} carries keywheel's marks: {some}", place.provider),
        many => format!("the record is empty, and {many} keys of {} carry keywheel's marks: {some}", place.provider),
    };
    Some(Finding::error("verify/lost-record", message).help(
        "a lost or mistyped state database is not a first run: check `state` in keywheel.yaml, or restore a backup (`keywheel state copy`)",
    ))
}

/// A rotation that may have made a version which is not recorded yet.
fn is_making_a_version(rotation: &RotationRecord) -> bool {
    matches!(rotation.phase, Phase::Planned | Phase::Creating)
}

/// What carries the marks of this state database and is in none of its rows.
async fn unrecorded(
    place: &ProviderPlace,
    owned: Vec<Owned>,
    state: &dyn ReadState,
    recorded: &Recorded,
) -> Result<Vec<Finding>, EngineError> {
    let mut keys: BTreeMap<Option<Uuid>, Vec<Owned>> = BTreeMap::new();
    for owned in owned.into_iter().filter(|owned| owned.lineage.is_some() && owned.lineage == recorded.lineage) {
        keys.entry(owned.key_id).or_default().push(owned);
    }
    let addresses: BTreeMap<Uuid, &Address> = recorded.keys.iter().map(|(address, key)| (key.id, address)).collect();
    let mut findings = Vec::new();
    for (key_id, owned) in keys {
        let making = key_id.and_then(|id| recorded.unfinished_of(id)).is_some_and(is_making_a_version);
        if making {
            continue;
        }
        let versions = match key_id {
            // Those of a key that was forgotten too.
            Some(id) => state.versions(id).await?,
            None => Vec::new(),
        };
        for owned in owned {
            if versions.iter().any(|version| version.provider_ref == owned.provider_ref) {
                continue;
            }
            let address = key_id.and_then(|id| addresses.get(&id).copied());
            findings.push(not_recorded(place, address, &owned.provider_ref));
        }
    }
    Ok(findings)
}
