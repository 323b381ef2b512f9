//! Changes that need no new version: rules, tenants, policies, and keys that are edited, adopted or forgotten. What they
//! come to is rows.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::model::{
    Address, AppliedPlan, DocumentRecord, EncryptionKey, KeyRecord, KeyState, Name, ObjectKind, ObjectRef, Observation,
    PolicyRecord, Recorded, RotationRecord, Timestamp, VersionRecord, VersionState,
};
use crate::plan::{Action, Change, KeyTiming, Plan, continued_key, key_timing};
use crate::schedule::Decision;
use crate::store::{State, Write};

use super::manual::{Fact, given_up};
use super::observe::{KnownVersions, Observed, handle};
use super::run::{Run, Scope};
use super::stopped::Stopped;
use super::{Desired, EngineError, clock, facts};

/// How many rows of dates are written at once.
const SUMMARIES: usize = 1024;

/// The ids of policies, those of this apply included.
pub(super) type PolicyIds = BTreeMap<Address, Uuid>;

/// Rules, tenants and policies: one transaction, which also binds the plan to this run.
pub(super) async fn documents_and_policies(
    run: &mut Run<'_>,
    desired: &Desired,
    recorded: &Recorded,
    plan: &Plan,
    applied: &AppliedPlan,
) -> Result<PolicyIds, EngineError> {
    let mut ids: PolicyIds = recorded.policies.iter().map(|(address, record)| (address.clone(), record.id)).collect();
    let mut writes = vec![Write::AppliedPlan(Box::new(applied.clone()))];
    writes.extend(run.approvals.iter().map(|approval| approval.audit(&run.scope, &applied.digest)));
    writes.extend(run.overrides.iter().flat_map(|overridden| overridden.audit(&run.scope, plan, &applied.digest)));
    let started = Instant::now();
    let mut done = Vec::new();
    for change in &plan.changes {
        let write = if is_document(&change.object) {
            document_write(&run.scope, recorded, desired, change)
        } else if change.object.kind == ObjectKind::RotationPolicy {
            policy_write(&run.scope, desired, recorded, change, &mut ids)
        } else {
            continue;
        };
        writes.extend(write);
        writes.push(run.scope.audit_change(change));
        done.push((change.object.clone(), change.action));
    }
    run.scope.context.journal.write(writes).await?;
    for (object, action) in done {
        run.succeed(object, action, None, started);
    }
    Ok(ids)
}

/// Is a change about a document without a workflow?
const fn is_document(object: &ObjectRef) -> bool {
    matches!(object.kind, ObjectKind::Config | ObjectKind::Tenant | ObjectKind::Guardrail | ObjectKind::Freeze)
}

fn document_write(scope: &Scope<'_>, recorded: &Recorded, desired: &Desired, change: &Change) -> Option<Write> {
    if change.action == Action::Remove {
        return Some(Write::RemoveDocument(change.object.clone()));
    }
    let repository = &desired.repository;
    let name = change.object.name.as_str();
    let spec = match change.object.kind {
        ObjectKind::Config => serde_json::to_value(&repository.config).ok(),
        ObjectKind::Guardrail => {
            repository.guardrails.get(name).and_then(|rule| serde_json::to_value(&rule.value).ok())
        }
        ObjectKind::Freeze => repository.freezes.get(name).and_then(|freeze| serde_json::to_value(&freeze.value).ok()),
        ObjectKind::Tenant => repository.tenants.get(name).and_then(|tenant| serde_json::to_value(&tenant.value).ok()),
        ObjectKind::RotationPolicy | ObjectKind::EncryptionKey => None,
    }?;
    let revision = recorded.documents.get(&change.object).map_or(1, |record| record.revision + 1);
    let record =
        DocumentRecord { object: change.object.clone(), spec, revision, last_modified_by: scope.origin.clone() };
    Some(Write::Document(Box::new(record)))
}

fn policy_write(
    scope: &Scope<'_>,
    desired: &Desired,
    recorded: &Recorded,
    change: &Change,
    ids: &mut PolicyIds,
) -> Option<Write> {
    let address = change.object.address()?;
    let now = clock::now();
    if change.action == Action::Remove {
        let id = recorded.policies.get(&address)?.id;
        return Some(Write::RemovePolicy { id, at: now });
    }
    let policy = desired.repository.policies.get(&address)?.value.clone();
    let earlier = policy.previous_name.clone().map(|name| Address::new(address.tenant_id.clone(), name));
    let before = recorded.policies.get(&address).or_else(|| recorded.policies.get(&earlier?));
    let before = before.filter(|_| change.action != Action::Create);
    let record = match before {
        Some(before) => PolicyRecord {
            policy,
            last_modified_by: scope.origin.clone(),
            correlation_id: scope.context.correlation_id.clone(),
            revision: before.revision + 1,
            updated_at: now,
            ..before.clone()
        },
        None => PolicyRecord {
            id: clock::new_id(),
            policy,
            last_rotation_at: None,
            next_rotation_at: None,
            created_by: scope.origin.clone(),
            last_modified_by: scope.origin.clone(),
            created_by_token_id: None,
            last_modified_by_token_id: None,
            correlation_id: scope.context.correlation_id.clone(),
            revision: 1,
            created_at: now,
            updated_at: now,
        },
    };
    ids.insert(address, record.id);
    Some(Write::Policy(Box::new(record)))
}

