//! Does what a plan says: documents and policies in one transaction, then keys, then creations and rotations side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::{
    Address, AppliedPlan, EncryptionKey, KeyRecord, KeyState, Name, ObjectKind, ObjectRef, Recorded, RotationCause,
    RotationPolicy, RotationRecord, Timestamp, VersionRecord, Workflow,
};
use crate::plan::{Action, Change, Plan, cause, continued_key, finish_held_back};
use crate::provider::{CreateVersion, KeyManager, ProviderPlace};
use crate::rotation::{Status, beginning};
use crate::schedule::{Decision, Hold, Timing, freeze_applies, frozen_at};
use crate::store::{State, Write};

use super::manual::rollback_closes_at;
use super::observe::{KnownVersions, Observed, handle};
use super::records::{PolicyIds, documents_and_policies, key_change, new_key, policy_of, summaries};
use super::run::{Finished, Outcome, Run, Scope};
use super::stopped::Stopped;
use super::workflow::{Work, drive};
use super::{Desired, EngineError, Event, clock, facts};

/// How many rotations are under way at once in one place. Providers bound their own calls below this.
const CONCURRENT: usize = 256;

/// A workflow, the change that it carries out, and its provider.
struct Job {
    policy: Option<(Name, Name)>,
    manager: Arc<dyn KeyManager>,
    work: Work,
}

/// What a plan's changes are carried out with.
struct Course<'a> {
    scope: Scope<'a>,
    desired: &'a Desired,
    recorded: &'a Recorded,
    observed: &'a Observed,
    state: &'a dyn State,
    policy_ids: PolicyIds,
    /// The highest version number of each key that rotates.
    numbers: BTreeMap<Uuid, u32>,
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
    run.scope.progress.event(Event::PhaseStarted { phase: "apply", total: Some(plan.changes.len()) });
    let policy_ids = documents_and_policies(run, desired, recorded, plan, &applied).await?;
    let mut numbers: BTreeMap<Uuid, u32> = BTreeMap::new();
    if plan.rotations().next().is_some() {
        for version in state.all_versions().await? {
            let highest = numbers.entry(version.key_id).or_default();
            *highest = (*highest).max(version.number);
        }
    }
    let course = Course { scope: run.scope.clone(), desired, recorded, observed, state, policy_ids, numbers };
    let keys = || plan.changes.iter().filter(|change| change.object.kind == ObjectKind::EncryptionKey);
    let is_edit = |change: &&Change| {
        !has_workflow(change) && change.action != Action::Finish && change.action.retirement().is_none()
    };
    let course = &course;
    let places = course.by_place(keys()).into_iter().map(|(place, changes)| {
        let edits: Vec<_> = changes.iter().copied().filter(is_edit).collect();
        let workflows: Vec<_> = changes.iter().copied().filter(|change| has_workflow(change)).collect();
        let ends = by_key(changes.into_iter().filter(|change| change.action.retirement().is_some()));
        // A future is made when its turn comes: those of a whole fleet would be the largest part of the memory.
        let edits = stream::iter(edits).map(async |change| vec![course.edit(change).await]);
        let workflows = stream::iter(workflows).map(async |change| vec![course.make(change).await]);
        let ends = stream::iter(ends).map(async |changes| course.retire(changes).await);
        let edits_and_workflows = edits.buffer_unordered(CONCURRENT).chain(workflows.buffer_unordered(CONCURRENT));
        (place, edits_and_workflows.chain(ends.buffer_unordered(CONCURRENT)))
    });
    side_by_side(run, places).await;
    summaries(&run.scope, desired, state).await?;
    if run.failed.is_empty() && run.not_started.is_empty() {
        applied.finished_at = Some(clock::now());
    }
    run.scope.context.journal.write(vec![Write::AppliedPlan(Box::new(applied))]).await?;
    Ok(())
}

/// Finishes what an earlier run left, under the policy that it began with. No limit, window, suspension or broken
/// document stops that; a key that failed is left alone for its while, and a parked one until a person resumes it.
pub(super) async fn resume(run: &mut Run<'_>, desired: &Desired, state: &dyn State, recorded: &Recorded) {
    let scope = run.scope.clone();
    let mut left: BTreeMap<ProviderPlace, Vec<(&RotationRecord, &KeyRecord)>> = BTreeMap::new();
    let keys: BTreeMap<Uuid, &KeyRecord> = recorded.keys.values().map(|key| (key.id, key)).collect();
    for rotation in &recorded.unfinished {
        if !scope.context.covers(&rotation.address.tenant_id) {
            // Whoever has its tenant is at it.
            continue;
        }
        let Some(key) = keys.get(&rotation.key_id) else {
            run.finish(without_key(&scope, state, rotation).await);
            continue;
        };
        if finish_held_back(&desired.repository, recorded, rotation, key, clock::now()).is_none() {
            left.entry(scope.managers.place(&key.key)).or_default().push((rotation, key));
        }
    }
    let (scope, state) = (&scope, state);
    let places = left.into_iter().map(|(place, left)| {
        let finished = stream::iter(left).map(async |(rotation, key)| vec![finish(scope, state, rotation, key).await]);
        (Some(place), finished.buffer_unordered(CONCURRENT))
    });
    side_by_side(run, places).await;
}

