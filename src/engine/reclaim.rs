//! Versions that the record lost: those that carry this state's marks at their key manager, and were made after the backup that
//! was restored.
//!
//! Nothing is done at a key manager. What it holds is recorded as it is, after a person has seen it: the versions, and which one
//! is primary. What a lost record knew of them (why they were made, who asked) is not to be had any more; their retention
//! begins now, so that nothing ends earlier than it would have.

use std::collections::BTreeMap;

use futures::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::model::{
    Address, AuditEntry, KeyRecord, KeyState, ObjectRef, Observation, ObservedKey, Recorded, Retention, Timestamp,
    VersionRecord, VersionState,
};
use crate::plan;
use crate::provider::{Owned, ProviderError, ProviderPlace};
use crate::store::{self, Holder, State, Write};

use super::apply::clocks_agree;
use super::load::load_with_record;
use super::observe::{KnownVersions, handle};
use super::providers::{Observers, place};
use super::state_copy::under_lease;
use super::{EngineError, Workspace, clock, leases, names};

/// What key managers hold of keys and the record did not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReclaimReport {
    /// When they were asked.
    pub as_of: Timestamp,
    /// The keys of which something is recorded.
    pub keys: Vec<Reclaimed>,
    /// The keys that are left as they were.
    pub left: Vec<LeftAlone>,
}

/// A key whose versions are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reclaimed {
    /// The key.
    #[schemars(with = "String")]
    pub key: Address,
    /// Its primary as it was recorded.
    pub recorded_primary: String,
    /// Its primary at the key manager.
    pub primary: String,
    /// The versions that were not recorded, the oldest first.
    pub versions: Vec<ReclaimedVersion>,
    /// Is it held from now on? Its primary is not its newest version, as after a rollback.
    pub held: bool,
}

/// A version that was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReclaimedVersion {
    /// The number that it gets.
    pub number: u32,
    /// What the provider calls it.
    pub provider_ref: String,
    /// The state in which it is recorded.
    pub state: VersionState,
    /// When it was made, by the provider's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

/// A key that is left as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftAlone {
    /// The key.
    #[schemars(with = "String")]
    pub key: Address,
    /// Why, and what to do.
    pub why: String,
}

/// Asks a person (or a flag) whether it may be recorded.
pub type ApproveReclaim<'a> = dyn Fn(&ReclaimReport) -> Result<bool, EngineError> + Send + Sync + 'a;

/// Records what the key managers hold of these keys (none: of every key) under the marks of this state and the record does not
/// know, after somebody said yes. None means that they said no.
///
/// # Errors
/// There is no state database or no such key, somebody works on it, or it could not be written.
pub async fn reclaim(
    workspace: &Workspace,
    state: Option<&str>,
    keys: &[Address],
    reason: &str,
    approve: &ApproveReclaim<'_>,
) -> Result<Option<ReclaimReport>, EngineError> {
    let (desired, _, recorded) = load_with_record(workspace, state).await?.with_state()?;
    if let Some(unknown) = keys.iter().find(|key| !recorded.keys.contains_key(key)) {
        return Err(names::unknown_address("key", unknown, recorded.keys.keys()));
    }
    let state = store::open_or_create(&desired.location(state)?).await?;
    clocks_agree(&*state).await?;
    let holder = leases::holder("state reclaim");
    under_lease(state.clone(), &holder, async |lease| {
        let recorded = state.recorded().await?;
        let config = plan::applied_config(&recorded).unwrap_or_else(|| desired.repository.config.clone());
        let observers = Observers::new(config.providers, desired.root.clone());
        let looked = look(&observers, &*state, &recorded, keys).await?;
        let (mut report, mut writes) =
            (ReclaimReport { as_of: clock::now(), keys: Vec::new(), left: looked.left }, Vec::new());
        for (known, found) in &looked.found {
            match judge(known, found, &recorded, report.as_of) {
                Ok(None) => {}
                Ok(Some((reclaimed, rows))) => {
                    writes.extend(rows);
                    writes.push(audit(&reclaimed, &holder, reason, report.as_of));
                    report.keys.push(reclaimed);
                }
                Err(why) => report.left.push(LeftAlone { key: known.address.clone(), why }),
            }
        }
        if !writes.is_empty() {
            if !approve(&report)? {
                return Ok(None);
            }
            state.commit(&lease, &writes).await?;
        }
        Ok(Some(report))
    })
    .await
}

