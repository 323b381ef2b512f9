//! The audit log for readers: its entries, and why a key is as it is.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::document::Repository;
use crate::model::{Address, Name, ObjectKind, Recorded, Timestamp};
use crate::store::{AuditFilter, AuditLink, ReadState};

use super::load::load_with_record;
use super::{EngineError, Workspace, clock, names};

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
/// There is no state database, it could not be read, or the filter names what nobody knows and nothing was ever recorded of.
pub async fn audit(
    workspace: &Workspace,
    state: Option<&str>,
    filter: &AuditFilter,
) -> Result<AuditReport, EngineError> {
    let (desired, state, recorded) = load_with_record(workspace, state).await?.with_state()?;
    // One more than was asked for tells whether there are more.
    let one_more = AuditFilter { limit: filter.limit.map(|limit| limit.saturating_add(1)), ..filter.clone() };
    let mut entries = state.audit(&one_more).await?;
    if entries.is_empty() {
        // What is gone has its entries still, if not within this time.
        let ever = AuditFilter { since: None, until: None, limit: Some(1), ..filter.clone() };
        if state.audit(&ever).await?.is_empty() {
            known(&desired.repository, &recorded, filter)?;
        }
    }
    let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
    let truncated = entries.len() > limit;
    entries.truncate(limit);
    Ok(AuditReport { as_of: clock::now(), truncated, entries })
}

/// A filter that names what nobody knows is a mistake, and not an empty list.
fn known(desired: &Repository, recorded: &Recorded, filter: &AuditFilter) -> Result<(), EngineError> {
    let keys = || recorded.keys.keys().chain(desired.keys.keys());
    let objects = || keys().chain(recorded.policies.keys()).chain(desired.policies.keys());
    if let Some(object) = &filter.object
        && !objects().any(|known| known == object)
    {
        return Err(names::unknown_address("policy or key", object, objects()));
    }
    let tenants = || recorded.tenants().chain(desired.tenants.keys()).chain(objects().map(|it| &it.tenant_id));
    if let Some(tenant) = &filter.tenant_id
        && !tenants().any(|known| known == tenant)
    {
        return Err(names::unknown_tenant(tenant, tenants()));
    }
    Ok(())
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
    let (_, state, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let entries = entries_of(&*state, key).await?;
    let (later, until): (Vec<AuditLink>, Vec<AuditLink>) = entries.into_iter().partition(|entry| entry.at > at);
    let Some(newest) = until.first().cloned() else {
        let message = format!("nothing is recorded of a key {key} until {}", at.format("%Y-%m-%dT%H:%M:%SZ"));
        return Err(EngineError::new("audit/unknown-key", message).help("`keywheel audit list` shows what is recorded"));
    };
    // What is older than its end is of another life of this name.
    let mut lived = until.iter().take_while(|entry| entry.action != FORGOTTEN);
    let (primary, made) = lived.find_map(|entry| Some((primary_after(entry)?, entry.clone()))).unzip();
    let now = recorded.keys.get(key).and_then(|record| record.key.rotation_policy.clone());
    let policy = policy_at(&until, &later, now.as_ref().map(Name::as_str));
    let mut policy_entry = None;
    if let Some(name) = policy.as_ref().and_then(|name| name.parse().ok()) {
        let object = Some(Address::new(key.tenant_id.clone(), name));
        let entries = state.audit(&AuditFilter { object, until: Some(at), ..AuditFilter::default() }).await?;
        policy_entry = entries.into_iter().find(|entry| entry.object.kind == ObjectKind::RotationPolicy);
    }
    Ok(Why { key: key.clone(), at, primary, made_primary_by: made, key_entry: Some(newest), policy, policy_entry })
}

/// The entry that ends what is known of a key.
const FORGOTTEN: &str = "key.forgotten";

/// Every entry about a key, the newest first: those of the names that it had before, too.
async fn entries_of(state: &dyn ReadState, key: &Address) -> Result<Vec<AuditLink>, EngineError> {
    let mut entries: Vec<AuditLink> = Vec::new();
    let (mut name, mut until) = (Some(key.name.clone()), None);
    while let Some(current) = name.take() {
        let object = Some(Address::new(key.tenant_id.clone(), current.clone()));
        let found = state.audit(&AuditFilter { object, until, ..AuditFilter::default() }).await?;
        for entry in found.into_iter().filter(|entry| entry.object.kind == ObjectKind::EncryptionKey) {
            let former = text(entry.before.as_ref(), "key_name").filter(|former| former != current.as_str());
            until = Some(entry.at);
            entries.push(entry);
            if let Some(former) = former {
                // What is older is of another key of this name.
                name = former.parse().ok();
                break;
            }
        }
    }
    Ok(entries)
}

/// The primary since an entry; none where it says nothing of that. What is told of old versions names theirs.
fn primary_after(entry: &AuditLink) -> Option<String> {
    match entry.action.as_str() {
        "key.created" | "key.rotated" | "key.rolled_back" | "key.reclaimed" => text(entry.after.as_ref(), "primary"),
        "key.adopted" => text(entry.after.as_ref(), "provider_ref"),
        _ => None,
    }
}

/// The policy of a key between its entries `until` an instant and those `later`, both the newest first. An entry that
/// changes the policy has the one before, so that the next of them tells; after the last one it is as it is `now`.
fn policy_at(until: &[AuditLink], later: &[AuditLink], now: Option<&str>) -> Option<String> {
    let had = |fields: &Option<Value>| fields.as_ref().and_then(|fields| fields.get("rotation_policy")).cloned();
    let last = until.iter().find_map(|entry| had(&entry.after));
    let is_gone = |entries: &[AuditLink]| entries.iter().any(|entry| entry.action == FORGOTTEN);
    let found = match later.iter().rev().find_map(|entry| had(&entry.before)) {
        _ if until.first().is_some_and(|entry| entry.action == FORGOTTEN) => None,
        Some(before) => Some(before),
        None if is_gone(later) => last,
        None => now.map(Value::from),
    };
    found?.as_str().map(str::to_owned)
}

fn text(fields: Option<&Value>, field: &str) -> Option<String> {
    Some(fields?.get(field)?.as_str()?.to_owned())
}
