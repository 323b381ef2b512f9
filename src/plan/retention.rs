//! What becomes of old versions: kept, disabled, destroyed, each at its own time, on terms, and on evidence that nothing
//! needs them.
//!
//! [`due`] says what a version's terms ask for at an instant, [`evidence`] whether anything shows that it is not needed.
//! Both are asked when a plan is made and once more right before the call.
//!
//! # Invariant
//! Not knowing is no evidence. The terms that were in force when a version was deactivated are only ever made longer by
//! a later policy, never shorter; what happens at their end is the policy's to say, for as long as there is one.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::Duration;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::document::Capabilities;
use crate::model::{
    Address, Disposition, EncryptionKey, KeyRecord, KeyState, LastUse, Name, ObjectRef, Observation, PolicyStatus,
    Retention, RotationPolicy, Timestamp, VersionRecord, VersionState, Waiver, days,
};
use crate::schedule::{Hold, frozen_at};

use super::build::{Draft, observation};
use super::due::{KeyTiming, instant};
use super::keys::version_state;
use super::{Action, Change, Inputs, Precondition, Reason, Waiting, burst};

/// The old versions that a plan looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retired {
    /// Versions whose time may have come, by key, the oldest first.
    pub versions: BTreeMap<Uuid, Vec<VersionRecord>>,
    /// Versions whose destruction is scheduled for later, by key: they wait, and can be saved until then.
    pub pending: BTreeMap<Uuid, Vec<VersionRecord>>,
    /// The numbers of versions whose destruction is scheduled, of keys that no document has any more.
    pub doomed: BTreeMap<Uuid, Vec<u32>>,
    /// How many versions of each tenant are not destroyed: what a percentage is of.
    pub existing: BTreeMap<Name, usize>,
    /// What the providers say about the last use of those that were asked about; none where a provider does not know.
    pub last_uses: BTreeMap<String, Option<LastUse>>,
}

/// What a version's terms ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// From when on.
    pub at: Timestamp,
    /// What is to be done.
    pub action: Action,
    /// The state that it leads to.
    pub to: VersionState,
    /// Why, in words.
    pub why: String,
}

/// The terms that a version is under: what its policy says now, never shorter than what was in force at its deactivation.
#[must_use]
pub fn terms(version: &VersionRecord, policy: Option<&RotationPolicy>) -> Option<Retention> {
    let (then, now) = (version.retention.as_ref(), policy.map(Retention::of));
    if version.orphan {
        // It was never in use: no policy speaks of it, only what a person decided.
        return then.cloned();
    }
    let mut terms = match (then.cloned(), now) {
        (Some(then), Some(now)) => Retention {
            retain_old_keys_days: then.retain_old_keys_days.max(now.retain_old_keys_days),
            rollback_period_hours: then.rollback_period_hours.max(now.rollback_period_hours),
            destroy_after_disabled_days: now.destroy_after_disabled_days.max(then.destroy_after_disabled_days),
            // What a policy does not claim any more is no evidence.
            data_max_age_days: now.data_max_age_days.map(|days| days.max(then.data_max_age_days.unwrap_or(0))),
            ..now
        },
        (then, now) => then.or(now)?,
    };
    terms.kept_because = then.and_then(|terms| terms.kept_because.clone());
    if terms.kept_because.is_some() {
        terms.old_key_disposition = Disposition::Keep;
    }
    Some(terms)
}

/// What a version's terms ask for at an instant, whether or not anything holds it back or shows that it may be done.
#[must_use]
pub fn due(version: &VersionRecord, terms: &Retention, now: Timestamp) -> Option<Due> {
    next(version, terms).filter(|due| due.at <= now)
}