/// Does the work of each place on its own: one that is slow or dead delays nobody else. Where nobody answers, nobody is
/// asked again in this run.
async fn side_by_side<Work: Stream<Item = Vec<Finished>>>(
    run: &mut Run<'_>,
    places: impl Iterator<Item = (Option<ProviderPlace>, Work)>,
) {
    let managers = run.scope.managers;
    let mut finished = stream::select_all(places.map(|(place, work)| {
        Box::pin(work.inspect(move |finished| {
            let unanswered = finished.iter().find_map(Finished::unanswered);
            if let (Some(place), Some(error)) = (&place, unanswered) {
                managers.leave_alone(place, error);
            }
        }))
    }));
    while let Some(finished) = finished.next().await {
        for finished in finished {
            run.finish(finished);
        }
    }
}

/// The changes of each key together.
fn by_key<'a>(changes: impl Iterator<Item = &'a Change>) -> Vec<Vec<&'a Change>> {
    let mut keys: BTreeMap<&ObjectRef, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        keys.entry(&change.object).or_default().push(change);
    }
    keys.into_values().collect()
}

/// Is the change a workflow with a journal of its own?
const fn has_workflow(change: &Change) -> bool {
    matches!(change.action, Action::Create | Action::Rotate | Action::Rollback)
}

async fn finish(scope: &Scope<'_>, state: &dyn State, rotation: &RotationRecord, key: &KeyRecord) -> Finished {
    let (object, started) = (ObjectRef::key(&rotation.address), Instant::now());
    if scope.context.is_stopping() {
        return Finished { object, action: Action::Finish, started, outcome: Outcome::NotBegun, rotation_of: None };
    }
    match left_over(scope, state, rotation, key).await {
        Ok(job) => job.run(scope, object, Action::Finish, started).await,
        Err(stopped) => {
            tell_failed(scope, &key.key, (Action::Finish, None), &stopped).await;
            Finished::stopped(object, Action::Finish, started, stopped)
        }
    }
}

/// A rotation whose key is not in the record, or was forgotten: nobody can go on with it.
async fn without_key(scope: &Scope<'_>, state: &dyn State, rotation: &RotationRecord) -> Finished {
    let (object, started) = (ObjectRef::key(&rotation.address), Instant::now());
    let help = "keywheel forgets no key in the middle of a rotation: `keywheel audit list` shows what was done to it; go \
                back to the newest backup of the state database that has the key (`keywheel state copy`)";
    let error = format!("an unfinished {} of {} has no key in the record", rotation.workflow.noun(), rotation.address);
    let stopped = Stopped { help: Some(help.to_owned()), resumable: false, ..Stopped::new(error) };
    if let Ok(Some(forgotten)) = state.key(rotation.key_id).await {
        tell_failed(scope, &forgotten.key, (Action::Finish, None), &stopped).await;
    }
    Finished::stopped(object, Action::Finish, started, stopped)
}

/// Tells of a failure of which no workflow tells. It is in the report, whether or not that can be recorded.
async fn tell_failed(
    scope: &Scope<'_>,
    key: &EncryptionKey,
    (action, version): (Action, Option<u32>),
    stopped: &Stopped,
) {
    if stopped.is_news {
        let address = Address::new(key.tenant_id.clone(), key.key_name.clone());
        let fact = facts::not_changed(&address, action, version, &stopped.error);
        let _ = scope.context.journal.write(scope.context.tell(key, fact)).await;
    }
}

