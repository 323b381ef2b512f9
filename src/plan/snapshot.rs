//! What the record knows of keys' ages, as a file that a review can have: no settings, no names at a key manager, nothing
//! secret.
//!
//! Whoever may read the state database writes it; whoever reviews a change reads it, on a machine that must not reach the
//! database. Its digest shows accidents and edits; it is no signature.

use std::collections::BTreeMap;
use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::saved::finish;
use crate::model::{Address, KeyState, KmsProvider, Name, Recorded, Timestamp, VersionRecord, VersionState};

/// The version of the file's form: a minor one adds fields, a major one may change them.
const FORMAT_VERSION: &str = "1.0";

/// The ages of every key in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateSnapshot {
    /// When it was taken.
    pub as_of: Timestamp,
    /// The commit that was applied last; absent before the first apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// SHA-256 over this whole document with this field empty.
    pub digest: String,
    /// The version of this document's form.
    pub format_version: String,
    /// The keywheel that made it.
    pub keywheel_version: String,
    /// Every key that is not forgotten, by its address.
    pub keys: Vec<KeyAge>,
    /// The identity of the state database.
    pub lineage: Option<Uuid>,
}

/// What the record knows of one key's past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyAge {
    /// The key's name.
    pub key_name: Name,
    /// The key manager that holds it.
    pub kms_provider: KmsProvider,
    /// When it was last rotated, by whatever cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation_at: Option<Timestamp>,
    /// The slot that the last rotation served, if it was a scheduled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<Timestamp>,
    /// When it came under keywheel's care.
    pub managed_since: Timestamp,
    /// How many old versions exist at the key manager: deactivated, disabled or pending destruction.
    pub retained_versions: u32,
    /// The policy by which it rotates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_policy: Option<Name>,
    /// Its state.
    pub state: KeyState,
    /// Whose it is.
    pub tenant_id: Name,
    /// When the material of its primary version was made, by the key manager's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_created_at: Option<Timestamp>,
}

impl KeyAge {
    /// `TENANT/NAME`.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::new(self.tenant_id.clone(), self.key_name.clone())
    }
}

/// Why a file is no state snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseSnapshotError {
    /// It cannot be read, or is not JSON of this form.
    #[error("this is not a state snapshot: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another major version wrote it.
    #[error("this state snapshot has format {found}, and this keywheel reads 1.x")]
    Format {
        /// The format that it has.
        found: String,
    },
    /// Its content does not have its digest.
    #[error("this state snapshot's content does not have the digest that it claims: it was altered")]
    Altered,
}

impl StateSnapshot {
    /// What a record, with every version of its keys, says at an instant.
    #[must_use]
    pub fn of(recorded: &Recorded, versions: &[VersionRecord], as_of: Timestamp) -> Self {
        let mut retained: BTreeMap<Uuid, u32> = BTreeMap::new();
        for version in versions {
            let is_retained = matches!(
                version.state,
                VersionState::Deactivated
                    | VersionState::Suspended
                    | VersionState::Disabled
                    | VersionState::PendingDestruction
            );
            *retained.entry(version.key_id).or_default() += u32::from(is_retained);
        }
        let keys = recorded.keys.values().map(|record| KeyAge {
            key_name: record.key.key_name.clone(),
            kms_provider: record.key.kms_provider,
            last_rotation_at: record.last_rotation_at,
            last_slot: record.last_slot,
            managed_since: record.managed_since,
            retained_versions: retained.get(&record.id).copied().unwrap_or(0),
            rotation_policy: record.key.rotation_policy.clone(),
            state: record.state,
            tenant_id: record.key.tenant_id.clone(),
            version_created_at: record.primary_version.as_ref().and_then(|version| version.provider_created_at),
        });
        let mut snapshot = Self {
            as_of,
            commit: recorded.last_applied.as_ref().map(|last| last.origin.commit.clone()),
            digest: String::new(),
            format_version: FORMAT_VERSION.to_owned(),
            keywheel_version: env!("CARGO_PKG_VERSION").to_owned(),
            keys: keys.collect(),
            lineage: recorded.lineage,
        };
        snapshot.digest = snapshot.digest_of_all();
        snapshot
    }

    /// Reads one, and checks its digest.
    ///
    /// # Errors
    /// See [`ParseSnapshotError`].
    pub fn parse(reader: impl io::Read) -> Result<Self, ParseSnapshotError> {
        let content: serde_json::Value = serde_json::from_reader(io::BufReader::new(reader))?;
        // Before the fields are judged: another version may have others.
        if let Some(found) = content.get("format_version").and_then(|version| version.as_str())
            && found.split('.').next() != Some("1")
        {
            return Err(ParseSnapshotError::Format { found: found.chars().take(32).collect() });
        }
        let mut snapshot: Self = serde_json::from_value(content)?;
        let claimed = std::mem::take(&mut snapshot.digest);
        if snapshot.digest_of_all() != claimed {
            return Err(ParseSnapshotError::Altered);
        }
        snapshot.digest = claimed;
        Ok(snapshot)
    }

    /// Writes it, a field a line, so that two of them can be compared.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, mut writer: impl io::Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut writer, self)?;
        writer.write_all(b"\n")
    }

    /// Fields stand in the alphabet's order, so that a snapshot has one form only.
    fn digest_of_all(&self) -> String {
        // Plain data: it cannot fail, and what has no form matches nothing.
        let mut context = Context::new(&SHA256);
        context.update(&serde_json::to_vec(self).unwrap_or_default());
        finish(context)
    }
}