/// What a version's terms ask for next, and when.
#[must_use]
pub fn next(version: &VersionRecord, terms: &Retention) -> Option<Due> {
    let disposition = terms.old_key_disposition;
    let kept = disposition == Disposition::Keep || is_needed(version);
    let because = match (&terms.kept_because, version.needed_at.filter(|_| is_needed(version))) {
        (_, Some(at)) => format!("a person recorded on {} that it is still needed", instant(at)),
        (Some(why), _) => format!("it was asked for: {why}"),
        _ => format!("old_key_disposition is {disposition}"),
    };
    let work = |action, to, at, why| Some(Due { at, action, to, why });
    let at_once = Timestamp::MIN_UTC;
    match version.state {
        state if version.orphan && state != VersionState::PendingDestruction => None,
        VersionState::Deactivated => {
            let deactivated_at = version.deactivated_at?;
            let until = terms.until(deactivated_at).max(version.retain_until.unwrap_or(deactivated_at));
            let why = format!("deactivated on {}, and retained until {}", instant(deactivated_at), instant(until));
            if kept { None } else { work(Action::Disable, VersionState::Disabled, until, why) }
        }
        VersionState::Disabled | VersionState::PendingDestruction if kept => {
            work(Action::Enable, VersionState::Deactivated, at_once, because)
        }
        VersionState::Disabled if disposition == Disposition::Destroy => {
            let disabled_at = version.disabled_at?;
            let days = terms.destroy_after_disabled_days?;
            let until = disabled_at.checked_add_signed(Duration::try_days(days.into())?)?;
            let why = format!(
                "disabled since {}, for {} and more",
                instant(disabled_at),
                burst::words(Duration::days(days.into()))
            );
            work(Action::ScheduleDestruction, VersionState::PendingDestruction, until, why)
        }
        VersionState::PendingDestruction if disposition != Disposition::Destroy => {
            work(Action::CancelDestruction, VersionState::Disabled, at_once, because)
        }
        VersionState::PendingDestruction => {
            let destroy_at = version.destroy_at?;
            let why = format!("its waiting period ended on {}", instant(destroy_at));
            work(Action::Destroy, VersionState::Destroyed, destroy_at, why)
        }
        _ => None,
    }
}

/// Did a person record that something needs it, and nothing to the contrary since?
fn is_needed(version: &VersionRecord) -> bool {
    version.needed_at.is_some_and(|needed| version.rewrapped_at.is_none_or(|rewrapped| rewrapped <= needed))
}

/// Does only the provider know whether a version that is to be disabled is needed?
#[must_use]
pub fn needs_last_use(
    version: &VersionRecord,
    terms: &Retention,
    policy: Option<&RotationPolicy>,
    now: Timestamp,
) -> bool {
    evidence(version, terms, policy, None, now).is_err()
}

/// What shows that nothing needs a version any more, in words.
///
/// # Errors
/// Nothing does, or something speaks against it: why.
pub fn evidence(
    version: &VersionRecord,
    terms: &Retention,
    policy: Option<&RotationPolicy>,
    last_use: Option<&LastUse>,
    now: Timestamp,
) -> Result<String, String> {
    let Some(deactivated_at) = version.deactivated_at else {
        return Err("when it was deactivated is not recorded".to_owned());
    };
    let used_after = |at: Timestamp| last_use.and_then(|last| last.at).filter(|used| *used > at);
    if let Some(at) = version.rewrapped_at.filter(|at| *at >= deactivated_at) {
        return match used_after(at) {
            None => Ok(format!("what it encrypted was re-encrypted, as recorded on {}", instant(at))),
            Some(used) => Err(format!(
                "what it encrypted was re-encrypted, as recorded on {}; but it was used on {}",
                instant(at),
                instant(used)
            )),
        };
    }
    let ends = |days: u32| deactivated_at.checked_add_signed(Duration::try_days(days.into())?);
    if let Some((days, end)) = terms.data_max_age_days.and_then(|days| Some((days, ends(days)?)))
        && end <= now
    {
        return match used_after(end) {
            None => Ok(format!("what it encrypted is older than data_max_age_days, {days}")),
            Some(used) => Err(format!(
                "what it encrypted is older than data_max_age_days, {days}; but it was used on {}",
                instant(used)
            )),
        };
    }
    let waivers = policy.iter().flat_map(|policy| &policy.waivers);
    if let Some(waiver) =
        waivers.into_iter().find(|waiver| waiver.rule == Waiver::EVIDENCE && now.date_naive() <= waiver.until)
    {
        return Ok(format!("waived until {} by {}: {}", waiver.until, waiver.approver, waiver.reason));
    }
    let quiet = Duration::try_days(i64::from(terms.retain_old_keys_days).max(1)).unwrap_or_default();
    match last_use {
        None => {
            Err("nothing shows that it is not needed: its key manager does not say when it was used last".to_owned())
        }
        Some(last) if last.tracked_since > deactivated_at => {
            Err(format!("its use is known since {} only", instant(last.tracked_since)))
        }
        Some(LastUse { at: None, .. }) => Ok("it was not used since its deactivation".to_owned()),
        Some(LastUse { at: Some(used), .. }) if *used + quiet <= now => {
            Ok(format!("it was last used on {}", instant(*used)))
        }
        Some(LastUse { at: Some(used), .. }) => {
            Err(format!("it was used on {}, within the last {}", instant(*used), burst::words(quiet)))
        }
    }
}

/// Was a version used since it was disabled? Then somebody enabled it meanwhile, and it is not destroyed.
#[must_use]
pub fn is_vetoed(version: &VersionRecord, last_use: Option<&LastUse>) -> Option<String> {
    let used = last_use?.at.filter(|used| version.disabled_at.is_none_or(|disabled| *used > disabled))?;
    Some(format!("it was used on {}, after it had been disabled", instant(used)))
}