/// The workflow of a rotation that an earlier run left.
async fn left_over(
    scope: &Scope<'_>,
    state: &dyn State,
    rotation: &RotationRecord,
    key: &KeyRecord,
) -> Result<Job, Stopped> {
    let versions = state.versions(key.id).await?;
    let journal = state.journal(rotation.id).await?;
    let manager = scope.managers.of(&key.key).await.map_err(|error| Stopped::from(&error))?;
    let version = versions.iter().find(|version| Some(&version.provider_ref) == rotation.to_ref.as_ref()).cloned();
    let refs = versions.iter().map(|version| version.provider_ref.clone()).collect();
    let known = KnownVersions::from([(key.id, refs)]);
    let request = CreateVersion {
        key: handle(&key.address(), &key.key, Some(key), &known),
        rotation_id: rotation.id,
        lineage: scope.context.lineage,
        predecessor: predecessor(rotation),
        intent: rotation.intent.clone(),
    };
    let work = Work {
        rotation: rotation.clone(),
        key: key.clone(),
        request,
        version,
        next_number: versions.iter().map(|version| version.number).max().unwrap_or(0) + 1,
        left_over: true,
        open_since: journal.last().map(|step| step.at),
        pending: Vec::new(),
    };
    Ok(Job { policy: policy_of(&key.key), manager, work })
}

/// What the new version takes over from, and has to read. A rollback leads away from a version that may be broken.
fn predecessor(rotation: &RotationRecord) -> Option<String> {
    rotation.from_ref.clone().filter(|_| rotation.workflow != Workflow::Rollback)
}

impl<'a> Course<'a> {
    fn by_place(&self, changes: impl Iterator<Item = &'a Change>) -> BTreeMap<Option<ProviderPlace>, Vec<&'a Change>> {
        let mut places: BTreeMap<Option<ProviderPlace>, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            // A key that leaves is in no document any more, and nobody is asked about it.
            let key = change.object.address().and_then(|address| self.desired.repository.keys.get(&address));
            let place = key.map(|key| self.scope.managers.place(&key.value));
            places.entry(place).or_default().push(change);
        }
        places
    }

    /// A change of a key without a new version.
    async fn edit(&self, change: &Change) -> Finished {
        let (object, action, started) = (change.object.clone(), change.action, Instant::now());
        if self.scope.context.is_stopping() {
            return Finished { object, action, started, outcome: Outcome::NotBegun, rotation_of: None };
        }
        match key_change(&self.scope, self.desired, self.recorded, self.observed, self.state, &self.policy_ids, change)
            .await
        {
            Ok(()) => {
                let outcome = Outcome::Done { version: None };
                Finished { object, action, started, outcome, rotation_of: None }
            }
            Err(stopped) => self.failed(change, started, stopped).await,
        }
    }

    /// A creation or a rotation.
    async fn make(&self, change: &Change) -> Finished {
        let (object, action, started) = (change.object.clone(), change.action, Instant::now());
        if self.scope.context.is_stopping() {
            return Finished { object, action, started, outcome: Outcome::NotBegun, rotation_of: None };
        }
        match self.job(change).await {
            Ok(job) => job.run(&self.scope, object, action, started).await,
            Err(stopped) => self.failed(change, started, stopped).await,
        }
    }

    /// A change that failed before it had a workflow, or that has none.
    async fn failed(&self, change: &Change, started: Instant, stopped: Stopped) -> Finished {
        if let Some(address) = change.object.address() {
            let document = self.desired.repository.keys.get(&address).map(|key| &key.value);
            let recorded = || self.recorded.keys.get(&address).map(|record| &record.key);
            if let Some(key) = document.or_else(recorded) {
                tell_failed(&self.scope, key, (change.action, change.version), &stopped).await;
            }
        }
        Finished::stopped(change.object.clone(), change.action, started, stopped)
    }

