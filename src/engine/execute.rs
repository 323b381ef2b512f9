//! Does what a plan says: documents and policies in one transaction, then keys, then rotations side by side.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::StreamExt;
use serde_json::Value;
use uuid::Uuid;

use crate::model::{
    Address, AppliedPlan, AuditEntry, DocumentRecord, EncryptionKey, KeyRecord, KeyState, Name, ObjectKind, ObjectRef,
    Observation, Origin, Phase, PolicyRecord, Recorded, RotationCause, RotationRecord, VersionRecord, VersionState,
    Workflow,
};
use crate::plan::{Action, Change, KeyTiming, Plan, cause, continued_key, key_timing};
use crate::provider::{CreateVersion, KeyManager};
use crate::schedule::Decision;
use crate::store::{State, Write};

use super::apply::{Rotated, is_document, not_begun};
use super::observe::{KnownVersions, Observed, handle};
use super::providers::Managers;
use super::workflow::{Context, Stopped, Work, drive};
use super::{Desired, EngineError, Event, FailedChange, NotStarted, Progress, clock};

/// How many rotations are under way at once. Providers bound their own calls below this.
const CONCURRENT: usize = 256;

/// One apply under way, and what it has done so far.
pub(super) struct Run<'a> {
    pub context: &'a Context,
    pub managers: &'a Managers,
    pub progress: &'a dyn Progress,
    pub origin: Origin,
    pub done: BTreeMap<Action, usize>,
    pub failed: Vec<FailedChange>,
    pub not_started: Vec<NotStarted>,
    pub rotated: Rotated,
}

