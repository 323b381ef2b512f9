//! What services report of their use of keys.
//!
//! A report carries the total so far, of one version and one source, so that reporting twice counts once. It takes no lock:
//! services report while an apply goes on.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Address, ObjectRef, Timestamp, UsageCounter};
use crate::plan::usage_limit;
use crate::store;

use super::load::load_with_record;
use super::status::policy_of;
use super::{EngineError, Workspace, clock, names, planning};

/// A total that somebody counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageOptions {
    /// The key.
    pub key: Address,
    /// The number of the version; none for the primary.
    pub version: Option<u32>,
    /// Who counts.
    pub source: String,
    /// How often that one has used the version, in all.
    pub total: u64,
    /// Another state database than `keywheel.yaml` names.
    pub state: Option<String>,
}

/// How often a version was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageReport {
    /// When it was reported.
    pub as_of: Timestamp,
    /// The key.
    pub object: ObjectRef,
    /// The number of the version.
    pub version: u32,
    /// Does that version encrypt now? Only its use makes a key due.
    pub is_primary: bool,
    /// How often it was used, all sources together.
    pub usage_count: u64,
    /// From how often on its policy warns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_threshold_warning: Option<u64>,
    /// From how often on its policy rotates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_usage_count: Option<u64>,
}

/// Records how often a version was used.
///
/// # Errors
/// There is no such key or version, or the state database could not be written.
pub async fn report_usage(workspace: &Workspace, options: &UsageOptions) -> Result<UsageReport, EngineError> {
    let state = options.state.as_deref();
    let (desired, reader, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let address = &options.key;
    let record =
        recorded.keys.get(address).ok_or_else(|| names::unknown_address("key", address, recorded.keys.keys()))?;
    let primary = record.primary_version.as_ref();
    let version = match options.version {
        None => primary.cloned().ok_or_else(|| {
            EngineError::new("usage/no-version", format!("the first version of {address} is not ready"))
                .help("`keywheel apply` goes on with it")
        })?,
        Some(number) => {
            let versions = reader.versions(record.id).await?;
            versions.into_iter().find(|version| version.number == number).ok_or_else(|| {
                EngineError::new("version/unknown", format!("{address} has no version {number}"))
                    .help(format!("`keywheel explain {address}` lists them"))
            })?
        }
    };
    let as_of = clock::now();
    let counter = UsageCounter {
        key_version_id: version.id,
        source: options.source.clone(),
        total: options.total,
        reported_at: as_of,
    };
    let usage_count = store::open_or_create(&desired.location(state)?).await?.report_usage(&counter).await?;
    let applied = planning::applied_repository(&desired.repository, &recorded);
    let policy = policy_of(&applied, address, record).map(|(_, policy)| policy);
    Ok(UsageReport {
        as_of,
        object: ObjectRef::key(address),
        version: version.number,
        is_primary: primary.is_some_and(|primary| primary.id == version.id),
        usage_count,
        usage_threshold_warning: policy.and_then(|policy| policy.usage_threshold_warning),
        max_usage_count: policy.and_then(usage_limit),
    })
}