/// Plans what the terms of a key's old versions ask for.
pub(super) fn work(
    inputs: &Inputs<'_>,
    timings: &KeyTiming<'_>,
    key: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    draft: &mut Draft,
) {
    let policy_address = document.rotation_policy.clone().map(|name| Address::new(key.tenant_id.clone(), name));
    let policy = policy_address.as_ref().and_then(|address| inputs.desired.policies.get(address));
    let policy = policy.map(|policy| &policy.value);
    let Retired { versions, pending, .. } = inputs.retired;
    let (versions, pending) = (versions.get(&record.id), pending.get(&record.id));
    let (versions, pending) = (versions.into_iter().flatten(), pending.into_iter().flatten());
    let due_now = |version: &VersionRecord| due(version, &terms(version, policy)?, inputs.now);
    for version in pending.chain(versions.clone()).filter(|version| version.is_pending_at(inputs.now)) {
        if due_now(version).is_none() {
            draft.waiting.push(Waiting {
                object: ObjectRef::key(key),
                action: Action::Destroy,
                version: Some(version.number),
                reason: Reason::new("waiting_period", "its destruction is scheduled, and `keywheel enable` cancels it"),
                starts_at: version.destroy_at,
            });
        }
    }
    // Nothing is concluded about a key that nobody asked about.
    let Some(Observation::Present(observed)) = observation(inputs, key) else { return };
    for version in versions {
        let Some(terms) = terms(version, policy) else { continue };
        let Some(due) = due(version, &terms, inputs.now) else { continue };
        let at_provider = version_state(observed, &version.provider_ref);
        let Capabilities { destroys_by_itself: by_itself, waiting_days, .. } =
            (inputs.capabilities)(document.kms_provider);
        let verdict = if due.action == Action::Destroy && at_provider.is_none() {
            Ok("the key manager has destroyed it".to_owned())
        } else if due.action == Action::Destroy && by_itself {
            // Within a day after the date.
            continue;
        } else {
            elsewhere(version, at_provider, due.to)
                .and_then(|()| held(inputs, timings, policy_address.as_ref(), policy, key, document, record))
                .and_then(|()| shown(inputs, version, &terms, policy, &due))
        };
        match verdict {
            Ok(shown) => {
                let place = inputs.desired.keys.get(key).filter(|_| due.action.is_destructive());
                let place = place.map(|key| key.place.clone());
                draft.changes.push(Change { place, ..change(key, version, &due, &shown, inputs.now, waiting_days) });
            }
            Err((reason, starts_at)) => draft.waiting.push(Waiting {
                object: ObjectRef::key(key),
                action: due.action,
                version: Some(version.number),
                reason,
                starts_at,
            }),
        }
    }
}

/// What a version waits for, and until when.
type Held = (Reason, Option<Timestamp>);

fn waits(code: &str, message: impl Into<String>) -> Held {
    (Reason::new(code, message), None)
}

/// Somebody else changed its state.
fn elsewhere(version: &VersionRecord, at_provider: Option<VersionState>, to: VersionState) -> Result<(), Held> {
    let usable =
        |state| matches!(state, VersionState::PreActivation | VersionState::Active | VersionState::Deactivated);
    match (version.state, at_provider) {
        (recorded, Some(found)) if recorded == found || (usable(recorded) && usable(found)) => Ok(()),
        // It is done already, and the record catches up.
        (_, Some(found)) if found == to || (usable(to) && usable(found)) => Ok(()),
        // Half of it is done: its destruction is cancelled, and it is not enabled yet.
        (VersionState::PendingDestruction, Some(VersionState::Disabled)) if usable(to) => Ok(()),
        (recorded, found) => {
            let words = |state: VersionState| state.as_str().replace('_', " ");
            let (recorded, found) = (words(recorded), found.map_or_else(|| "missing".to_owned(), words));
            Err(waits("changed_elsewhere", format!("it is recorded as {recorded}, and the key manager says {found}")))
        }
    }
}