/// A workflow, the change that it carries out, and its provider.
struct Job {
    object: ObjectRef,
    action: Action,
    policy: Option<(Name, Name)>,
    manager: std::sync::Arc<dyn KeyManager>,
    work: Work,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        context: &'a Context,
        managers: &'a Managers,
        progress: &'a dyn Progress,
        origin: Origin,
    ) -> Self {
        Self {
            context,
            managers,
            progress,
            origin,
            done: BTreeMap::new(),
            failed: Vec::new(),
            not_started: Vec::new(),
            rotated: Rotated::new(),
        }
    }

    /// Finishes what an earlier run left, under the policy that it began with. Nothing stops that: no limit, window,
    /// suspension or broken document.
    pub(super) async fn resume(&mut self, state: &dyn State, recorded: &Recorded) -> Result<(), EngineError> {
        let mut jobs = Vec::new();
        for rotation in &recorded.unfinished {
            let object = ObjectRef::key(&rotation.address);
            let Some(key) = recorded.keys.values().find(|key| key.id == rotation.key_id) else { continue };
            let versions = state.versions(key.id).await?;
            let journal = state.journal(rotation.id).await?;
            let manager = match self.managers.of(&key.key).await {
                Ok(manager) => manager,
                Err(error) => {
                    self.fail(object, Action::Finish, Stopped::from(&error));
                    continue;
                }
            };
            let version =
                versions.iter().find(|version| Some(&version.provider_ref) == rotation.to_ref.as_ref()).cloned();
            let known =
                KnownVersions::from([(key.id, versions.iter().map(|version| version.provider_ref.clone()).collect())]);
            let request = CreateVersion {
                key: handle(&key.address(), &key.key, Some(key), &known),
                rotation_id: rotation.id,
                lineage: self.context.lineage,
                predecessor: rotation.from_ref.clone(),
                intent: rotation.intent.clone(),
            };
            let open_since = journal.last().map(|step| step.at);
            let next_number = versions.iter().map(|version| version.number).max().unwrap_or(0) + 1;
            let work = Work {
                rotation: rotation.clone(),
                key: key.clone(),
                request,
                version,
                next_number,
                open_since,
                pending: Vec::new(),
            };
            jobs.push(Job { object, action: Action::Finish, policy: policy_of(&key.key), manager, work });
        }
        self.drive_all(jobs).await;
        Ok(())
    }

    async fn drive_all(&mut self, jobs: Vec<Job>) {
        let (context, progress) = (self.context, self.progress);
        let mut outcomes = futures::stream::iter(jobs.into_iter().map(|mut job| async move {
            let started = Instant::now();
            progress.event(Event::ChangeStarted { object: job.object.clone(), action: job.action });
            let outcome = drive(context, job.manager.as_ref(), &mut job.work).await;
            (job, outcome, started)
        }))
        .buffer_unordered(CONCURRENT);
        while let Some((job, outcome, started)) = outcomes.next().await {
            let rotates = job.work.rotation.workflow == Workflow::Rotate;
            match outcome {
                Ok(()) => {
                    if let Some(policy) = job.policy.filter(|_| rotates) {
                        self.rotated.entry(policy).or_default().0 += 1;
                    }
                    self.succeed(job.object, job.action, job.work.rotation.to_ref, started);
                }
                Err(stopped) => {
                    if let Some(policy) = job.policy.filter(|_| rotates) {
                        self.rotated.entry(policy).or_default().1 += 1;
                    }
                    self.fail(job.object, job.action, stopped);
                }
            }
        }
    }

    fn succeed(&mut self, object: ObjectRef, action: Action, version: Option<String>, started: Instant) {
        *self.done.entry(action).or_insert(0) += 1;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.event(Event::ChangeDone { object, action, version, duration_ms });
    }

    fn fail(&mut self, object: ObjectRef, action: Action, stopped: Stopped) {
        let Stopped { error, help, resumable, retry_at } = stopped;
        self.progress.event(Event::ChangeFailed {
            object: object.clone(),
            action,
            error: error.clone(),
            help: help.clone(),
            resumable,
        });
        self.failed.push(FailedChange { object, action, error, help, resumable, retry_at });
    }

    fn audit(&self, action: &str, object: &ObjectRef, before: Option<Value>, after: Option<Value>) -> Write {
        Write::Audit(Box::new(AuditEntry {
            at: clock::now(),
            actor: self.context.actor.clone(),
            commit: Some(self.origin.commit.clone()),
            correlation_id: self.context.correlation_id.clone(),
            action: action.to_owned(),
            object: object.clone(),
            before,
            after,
        }))
    }

    /// The audit entry of a change, in the past tense.
    fn audit_change(&self, change: &Change) -> Write {
        let kind = match change.object.kind {
            ObjectKind::Config => "config",
            ObjectKind::Guardrail => "guardrail",
            ObjectKind::Freeze => "freeze",
            ObjectKind::Tenant => "tenant",
            ObjectKind::RotationPolicy => "policy",
            ObjectKind::EncryptionKey => "key",
        };
        let verb = match change.action {
            Action::Create => "created",
            Action::Update => "updated",
            Action::Rename => "renamed",
            Action::Suspend => "suspended",
            Action::Reactivate => "reactivated",
            Action::Remove => "removed",
            Action::Adopt => "adopted",
            Action::Link => "linked",
            Action::Unlink => "unlinked",
            Action::Forget => "forgotten",
            Action::Restore => "restored",
            Action::Finish => "finished",
            Action::Rotate => "rotated",
        };
        let value = |map: &Option<serde_json::Map<String, Value>>| map.clone().map(Value::Object);
        self.audit(&format!("{kind}.{verb}"), &change.object, value(&change.before), value(&change.after))
    }
}

/// Does what the plan says. A change that fails is in the run's report, and stops no other.
pub(super) async fn execute(
    run: &mut Run<'_>,
    desired: &Desired,
    recorded: &Recorded,
    observed: &Observed,
    plan: &Plan,
    state: &dyn State,
    mut applied: AppliedPlan,
) -> Result<(), EngineError> {
    run.progress.event(Event::PhaseStarted { phase: "apply", total: Some(plan.changes.len()) });
    let policy_ids = documents_and_policies(run, desired, recorded, plan, &applied).await?;
    let mut jobs = Vec::new();
    let mut numbers: BTreeMap<Uuid, u32> = BTreeMap::new();
    if plan.rotations().next().is_some() {
        for version in state.all_versions().await? {
            let highest = numbers.entry(version.key_id).or_default();
            *highest = (*highest).max(version.number);
        }
    }
    for change in plan.changes.iter().filter(|change| change.object.kind == ObjectKind::EncryptionKey) {
        if run.context.interrupt.load(Ordering::Relaxed) || run.context.journal.is_lost() {
            run.not_started.push(not_begun(change, "interrupted", "the apply was stopped before it"));
            continue;
        }
        let started = Instant::now();
        let outcome = match change.action {
            Action::Create | Action::Rotate => match job(run, desired, recorded, &policy_ids, &numbers, change).await {
                Ok(job) => {
                    jobs.push(job);
                    continue;
                }
                Err(stopped) => Err(stopped),
            },
            Action::Finish => continue,
            _ => key_change(run, desired, recorded, observed, &policy_ids, change).await,
        };
        match outcome {
            Ok(()) => run.succeed(change.object.clone(), change.action, None, started),
            Err(stopped) => run.fail(change.object.clone(), change.action, stopped),
        }
    }
    run.drive_all(jobs).await;
    summaries(run, desired, state).await?;
    if run.failed.is_empty() && run.not_started.is_empty() {
        applied.finished_at = Some(clock::now());
    }
    run.context.journal.write(vec![Write::AppliedPlan(Box::new(applied))]).await?;
    Ok(())
}

