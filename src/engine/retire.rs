//! The end of old versions: which of them a plan looks at, and the one step that disables, enables or destroys one.
//!
//! # Invariant
//! Right before the call every condition is judged once more: the stable name leads elsewhere, the time has come, and
//! something shows that nothing needs the version. A workflow that was interrupted is never repeated: if the provider has
//! done what it was asked it is recorded, and otherwise given up, so that the next plan judges anew.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::json;

use crate::diagnostic::Finding;
use crate::model::{
    Address, Disposition, LastUse, ObjectRef, Observation, Recorded, Retention, RotationCause, RotationPolicy,
    Timestamp, VersionRecord, VersionState, Workflow,
};
use crate::plan::{self, Action, Retired, continued_key};
use crate::provider::{ErrorKind, KeyHandle, KeyManager, ProviderError, ProviderPlace};
use crate::store::{OldVersions, ReadState, Write};

use super::observe::{KnownVersions, Observed, handle};
use super::providers::{Observers, place};
use super::workflow::{Context, Work, audit};
use super::{Desired, EngineError, clock, facts};

/// The old versions whose time may have come at `now`, by their terms alone.
pub(super) async fn due_versions(
    state: Option<&dyn ReadState>,
    desired: &Desired,
    recorded: &Recorded,
    now: Timestamp,
) -> Result<Retired, EngineError> {
    let Some(state) = state else { return Ok(Retired::default()) };
    let policies = &desired.repository.policies;
    // Where every policy keeps old versions, only those are read that are under other terms already.
    let kept = policies.values().any(|policy| policy.value.old_key_disposition != Disposition::Keep);
    let OldVersions { versions, existing } = state.old_versions(now, kept).await?;
    let mut retired = Retired { existing, ..Retired::default() };
    if versions.is_empty() {
        return Ok(retired);
    }
    let mut governed = BTreeMap::new();
    for (address, key) in &desired.repository.keys {
        if let Some((_, record)) = continued_key(&desired.repository, recorded, address, &key.value) {
            governed.insert(record.id, policy_of(desired, address));
        }
    }
    for version in versions {
        let Some(policy) = governed.get(&version.key_id) else {
            if version.state == VersionState::PendingDestruction {
                retired.doomed.entry(version.key_id).or_default().push(version.number);
            }
            continue;
        };
        let due = plan::terms(&version, *policy).and_then(|terms| plan::due(&version, &terms, now));
        if due.is_some() {
            retired.versions.entry(version.key_id).or_default().push(version);
        } else if version.is_pending_at(now) {
            retired.pending.entry(version.key_id).or_default().push(version);
        }
    }
    Ok(retired)
}

fn policy_of<'a>(desired: &'a Desired, key: &Address) -> Option<&'a RotationPolicy> {
    let name = desired.repository.keys.get(key)?.value.rotation_policy.clone()?;
    let policy = desired.repository.policies.get(&Address::new(key.tenant_id.clone(), name))?;
    Some(&policy.value)
}

/// The refs of those versions beside the primaries, so that they are observed too.
pub(super) fn known_versions(retired: &Retired, recorded: &Recorded, known: &mut KnownVersions) {
    for record in recorded.keys.values() {
        let Some(versions) = retired.versions.get(&record.id) else { continue };
        let refs = known.entry(record.id).or_default();
        let primary = record.primary_version.iter().map(|version| &version.provider_ref);
        for reference in versions.iter().map(|version| &version.provider_ref).chain(primary) {
            if !refs.contains(reference) {
                refs.push(reference.clone());
            }
        }
    }
}

