//! Drives one rotation (or the creation of a key, which is a rotation without a predecessor) to its end: journal, call,
//! journal. What was started without a known outcome is probed before it is repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::model::{
    AuditEntry, KeyRecord, KeyState, KmsProvider, Name, ObjectRef, Outcome, Phase, Retention, RotationCause,
    RotationRecord, Step, StepRecord, Timestamp, VersionRecord, VersionState, Workflow,
};
use crate::provider::{CreateVersion, ErrorKind, KeyManager, ProviderError};
use crate::rotation::{Event as StepEvent, Next, RETRY_BUDGET, Status, abandon, next_step, record, retry_delay};
use crate::store::Write;

use super::journal::Journal;
use super::messages::Receivers;
use super::stopped::Stopped;
use super::{clock, facts, retire};

/// What every rotation of an apply shares.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub journal: Journal,
    pub lineage: Uuid,
    pub actor: String,
    pub correlation_id: String,
    /// Set by the first interrupt: nothing new is begun.
    pub interrupt: Arc<AtomicBool>,
    /// Whom each policy wants told.
    pub receivers: Arc<Receivers>,
    /// How long an unknown creation is looked for before it is repeated.
    pub consistency_delay: Duration,
}

impl Context {
    /// May this run write about a tenant? Somebody else may work on the others.
    pub(super) fn covers(&self, tenant_id: &Name) -> bool {
        self.journal.lease().is_on(tenant_id)
    }

    /// Is nothing new to be begun?
    pub(super) fn is_stopping(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed) || self.journal.is_lost()
    }

    /// Lets some time pass; an interrupt ends the wait.
    async fn pause(&self, duration: Duration) {
        let begin = clock::instant();
        while !self.interrupt.load(Ordering::Relaxed) {
            let left = duration.saturating_sub(clock::instant().saturating_duration_since(begin));
            if left.is_zero() {
                break;
            }
            clock::sleep(left.min(LOOK_AROUND)).await;
        }
    }

    /// Waits for calls as long as no other worker can have the lease before they land. What is given up may have had its
    /// effect, and calls nothing more.
    pub async fn while_held<T>(
        &self,
        calls: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        tokio::select! {
            // What was asleep for long, and has its answer, begins no further call either.
            biased;
            () = self.journal.lease_lost() => Err(ProviderError::new(
                ErrorKind::Unknown,
                "lease",
                "the lease could not be prolonged in time: another worker may have it by now",
            )),
            answer = calls => answer,
        }
    }
}

/// One rotation under way.
pub(super) struct Work {
    pub rotation: RotationRecord,
    pub key: KeyRecord,
    pub request: CreateVersion,
    /// The version that it has made, once it has.
    pub version: Option<VersionRecord>,
    /// The number of the next version: one more than any version of the key has, orphans included.
    pub next_number: u32,
    /// Did an earlier run leave it?
    pub left_over: bool,
    /// When the open step was started, for a rotation that an earlier run left.
    pub open_since: Option<Timestamp>,
    /// Writes that go with the next intent, or with the end.
    pub pending: Vec<Write>,
}

/// The longest that a run waits for a provider's consistency; beyond that it ends, and names the instant.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How soon a wait ends when an interrupt comes.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// How many failures that may pass, or whose outcome is unknown, a rotation meets within one run before the next run goes on.
const ATTEMPTS_A_RUN: u32 = 3;

/// How often a throttled creation is tried again within one run, after a second at first and twice as long each time.
const THROTTLED_CREATIONS: u32 = 5;

/// Drives a rotation to its end.
///
/// # Errors
/// [`Stopped`]; what was reached is in the journal.
pub(super) async fn drive(context: &Context, manager: &dyn KeyManager, work: &mut Work) -> Result<(), Stopped> {
    let (mut failures, mut throttled) = (0, 0);
    loop {
        let status = Status::of(&work.rotation);
        match next_step(status) {
            Next::Nothing => return flush(context, work).await,
            Next::Probe(step) => {
                if let Err(stopped) = probe(context, manager, work, step).await {
                    // A wait for the provider's consistency is no failure.
                    if stopped.retry_at.is_none() && is_failure(context, &stopped) {
                        count_failure(context, work, &stopped.error);
                    }
                    flush(context, work).await?;
                    return Err(stopped);
                }
            }
            Next::Do(Step::Retire) if work.left_over => return drop_retirement(context, work).await,
            Next::Do(step) => {
                if context.journal.is_lost() {
                    let message = format!("the lock was lost before {step}: it had expired, or somebody took it");
                    return Err(Stopped::new(message));
                }
                if context.interrupt.load(Ordering::Relaxed) {
                    flush(context, work).await?;
                    return Err(Stopped::new(format!("stopped before {step}, as asked")));
                }
                if let Err(error) = attempt(context, manager, work, step).await? {
                    // Nothing below repeats this one call. A throttled one has had no effect.
                    if (step, error.kind) == (Step::Create, ErrorKind::Throttled) && throttled < THROTTLED_CREATIONS {
                        context.pause(Duration::from_secs(1 << throttled)).await;
                        throttled += 1;
                        continue;
                    }
                    failures += 1;
                    // An unknown outcome too: a provider that never gives a usable answer must not hold the run for ever.
                    if failures == ATTEMPTS_A_RUN || !is_worth_another(step, &error) {
                        return give_up(context, work, step, &error).await;
                    }
                }
            }
        }
    }
}

