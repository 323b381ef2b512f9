//! `encryption_keys` and `key_versions`.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::Value;
use uuid::Uuid;

use super::{Flag, Json, Moment, row};
use crate::model::{
    EncryptionKey, KeyRecord, KeyState, KmsProvider, Name, Origin, Retention, VersionRecord, VersionState,
};

row! {
    /// A live key. Of its primary version it has the identity alone.
    KeyRow of "encryption_keys" {
        id: Uuid,
        tenant_id: Name,
        key_name: Name,
        description: Option<String>,
        key_type: String,
        kms_provider: KmsProvider,
        kms_region: Option<String>,
        kms_alias: Option<String>,
        kms_key_id: Option<String>,
        rotation_policy: Option<Name>,
        rotation_policy_id: Option<Uuid>,
        key_spec: Option<String>,
        key_usage: Option<String>,
        key_policy: Option<Json<BTreeMap<String, Value>>>,
        tags: Json<BTreeMap<String, String>>,
        multi_region: Flag,
        expires_at: Option<NaiveDate>,
        previous_name: Option<Name>,
        state: KeyState,
        state_reason: Option<String>,
        managed_since: Moment,
        adopted: Flag,
        primary_version_id: Option<Uuid>,
        last_rotation_at: Option<Moment>,
        last_slot: Option<Moment>,
        next_rotation_at: Option<Moment>,
        failures: u32,
        retry_at: Option<Moment>,
        created_by_commit: String,
        created_by_author: String,
        created_by_committer: String,
        created_by_signer: Option<String>,
        last_modified_by_commit: String,
        last_modified_by_author: String,
        last_modified_by_committer: String,
        last_modified_by_signer: Option<String>,
        correlation_id: String,
        revision: u64,
        created_at: Moment,
        updated_at: Moment,
    }
}

impl From<&KeyRecord> for KeyRow {
    fn from(record: &KeyRecord) -> Self {
        let key = record.key.clone();
        let (created_by, last_modified_by) = (record.created_by.clone(), record.last_modified_by.clone());
        Self {
            id: record.id,
            tenant_id: key.tenant_id,
            key_name: key.key_name,
            description: key.description,
            key_type: key.key_type,
            kms_provider: key.kms_provider,
            kms_region: key.kms_region,
            kms_alias: key.kms_alias,
            kms_key_id: key.kms_key_id,
            rotation_policy: key.rotation_policy,
            rotation_policy_id: record.rotation_policy_id,
            key_spec: key.key_spec,
            key_usage: key.key_usage,
            key_policy: key.key_policy.map(Json),
            tags: Json(key.tags),
            multi_region: Flag(key.multi_region),
            expires_at: key.expires_at,
            previous_name: key.previous_name,
            state: record.state,
            state_reason: record.state_reason.clone(),
            managed_since: Moment(record.managed_since),
            adopted: Flag(record.adopted),
            primary_version_id: record.primary_version.as_ref().map(|version| version.id),
            last_rotation_at: record.last_rotation_at.map(Moment),
            last_slot: record.last_slot.map(Moment),
            next_rotation_at: record.next_rotation_at.map(Moment),
            failures: record.failures,
            retry_at: record.retry_at.map(Moment),
            created_by_commit: created_by.commit,
            created_by_author: created_by.author,
            created_by_committer: created_by.committer,
            created_by_signer: created_by.signer,
            last_modified_by_commit: last_modified_by.commit,
            last_modified_by_author: last_modified_by.author,
            last_modified_by_committer: last_modified_by.committer,
            last_modified_by_signer: last_modified_by.signer,
            correlation_id: record.correlation_id.clone(),
            revision: record.revision,
            created_at: Moment(record.created_at),
            updated_at: Moment(record.updated_at),
        }
    }
}