/// Asks when versions were last used, where nothing else shows that they are not needed: in each place at most so many as
/// may be disabled at once, those that have waited longest first. One that is not answered takes no turn from others.
pub(super) async fn last_uses(
    observers: &Observers,
    desired: &Desired,
    recorded: &Recorded,
    observed: &Observed,
    retired: &mut Retired,
    limit: usize,
    now: Timestamp,
) -> Vec<Finding> {
    let mut places: BTreeMap<ProviderPlace, Vec<Question<'_>>> = BTreeMap::new();
    for (address, key) in &desired.repository.keys {
        let Some((_, record)) = continued_key(&desired.repository, recorded, address, &key.value) else { continue };
        // Nothing is planned for what is not there, or gave no answer.
        let is_there = matches!(observed.keys.get(address), Some(Observation::Present(_)));
        if !is_there || observed.unreachable.contains_key(&address.tenant_id) {
            continue;
        }
        for version in retired.versions.get(&record.id).into_iter().flatten() {
            let policy = policy_of(desired, address);
            let Some(terms) = plan::terms(version, policy) else { continue };
            let disables = plan::due(version, &terms, now).is_some_and(|due| due.action == Action::Disable);
            if disables && plan::needs_last_use(version, &terms, policy, now) {
                let handle = handle(address, &key.value, Some(record), &KnownVersions::new());
                let question = Question { since: version.deactivated_at.unwrap_or(now), address, handle, version };
                places.entry(place(observers.providers(), &key.value)).or_default().push(question);
            }
        }
    }
    let asked = places.into_iter().map(|(place, mut questions)| {
        questions.sort_by(|a, b| a.turn().cmp(&b.turn()));
        questions.truncate(limit);
        ask(observers, place, questions)
    });
    let mut answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    answers.sort_by(|(a, _), (b, _)| a.turn().cmp(&b.turn()));
    let (mut last_uses, mut findings, mut turns) = (BTreeMap::new(), Vec::new(), 0);
    for (question, answer) in answers {
        let reference = question.version.provider_ref.clone();
        match answer {
            Ok(last_use) => {
                turns += 1;
                if turns <= limit {
                    last_uses.insert(reference, last_use);
                }
            }
            Err(error) => {
                let message = format!("when {reference} was last used is not known: {error}");
                let finding = Finding::warning("retention/last-use-unknown", message);
                let known = "`keywheel attest` records what you know of it";
                let help = match error.help {
                    Some(help) => format!("{help}; until then the version waits, and {known}"),
                    None => format!("until the key manager answers that, the version waits; {known}"),
                };
                findings.push(finding.of(ObjectRef::key(question.address)).help(help));
                last_uses.insert(reference, None);
            }
        }
    }
    retired.last_uses = last_uses;
    findings
}

/// When was a version last used?
struct Question<'a> {
    since: Timestamp,
    address: &'a Address,
    handle: KeyHandle,
    version: &'a VersionRecord,
}

impl Question<'_> {
    /// The order in which they are asked.
    const fn turn(&self) -> (Timestamp, &Address, u32) {
        (self.since, self.address, self.version.number)
    }
}

type Answer = Result<Option<LastUse>, ProviderError>;

/// Asks the questions of one place. Where nobody answers the rest is not asked: its last use stays unknown.
async fn ask<'a>(
    observers: &Observers,
    place: ProviderPlace,
    questions: Vec<Question<'a>>,
) -> Vec<(Question<'a>, Answer)> {
    let observer = observers.at(&place).await;
    let mut unanswered = observer.as_ref().err().cloned();
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        let answer = match (&observer, &unanswered) {
            (Ok((observer, _)), None) => observer.last_use(&question.handle, &question.version.provider_ref).await,
            (Err(error), _) | (_, Some(error)) => Err(error.clone()),
        };
        if unanswered.is_none() {
            unanswered = answer.as_ref().err().filter(|error| error.concerns_every_key()).cloned();
        }
        answers.push((question, answer));
    }
    answers
}