/// Is a step worth another attempt in the same run? Whoever throttles or does not answer was asked for as long as a call
/// may take; but of a creation it is not known then whether it happened, and that is asked.
fn is_worth_another(step: Step, error: &ProviderError) -> bool {
    let is_open = step == Step::Create && error.is_unknown();
    error.is_transient() && (is_open || !error.concerns_every_key())
}

/// Does it count against the key? Throttling does not, and not what an interrupt cut short.
fn is_failure(context: &Context, stopped: &Stopped) -> bool {
    !stopped.throttled && !context.interrupt.load(Ordering::Relaxed)
}

/// Intent, call, outcome. The outcome is written with the next intent: nothing happens in between.
async fn attempt(
    context: &Context,
    manager: &dyn KeyManager,
    work: &mut Work,
    step: Step,
) -> Result<Result<(), ProviderError>, Stopped> {
    work.rotation.attempt += 1;
    note(work, step, Outcome::Started, None)?;
    flush(context, work).await?;
    match context.while_held(call(manager, work, step)).await {
        Ok(()) => {
            work.rotation.attempt = 0;
            work.rotation.error = None;
            succeed(context, work, step)?;
            Ok(Ok(()))
        }
        Err(error) => {
            work.rotation.error = Some(error.to_string());
            let outcome = if error.is_unknown() { Outcome::Unknown } else { Outcome::Failed };
            note(work, step, outcome, Some(error.to_string()))?;
            work.open_since = Some(clock::now());
            Ok(Err(error))
        }
    }
}

async fn call(manager: &dyn KeyManager, work: &mut Work, step: Step) -> Result<(), ProviderError> {
    let from = work.rotation.from_ref.clone();
    match step {
        Step::Create => {
            let found = manager.create_version(&work.request).await?;
            made(work, found.provider_ref, found.created_at);
        }
        Step::Verify => manager.verify(&work.request, to_ref(work)?).await?,
        Step::Promote => {
            let to = to_ref(work)?.to_owned();
            let primary = manager.primary(&work.request.key).await?;
            // Also where it seems to lead there already: what is read may be of a moment ago, before a rollback's rotation.
            if primary != from && primary.as_deref() != Some(to.as_str()) {
                return Err(foreign(primary.as_deref(), from.as_deref()));
            }
            manager.promote(&work.request.key, from.as_deref(), &to).await?;
        }
        Step::Settle => {
            let to = to_ref(work)?.to_owned();
            // A rollback leads away from a version that may be broken: what that one encrypted is not asked for.
            let from = from.filter(|_| work.rotation.workflow != Workflow::Rollback);
            manager.prove_primary(&work.request.key, from.as_deref(), &to).await?;
        }
        Step::Retire => retire::call(manager, work).await?,
    }
    Ok(())
}

fn to_ref(work: &Work) -> Result<&str, ProviderError> {
    let missing = || ProviderError::new(ErrorKind::Refused, "resume", "the journal has no version for this step");
    work.rotation.to_ref.as_deref().ok_or_else(missing)
}

fn foreign(primary: Option<&str>, expected: Option<&str>) -> ProviderError {
    let (primary, expected) = (primary.unwrap_or("nothing"), expected.unwrap_or("nothing"));
    ProviderError::new(
        ErrorKind::Conflict,
        "promote",
        format!("the stable name leads to {primary}, and not to {expected}: somebody else moved it"),
    )
    .help("find out who moved it, and lead it back; then apply goes on")
}