/// Rules, tenants and policies: one transaction, which also binds the plan to this run.
async fn documents_and_policies(
    run: &mut Run<'_>,
    desired: &Desired,
    recorded: &Recorded,
    plan: &Plan,
    applied: &AppliedPlan,
) -> Result<BTreeMap<Address, Uuid>, EngineError> {
    let mut ids: BTreeMap<Address, Uuid> =
        recorded.policies.iter().map(|(address, record)| (address.clone(), record.id)).collect();
    let mut writes = vec![Write::AppliedPlan(Box::new(applied.clone()))];
    let started = Instant::now();
    let mut done = Vec::new();
    for change in &plan.changes {
        let write = if is_document(&change.object) {
            document_write(run, recorded, desired, change)
        } else if change.object.kind == ObjectKind::RotationPolicy {
            policy_write(run, desired, recorded, change, &mut ids)
        } else {
            continue;
        };
        writes.extend(write);
        writes.push(run.audit_change(change));
        done.push((change.object.clone(), change.action));
    }
    run.context.journal.write(writes).await?;
    for (object, action) in done {
        run.succeed(object, action, None, started);
    }
    Ok(ids)
}

fn document_write(run: &Run<'_>, recorded: &Recorded, desired: &Desired, change: &Change) -> Option<Write> {
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
    let record = DocumentRecord { object: change.object.clone(), spec, revision, last_modified_by: run.origin.clone() };
    Some(Write::Document(Box::new(record)))
}

fn policy_write(
    run: &Run<'_>,
    desired: &Desired,
    recorded: &Recorded,
    change: &Change,
    ids: &mut BTreeMap<Address, Uuid>,
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
            last_modified_by: run.origin.clone(),
            correlation_id: run.context.correlation_id.clone(),
            revision: before.revision + 1,
            updated_at: now,
            ..before.clone()
        },
        None => PolicyRecord {
            id: clock::new_id(),
            policy,
            last_rotation_at: None,
            next_rotation_at: None,
            created_by: run.origin.clone(),
            last_modified_by: run.origin.clone(),
            created_by_token_id: None,
            last_modified_by_token_id: None,
            correlation_id: run.context.correlation_id.clone(),
            revision: 1,
            created_at: now,
            updated_at: now,
        },
    };
    ids.insert(address, record.id);
    Some(Write::Policy(Box::new(record)))
}