/// A change of a key without a new version.
pub(super) async fn key_change(
    scope: &Scope<'_>,
    desired: &Desired,
    recorded: &Recorded,
    observed: &Observed,
    state: &dyn State,
    policy_ids: &PolicyIds,
    change: &Change,
) -> Result<(), Stopped> {
    let vanished = || Stopped::vanished(&change.object);
    let address = change.object.address().ok_or_else(vanished)?;
    let journal = &scope.context.journal;
    if change.action == Action::Forget {
        let record = recorded.keys.get(&address).ok_or_else(vanished)?;
        return Ok(journal.write(forget(scope, recorded, record, change)).await?);
    }
    let document = desired.repository.keys.get(&address).ok_or_else(vanished)?.value.clone();
    if change.action == Action::Attest {
        return attest(scope, state, recorded, &address, change).await;
    }
    if let Some(state) = asked_state(change.action) {
        let record = recorded.keys.get(&address).ok_or_else(vanished)?;
        let record = KeyRecord {
            state,
            state_reason: (state == KeyState::Parked).then(|| change.reason.message.clone()),
            failures: 0,
            retry_at: None,
            revision: record.revision + 1,
            correlation_id: scope.context.correlation_id.clone(),
            updated_at: clock::now(),
            ..record.clone()
        };
        let why = serde_json::json!({ "state": state, "reason": change.reason.message });
        let action = format!("key.{}", change.action.done());
        let audit = scope.audit(action, &change.object, None, Some(why));
        let told = (state == KeyState::Parked).then(|| scope.context.tell(&record.key, facts::parked_key(&record)));
        let writes = [Write::Key(Box::new(record)), audit].into_iter().chain(told.into_iter().flatten());
        return Ok(journal.write(writes.collect()).await?);
    }
    if change.action == Action::Adopt {
        if change.before.is_some() {
            let named =
                change.after.as_ref().and_then(|after| after.get("provider_ref")?.as_str()).ok_or_else(vanished)?;
            let manager = scope.managers.of(&document).await.map_err(|error| Stopped::from(&error))?;
            let handle = handle(&address, &document, None, &KnownVersions::new());
            journal.write(vec![settings_requested(scope, change)]).await?;
            let settings = manager.update_settings(&handle, None, named);
            scope.context.while_held(settings).await.map_err(|error| Stopped::from(&error))?;
        }
        let writes = adopt(scope, &address, document, observed, policy_ids).ok_or_else(vanished)?;
        return Ok(journal.write(writes.into_iter().chain([scope.audit_change(change)]).collect()).await?);
    }
    let (_, record) = continued_key(&desired.repository, recorded, &address, &document).ok_or_else(vanished)?;
    let primary = record.primary_version.as_ref().map(|version| version.provider_ref.clone());
    let touches = |field: &str| change.after.as_ref().is_some_and(|after| after.contains_key(field));
    if let Some(primary) = &primary {
        let at_provider = change.action == Action::Restore || touches("description") || touches("tags");
        let new_alias = touches("kms_alias") && document.kms_alias.is_some();
        if at_provider || new_alias {
            let manager = scope.managers.of(&document).await.map_err(|error| Stopped::from(&error))?;
            let handle = handle(&address, &document, Some(record), &KnownVersions::new());
            journal.write(vec![settings_requested(scope, change)]).await?;
            if at_provider {
                let former = Some(&record.key);
                let settings = manager.update_settings(&handle, former, primary);
                scope.context.while_held(settings).await.map_err(|error| Stopped::from(&error))?;
            }
            if new_alias {
                let leads_to = manager.primary(&handle).await.map_err(|error| Stopped::from(&error))?;
                match leads_to.as_deref() {
                    None => {
                        let promote = manager.promote(&handle, None, primary);
                        scope.context.while_held(promote).await.map_err(|error| Stopped::from(&error))?;
                    }
                    Some(target) if target == primary => {}
                    Some(target) => {
                        // An attempt before led it to the version that was primary then.
                        let versions = state.versions(record.id).await?;
                        if !versions.iter().any(|version| version.provider_ref == target) {
                            return Err(Stopped::alias_taken(&document, target));
                        }
                        let promote = manager.promote(&handle, Some(target), primary);
                        scope.context.while_held(promote).await.map_err(|error| Stopped::from(&error))?;
                    }
                }
            }
        }
    }
    let record = KeyRecord {
        rotation_policy_id: policy_id(&document, policy_ids),
        key: document,
        last_modified_by: scope.origin.clone(),
        correlation_id: scope.context.correlation_id.clone(),
        revision: record.revision + 1,
        updated_at: clock::now(),
        ..record.clone()
    };
    Ok(journal.write(vec![Write::Key(Box::new(record)), scope.audit_change(change)]).await?)
}