/// The state that a workflow leads to.
pub(super) const fn target(workflow: Workflow) -> Option<VersionState> {
    match workflow {
        Workflow::Create | Workflow::Rotate | Workflow::Rollback => None,
        Workflow::Disable | Workflow::CancelDestruction => Some(VersionState::Disabled),
        Workflow::Enable => Some(VersionState::Deactivated),
        Workflow::ScheduleDestruction => Some(VersionState::PendingDestruction),
        Workflow::Destroy => Some(VersionState::Destroyed),
    }
}

/// Judges once more, and calls.
pub(super) async fn call(manager: &dyn KeyManager, work: &mut Work) -> Result<(), ProviderError> {
    let (key, workflow) = (&work.request.key, work.rotation.workflow);
    let asked = work.rotation.cause == RotationCause::Manual;
    let refuse = |message: String| ProviderError::new(ErrorKind::Refused, "retire", message);
    let Some(version) = &mut work.version else { return Err(refuse("the journal has no version".to_owned())) };
    let reference = version.provider_ref.clone();
    let destructive = matches!(workflow, Workflow::Disable | Workflow::ScheduleDestruction | Workflow::Destroy);
    if destructive {
        if manager.primary(key).await?.is_none_or(|primary| primary == reference) {
            return Err(refuse(format!("the stable name leads to {reference}, or nowhere")));
        }
        if !asked {
            let policy = work.rotation.policy.as_ref();
            let last_use = match workflow {
                // It is gone, or is about to go: the last word was when that was scheduled.
                Workflow::Destroy => None,
                _ => last_use(manager, key, version, policy).await?,
            };
            still_due(version, policy, workflow, last_use.as_ref()).map_err(refuse)?;
        }
    }
    match workflow {
        Workflow::Disable => manager.disable(key, &reference).await,
        Workflow::Enable => {
            if found_state(manager, key, &reference).await? == Some(VersionState::PendingDestruction) {
                manager.cancel_destruction(key, &reference).await?;
            }
            manager.enable(key, &reference).await
        }
        Workflow::ScheduleDestruction => {
            version.destroy_at = Some(manager.schedule_destruction(key, &reference).await?);
            Ok(())
        }
        Workflow::CancelDestruction => manager.cancel_destruction(key, &reference).await,
        Workflow::Destroy => manager.destroy(key, &reference).await,
        Workflow::Create | Workflow::Rotate | Workflow::Rollback => {
            Err(refuse(format!("{workflow} does not change an old version")))
        }
    }
}

/// When a version was last used. A key manager that keeps no record of uses says that it knows none; one that gives no answer
/// stops this. Where we may not know it, something else has to show that nothing needs the version.
async fn last_use(
    manager: &dyn KeyManager,
    key: &KeyHandle,
    version: &VersionRecord,
    policy: Option<&RotationPolicy>,
) -> Result<Option<LastUse>, ProviderError> {
    let answer = manager.last_use(key, &version.provider_ref).await;
    let Err(ProviderError { kind: ErrorKind::Denied, .. }) = answer else { return answer };
    let terms = plan::terms(version, policy);
    let is_needed = terms.is_none_or(|terms| plan::needs_last_use(version, &terms, policy, clock::now()));
    if is_needed { answer } else { Ok(None) }
}

/// Do its terms still ask for it, and does something still show that it may be done?
fn still_due(
    version: &VersionRecord,
    policy: Option<&RotationPolicy>,
    workflow: Workflow,
    last_use: Option<&LastUse>,
) -> Result<(), String> {
    let now = clock::now();
    let terms = plan::terms(version, policy).ok_or("it is under no terms")?;
    let due = plan::due(version, &terms, now).filter(|due| due.action.retirement() == Some(workflow));
    due.ok_or("its terms do not ask for it any more")?;
    match workflow {
        Workflow::Disable => plan::evidence(version, &terms, policy, last_use, now).map(drop),
        Workflow::ScheduleDestruction => plan::is_vetoed(version, last_use).map_or(Ok(()), Err),
        _ => Ok(()),
    }
}

