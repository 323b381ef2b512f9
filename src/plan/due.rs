//! Whether a key's time has come, and what a person is told of it.

use std::collections::BTreeMap;

use crate::document::Repository;
use crate::model::{
    Address, EncryptionKey, Freeze, KeyRecord, KeyState, Phase, PolicyStatus, Recorded, RotationCause, RotationPolicy,
    RotationRecord, RotationTrigger, Timestamp, Workflow, times,
};
use crate::rotation::RETRY_BUDGET;
use crate::schedule::{Decision, Hold, KeyHistory, Served, Timing, freeze_applies};

use super::Reason;

/// The timing of every policy, parsed once for all keys of it.
#[derive(Debug, Default)]
pub struct KeyTiming<'a> {
    timings: BTreeMap<&'a Address, Timing>,
    freezes: Vec<&'a Freeze>,
}

/// What the clock says about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do.
    Quiet,
    /// Rotate now.
    Rotate {
        /// Due, overdue or used too often.
        cause: RotationCause,
        /// Since when, in words.
        reason: String,
    },
    /// Due, and held back.
    Wait {
        /// By what.
        reason: Reason,
        /// Until when; none where that depends on a person.
        starts_at: Option<Timestamp>,
    },
}

impl<'a> KeyTiming<'a> {
    /// Parses the policies of a repository. Policies without sense were refused before, and are left out.
    #[must_use]
    pub fn new(repository: &'a Repository) -> Self {
        let timings = repository
            .policies
            .iter()
            .filter_map(|(address, policy)| Some((address, Timing::new(&policy.value).ok()?)))
            .collect();
        let freezes = repository.freezes.values().map(|freeze| &freeze.value).collect();
        Self { timings, freezes }
    }

    /// The timing of a policy.
    #[must_use]
    pub fn of(&self, policy: &Address) -> Option<&Timing> {
        self.timings.get(policy)
    }

    /// The freezes that concern a key.
    #[must_use]
    pub fn freezes(&self, key: &Address, key_type: &str) -> Vec<&'a Freeze> {
        self.freezes.iter().copied().filter(|freeze| freeze_applies(freeze, key, key_type)).collect()
    }
}

/// What is known of a recorded key's past.
#[must_use]
pub fn history(record: &KeyRecord) -> KeyHistory {
    KeyHistory {
        last_rotation: record.last_rotation_at.map(|at| Served { at, slot: record.last_slot }),
        version_created_at: record.primary_version.as_ref().and_then(|version| version.provider_created_at),
        managed_since: Some(record.managed_since),
    }
}

/// How often a version may be used under a policy. None where usage makes no key due.
#[must_use]
pub fn usage_limit(policy: &RotationPolicy) -> Option<u64> {
    let counts = matches!(policy.rotation_trigger, RotationTrigger::TimeBased | RotationTrigger::UsageBased);
    policy.max_usage_count.filter(|_| counts)
}

/// What a schedule says about a recorded key at `now`. None where its policy has no timing.
#[must_use]
pub fn key_timing(
    timings: &KeyTiming<'_>,
    policy: &Address,
    key: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    now: Timestamp,
) -> Option<Decision> {
    let freezes = timings.freezes(key, &document.key_type);
    Some(timings.of(policy)?.decide(key, &history(record), &freezes, now))
}

/// A recorded key under its policy.
#[derive(Debug, Clone, Copy)]
pub struct KeyUnder<'a> {
    /// The policy's address.
    pub policy_address: &'a Address,
    /// The policy.
    pub policy: &'a RotationPolicy,
    /// The key's address.
    pub address: &'a Address,
    /// The key's document.
    pub document: &'a EncryptionKey,
    /// The key's record.
    pub record: &'a KeyRecord,
    /// How often its primary version was used.
    pub used: u64,
}

/// The verdict on a key, and what its schedule says: time or usage makes it due, whichever lets it rotate first.
#[must_use]
pub fn verdict(timings: &KeyTiming<'_>, key: &KeyUnder<'_>, now: Timestamp) -> (Option<Decision>, Verdict) {
    let decision = key_timing(timings, key.policy_address, key.address, key.document, key.record, now);
    let by_time = decision.as_ref().map_or(Verdict::Quiet, |decision| by_time(decision, key.policy, now));
    if matches!(by_time, Verdict::Rotate { .. }) {
        return (decision, by_time);
    }
    let verdict = match by_usage(timings, key, now) {
        Verdict::Quiet => by_time,
        by_usage => by_usage,
    };
    (decision, verdict)
}

fn by_usage(timings: &KeyTiming<'_>, key: &KeyUnder<'_>, now: Timestamp) -> Verdict {
    let Some(limit) = usage_limit(key.policy).filter(|limit| key.used >= *limit) else { return Verdict::Quiet };
    let Some(timing) = timings.of(key.policy_address) else { return Verdict::Quiet };
    if key.policy.status == PolicyStatus::Suspended {
        return suspended(key.policy);
    }
    let freezes = timings.freezes(key.address, &key.document.key_type);
    match timing.free_at(&history(key.record), &freezes, now) {
        Ok(()) => Verdict::Rotate {
            cause: RotationCause::Usage,
            reason: format!("used {}, and max_usage_count is {limit}", times(key.used)),
        },
        Err((hold, starts_at)) => Verdict::Wait { reason: hold_reason(&hold), starts_at },
    }
}