    /// The workflow of a creation or a rotation, up to its intent.
    async fn job(&self, change: &Change) -> Result<Job, Stopped> {
        let Self { scope, desired, recorded, state, policy_ids, numbers, .. } = self;
        let vanished = || Stopped::vanished(&change.object);
        let address = change.object.address().ok_or_else(vanished)?;
        let document = &desired.repository.keys.get(&address).ok_or_else(vanished)?.value;
        let manager = scope.managers.of(document).await.map_err(|error| Stopped::from(&error))?;
        let record = continued_key(&desired.repository, recorded, &address, document).map(|(_, record)| record);
        let now = clock::now();
        let mut pending = Vec::new();
        let (workflow, mut key) = if change.action == Action::Create {
            let key = new_key(scope, clock::new_id(), document.clone(), policy_ids);
            pending.push(Write::Key(Box::new(key.clone())));
            (Workflow::Create, key)
        } else {
            let mut key = record.ok_or_else(vanished)?.clone();
            if key.key != *document {
                // A link, rename or edit of the same plan is recorded by now; if it failed, the key rotates as it was.
                key = state.key(key.id).await?.ok_or_else(vanished)?;
            }
            if key.state != KeyState::Active {
                // A person overrides a hold, which stays: failures of before do not stop this, should it be interrupted.
                (key.failures, key.retry_at) = (0, None);
                pending.push(Write::Key(Box::new(key.clone())));
            }
            let workflow = if change.action == Action::Rollback { Workflow::Rollback } else { Workflow::Rotate };
            (workflow, key)
        };
        let (document, address) = (&key.key.clone(), key.address());
        let next_number = numbers.get(&key.id).copied().unwrap_or(0) + 1;
        let from_ref = key.primary_version.as_ref().map(|version| version.provider_ref.clone());
        let key_handle = handle(&address, document, Some(&key), &KnownVersions::new());
        let intent = manager.intent(&key_handle).await.map_err(|error| Stopped::from(&error))?;
        let policy = self.policy(document);
        let (rotation_cause, slot) = match workflow {
            Workflow::Create => (RotationCause::Created, None),
            _ => (cause(&change.reason), slot(desired, &address, document, &key, change)),
        };
        if workflow == Workflow::Rotate && rotation_cause != RotationCause::Compromised {
            self.open(&address, document)?;
        }
        let version = self.target(change, &key).await?;
        let rotation = RotationRecord {
            cause: rotation_cause,
            slot,
            from_ref,
            to_ref: version.as_ref().map(|version| version.provider_ref.clone()),
            intent: intent.clone(),
            policy: policy.filter(|_| workflow != Workflow::Create),
            ..self.begun(workflow, &key, change)
        };
        let request = CreateVersion {
            key: key_handle,
            rotation_id: rotation.id,
            lineage: scope.context.lineage,
            predecessor: predecessor(&rotation),
            intent,
        };
        if let Some(primary) = key.primary_version.as_mut().filter(|_| rotation.cause == RotationCause::Compromised) {
            // With the intent, so that the mark stays whatever becomes of the rotation.
            primary.compromised_at = primary.compromised_at.or(Some(now));
            pending.push(Write::Version(Box::new(primary.clone())));
            let incident = change.after.as_ref().and_then(|after| after.get("incident"));
            // Which rotation it is, its end says: an entry with a `rotation_id` is that of an end.
            let marked = json!({
                "provider_ref": primary.provider_ref, "number": primary.number, "compromised_at": primary.compromised_at,
                "incident": incident, "reason": rotation.reason,
            });
            let object = ObjectRef::key(&address);
            pending.push(scope.audit("version.compromised".to_owned(), &object, None, Some(marked)));
            let fact = facts::compromised(&address, primary, &rotation, incident);
            pending.extend(scope.context.tell(document, fact));
        }
        let work = Work { rotation, key, request, version, next_number, left_over: false, open_since: None, pending };
        Ok(Job { policy: policy_of(document), manager, work })
    }

    /// Changes of one key's old versions, one after the other: a key is in one workflow at a time.
    async fn retire(&self, changes: Vec<&Change>) -> Vec<Finished> {
        let mut finished = Vec::new();
        for change in changes {
            let (object, action, started) = (change.object.clone(), change.action, Instant::now());
            if self.scope.context.is_stopping() {
                finished.push(Finished { object, action, started, outcome: Outcome::NotBegun, rotation_of: None });
                continue;
            }
            finished.push(match self.retirement(change).await {
                Ok(job) => job.run(&self.scope, object, action, started).await,
                Err(stopped) => self.failed(change, started, stopped).await,
            });
        }
        finished
    }

    /// The workflow of an old version's change, up to its intent.
    async fn retirement(&self, change: &Change) -> Result<Job, Stopped> {
        let Self { scope, desired, recorded, state, .. } = self;
        let vanished = || Stopped::vanished(&change.object);
        let address = change.object.address().ok_or_else(vanished)?;
        let document = &desired.repository.keys.get(&address).ok_or_else(vanished)?.value;
        let workflow = change.action.retirement().ok_or_else(vanished)?;
        if change.action.is_destructive() || change.reason.code != "manual" {
            self.open(&address, document)?;
        }
        let (_, known) = continued_key(&desired.repository, recorded, &address, document).ok_or_else(vanished)?;
        // A rotation of the same plan may have changed its row.
        let key = state.key(known.id).await?.ok_or_else(vanished)?;
        let versions = state.versions(key.id).await?;
        let fits = |version: &&VersionRecord| {
            let before = |field: &str| change.before.as_ref()?.get(field)?.as_str();
            Some(version.number) == change.version
                && before("state") == Some(version.state.as_str())
                && before("provider_ref") == Some(&version.provider_ref)
        };
        let version = versions.iter().find(fits).cloned().ok_or_else(vanished)?;
        let manager = scope.managers.of(document).await.map_err(|error| Stopped::from(&error))?;
        let rotation = RotationRecord {
            cause: if change.reason.code == "manual" { RotationCause::Manual } else { RotationCause::Due },
            to_ref: Some(version.provider_ref.clone()),
            policy: self.policy(document),
            ..self.begun(workflow, &key, change)
        };
        let request = CreateVersion {
            key: handle(&address, document, Some(&key), &KnownVersions::new()),
            rotation_id: rotation.id,
            lineage: scope.context.lineage,
            predecessor: None,
            intent: Value::Null,
        };
        let work = Work {
            rotation,
            key,
            request,
            version: Some(version),
            next_number: 0,
            left_over: false,
            open_since: None,
            pending: Vec::new(),
        };
        Ok(Job { policy: None, manager, work })
    }