/// An open step: asks the provider what became of it.
async fn probe(context: &Context, manager: &dyn KeyManager, work: &mut Work, step: Step) -> Result<(), Stopped> {
    match step {
        // Both are idempotent, and prove what they did: doing them again is the probe.
        Step::Verify | Step::Settle => {
            note(work, step, Outcome::Failed, Some("not known: it is done again".to_owned()))
        }
        Step::Promote => {
            let primary = manager.primary(&work.request.key).await.map_err(|error| Stopped::from(&error))?;
            let leads_there = primary.is_some() && primary == work.rotation.to_ref;
            // Before its rotation a name led to no new version; to the one that a rollback leads to, it did.
            if leads_there && work.rotation.workflow != Workflow::Rollback {
                succeed(context, work, step)
            } else if leads_there || primary == work.rotation.from_ref {
                note(work, step, Outcome::Failed, Some("the stable name is moved once more".to_owned()))
            } else {
                let error = foreign(primary.as_deref(), work.rotation.from_ref.as_deref());
                Err(Stopped { resumable: false, ..Stopped::from(&error) })
            }
        }
        Step::Create => probe_create(context, manager, work).await,
        Step::Retire => {
            let done = context.while_held(retire::is_done(manager, work)).await;
            if done.map_err(|error| Stopped::from(&error))? {
                succeed(context, work, step)
            } else {
                note(work, step, Outcome::Failed, Some("the version is as it was".to_owned()))
            }
        }
    }
}

async fn probe_create(context: &Context, manager: &dyn KeyManager, work: &mut Work) -> Result<(), Stopped> {
    let mut found = manager.find_created(&work.request).await.map_err(|error| Stopped::from(&error))?;
    if found.is_empty() {
        let since = work.open_since.unwrap_or(work.rotation.updated_at);
        let delay = match work.key.key.kms_provider {
            // The sealed file is read as it was written.
            KmsProvider::Local => chrono::Duration::zero(),
            _ => chrono::Duration::from_std(context.consistency_delay).unwrap_or_default(),
        };
        let sure_at = since.checked_add_signed(delay).unwrap_or(since);
        let now = clock::now();
        if now >= sure_at {
            return note(
                work,
                Step::Create,
                Outcome::Failed,
                Some("the provider has no version of this rotation".to_owned()),
            );
        }
        let wait = (sure_at - now).to_std().unwrap_or_default();
        flush(context, work).await?;
        if wait > LONGEST_WAIT || context.interrupt.load(Ordering::Relaxed) {
            let error =
                work.rotation.error.clone().unwrap_or_else(|| "it was interrupted while it made a version".to_owned());
            let help = format!(
                "the version may still appear: from {} on, apply looks again and goes on",
                sure_at.to_rfc3339()
            );
            return Err(Stopped { help: Some(help), retry_at: Some(sure_at), ..Stopped::new(error) });
        }
        context.pause(wait).await;
        return Ok(());
    }
    let oldest = found.remove(0);
    for twin in found {
        // A call that was repeated by somebody below us. It is kept, recorded, and out of use. Disabling it is idempotent,
        // and done again if the record of it is lost: the audit entry is the intent.
        let intent = json!({ "provider_ref": twin.provider_ref, "state": VersionState::Disabled });
        work.pending.push(audit(context, work, "version.disable_requested", None, Some(intent)));
        flush(context, work).await?;
        let disable = manager.disable(&work.request.key, &twin.provider_ref);
        context.while_held(disable).await.map_err(|error| Stopped::from(&error))?;
        let mut orphan = version(work, twin.provider_ref.clone(), twin.created_at);
        orphan.orphan = true;
        orphan.state = VersionState::Disabled;
        work.pending.push(Write::Version(Box::new(orphan)));
        let detail = json!({ "provider_ref": twin.provider_ref });
        work.pending.push(audit(context, work, "version.orphaned", None, Some(detail)));
        let told = context.tell(&work.key.key, facts::orphaned(work, &twin.provider_ref));
        work.pending.extend(told);
    }
    made(work, oldest.provider_ref, oldest.created_at);
    succeed(context, work, Step::Create)
}

/// Takes a version over as the rotation's own.
fn made(work: &mut Work, provider_ref: String, created_at: Option<Timestamp>) {
    work.rotation.to_ref = Some(provider_ref.clone());
    work.version = Some(version(work, provider_ref, created_at));
}

fn version(work: &mut Work, provider_ref: String, provider_created_at: Option<Timestamp>) -> VersionRecord {
    let number = work.next_number;
    work.next_number += 1;
    VersionRecord {
        rotation_id: Some(work.rotation.id),
        provider_created_at,
        ..VersionRecord::new(clock::new_id(), work.key.id, number, provider_ref, clock::now())
    }
}

