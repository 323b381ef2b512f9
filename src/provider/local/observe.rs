//! What the index says, in the words of [`Observe`](crate::provider::Observe).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::index::{Index, Key, Version};
use super::version_ref::{VersionRef, adopted_name, key_name};
use crate::model::{Observation, ObservedKey, ObservedVersion};
use crate::provider::{CreateVersion, Found, KeyHandle, Owned};

/// The key specs that mean AES-256-GCM: the cipher's own name, and AWS's for its default.
pub(super) const KEY_SPECS: [&str; 2] = ["SYMMETRIC_DEFAULT", "AES_256"];
/// The one key usage.
pub(super) const KEY_USAGE: &str = "ENCRYPT_DECRYPT";

/// What the keystore holds for one key.
pub(super) fn observe(index: &Index, handle: &KeyHandle) -> Observation {
    let tenant_id = &handle.address.tenant_id;
    let own = find(index, handle);
    let named = adopted_name(handle)
        .and_then(|name| index.get(name, tenant_id)?.primary.map(|number| VersionRef { key: name, number }));
    if own.is_none() && named.is_none() {
        return Observation::Missing;
    }
    let versions = own.into_iter().flat_map(|(name, key)| {
        key.versions.iter().map(move |version| ObservedVersion {
            provider_ref: VersionRef { key: name, number: version.number }.to_string(),
            state: version.state,
            created_at: Some(version.created_at),
        })
    });
    // Both names of the one spec are right; the document's own is no drift.
    let spec = KEY_SPECS.into_iter().find(|spec| handle.key.key_spec.as_deref() == Some(spec)).unwrap_or(KEY_SPECS[0]);
    Observation::Present(ObservedKey {
        primary: primary(index, handle).map(|version| version.to_string()),
        named: named.map(|version| version.to_string()),
        versions: versions.collect(),
        settings: BTreeMap::from([
            ("key_spec".to_owned(), spec.to_owned()),
            ("key_usage".to_owned(), KEY_USAGE.to_owned()),
        ]),
    })
}

/// Every version, by key and number.
pub(super) fn owned(index: &Index) -> Vec<Owned> {
    let versions = index.iter().flat_map(|(name, key)| key.versions.iter().map(move |version| (name, key, version)));
    versions
        .map(|(name, key, version)| Owned {
            provider_ref: VersionRef { key: name, number: version.number }.to_string(),
            lineage: Some(version.lineage),
            key_id: Some(version.key_id),
            tenant_id: Some(key.tenant_id.clone()),
        })
        .collect()
}

/// The primary version of a key.
pub(super) fn primary(index: &Index, handle: &KeyHandle) -> Option<VersionRef> {
    let (name, key) = find(index, handle)?;
    Some(VersionRef { key: name, number: key.primary? })
}

/// The newest version before a rotation.
pub(super) fn intent(index: &Index, handle: &KeyHandle) -> Value {
    json!({ "latest_version": find(index, handle).map_or(0, |(_, key)| key.latest()) })
}

/// The versions that a rotation made, the oldest first.
pub(super) fn find_created(index: &Index, request: &CreateVersion) -> Vec<Found> {
    let Some((name, key)) = find(index, &request.key) else { return Vec::new() };
    let marked = key.versions.iter().filter(|version| version.rotation_id == request.rotation_id);
    marked.map(|version| found(name, version)).collect()
}

/// A version as a probe gives it.
pub(super) fn found(name: Uuid, version: &Version) -> Found {
    Found {
        provider_ref: VersionRef { key: name, number: version.number }.to_string(),
        created_at: Some(version.created_at),
    }
}

/// The key that a handle means, with its name.
pub(super) fn find<'a>(index: &'a Index, handle: &KeyHandle) -> Option<(Uuid, &'a Key)> {
    let name = key_name(handle)?;
    index.get(name, &handle.address.tenant_id).map(|key| (name, key))
}