/// The intent to change what a key manager holds of a key. That is idempotent, and is done again if the record of it is
/// lost.
fn settings_requested(scope: &Scope<'_>, change: &Change) -> Write {
    let after = change.after.clone().map(Value::Object);
    scope.audit("key.settings_requested".to_owned(), &change.object, None, after)
}

/// A person's word about an old version.
async fn attest(
    scope: &Scope<'_>,
    state: &dyn State,
    recorded: &Recorded,
    address: &Address,
    change: &Change,
) -> Result<(), Stopped> {
    let vanished = || Stopped::vanished(&change.object);
    let key = recorded.keys.get(address).ok_or_else(vanished)?;
    let versions = state.versions(key.id).await?;
    let mut version =
        versions.into_iter().find(|version| Some(version.number) == change.version).ok_or_else(vanished)?;
    let field = |fields: &Option<Map<String, Value>>, fact: Fact| fields.as_ref()?.get(fact.field()).cloned();
    let says = |fact: Fact| field(&change.after, fact) != field(&change.before, fact);
    let now = Some(clock::now());
    if says(Fact::Rewrapped) {
        version.rewrapped_at = now;
        // Nothing needs it any more: what was asked for when it was enabled again has come to its end.
        if let Some(terms) = &mut version.retention {
            terms.kept_because = None;
        }
    } else if says(Fact::Needed) {
        version.needed_at = now;
    }
    let after = serde_json::json!({
        "provider_ref": version.provider_ref, "number": version.number, "rewrapped_at": version.rewrapped_at,
        "needed_at": version.needed_at, "reason": change.reason.message,
    });
    let audit = scope.audit("version.attested".to_owned(), &change.object, None, Some(after));
    Ok(scope.context.journal.write(vec![Write::Version(Box::new(version)), audit]).await?)
}

/// What drops a key from the record. A rotation of it that can never be finished is given up with it.
fn forget(scope: &Scope<'_>, recorded: &Recorded, record: &KeyRecord, change: &Change) -> Vec<Write> {
    let now = clock::now();
    let mut writes = vec![Write::ForgetKey { id: record.id, at: now }];
    if let Some(abandoned) = recorded.unfinished_of(record.id).and_then(|rotation| given_up(record, rotation)) {
        let why = json!({ "error": abandoned.error, "reason": change.reason.message });
        writes.push(scope.audit("rotation.abandoned".to_owned(), &change.object, None, Some(why)));
        writes.push(Write::Rotation(Box::new(RotationRecord { updated_at: now, finished_at: Some(now), ..abandoned })));
    }
    writes.push(if change.reason.code == "manual" {
        let primary = record.primary_version.as_ref().map(|version| &version.provider_ref);
        let was = json!({ "primary": primary, "rotation_policy": record.key.rotation_policy });
        let why = json!({ "reason": change.reason.message });
        scope.audit("key.forgotten".to_owned(), &change.object, Some(was), Some(why))
    } else {
        scope.audit_change(change)
    });
    writes
}

/// The state that a person asks for.
const fn asked_state(action: Action) -> Option<KeyState> {
    match action {
        Action::Park => Some(KeyState::Parked),
        Action::Release | Action::Resume => Some(KeyState::Active),
        _ => None,
    }
}

/// The rows of a key that exists already.
fn adopt(
    scope: &Scope<'_>,
    address: &Address,
    document: EncryptionKey,
    observed: &Observed,
    policy_ids: &PolicyIds,
) -> Option<Vec<Write>> {
    let Some(Observation::Present(found)) = observed.keys.get(address) else { return None };
    let provider_ref = found.named.clone()?;
    let created_at = found
        .versions
        .iter()
        .find(|version| version.provider_ref == provider_ref)
        .and_then(|version| version.created_at);
    // A local key is named by keywheel's own id.
    let id = document.kms_key_id.as_ref().and_then(|id| id.parse().ok()).unwrap_or_else(clock::new_id);
    let mut record = new_key(scope, id, document, policy_ids);
    let version = VersionRecord {
        state: VersionState::Active,
        provider_created_at: created_at,
        activated_at: created_at,
        ..VersionRecord::new(clock::new_id(), record.id, 1, provider_ref, record.created_at)
    };
    record.state = KeyState::Active;
    record.adopted = true;
    record.primary_version = Some(version.clone());
    Some(vec![Write::Key(Box::new(record)), Write::Version(Box::new(version))])
}