/// Writes down that a step succeeded, and what follows from it.
fn succeed(context: &Context, work: &mut Work, step: Step) -> Result<(), Stopped> {
    let detail = work.rotation.to_ref.clone();
    note(work, step, Outcome::Succeeded, detail)?;
    if step == Step::Create
        && let Some(version) = &work.version
    {
        work.pending.push(Write::Version(Box::new(version.clone())));
    }
    if work.rotation.phase == Phase::Settled {
        settle(context, work);
    }
    Ok(())
}

/// The new version is primary, and the old one decrypts only: one transaction.
fn settle(context: &Context, work: &mut Work) {
    let now = work.rotation.updated_at;
    work.rotation.finished_at = Some(now);
    if retire::target(work.rotation.workflow).is_some() {
        retire::settle(context, work, now);
        return replace_rotation(work);
    }
    let from = work.key.primary_version.take();
    if let Some(mut old) = from.clone() {
        old.state = VersionState::Deactivated;
        old.deactivated_at = Some(now);
        old.retention = work.rotation.policy.as_ref().map(Retention::of);
        old.retain_until = Some(old.retention.as_ref().map_or(now, |terms| terms.until(now)));
        work.pending.push(Write::Version(Box::new(old)));
    }
    let rolled_back = work.rotation.workflow == Workflow::Rollback;
    if let Some(new) = &mut work.version {
        new.state = VersionState::Active;
        // A version that is primary again is as old as it was.
        new.activated_at = new.activated_at.filter(|_| rolled_back).or(Some(now));
        (new.deactivated_at, new.retention, new.retain_until) = (None, None, None);
        work.pending.push(Write::Version(Box::new(new.clone())));
        work.key.primary_version = Some(new.clone());
    }
    // An emergency is no word on what a person stopped: that stays until a person says otherwise.
    if rolled_back || work.rotation.cause != RotationCause::Compromised {
        work.key.state = if rolled_back { KeyState::Held } else { KeyState::Active };
        work.key.state_reason = rolled_back.then(|| work.rotation.reason.clone());
    }
    match work.rotation.workflow {
        Workflow::Rotate => {
            work.key.last_rotation_at = Some(now);
            work.key.last_slot = work.rotation.slot;
        }
        // The rotation that made the primary is the last one again; which slot that served is not known any more.
        Workflow::Rollback => {
            let made = work.version.as_ref().filter(|version| version.number > 1);
            work.key.last_rotation_at = made.and_then(|version| version.activated_at);
            work.key.last_slot = None;
        }
        _ => {}
    }
    (work.key.failures, work.key.retry_at) = (0, None);
    work.key.revision += 1;
    work.key.updated_at = now;
    context.correlation_id.clone_into(&mut work.key.correlation_id);
    work.pending.push(Write::Key(Box::new(work.key.clone())));
    let before = from.map(|version| json!({ "primary": version.provider_ref }));
    let rotation = &work.rotation;
    let after = json!({
        "primary": rotation.to_ref, "rotation_id": rotation.id, "cause": rotation.cause, "reason": rotation.reason,
        "rotation_policy": work.key.key.rotation_policy,
    });
    let action = match work.rotation.workflow {
        Workflow::Rotate => "key.rotated",
        Workflow::Rollback => "key.rolled_back",
        _ => "key.created",
    };
    let entry = audit(context, work, action, before, Some(after));
    work.pending.push(entry);
    if rolled_back {
        let told = context.tell(&work.key.key, facts::held(work));
        work.pending.extend(told);
    }
    replace_rotation(work);
}

/// An old version's change that an earlier run left undone is given up: whether it may be done is for a new plan to say.
async fn drop_retirement(context: &Context, work: &mut Work) -> Result<(), Stopped> {
    if let Ok(status) = abandon(Status::of(&work.rotation)) {
        work.rotation.phase = status.phase;
        work.rotation.finished_at = Some(clock::now());
        let entry = audit(context, work, "rotation.abandoned", None, None);
        work.pending.push(entry);
        replace_rotation(work);
    }
    flush(context, work).await
}

