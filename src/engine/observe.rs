//! What the key managers hold: every place asked at once, one place's trouble never another's.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use uuid::Uuid;

use crate::diagnostic::Finding;
use crate::document::Repository;
use crate::model::{Address, EncryptionKey, KeyRecord, KmsProvider, Name, Observation, Recorded};
use crate::plan::continued_key;
use crate::provider::{KeyHandle, Owned, ProviderPlace};

use super::providers::{Observers, place};
use super::{Event, Progress};

/// What was observed.
#[derive(Debug, Default)]
pub struct Observed {
    /// By key.
    pub keys: BTreeMap<Address, Observation>,
    /// Tenants of whose keys not one has an answer, with the reason.
    pub unreachable: BTreeMap<Name, String>,
    /// Keys of the desired tenants that carry keywheel's marks, where the record is empty: as `PROVIDER REF`.
    pub owned: Vec<String>,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// The recorded versions of each key, the oldest first; only `drift` asks about more than the primary.
pub type KnownVersions = BTreeMap<Uuid, Vec<String>>;

/// Asks about every desired key.
pub async fn observe(
    observers: &Observers,
    desired: &Repository,
    recorded: &Recorded,
    versions: &KnownVersions,
    progress: &dyn Progress,
) -> Observed {
    let mut places: BTreeMap<ProviderPlace, Vec<(Address, KeyHandle)>> = BTreeMap::new();
    for (address, key) in &desired.keys {
        if desired.failed_tenants.contains(&address.tenant_id) {
            continue;
        }
        let record = continued_key(desired, recorded, address, &key.value).map(|(_, record)| record);
        let handle = handle(address, &key.value, record, versions);
        places.entry(place(observers.providers(), &key.value)).or_default().push((address.clone(), handle));
    }
    progress.event(Event::PhaseStarted { phase: "observe", total: Some(desired.keys.len()) });
    let first_run = recorded.is_unused();
    let unfinished: BTreeSet<Uuid> = recorded.unfinished.iter().map(|rotation| rotation.key_id).collect();
    let answers =
        join_all(places.into_iter().map(|(place, keys)| ask(observers, place, keys, first_run, &unfinished, progress)))
            .await;
    let mut observed = Observed::default();
    for answer in answers {
        observed.keys.extend(answer.keys);
        observed.owned.extend(answer.owned);
        observed.findings.extend(answer.findings);
    }
    observed.unreachable = unreachable(&observed.keys);
    observed
}

/// A key as its provider needs to know it.
#[must_use]
pub fn handle(
    address: &Address,
    key: &EncryptionKey,
    record: Option<&KeyRecord>,
    versions: &KnownVersions,
) -> KeyHandle {
    let primary = record.and_then(|record| record.primary_version.as_ref()).map(|version| version.provider_ref.clone());
    let known = record.and_then(|record| versions.get(&record.id)).cloned();
    KeyHandle {
        key_id: record.map(|record| record.id),
        address: address.clone(),
        key: key.clone(),
        versions: known.unwrap_or_else(|| primary.iter().cloned().collect()),
        primary,
    }
}

async fn ask(
    observers: &Observers,
    place: ProviderPlace,
    keys: Vec<(Address, KeyHandle)>,
    first_run: bool,
    unfinished: &BTreeSet<Uuid>,
    progress: &dyn Progress,
) -> Observed {
    let (addresses, handles): (Vec<Address>, Vec<KeyHandle>) = keys.into_iter().unzip();
    let tenants: BTreeSet<Name> = addresses.iter().map(|address| address.tenant_id.clone()).collect();
    let mut answer = Observed::default();
    let result = async {
        let (observer, findings) = observers.at(&place).await?;
        // A lost or mistyped database is not a first run: keys that another record made must not be made twice.
        let owned = if first_run { observer.owned().await? } else { Vec::new() };
        Ok::<_, crate::provider::ProviderError>((observer.observe(&handles).await, owned, findings))
    };
    match result.await {
        Ok((observations, owned, findings)) => {
            let observations = whole_keystore(&place, &handles, observations, unfinished);
            answer.keys = addresses.into_iter().zip(observations).collect();
            // Another repository of other tenants may share the account.
            let ours = |owned: &Owned| owned.tenant_id.as_ref().is_none_or(|tenant| tenants.contains(tenant));
            answer.owned = owned
                .into_iter()
                .filter(ours)
                .map(|owned| format!("{} {}", place.provider, owned.provider_ref))
                .collect();
            answer.findings = findings;
        }
        Err(error) => {
            let why = match &error.help {
                Some(help) => format!("{error}; {help}"),
                None => error.to_string(),
            };
            answer.keys =
                addresses.into_iter().map(|address| (address, Observation::Unknown { why: why.clone() })).collect();
        }
    }
    progress.event(Event::Advanced { phase: "observe", by: handles.len() });
    answer
}

/// A keystore that is behind the record was cut off, replaced or lost. It would take new versions in the place of the
/// old ones, so that nothing it says counts.
fn whole_keystore(
    place: &ProviderPlace,
    handles: &[KeyHandle],
    observations: Vec<Observation>,
    unfinished: &BTreeSet<Uuid>,
) -> Vec<Observation> {
    let is_behind = |handle: &KeyHandle, observation: &Observation| {
        let Some(recorded) = handle.primary.as_deref() else { return false };
        let Observation::Present(found) = observation else { return *observation == Observation::Missing };
        let position = |wanted: &str| found.versions.iter().position(|version| version.provider_ref == wanted);
        // A rotation under way is ahead of the record, or a rollback behind it.
        let under_way = handle.key_id.is_some_and(|id| unfinished.contains(&id));
        match (position(recorded), found.primary.as_deref().and_then(position)) {
            (None, _) => true,
            (Some(recorded), primary) => !under_way && primary.is_none_or(|primary| primary < recorded),
        }
    };
    let pairs = handles.iter().zip(&observations);
    let lacking = pairs.filter(|(handle, observation)| is_behind(handle, observation)).count();
    if place.provider != KmsProvider::Local || lacking == 0 {
        return observations;
    }
    let keys = if lacking == 1 { "1 key".to_owned() } else { format!("{lacking} keys") };
    let why = format!(
        "the keystore is behind the record of {keys}: it was cut off, replaced or lost. Put its newest copy back, or \
         remove the documents of keys that are gone for good"
    );
    observations.iter().map(|_| Observation::Unknown { why: why.clone() }).collect()
}

/// A tenant none of whose keys has an answer is left out as a whole: nothing of it may be half applied.
fn unreachable(keys: &BTreeMap<Address, Observation>) -> BTreeMap<Name, String> {
    let mut tenants: BTreeMap<&Name, Option<&str>> = BTreeMap::new();
    for (address, observation) in keys {
        let why = match observation {
            Observation::Unknown { why } => Some(why.as_str()),
            Observation::Missing | Observation::Present(_) => None,
        };
        tenants.entry(&address.tenant_id).and_modify(|known| *known = known.and(why)).or_insert(why);
    }
    let left_out = tenants.into_iter().filter_map(|(tenant, why)| Some((tenant.clone(), why?)));
    left_out.map(|(tenant, why)| (tenant, format!("its key manager gave no usable answer: {why}"))).collect()
}
