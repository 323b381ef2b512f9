//! The record against itself: what holds for every record that keywheel alone has written.
//!
//! Pure: everything comes in as data.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::model::{
    Address, KeyRecord, KeyState, ObjectRef, Recorded, RotationRecord, StepRecord, Timestamp, VersionRecord,
    VersionState,
};
use crate::rotation::{Event, Status, replay};
use crate::store::HistoryEntry;

/// What is recorded.
pub(super) struct Record<'a> {
    pub recorded: &'a Recorded,
    /// All versions of the keys that are not forgotten, by key and number.
    pub versions: &'a [VersionRecord],
    /// The journals of unfinished rotations.
    pub journals: &'a BTreeMap<Uuid, Vec<StepRecord>>,
    /// The rotations that were settled.
    pub settled: &'a [HistoryEntry],
    pub now: Timestamp,
}

/// What a person can do about a record that keywheel did not write so.
const BY_HAND: &str = "keywheel does not write this: compare with the latest backup, and with `keywheel audit list`";

/// How far ahead of this machine's clock an instant may be.
const CLOCKS_APART: chrono::Duration = chrono::Duration::seconds(60);

/// Everything that does not hold.
pub(super) fn check(record: &Record<'_>) -> Vec<Finding> {
    let mut versions: BTreeMap<Uuid, Vec<&VersionRecord>> = BTreeMap::new();
    for version in record.versions {
        versions.entry(version.key_id).or_default().push(version);
    }
    let mut findings = Vec::new();
    for (address, key) in &record.recorded.keys {
        let own = versions.get(&key.id).map(Vec::as_slice).unwrap_or_default();
        findings.extend(primary(address, key, own));
        findings.extend(numbers(address, own));
        findings.extend(own.iter().filter_map(|version| instants(address, version, record.now)));
    }
    findings.extend(shared_refs(record));
    for rotation in &record.recorded.unfinished {
        let journal = record.journals.get(&rotation.id).map(Vec::as_slice).unwrap_or_default();
        findings.extend(unfinished(rotation, journal));
    }
    for rotation in record.settled {
        // A key of this name that was forgotten since is another one.
        let address = Address::new(rotation.tenant_id.clone(), rotation.key_name.clone());
        let key = record.recorded.keys.get(&address).filter(|key| key.created_at <= rotation.started_at);
        if let Some(key) = key {
            let own = versions.get(&key.id).map(Vec::as_slice).unwrap_or_default();
            findings.extend(settled(&address, rotation, own));
        }
    }
    findings
}

fn wrong(code: &'static str, address: &Address, message: &str) -> Finding {
    Finding::error(code, format!("{address}: {message}")).help(BY_HAND).of(ObjectRef::key(address))
}

/// A key in use has one active version, which is its primary; a key that is not made yet has none.
fn primary(address: &Address, key: &KeyRecord, versions: &[&VersionRecord]) -> Option<Finding> {
    let active: Vec<_> = versions.iter().filter(|version| version.state == VersionState::Active).collect();
    let names = || active.iter().map(|version| version.number.to_string()).collect::<Vec<_>>().join(" and ");
    let message = match (&key.primary_version, active.as_slice()) {
        (None, []) if key.state == KeyState::Pending => return None,
        (Some(primary), [only]) if only.id == primary.id => return None,
        (Some(primary), [only]) => {
            format!("version {} is active, and version {} is its primary", only.number, primary.number)
        }
        (None, []) => format!("it is {}, and has no primary version", key.state),
        (None, [_, ..]) => format!("version {} is active, and it has no primary", names()),
        (Some(primary), []) => format!("its primary, version {}, is {}", primary.number, primary.state),
        (Some(_), [_, _, ..]) => format!("versions {} are active at once", names()),
    };
    Some(wrong("verify/primary", address, &message))
}

fn numbers(address: &Address, versions: &[&VersionRecord]) -> Option<Finding> {
    let mut expected = 1..;
    let missing = versions.iter().zip(&mut expected).find(|(version, number)| version.number != *number);
    let (version, number) = missing?;
    let message = format!("version {number} is not recorded, and version {} is", version.number);
    Some(wrong("verify/numbers", address, &message))
}

/// A clock that was set back leaves this too, so that it is worth a look and no more.
fn instants(address: &Address, version: &VersionRecord, now: Timestamp) -> Option<Finding> {
    let ordered = [
        ("activated", version.activated_at),
        ("deactivated", version.deactivated_at),
        ("disabled", version.disabled_at),
    ];
    let mut before: Option<(&str, Timestamp)> = None;
    for (what, at) in ordered {
        let Some(at) = at else { continue };
        let number = version.number;
        let problem = match before {
            Some((earlier, since)) if at < since => {
                Some(format!("version {number} was {what} before it was {earlier}"))
            }
            _ if at > now + CLOCKS_APART => Some(format!("version {number} was {what} in the future, at {at}")),
            _ => None,
        };
        if let Some(problem) = problem {
            let finding = Finding::warning("verify/instants", format!("{address}: {problem}"));
            return Some(
                finding
                    .help("was a clock set back? `keywheel audit list` shows who did what when")
                    .of(ObjectRef::key(address)),
            );
        }
        before = Some((what, at));
    }
    None
}

/// No two keys are on one version of a provider.
fn shared_refs(record: &Record<'_>) -> Vec<Finding> {
    let addresses: BTreeMap<Uuid, &Address> =
        record.recorded.keys.iter().map(|(address, key)| (key.id, address)).collect();
    let mut users: BTreeMap<&str, BTreeSet<&Address>> = BTreeMap::new();
    for version in record.versions {
        if let Some(address) = addresses.get(&version.key_id) {
            users.entry(&version.provider_ref).or_default().insert(address);
        }
    }
    let shared = users.into_iter().filter(|(_, users)| users.len() > 1);
    let findings = shared.filter_map(|(provider_ref, users)| {
        let names = users.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let first = users.first()?;
        Some(
            Finding::error("verify/shared-ref", format!("{names} are recorded on one version, {provider_ref}"))
                .help("one provider key belongs to one key: `keywheel state forget` the one that does not have it")
                .of(ObjectRef::key(first)),
        )
    });
    findings.collect()
}

/// The journal leads to where the rotation is.
fn unfinished(rotation: &RotationRecord, journal: &[StepRecord]) -> Option<Finding> {
    let events = journal.iter().map(|entry| Event { step: entry.step, outcome: entry.outcome });
    let message = match replay(rotation.workflow, events) {
        Ok(status) if status == Status::of(rotation) => return None,
        Ok(status) => format!(
            "its unfinished {} is recorded as {}, and its journal leads to {}",
            rotation.workflow.noun(),
            rotation.phase,
            status.phase
        ),
        Err(illegal) => format!("the journal of its unfinished {} makes no sense: {illegal}", rotation.workflow.noun()),
    };
    Some(wrong("verify/journal", &rotation.address, &message))
}

/// What a settled rotation led from and to is recorded.
fn settled(address: &Address, rotation: &HistoryEntry, versions: &[&VersionRecord]) -> Option<Finding> {
    let refs = [rotation.from_ref.as_deref(), rotation.to_ref.as_deref()];
    let lost =
        refs.into_iter().flatten().find(|wanted| versions.iter().all(|version| version.provider_ref != *wanted))?;
    let message =
        format!("the {} of {} names {lost}, which is not recorded", rotation.workflow.noun(), rotation.started_at);
    Some(wrong("verify/refs", address, &message))
}