/// A failure that is not tried again in this run. Before anything was made the rotation is given up; after
/// that it stays, and the next apply goes on with it, so that a failing key does not leave a new version each time.
async fn give_up(context: &Context, work: &mut Work, step: Step, error: &ProviderError) -> Result<(), Stopped> {
    let mut stopped = Stopped::from(error);
    let made_nothing = step != Step::Settle && !matches!(work.rotation.workflow, Workflow::Create | Workflow::Rotate);
    let made_nothing = made_nothing || step == Step::Create;
    if made_nothing
        && !error.is_transient()
        && let Ok(status) = abandon(Status::of(&work.rotation))
    {
        work.rotation.phase = status.phase;
        work.rotation.finished_at = Some(clock::now());
        stopped.resumable = false;
        if work.rotation.workflow == Workflow::Create {
            work.pending.push(Write::ForgetKey { id: work.key.id, at: clock::now() });
        }
        let entry = audit(context, work, "rotation.abandoned", None, Some(json!({ "error": error.to_string() })));
        work.pending.push(entry);
    }
    replace_rotation(work);
    if is_failure(context, &stopped) {
        stopped.retry_at = count_failure(context, work, &stopped.error);
    }
    flush(context, work).await?;
    Err(stopped)
}

/// A run could not finish the rotation: the next ones leave the key alone for a growing while, and at last it is parked.
/// Gives the instant from which on it is tried again.
fn count_failure(context: &Context, work: &mut Work, error: &str) -> Option<Timestamp> {
    // A key that was not made yet has no row of its own to keep, and nothing that could be parked.
    if work.rotation.workflow == Workflow::Create {
        let told = context.tell(&work.key.key, facts::not_created(work, error));
        work.pending.extend(told);
        return None;
    }
    // What becomes of an old version is no reason to stop the rotations of its key.
    if !matches!(work.rotation.workflow, Workflow::Rotate | Workflow::Rollback) {
        let told = context.tell(&work.key.key, facts::not_retired(work, error));
        work.pending.extend(told);
        return None;
    }
    let now = clock::now();
    let key = &mut work.key;
    key.failures = key.failures.saturating_add(1);
    key.retry_at = now.checked_add_signed(retry_delay(key.failures)).filter(|at| *at > now);
    key.updated_at = now;
    let parked = key.failures >= RETRY_BUDGET;
    if parked {
        key.state = KeyState::Parked;
        key.state_reason = Some(format!("{} runs in a row failed, the last one with: {error}", key.failures));
        key.retry_at = None;
    }
    let retry_at = key.retry_at;
    let record = Write::Key(Box::new(key.clone()));
    work.pending.push(record);
    let told = context.tell(&work.key.key, facts::failed(work, error));
    work.pending.extend(told);
    if parked {
        let told = context.tell(&work.key.key, facts::parked_key(&work.key));
        work.pending.extend(told);
        let why = json!({ "reason": work.key.state_reason });
        let entry = audit(context, work, "key.parked", None, Some(why));
        work.pending.push(entry);
    }
    retry_at
}

/// Adds a journal entry, and brings the rotation's own row up to it.
fn note(work: &mut Work, step: Step, outcome: Outcome, detail: Option<String>) -> Result<(), Stopped> {
    let event = StepEvent { step, outcome };
    let status = record(Status::of(&work.rotation), event)
        .map_err(|illegal| Stopped { resumable: false, ..Stopped::new(illegal.to_string()) })?;
    let at = clock::now();
    work.rotation.phase = status.phase;
    work.rotation.open_step = status.open_step;
    work.rotation.updated_at = at;
    let attempt = work.rotation.attempt.max(1);
    work.pending.push(Write::Step(StepRecord { rotation_id: work.rotation.id, step, outcome, attempt, detail, at }));
    replace_rotation(work);
    Ok(())
}

/// Of several states of the rotation's row in one transaction only the last counts.
fn replace_rotation(work: &mut Work) {
    let rotation = Box::new(work.rotation.clone());
    match work.pending.iter_mut().find_map(|write| match write {
        Write::Rotation(pending) => Some(pending),
        _ => None,
    }) {
        Some(pending) => *pending = rotation,
        None => work.pending.push(Write::Rotation(rotation)),
    }
}

async fn flush(context: &Context, work: &mut Work) -> Result<(), Stopped> {
    Ok(context.journal.write(std::mem::take(&mut work.pending)).await?)
}

/// An audit entry about the key.
pub(super) fn audit(
    context: &Context,
    work: &Work,
    action: &str,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> Write {
    Write::Audit(Box::new(AuditEntry {
        at: clock::now(),
        actor: context.actor.clone(),
        commit: work.rotation.commit.clone(),
        correlation_id: context.correlation_id.clone(),
        action: action.to_owned(),
        object: ObjectRef::key(&work.key.address()),
        before,
        after,
    }))
}