fn suspended(policy: &RotationPolicy) -> Verdict {
    let reason = Reason::new("suspended", format!("policy {} is suspended", policy.policy_name));
    Verdict::Wait { reason, starts_at: None }
}

fn by_time(decision: &Decision, policy: &RotationPolicy, now: Timestamp) -> Verdict {
    let is_suspended = policy.status == PolicyStatus::Suspended;
    match decision {
        Decision::Unscheduled | Decision::NotDue { .. } => Verdict::Quiet,
        Decision::Due { .. } | Decision::Waiting { .. } if is_suspended => suspended(policy),
        Decision::Due { slot, overdue_since: None } => {
            Verdict::Rotate { cause: RotationCause::Due, reason: format!("due since {}", instant(*slot)) }
        }
        Decision::Due { slot, overdue_since: Some(first) } => Verdict::Rotate {
            cause: RotationCause::Overdue,
            reason: format!(
                "overdue by {}: its slot of {} was missed, this serves the one of {}",
                span(now - *first),
                instant(*first),
                instant(*slot)
            ),
        },
        Decision::Waiting { hold, starts_at, .. } => Verdict::Wait { reason: hold_reason(hold), starts_at: *starts_at },
    }
}

fn hold_reason(hold: &Hold) -> Reason {
    match hold {
        Hold::Spread => Reason::new("spread", "due, and spread over rotation_spread_minutes"),
        Hold::MinimumGap => Reason::new("minimum_gap", "due, and too soon after its last rotation"),
        Hold::Window => Reason::new("window", "due, and outside its rotation_windows"),
        Hold::Freeze(name) => Reason::new("freeze", format!("due, and frozen by {name:?}")),
        Hold::FirstSlotAfterAdoption => {
            Reason::new("adopted_overdue", "overdue when it was adopted: it waits for its policy's first slot since")
        }
    }
}

/// Why work on a key that failed, or that a person stopped, is not tried now; none if it may be. A key whose documents
/// changed since is tried at once.
#[must_use]
pub fn held_back(
    desired: &Repository,
    recorded: &Recorded,
    record: &KeyRecord,
    now: Timestamp,
) -> Option<(Reason, Option<Timestamp>)> {
    stopped(record).map(|reason| (reason, None)).or_else(|| tried_later(desired, recorded, record, now))
}

/// A key that waits for a person.
fn stopped(record: &KeyRecord) -> Option<Reason> {
    let because = record.state_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match record.state {
        KeyState::Held => {
            Some(Reason::new("held", format!("it was rolled back, and is held until `release`{because}")))
        }
        KeyState::Parked => Some(Reason::new("parked", format!("it is parked until `resume`{because}"))),
        KeyState::Pending | KeyState::Active | KeyState::Forgotten => None,
    }
}

/// A key that failed, and has its time before it is tried again.
fn tried_later(
    desired: &Repository,
    recorded: &Recorded,
    record: &KeyRecord,
    now: Timestamp,
) -> Option<(Reason, Option<Timestamp>)> {
    let retry_at = record.retry_at.filter(|at| *at > now)?;
    if is_edited(desired, recorded, record) {
        return None;
    }
    let in_a_row = if record.failures == 1 { "" } else { " in a row" };
    let message = format!("it failed {}{in_a_row}, and is tried again later", times(record.failures.into()));
    Some((Reason::new("retry_later", message), Some(retry_at)))
}

/// Why an unfinished workflow is not gone on with now; none if it may be. That of an old version always is: it moves no
/// name, and a key that waits for a person must not wait behind it. What a person began in spite of a hold or a park goes
/// on in spite of it, too, until its own failures stop it.
#[must_use]
pub fn finish_held_back(
    desired: &Repository,
    recorded: &Recorded,
    rotation: &RotationRecord,
    record: &KeyRecord,
    now: Timestamp,
) -> Option<(Reason, Option<Timestamp>)> {
    if rotation.phase == Phase::Retiring {
        return None;
    }
    let overrides = rotation.cause == RotationCause::Compromised || rotation.workflow == Workflow::Rollback;
    if overrides && record.failures < RETRY_BUDGET {
        return tried_later(desired, recorded, record, now);
    }
    held_back(desired, recorded, record, now)
}

/// Do git's documents of a key or of its policy differ from what was applied?
fn is_edited(desired: &Repository, recorded: &Recorded, record: &KeyRecord) -> bool {
    let Some(key) = desired.keys.get(&record.address()) else { return false };
    let policy = key.value.rotation_policy.clone().map(|name| Address::new(record.key.tenant_id.clone(), name));
    let wanted = policy.as_ref().and_then(|policy| desired.policies.get(policy)).map(|policy| &policy.value);
    let applied = policy.as_ref().and_then(|policy| recorded.policies.get(policy)).map(|record| &record.policy);
    key.value != record.key || wanted != applied
}

/// An instant as plans write it.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A span of time in its largest unit.
fn span(span: chrono::Duration) -> String {
    let (days, hours, minutes) = (span.num_days(), span.num_hours(), span.num_minutes());
    let (count, unit) = match (days, hours) {
        (1.., _) => (days, "day"),
        (_, 1..) => (hours, "hour"),
        _ => (minutes, "minute"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}