/// What became of a step whose outcome is not known: is the version in the state that it leads to?
pub(super) async fn is_done(manager: &dyn KeyManager, work: &mut Work) -> Result<bool, ProviderError> {
    let Some(version) = &mut work.version else { return Ok(false) };
    let reference = version.provider_ref.clone();
    let found = found_state(manager, &work.request.key, &reference).await?;
    let usable =
        |state| matches!(state, VersionState::PreActivation | VersionState::Active | VersionState::Deactivated);
    let done = match (target(work.rotation.workflow), found) {
        (Some(VersionState::Destroyed), None) => true,
        (Some(VersionState::Deactivated), Some(found)) => usable(found),
        (wanted, found) => wanted == found,
    };
    if done && work.rotation.workflow == Workflow::ScheduleDestruction {
        // It is scheduled already: that gives the end of the waiting period once more.
        version.destroy_at = Some(manager.schedule_destruction(&work.request.key, &reference).await?);
    }
    Ok(done)
}

/// The state of a version at its key manager; none where it is gone.
async fn found_state(
    manager: &dyn KeyManager,
    key: &KeyHandle,
    reference: &str,
) -> Result<Option<VersionState>, ProviderError> {
    let mut key = key.clone();
    key.versions.push(reference.to_owned());
    match manager.observe(std::slice::from_ref(&key)).await.pop() {
        Some(Observation::Present(found)) => {
            Ok(found.versions.into_iter().find(|version| version.provider_ref == reference).map(|it| it.state))
        }
        Some(Observation::Missing) => Ok(None),
        Some(Observation::Unknown { why }) => Err(ProviderError::new(ErrorKind::Unreachable, "observe", why)),
        None => Err(ProviderError::new(ErrorKind::Unknown, "observe", "there was no answer")),
    }
}

/// The version is in its new state: its row and the entry in the audit log.
pub(super) fn settle(context: &Context, work: &mut Work, now: Timestamp) {
    let (Some(state), Some(mut version)) = (target(work.rotation.workflow), work.version.clone()) else { return };
    let before = json!({ "provider_ref": version.provider_ref, "number": version.number, "state": version.state });
    match work.rotation.workflow {
        Workflow::Disable => version.disabled_at = Some(now),
        Workflow::Enable => {
            (version.disabled_at, version.destroy_at) = (None, None);
            // Its retention begins anew.
            let terms = plan::terms(&version, work.rotation.policy.as_ref());
            version.retain_until = Some(terms.map_or(now, |terms| terms.until(now)));
            if work.rotation.cause == RotationCause::Manual {
                let terms = version.retention.get_or_insert_with(Retention::keep);
                terms.kept_because = Some(work.rotation.reason.clone());
            }
        }
        // Which rotation made it is known, and that it was never in use: a person asked for this.
        Workflow::ScheduleDestruction if version.orphan => {
            let disposition = Disposition::Destroy;
            version.retention = Some(Retention { old_key_disposition: disposition, ..Retention::keep() });
        }
        Workflow::CancelDestruction => version.destroy_at = None,
        Workflow::Destroy => version.destroyed_at = Some(now),
        _ => {}
    }
    version.state = state;
    let after = json!({
        "provider_ref": version.provider_ref, "number": version.number, "state": version.state,
        "destroy_at": version.destroy_at, "reason": work.rotation.reason,
    });
    let action = match work.rotation.workflow {
        Workflow::Disable => "version.disabled",
        Workflow::Enable => "version.enabled",
        Workflow::ScheduleDestruction => "version.destruction_scheduled",
        Workflow::CancelDestruction => "version.destruction_cancelled",
        _ => "version.destroyed",
    };
    let entry = audit(context, work, action, Some(before), Some(after));
    work.pending.push(Write::Version(Box::new(version.clone())));
    work.pending.push(entry);
    let told = facts::retired(work, &version).map(|fact| context.tell(&work.key.key, fact));
    work.pending.extend(told.into_iter().flatten());
    work.version = Some(version);
}