/// What holds every change of an old version.
fn held(
    inputs: &Inputs<'_>,
    timings: &KeyTiming<'_>,
    policy_address: Option<&Address>,
    policy: Option<&RotationPolicy>,
    key: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
) -> Result<(), Held> {
    if !inputs.rotation_enabled {
        return Err(waits("switched_off", "KEY_ROTATION_ENABLED=false starts nothing"));
    }
    if policy.is_some_and(|policy| policy.status == PolicyStatus::Suspended) {
        return Err(waits("suspended", "its policy is suspended"));
    }
    if record.state == KeyState::Parked {
        return Err(waits("parked", "its key is parked until `resume`"));
    }
    let freezes = timings.freezes(key, &document.key_type);
    let closed = match policy_address.and_then(|policy| timings.of(policy)) {
        Some(timing) => timing.open_at(&freezes, inputs.now).err(),
        None => {
            frozen_at(&freezes, inputs.now).map(|(freeze, until)| (Hold::Freeze(freeze.name.to_string()), Some(until)))
        }
    };
    match closed {
        None => Ok(()),
        Some((Hold::Freeze(name), until)) => Err((Reason::new("freeze", format!("frozen by {name:?}")), until)),
        Some((_, until)) => Err((Reason::new("window", "outside its rotation_windows"), until)),
    }
}

/// What shows that it may be done.
fn shown(
    inputs: &Inputs<'_>,
    version: &VersionRecord,
    terms: &Retention,
    policy: Option<&RotationPolicy>,
    due: &Due,
) -> Result<String, Held> {
    let last_use = inputs.retired.last_uses.get(&version.provider_ref);
    match due.action {
        Action::Disable if last_use.is_none() && needs_last_use(version, terms, policy, inputs.now) => {
            Err(waits("later", "its last use is asked when its turn comes: limits.max_destructions at a time"))
        }
        Action::Disable => evidence(version, terms, policy, last_use.and_then(Option::as_ref), inputs.now)
            .map_err(|lack| waits("no_evidence", format!("{}; {lack}", due.why))),
        _ => Ok(String::new()),
    }
}

fn change(key: &Address, version: &VersionRecord, due: &Due, shown: &str, now: Timestamp, waiting_days: u32) -> Change {
    let number = version.number;
    let what = match due.action {
        Action::Disable => {
            format!(
                "version {number} is DISABLED: what it encrypted does not decrypt any more, until it is enabled again"
            )
        }
        Action::ScheduleDestruction => {
            let gone = Duration::try_days(waiting_days.into()).and_then(|waits| now.checked_add_signed(waits));
            let gone = gone.map(|at| format!(", on {} at the earliest", instant(at))).unwrap_or_default();
            format!(
                "the DESTRUCTION of version {number} is scheduled: after a waiting period of {}{gone}, what it encrypted is \
                 lost for ever",
                days(waiting_days)
            )
        }
        Action::Destroy => format!("version {number} is DESTROYED: what it encrypted is lost for ever"),
        Action::CancelDestruction => format!("the destruction of version {number} is cancelled; it stays disabled"),
        _ => format!("version {number} is enabled again, and decrypts"),
    };
    let shown = if shown.is_empty() { String::new() } else { format!("; {shown}") };
    let reason = Reason::new(due.action.as_str(), format!("{what} ({}{shown})", due.why));
    Change {
        version: Some(number),
        before: Some(version_before(version)),
        after: Some(version_after(version, due.to)),
        ..Change::new(ObjectRef::key(key), due.action, reason, Precondition::default())
    }
}

/// A version as it stands, as the fields of a change: what it was planned for, and no other moment of its life.
#[must_use]
pub fn version_before(version: &VersionRecord) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("provider_ref".to_owned(), version.provider_ref.clone().into()),
        ("state".to_owned(), version.state.as_str().into()),
    ]);
    let instants = [
        ("retain_until", version.retain_until),
        ("needed_at", version.needed_at),
        ("rewrapped_at", version.rewrapped_at),
        ("disabled_at", version.disabled_at),
        ("destroy_at", version.destroy_at),
    ];
    let known = instants.into_iter().filter_map(|(field, at)| Some((field.to_owned(), instant(at?).into())));
    fields.extend(known);
    fields
}

/// A version in the state that a change leads to: the fields of before, and what becomes of them.
#[must_use]
pub fn version_after(version: &VersionRecord, state: VersionState) -> Map<String, Value> {
    let mut fields = version_before(version);
    fields.insert("state".to_owned(), state.as_str().into());
    let from = version.state;
    match state {
        VersionState::Deactivated if from != state => {
            fields.remove("disabled_at");
            fields.remove("destroy_at");
            fields.insert("retain_until".to_owned(), "counted anew".into());
        }
        VersionState::Disabled if from == VersionState::PendingDestruction => {
            fields.remove("destroy_at");
        }
        VersionState::Disabled if from != state => {
            fields.insert("disabled_at".to_owned(), "when it is applied".into());
        }
        VersionState::PendingDestruction if from != state => {
            fields.insert("destroy_at".to_owned(), "after the key manager's waiting period".into());
        }
        _ => {}
    }
    fields
}