    /// The record of a workflow of which nothing is done yet.
    fn begun(&self, workflow: Workflow, key: &KeyRecord, change: &Change) -> RotationRecord {
        let now = clock::now();
        let Status { phase, open_step } = beginning(workflow);
        RotationRecord {
            id: clock::new_id(),
            key_id: key.id,
            address: key.address(),
            workflow,
            phase,
            open_step,
            cause: RotationCause::Due,
            reason: change.reason.message.clone(),
            slot: None,
            from_ref: None,
            to_ref: None,
            intent: Value::Null,
            policy: None,
            error: None,
            attempt: 0,
            correlation_id: self.scope.context.correlation_id.clone(),
            commit: Some(self.scope.origin.commit.clone()),
            started_at: now,
            updated_at: now,
            finished_at: None,
        }
    }

    /// Does a freeze or a window still let it begin? Between the plan and this moment somebody was asked, and others'
    /// work was done.
    fn open(&self, key: &Address, document: &EncryptionKey) -> Result<(), Stopped> {
        let freezes = self.desired.repository.freezes.values().map(|freeze| &freeze.value);
        let freezes: Vec<_> = freezes.filter(|freeze| freeze_applies(freeze, key, &document.key_type)).collect();
        let timing = self.policy(document).and_then(|policy| Timing::new(&policy).ok());
        let now = clock::now();
        let held = match timing {
            Some(timing) => timing.open_at(&freezes, now).err(),
            None => {
                frozen_at(&freezes, now).map(|(freeze, until)| (Hold::Freeze(freeze.name.to_string()), Some(until)))
            }
        };
        held.map_or(Ok(()), |(hold, until)| Err(Stopped::held(&hold, until)))
    }

    /// The policy of a document.
    fn policy(&self, document: &EncryptionKey) -> Option<RotationPolicy> {
        let (tenant_id, name) = policy_of(document)?;
        let policy = self.desired.repository.policies.get(&Address::new(tenant_id, name))?;
        Some(policy.value.clone())
    }

    /// The version that a rollback leads to.
    async fn target(&self, change: &Change, key: &KeyRecord) -> Result<Option<VersionRecord>, Stopped> {
        if change.action != Action::Rollback {
            return Ok(None);
        }
        let wanted = change.after.as_ref().and_then(|after| after.get("primary")?.as_str());
        let versions = self.state.versions(key.id).await?;
        let found = versions.into_iter().find(|version| Some(version.provider_ref.as_str()) == wanted);
        let found = found.ok_or_else(|| Stopped::vanished(&change.object))?;
        // Somebody was asked meanwhile.
        match rollback_closes_at(&found) {
            Some(closed_at) if clock::now() <= closed_at => Ok(Some(found)),
            _ => {
                let error = "its rollback period has closed since it was planned".to_owned();
                Err(Stopped { resumable: false, is_news: false, ..Stopped::new(error) })
            }
        }
    }
}

impl Job {
    async fn run(mut self, scope: &Scope<'_>, object: ObjectRef, action: Action, started: Instant) -> Finished {
        scope.progress.event(Event::ChangeStarted { object: object.clone(), action });
        let outcome = drive(scope.context, self.manager.as_ref(), &mut self.work).await;
        let rotation = self.work.rotation;
        let outcome = match outcome {
            Ok(()) => Outcome::Done { version: rotation.to_ref },
            Err(stopped) => Outcome::Stopped(stopped),
        };
        let rotation_of = self.policy.filter(|_| rotation.workflow == Workflow::Rotate);
        Finished { object, action, started, outcome, rotation_of }
    }
}

/// The slot that a scheduled rotation serves.
fn slot(
    desired: &Desired,
    address: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    change: &Change,
) -> Option<Timestamp> {
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