/// A new row for a key that is made or adopted.
fn new_key(run: &Run<'_>, id: Uuid, key: EncryptionKey, policy_ids: &BTreeMap<Address, Uuid>) -> KeyRecord {
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
        created_by: run.origin.clone(),
        last_modified_by: run.origin.clone(),
        correlation_id: run.context.correlation_id.clone(),
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

fn policy_of(key: &EncryptionKey) -> Option<(Name, Name)> {
    Some((key.tenant_id.clone(), key.rotation_policy.clone()?))
}

fn policy_id(key: &EncryptionKey, ids: &BTreeMap<Address, Uuid>) -> Option<Uuid> {
    let (tenant_id, name) = policy_of(key)?;
    ids.get(&Address::new(tenant_id, name)).copied()
}

/// The workflow of a creation or a rotation, up to its intent.
async fn job(
    run: &Run<'_>,
    desired: &Desired,
    recorded: &Recorded,
    policy_ids: &BTreeMap<Address, Uuid>,
    numbers: &BTreeMap<Uuid, u32>,
    change: &Change,
) -> Result<Job, Stopped> {
    let vanished = || Stopped::vanished(&change.object);
    let address = change.object.address().ok_or_else(vanished)?;
    let document = &desired.repository.keys.get(&address).ok_or_else(vanished)?.value;
    let manager = run.managers.of(document).await.map_err(|error| Stopped::from(&error))?;
    let record = continued_key(&desired.repository, recorded, &address, document).map(|(_, record)| record);
    let now = clock::now();
    let mut pending = Vec::new();
    let (workflow, key) = if change.action == Action::Create {
        let key = new_key(run, clock::new_id(), document.clone(), policy_ids);
        pending.push(Write::Key(Box::new(key.clone())));
        (Workflow::Create, key)
    } else {
        // A link, rename or edit of the same plan is recorded by now.
        let record = record.ok_or_else(vanished)?;
        let edited = record.key != *document;
        let key = KeyRecord {
            key: document.clone(),
            rotation_policy_id: policy_id(document, policy_ids),
            revision: record.revision + u64::from(edited),
            ..record.clone()
        };
        (Workflow::Rotate, key)
    };
    let next_number = numbers.get(&key.id).copied().unwrap_or(0) + 1;
    let from_ref = key.primary_version.as_ref().map(|version| version.provider_ref.clone());
    let key_handle = handle(&address, document, Some(&key), &KnownVersions::new());
    let intent = manager.intent(&key_handle).await.map_err(|error| Stopped::from(&error))?;
    let policy = policy_of(document)
        .and_then(|(tenant_id, name)| desired.repository.policies.get(&Address::new(tenant_id, name)))
        .map(|policy| policy.value.clone());
    let (rotation_cause, slot) = match workflow {
        Workflow::Create => (RotationCause::Created, None),
        _ => (cause(&change.reason), slot(desired, &address, document, &key, change)),
    };
    let rotation = RotationRecord {
        id: clock::new_id(),
        key_id: key.id,
        address: address.clone(),
        workflow,
        phase: Phase::Planned,
        open_step: None,
        cause: rotation_cause,
        reason: change.reason.message.clone(),
        slot,
        from_ref: from_ref.clone(),
        to_ref: None,
        intent: intent.clone(),
        policy: policy.filter(|_| workflow == Workflow::Rotate),
        error: None,
        attempt: 0,
        correlation_id: run.context.correlation_id.clone(),
        commit: Some(run.origin.commit.clone()),
        started_at: now,
        updated_at: now,
        finished_at: None,
    };
    let request = CreateVersion {
        key: key_handle,
        rotation_id: rotation.id,
        lineage: run.context.lineage,
        predecessor: from_ref,
        intent,
    };
    let work = Work { rotation, key, request, version: None, next_number, open_since: None, pending };
    Ok(Job { object: change.object.clone(), action: change.action, policy: policy_of(document), manager, work })
}

/// The slot that a scheduled rotation serves.
fn slot(
    desired: &Desired,
    address: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    change: &Change,
) -> Option<crate::model::Timestamp> {
    if !matches!(cause(&change.reason), RotationCause::Due | RotationCause::Overdue) {
        return None;
    }
    let (tenant_id, name) = policy_of(document)?;
    let policy = Address::new(tenant_id, name);
    let timing = crate::schedule::Timing::new(&desired.repository.policies.get(&policy)?.value).ok()?;
    match timing.decide(address, &crate::plan::history(record), &[], clock::now()) {
        Decision::Due { slot, .. } | Decision::Waiting { slot, .. } => Some(slot),
        Decision::NotDue { .. } | Decision::Unscheduled => None,
    }
}

/// A change of a key without a new version.
async fn key_change(
    run: &Run<'_>,
    desired: &Desired,
    recorded: &Recorded,
    observed: &Observed,
    policy_ids: &BTreeMap<Address, Uuid>,
    change: &Change,
) -> Result<(), Stopped> {
    let vanished = || Stopped::vanished(&change.object);
    let address = change.object.address().ok_or_else(vanished)?;
    let journal = &run.context.journal;
    if change.action == Action::Forget {
        let id = recorded.keys.get(&address).ok_or_else(vanished)?.id;
        return Ok(journal.write(vec![Write::ForgetKey { id, at: clock::now() }, run.audit_change(change)]).await?);
    }
    let document = desired.repository.keys.get(&address).ok_or_else(vanished)?.value.clone();
    if change.action == Action::Adopt {
        let writes = adopt(run, &address, document, observed, policy_ids).ok_or_else(vanished)?;
        return Ok(journal.write(writes.into_iter().chain([run.audit_change(change)]).collect()).await?);
    }
    let (_, record) = continued_key(&desired.repository, recorded, &address, &document).ok_or_else(vanished)?;
    let primary = record.primary_version.as_ref().map(|version| version.provider_ref.clone());
    let touches = |field: &str| change.after.as_ref().is_some_and(|after| after.contains_key(field));
    if let Some(primary) = &primary {
        let at_provider = change.action == Action::Restore || touches("description") || touches("tags");
        let new_alias = touches("kms_alias") && document.kms_alias.is_some();
        if at_provider || new_alias {
            let manager = run.managers.of(&document).await.map_err(|error| Stopped::from(&error))?;
            let handle = handle(&address, &document, Some(record), &KnownVersions::new());
            // Both are idempotent and are done again if the record of them is lost: the audit entry is the intent.
            journal
                .write(vec![run.audit(
                    "key.settings_requested",
                    &change.object,
                    None,
                    change.after.clone().map(Value::Object),
                )])
                .await?;
            if at_provider {
                manager.update_settings(&handle, primary).await.map_err(|error| Stopped::from(&error))?;
            }
            if new_alias {
                let leads_to = manager.primary(&handle).await.map_err(|error| Stopped::from(&error))?;
                match leads_to.as_deref() {
                    None => manager.promote(&handle, None, primary).await.map_err(|error| Stopped::from(&error))?,
                    Some(target) if target == primary => {}
                    Some(target) => return Err(Stopped::alias_taken(&document, target)),
                }
            }
        }
    }
    let record = KeyRecord {
        rotation_policy_id: policy_id(&document, policy_ids),
        key: document,
        last_modified_by: run.origin.clone(),
        correlation_id: run.context.correlation_id.clone(),
        revision: record.revision + 1,
        updated_at: clock::now(),
        ..record.clone()
    };
    Ok(journal.write(vec![Write::Key(Box::new(record)), run.audit_change(change)]).await?)
}

/// The rows of a key that exists already.
fn adopt(
    run: &Run<'_>,
    address: &Address,
    document: EncryptionKey,
    observed: &Observed,
    policy_ids: &BTreeMap<Address, Uuid>,
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
    let mut record = new_key(run, id, document, policy_ids);
    let version = VersionRecord {
        id: clock::new_id(),
        key_id: record.id,
        number: 1,
        provider_ref,
        state: VersionState::Active,
        rotation_id: None,
        orphan: false,
        provider_created_at: created_at,
        activated_at: created_at,
        deactivated_at: None,
        compromised_at: None,
        retention: None,
        created_at: record.created_at,
    };
    record.state = KeyState::Active;
    record.adopted = true;
    record.primary_version = Some(version.clone());
    Some(vec![Write::Key(Box::new(record)), Write::Version(Box::new(version))])
}

/// Brings the cached dates for readers up to date: each key's next rotation, each policy's last and next.
async fn summaries(run: &Run<'_>, desired: &Desired, state: &dyn State) -> Result<(), EngineError> {
    let recorded = state.recorded().await?;
    let timings = KeyTiming::new(&desired.repository);
    let now = clock::now();
    let mut writes = Vec::new();
    let mut dates: BTreeMap<Uuid, (Option<crate::model::Timestamp>, Option<crate::model::Timestamp>)> = BTreeMap::new();
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
            writes.push(Write::Key(Box::new(KeyRecord { next_rotation_at: next, ..record.clone() })));
        }
    }
    for record in recorded.policies.values() {
        let (last_rotation_at, next_rotation_at) = dates.get(&record.id).copied().unwrap_or_default();
        if (record.last_rotation_at, record.next_rotation_at) != (last_rotation_at, next_rotation_at) {
            writes.push(Write::Policy(Box::new(PolicyRecord { last_rotation_at, next_rotation_at, ..record.clone() })));
        }
    }
    run.context.journal.write(writes).await?;
    Ok(())
}

impl Stopped {
    fn vanished(object: &ObjectRef) -> Self {
        Self {
            error: format!("{object} is not as the plan found it"),
            help: Some("apply again".to_owned()),
            resumable: false,
            retry_at: None,
        }
    }

    fn alias_taken(document: &EncryptionKey, target: &str) -> Self {
        let alias = document.kms_alias.as_deref().unwrap_or_default();
        Self {
            error: format!("{alias} leads to {target}, which is not this key"),
            help: Some("choose another alias, or lead it to this key's primary yourself".to_owned()),
            resumable: false,
            retry_at: None,
        }
    }
}