/// A key, every version that is recorded of it, and those that are not.
struct Known<'a> {
    address: &'a Address,
    record: &'a KeyRecord,
    versions: Vec<VersionRecord>,
    unrecorded: Vec<String>,
}

#[derive(Default)]
struct Looked<'a> {
    found: Vec<(Known<'a>, ObservedKey)>,
    left: Vec<LeftAlone>,
}

/// Asks every place what carries this state's marks, and what becomes of its keys.
async fn look<'a>(
    observers: &Observers,
    state: &dyn State,
    recorded: &'a Recorded,
    keys: &[Address],
) -> Result<Looked<'a>, EngineError> {
    let mut versions: BTreeMap<_, Vec<VersionRecord>> = BTreeMap::new();
    for version in state.all_versions().await? {
        versions.entry(version.key_id).or_default().push(version);
    }
    let mut places: BTreeMap<ProviderPlace, Vec<Known<'a>>> = BTreeMap::new();
    for (address, record) in recorded.keys.iter().filter(|(address, _)| keys.is_empty() || keys.contains(address)) {
        let versions = versions.remove(&record.id).unwrap_or_default();
        let known = Known { address, record, versions, unrecorded: Vec::new() };
        places.entry(place(observers.providers(), &record.key)).or_default().push(known);
    }
    let lineage = recorded.lineage;
    let asked = places.into_iter().map(|(place, keys)| async move {
        let answer = ask(observers, &place, &keys, lineage).await;
        (keys, answer)
    });
    let mut looked = Looked::default();
    for (keys, answer) in join_all(asked).await {
        let answers = match answer {
            Ok(answers) => answers,
            Err(error) => {
                let why = format!("its key manager gave no usable answer: {error}");
                looked.left.extend(keys.iter().map(|known| left(known, why.clone())));
                continue;
            }
        };
        for (known, (unrecorded, observation)) in keys.into_iter().zip(answers) {
            match observation {
                Observation::Present(found) => looked.found.push((Known { unrecorded, ..known }, found)),
                Observation::Missing => looked.left.push(left(&known, "its key manager has no such key".to_owned())),
                Observation::Unknown { why } => {
                    looked.left.push(left(&known, format!("its key manager gave no usable answer: {why}")));
                }
            }
        }
    }
    Ok(looked)
}

fn left(known: &Known<'_>, why: String) -> LeftAlone {
    LeftAlone { key: known.address.clone(), why }
}

