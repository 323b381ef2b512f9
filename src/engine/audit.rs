//! The audit log for readers: its entries, and why a key is as it is.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::model::{Address, ObjectKind, Timestamp};
use crate::store::{AuditFilter, AuditLink};

use super::load::load_with_record;
use super::{EngineError, Workspace, clock};

/// The entries that match.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AuditReport {
    /// The instant at which it was read.
    pub as_of: Timestamp,
    /// Are there more than the limit lets through?
    pub truncated: bool,
    /// The entries, the newest first.
    pub entries: Vec<AuditLink>,
}

/// Why a key was as it was at an instant: the entries that made it so.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Why {
    /// The key.
    #[schemars(with = "String")]
    pub key: Address,
    /// The instant that is asked about.
    pub at: Timestamp,
    /// Its primary version then.
    pub primary: Option<String>,
    /// What made that version primary.
    pub made_primary_by: Option<AuditLink>,
    /// The newest entry about the key.
    pub key_entry: Option<AuditLink>,
    /// The policy in force then.
    pub policy: Option<String>,
    /// The newest entry about that policy.
    pub policy_entry: Option<AuditLink>,
}

/// Entries of the audit log, the newest first.
///
/// # Errors
/// There is no state database, or it could not be read.
pub async fn audit(
    workspace: &Workspace,
    state: Option<&str>,
    filter: &AuditFilter,
) -> Result<AuditReport, EngineError> {
    let (_, state, _) = load_with_record(workspace, state).await?.with_state()?;
    // One more than was asked for tells whether there are more.
    let one_more = AuditFilter { limit: filter.limit.map(|limit| limit.saturating_add(1)), ..filter.clone() };
    let mut entries = state.audit(&one_more).await?;
    let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
    let truncated = entries.len() > limit;
    entries.truncate(limit);
    Ok(AuditReport { as_of: clock::now(), truncated, entries })
}

/// How many entries are read at once.
const PAGE: u32 = 1024;

/// Gives every entry to `sink`, chain by chain, as `CloudEvents` 1.0 in their JSON form.
///
/// # Errors
/// There is no state database, it could not be read, or the sink failed.
pub async fn export_audit<E: From<EngineError>>(
    workspace: &Workspace,
    state: Option<&str>,
    mut sink: impl FnMut(Value) -> Result<(), E>,
) -> Result<(), E> {
    let (_, state, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let source = format!("urn:keywheel:{}", recorded.lineage.unwrap_or_default());
    let mut last: Option<(String, u64)> = None;
    loop {
        let after = last.as_ref().map(|(tenant, seq)| (tenant.as_str(), *seq));
        let page = state.audit_after(after, PAGE).await.map_err(EngineError::from)?;
        let Some(end) = page.last() else { return Ok(()) };
        last = Some((chain(end).to_owned(), end.seq));
        for link in page {
            sink(cloud_event(&source, &link))?;
        }
    }
}

/// The name of an entry's chain: its tenant, or nothing for the repository as a whole.
fn chain(link: &AuditLink) -> &str {
    link.object.tenant_id.as_ref().map_or("", |tenant| tenant.as_str())
}

fn cloud_event(source: &str, link: &AuditLink) -> Value {
    json!({
        "specversion": "1.0",
        "id": format!("{}/{}", chain(link), link.seq),
        "source": source,
        "type": format!("keywheel.{}", link.action),
        "subject": format!("{} {}", link.object.kind, link.object),
        "time": link.at,
        "datacontenttype": "application/json",
        "data": link,
    })
}

/// Why a key was as it was at an instant.
///
/// # Errors
/// There is no state database, it could not be read, or nothing is recorded of such a key until then.
pub async fn why(workspace: &Workspace, state: Option<&str>, key: &Address, at: Timestamp) -> Result<Why, EngineError> {
    let (_, state, _) = load_with_record(workspace, state).await?.with_state()?;
    let until =
        |object: &Address| AuditFilter { object: Some(object.clone()), until: Some(at), ..AuditFilter::default() };
    let mut entries = state.audit(&until(key)).await?;
    entries.retain(|entry| entry.object.kind == ObjectKind::EncryptionKey);
    let Some(newest) = entries.first().cloned() else {
        let message = format!("nothing is recorded of a key {key} until {}", at.format("%Y-%m-%dT%H:%M:%SZ"));
        return Err(EngineError::new("audit/unknown-key", message).help("`keywheel audit list` shows what is recorded"));
    };
    let text = |entry: &AuditLink, field: &str| Some(entry.after.as_ref()?.get(field)?.as_str()?.to_owned());
    let primary_of = |entry: &AuditLink| text(entry, "primary").or_else(|| text(entry, "provider_ref"));
    let made = entries.iter().find(|entry| primary_of(entry).is_some()).cloned();
    let policy = entries.iter().find_map(|entry| text(entry, "rotation_policy"));
    let mut policy_entry = None;
    if let Some(name) = policy.as_ref().and_then(|name| name.parse().ok()) {
        let entries = state.audit(&until(&Address::new(key.tenant_id.clone(), name))).await?;
        policy_entry = entries.into_iter().find(|entry| entry.object.kind == ObjectKind::RotationPolicy);
    }
    Ok(Why {
        key: key.clone(),
        at,
        primary: made.as_ref().and_then(primary_of),
        made_primary_by: made,
        key_entry: Some(newest),
        policy,
        policy_entry,
    })
}
