//! A record to look at: documents as if they had been applied.

use chrono::Duration;
use uuid::Uuid;

use crate::document::{self, Repository, SourceFile};
use crate::model::{
    Address, EncryptionKey, KeyRecord, KeyState, Origin, PolicyRecord, Recorded, RotationPolicy, Timestamp,
    VersionRecord, VersionState,
};
use crate::provider::capabilities;

/// The instant that the tests call now: a Monday.
pub(super) const NOW: &str = "2026-11-23T12:00:00Z";

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// The documents of `policies/acme/all.yaml` and of `keywheel.yaml`, which must be right.
pub(super) fn documents(config: &str, text: &str) -> Repository {
    let file =
        |path: &str, text: &str| SourceFile { path: path.into(), content: text.as_bytes().into(), symlink: false };
    let config = format!("apiVersion: keywheel/v1\nkind: Config\n{config}");
    let (common, own) = text.split_once("=====\n").unwrap_or(("", text));
    let files = [file("policies/rules.yaml", common), file("policies/acme/all.yaml", own)];
    let loaded = document::load(Some(&file("keywheel.yaml", &config)), &files, capabilities, at(NOW));
    assert!(!loaded.findings.iter().any(crate::diagnostic::Finding::is_error), "{:#?}", loaded.findings);
    loaded.repository
}

/// A policy that rotates daily at 02:00 UTC, with further fields.
pub(super) fn policy(name: &str, fields: &str) -> String {
    format!(
        "---\napiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: {name}\nkey_type: system_data\n{fields}\n"
    )
}

/// A key under a policy.
pub(super) fn key(name: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: {name}\nkey_type: system_data\nrotation_policy: {policy}\n"
    )
}

/// The record after the documents were applied: every key made three days before [`NOW`], and never rotated since.
pub(super) fn applied(documents: &Repository) -> Recorded {
    let mut recorded = Recorded { lineage: Some(Uuid::from_u128(1)), ..Recorded::default() };
    let mut ids = 2..;
    let mut id = || Uuid::from_u128(ids.next().unwrap());
    let then = at(NOW) - Duration::days(3);
    for (address, policy) in &documents.policies {
        recorded.policies.insert(address.clone(), policy_record(id(), &policy.value, then));
    }
    for (address, key) in &documents.keys {
        let policy = key.value.rotation_policy.clone().map(|name| Address::new(address.tenant_id.clone(), name));
        let policy = policy.and_then(|policy| recorded.policies.get(&policy)).map(|record| record.id);
        recorded.keys.insert(address.clone(), key_record(id(), id(), &key.value, policy, then));
    }
    recorded
}

fn policy_record(id: Uuid, policy: &RotationPolicy, at: Timestamp) -> PolicyRecord {
    PolicyRecord {
        id,
        policy: policy.clone(),
        last_rotation_at: None,
        next_rotation_at: None,
        created_by: Origin::default(),
        last_modified_by: Origin::default(),
        created_by_token_id: None,
        last_modified_by_token_id: None,
        correlation_id: "first".to_owned(),
        revision: 1,
        created_at: at,
        updated_at: at,
    }
}

fn key_record(id: Uuid, version: Uuid, key: &EncryptionKey, policy: Option<Uuid>, at: Timestamp) -> KeyRecord {
    KeyRecord {
        id,
        key: key.clone(),
        rotation_policy_id: policy,
        state: KeyState::Active,
        state_reason: None,
        managed_since: at,
        adopted: false,
        primary_version: Some(VersionRecord {
            state: VersionState::Active,
            provider_created_at: Some(at),
            activated_at: Some(at),
            ..VersionRecord::new(version, id, 1, format!("{}:1", key.key_name), at)
        }),
        last_rotation_at: None,
        last_slot: None,
        next_rotation_at: None,
        failures: 0,
        retry_at: None,
        created_by: Origin::default(),
        last_modified_by: Origin::default(),
        correlation_id: "first".to_owned(),
        revision: 1,
        created_at: at,
        updated_at: at,
    }
}