impl KeyRow {
    /// The record of this row and the row of its primary version.
    pub(in crate::store) fn into_record(self, primary_version: Option<VersionRow>) -> KeyRecord {
        KeyRecord {
            id: self.id,
            key: EncryptionKey {
                tenant_id: self.tenant_id,
                key_name: self.key_name,
                description: self.description,
                key_type: self.key_type,
                kms_provider: self.kms_provider,
                kms_region: self.kms_region,
                kms_alias: self.kms_alias,
                kms_key_id: self.kms_key_id,
                rotation_policy: self.rotation_policy,
                key_spec: self.key_spec,
                key_usage: self.key_usage,
                key_policy: self.key_policy.map(|json| json.0),
                tags: self.tags.0,
                multi_region: self.multi_region.0,
                expires_at: self.expires_at,
                previous_name: self.previous_name,
            },
            rotation_policy_id: self.rotation_policy_id,
            state: self.state,
            state_reason: self.state_reason,
            managed_since: self.managed_since.0,
            adopted: self.adopted.0,
            primary_version: primary_version.map(VersionRecord::from),
            last_rotation_at: self.last_rotation_at.map(|moment| moment.0),
            last_slot: self.last_slot.map(|moment| moment.0),
            next_rotation_at: self.next_rotation_at.map(|moment| moment.0),
            failures: self.failures,
            retry_at: self.retry_at.map(|moment| moment.0),
            created_by: Origin {
                commit: self.created_by_commit,
                author: self.created_by_author,
                committer: self.created_by_committer,
                signer: self.created_by_signer,
            },
            last_modified_by: Origin {
                commit: self.last_modified_by_commit,
                author: self.last_modified_by_author,
                committer: self.last_modified_by_committer,
                signer: self.last_modified_by_signer,
            },
            correlation_id: self.correlation_id,
            revision: self.revision,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
        }
    }
}

row! {
    /// A version.
    VersionRow of "key_versions" {
        id: Uuid,
        key_id: Uuid,
        number: u32,
        provider_ref: String,
        state: VersionState,
        rotation_id: Option<Uuid>,
        orphan: Flag,
        provider_created_at: Option<Moment>,
        activated_at: Option<Moment>,
        deactivated_at: Option<Moment>,
        compromised_at: Option<Moment>,
        retention: Option<Json<Retention>>,
        retain_until: Option<Moment>,
        disabled_at: Option<Moment>,
        destroy_at: Option<Moment>,
        destroyed_at: Option<Moment>,
        rewrapped_at: Option<Moment>,
        needed_at: Option<Moment>,
        created_at: Moment,
    }
}

impl From<&VersionRecord> for VersionRow {
    fn from(record: &VersionRecord) -> Self {
        Self {
            id: record.id,
            key_id: record.key_id,
            number: record.number,
            provider_ref: record.provider_ref.clone(),
            state: record.state,
            rotation_id: record.rotation_id,
            orphan: Flag(record.orphan),
            provider_created_at: record.provider_created_at.map(Moment),
            activated_at: record.activated_at.map(Moment),
            deactivated_at: record.deactivated_at.map(Moment),
            compromised_at: record.compromised_at.map(Moment),
            retention: record.retention.clone().map(Json),
            retain_until: record.retain_until.map(Moment),
            disabled_at: record.disabled_at.map(Moment),
            destroy_at: record.destroy_at.map(Moment),
            destroyed_at: record.destroyed_at.map(Moment),
            rewrapped_at: record.rewrapped_at.map(Moment),
            needed_at: record.needed_at.map(Moment),
            created_at: Moment(record.created_at),
        }
    }
}

impl From<VersionRow> for VersionRecord {
    fn from(row: VersionRow) -> Self {
        Self {
            id: row.id,
            key_id: row.key_id,
            number: row.number,
            provider_ref: row.provider_ref,
            state: row.state,
            rotation_id: row.rotation_id,
            orphan: row.orphan.0,
            provider_created_at: row.provider_created_at.map(|moment| moment.0),
            activated_at: row.activated_at.map(|moment| moment.0),
            deactivated_at: row.deactivated_at.map(|moment| moment.0),
            compromised_at: row.compromised_at.map(|moment| moment.0),
            retention: row.retention.map(|json| json.0),
            retain_until: row.retain_until.map(|moment| moment.0),
            disabled_at: row.disabled_at.map(|moment| moment.0),
            destroy_at: row.destroy_at.map(|moment| moment.0),
            destroyed_at: row.destroyed_at.map(|moment| moment.0),
            rewrapped_at: row.rewrapped_at.map(|moment| moment.0),
            needed_at: row.needed_at.map(|moment| moment.0),
            created_at: row.created_at.0,
        }
    }
}