/// For each key: the versions with its marks that are not recorded, and what the place holds of it.
async fn ask(
    observers: &Observers,
    place: &ProviderPlace,
    keys: &[Known<'_>],
    lineage: Option<Uuid>,
) -> Result<Vec<(Vec<String>, Observation)>, ProviderError> {
    let (observer, _) = observers.at(place).await?;
    let mut marked: BTreeMap<_, Vec<Owned>> = BTreeMap::new();
    for owned in observer.owned().await?.into_iter().filter(|owned| lineage.is_some() && owned.lineage == lineage) {
        marked.entry(owned.key_id).or_default().push(owned);
    }
    let (mut unrecorded, mut handles) = (Vec::new(), Vec::new());
    for known in keys {
        let refs: Vec<String> = known.versions.iter().map(|version| version.provider_ref.clone()).collect();
        let of_key = marked.remove(&Some(known.record.id)).unwrap_or_default().into_iter();
        // A mark names its tenant, too: one that somebody else's key carries counts for nothing.
        let new: Vec<String> = of_key
            .filter(|owned| owned.tenant_id.as_ref() == Some(&known.address.tenant_id))
            .map(|owned| owned.provider_ref)
            .filter(|found| !refs.contains(found))
            .collect();
        let all = KnownVersions::from([(known.record.id, refs.into_iter().chain(new.iter().cloned()).collect())]);
        handles.push(handle(known.address, &known.record.key, Some(known.record), &all));
        unrecorded.push(new);
    }
    Ok(unrecorded.into_iter().zip(observer.observe(&handles).await).collect())
}

/// What is to be recorded of a key; none where everything is. An error says why nothing may be.
fn judge(
    known: &Known<'_>,
    found: &ObservedKey,
    recorded: &Recorded,
    now: Timestamp,
) -> Result<Option<(Reclaimed, Vec<Write>)>, String> {
    let Known { address, record, versions, unrecorded } = known;
    let Some(before) = &record.primary_version else { return Ok(None) };
    let primary = found.primary.as_deref();
    if unrecorded.is_empty() && primary == Some(&*before.provider_ref) {
        return Ok(None);
    }
    if let Some(rotation) = recorded.unfinished_of(record.id) {
        return Err(format!("its {} is unfinished: `keywheel apply` finishes it first", rotation.workflow));
    }
    let Some(primary) = primary else {
        return Err("its stable name leads nowhere: lead it to the version that is to be primary first".to_owned());
    };
    let terms = terms(known, recorded);
    let new = new_versions(known, found, primary, &terms, now)?;
    let active = match (versions.iter().find(|old| old.provider_ref == primary), new.iter().find(|it| is(it, primary)))
    {
        (_, Some(new)) => new.clone(),
        (Some(old), None) if matches!(old.state, VersionState::Active | VersionState::Deactivated) => VersionRecord {
            state: VersionState::Active,
            deactivated_at: None,
            retention: None,
            retain_until: None,
            ..old.clone()
        },
        (Some(old), None) => {
            return Err(format!("its stable name leads to {primary}, which is recorded as {}", old.state));
        }
        (None, None) => {
            return Err(format!(
                "its stable name leads to {primary}, which does not carry its marks: find out who moved it, and lead it back"
            ));
        }
    };
    // By its age: where a key was adopted since, what is older has a higher number.
    let made_at = |version: &VersionRecord| version.provider_created_at.or(version.activated_at);
    let newest = new.iter().chain(versions).max_by_key(|version| (made_at(version), version.number));
    let reclaimed = Reclaimed {
        key: (*address).clone(),
        recorded_primary: before.provider_ref.clone(),
        primary: primary.to_owned(),
        versions: new.iter().map(ReclaimedVersion::from).collect(),
        held: newest.is_some_and(|newest| !is(newest, primary)),
    };
    let mut rows = new;
    if active.id != before.id {
        rows.push(left_behind(before.clone(), &terms, now));
        if versions.iter().any(|version| version.id == active.id) {
            rows.push(active.clone());
        }
    }
    let key = led_to(record, active, reclaimed.held, now);
    // Two versions are never active at once, not even between two rows: what was primary goes first.
    rows.sort_by_key(|version| version.state == VersionState::Active);
    let rows = rows.into_iter().map(|version| Write::Version(Box::new(version)));
    Ok(Some((reclaimed, rows.chain([Write::Key(Box::new(key))]).collect())))
}

fn is(version: &VersionRecord, provider_ref: &str) -> bool {
    version.provider_ref == provider_ref
}

/// What its policy says of versions that are left behind now.
fn terms(known: &Known<'_>, recorded: &Recorded) -> Retention {
    let name = known.record.key.rotation_policy.clone();
    let policy = name.and_then(|name| recorded.policies.get(&Address::new(known.address.tenant_id.clone(), name)));
    policy.map_or_else(Retention::keep, |policy| Retention::of(&policy.policy))
}

/// A version that is not primary any more, and stays for the whole of its retention from now on.
fn left_behind(version: VersionRecord, terms: &Retention, now: Timestamp) -> VersionRecord {
    VersionRecord {
        state: VersionState::Deactivated,
        deactivated_at: Some(now),
        retain_until: Some(terms.until(now)),
        retention: Some(terms.clone()),
        ..version
    }
}

/// The rows of the versions that are not recorded, the oldest first.
fn new_versions(
    known: &Known<'_>,
    found: &ObservedKey,
    primary: &str,
    terms: &Retention,
    now: Timestamp,
) -> Result<Vec<VersionRecord>, String> {
    let mut made = Vec::new();
    for provider_ref in &known.unrecorded {
        let held = found.versions.iter().find(|version| version.provider_ref == *provider_ref);
        let held =
            held.ok_or_else(|| format!("{provider_ref} carries its marks, and is not shown as a version of it"))?;
        made.push((held.created_at, provider_ref, held.state));
    }
    made.sort();
    let numbers = known.versions.iter().map(|version| version.number).max().unwrap_or(0) + 1..;
    let rows = numbers.zip(made).map(|(number, (created_at, provider_ref, state))| {
        let version = VersionRecord {
            provider_created_at: created_at,
            activated_at: created_at.map(|at| at.min(now)).or(Some(now)),
            ..VersionRecord::new(clock::new_id(), known.record.id, number, provider_ref.clone(), now)
        };
        match state {
            VersionState::Active if provider_ref == primary => {
                Ok(VersionRecord { state: VersionState::Active, ..version })
            }
            _ if provider_ref == primary => {
                Err(format!("its primary {provider_ref} is {state} at its key manager: enable it first"))
            }
            VersionState::PreActivation | VersionState::Active | VersionState::Deactivated => {
                Ok(left_behind(version, terms, now))
            }
            VersionState::Disabled | VersionState::Suspended => Ok(VersionRecord {
                state: VersionState::Disabled,
                disabled_at: Some(now),
                ..left_behind(version, terms, now)
            }),
            VersionState::PendingDestruction | VersionState::Destroyed => {
                let state = state.as_str().replace('_', " ");
                Err(format!("{provider_ref} is {state} at its key manager: cancel that there first"))
            }
        }
    });
    rows.collect()
}

/// The row of a key whose primary is this version.
fn led_to(record: &KeyRecord, active: VersionRecord, held: bool, now: Timestamp) -> KeyRecord {
    let is_same = record.primary_version.as_ref().is_some_and(|before| before.id == active.id);
    let (state, state_reason) = if held && record.state == KeyState::Active {
        let why = "an older version is primary, as after a rollback whose record was lost";
        (KeyState::Held, Some(why.to_owned()))
    } else {
        (record.state, record.state_reason.clone())
    };
    KeyRecord {
        state,
        state_reason,
        last_rotation_at: if is_same { record.last_rotation_at } else { active.activated_at },
        last_slot: record.last_slot.filter(|_| is_same),
        primary_version: Some(active),
        revision: record.revision + 1,
        updated_at: now,
        ..record.clone()
    }
}

impl From<&VersionRecord> for ReclaimedVersion {
    fn from(version: &VersionRecord) -> Self {
        Self {
            number: version.number,
            provider_ref: version.provider_ref.clone(),
            state: version.state,
            created_at: version.provider_created_at,
        }
    }
}

fn audit(reclaimed: &Reclaimed, holder: &Holder, reason: &str, at: Timestamp) -> Write {
    Write::Audit(Box::new(AuditEntry {
        at,
        actor: holder.who.clone(),
        commit: None,
        correlation_id: holder.correlation_id.clone(),
        action: "key.reclaimed".to_owned(),
        object: ObjectRef::key(&reclaimed.key),
        before: Some(json!({ "primary": reclaimed.recorded_primary })),
        after: Some(json!({ "primary": reclaimed.primary, "versions": reclaimed.versions, "reason": reason })),
    }))
}