/// A new row for a key that is made or adopted.
pub(super) fn new_key(scope: &Scope<'_>, id: Uuid, key: EncryptionKey, policy_ids: &PolicyIds) -> KeyRecord {
    let now = clock::now();
    KeyRecord {
        id,
        rotation_policy_id: policy_id(&key, policy_ids),
        key,
        state: KeyState::Pending,
        state_reason: None,
        managed_since: now,
        adopted: false,
        primary_version: None,
        last_rotation_at: None,
        last_slot: None,
        next_rotation_at: None,
        failures: 0,
        retry_at: None,
        created_by: scope.origin.clone(),
        last_modified_by: scope.origin.clone(),
        correlation_id: scope.context.correlation_id.clone(),
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

pub(super) fn policy_of(key: &EncryptionKey) -> Option<(Name, Name)> {
    Some((key.tenant_id.clone(), key.rotation_policy.clone()?))
}

pub(super) fn policy_id(key: &EncryptionKey, ids: &PolicyIds) -> Option<Uuid> {
    let (tenant_id, name) = policy_of(key)?;
    ids.get(&Address::new(tenant_id, name)).copied()
}

/// Brings the cached dates for readers up to date: each key's next rotation, each policy's last and next.
pub(super) async fn summaries(scope: &Scope<'_>, desired: &Desired, state: &dyn State) -> Result<(), EngineError> {
    let recorded = state.recorded().await?;
    let outdated = outdated(desired, &recorded).into_iter();
    let writes = outdated.filter(|(tenant_id, _)| scope.context.covers(tenant_id)).map(|(_, write)| write);
    // Nothing depends on these dates, so that a large fleet's need not be in one transaction.
    let mut writes = writes.peekable();
    while writes.peek().is_some() {
        scope.context.journal.write(writes.by_ref().take(SUMMARIES).collect()).await?;
    }
    Ok(())
}

/// The rows whose cached dates are not what they should be, each with its tenant.
pub(super) fn outdated(desired: &Desired, recorded: &Recorded) -> Vec<(Name, Write)> {
    let timings = KeyTiming::new(&desired.repository);
    let now = clock::now();
    let mut writes = Vec::new();
    let mut dates: BTreeMap<Uuid, (Option<Timestamp>, Option<Timestamp>)> = BTreeMap::new();
    for (address, record) in &recorded.keys {
        let decision = policy_of(&record.key).and_then(|(tenant_id, name)| {
            key_timing(&timings, &Address::new(tenant_id, name), address, &record.key, record, now)
        });
        let next = match decision {
            Some(Decision::NotDue { slot, starts_at }) => starts_at.or(Some(slot)),
            Some(Decision::Waiting { starts_at, .. }) => starts_at,
            Some(Decision::Due { slot, .. }) => Some(slot),
            Some(Decision::Unscheduled) | None => None,
        };
        if let Some(policy) = record.rotation_policy_id {
            let (last, soonest) = dates.entry(policy).or_default();
            *last = (*last).max(record.last_rotation_at);
            *soonest = match (*soonest, next) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        if record.next_rotation_at != next {
            let record = KeyRecord { next_rotation_at: next, ..record.clone() };
            writes.push((address.tenant_id.clone(), Write::Key(Box::new(record))));
        }
    }
    for record in recorded.policies.values() {
        let (last_rotation_at, next_rotation_at) = dates.get(&record.id).copied().unwrap_or_default();
        if (record.last_rotation_at, record.next_rotation_at) != (last_rotation_at, next_rotation_at) {
            let tenant_id = record.policy.tenant_id.clone();
            let record = PolicyRecord { last_rotation_at, next_rotation_at, ..record.clone() };
            writes.push((tenant_id, Write::Policy(Box::new(record))));
        }
    }
    writes
}

impl Stopped {
    pub(super) fn vanished(object: &ObjectRef) -> Self {
        let error = format!("{object} is not as the plan found it");
        Self { help: Some("apply again".to_owned()), resumable: false, ..Self::new(error) }
    }

    fn alias_taken(document: &EncryptionKey, target: &str) -> Self {
        let alias = document.kms_alias.as_deref().unwrap_or_default();
        let error = format!("{alias} leads to {target}, which is not this key");
        let help = "choose another alias, or lead it to this key's primary yourself";
        Self { help: Some(help.to_owned()), resumable: false, ..Self::new(error) }
    }
}
