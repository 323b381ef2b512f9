//! Whether a policy or key is due, why or why not, and what its schedule counts from.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Address, RotationPolicy, Timestamp};
use crate::plan::{self, KeyTiming, KeyUnder, Reason, Verdict, usage_limit, verdict};
use crate::schedule::{Decision, KeyHistory};

use super::{KeyOf, View};

/// Whether something is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Due {
    /// Has a slot come that was not served, or was it used too often?
    pub is_due: bool,
    /// Why, or why not.
    pub reason: Reason,
    /// What a key's schedule counts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_from: Option<String>,
}

impl Due {
    fn new(is_due: bool, reason: Reason) -> Self {
        Self { is_due, reason, counted_from: None }
    }
}

impl View<'_> {
    pub(super) fn policy_due(
        &self,
        timings: &KeyTiming<'_>,
        address: &Address,
        policy: &RotationPolicy,
        keys: &[KeyOf<'_>],
    ) -> Due {
        let is_due = |key: &&KeyOf<'_>| {
            let under = self.under(address, policy, key);
            under.is_some_and(|under| verdict(timings, &under, self.now).1 != Verdict::Quiet)
        };
        let due = keys.iter().filter(is_due).count();
        let reason = match (keys.len(), due) {
            (0, _) => Reason::new("no_keys", "no key names it"),
            (1, 0) => Reason::new("not_due", "its one key is not due"),
            (1, _) => Reason::new("due", "its one key is due"),
            (all, 0) => Reason::new("not_due", format!("none of its {all} keys is due")),
            (all, 1) => Reason::new("due", format!("of its {all} keys, 1 is due")),
            (all, due) => Reason::new("due", format!("of its {all} keys, {due} are due")),
        };
        Due::new(due > 0, reason)
    }

    /// A recorded key under its policy.
    pub(super) fn under<'a>(
        &self,
        policy_address: &'a Address,
        policy: &'a RotationPolicy,
        key: &KeyOf<'a>,
    ) -> Option<KeyUnder<'a>> {
        let record = key.record?;
        let used = self.recorded.usage_of(record);
        Some(KeyUnder { policy_address, policy, address: key.address, document: key.document, record, used })
    }
}

pub(super) fn key_due(
    key: &KeyOf<'_>,
    under: Option<&KeyUnder<'_>>,
    decision: Option<&Decision>,
    verdict: &Verdict,
) -> Due {
    if key.record.is_none() {
        return Due::new(false, Reason::new("not_applied", "it is not applied yet"));
    }
    let Some(under) = under else {
        let message = match &key.document.rotation_policy {
            None => "it names no policy: no time makes it due".to_owned(),
            Some(name) => format!("its policy {name} is gone: no time makes it due"),
        };
        return Due::new(false, Reason::new("no_policy", message));
    };
    let is_scheduled = decision.is_some_and(|decision| *decision != Decision::Unscheduled);
    let (is_due, reason) = match (verdict, decision) {
        (Verdict::Rotate { cause, reason }, _) => (true, Reason::new(cause.as_str(), reason)),
        (Verdict::Wait { reason, .. }, _) => (true, reason.clone()),
        (Verdict::Quiet, Some(Decision::NotDue { slot, starts_at })) => {
            (false, Reason::new("not_due", next_slot(*slot, *starts_at) + &so_far(under)))
        }
        (Verdict::Quiet, Some(Decision::Due { .. } | Decision::Waiting { .. })) => {
            (false, Reason::new("not_due", "nothing is due"))
        }
        (Verdict::Quiet, None | Some(Decision::Unscheduled)) => {
            let trigger = under.policy.rotation_trigger;
            let message = format!("no time makes it due: its policy's trigger is {trigger}{}", so_far(under));
            (false, Reason::new("unscheduled", message))
        }
    };
    let counted_from = is_scheduled.then(|| counted_from(&plan::history(under.record))).flatten();
    Due { is_due, reason, counted_from }
}

/// How much of what its policy allows a version was used, where usage counts.
fn so_far(under: &KeyUnder<'_>) -> String {
    usage_limit(under.policy).map_or_else(String::new, |limit| format!("; used {} of {limit} times", under.used))
}

fn next_slot(slot: Timestamp, starts_at: Option<Timestamp>) -> String {
    match starts_at {
        Some(at) if at == slot => format!("its next slot is {}", instant(slot)),
        Some(at) => format!("its next slot is {}, and it can start at {}", instant(slot), instant(at)),
        None => format!("its next slot is {}, and no window opens within two years", instant(slot)),
    }
}

fn counted_from(history: &KeyHistory) -> Option<String> {
    match (history.last_rotation, history.version_created_at, history.managed_since) {
        (Some(last), ..) => Some(match last.slot {
            Some(slot) => format!("the slot of {}, which its last rotation served", instant(slot)),
            None => format!("its last rotation at {}, which served no slot", instant(last.at)),
        }),
        (None, Some(at), _) => Some(format!("{}, when its primary version was made", instant(at))),
        (None, None, Some(at)) => {
            Some(format!("{}, when it came under keywheel's care: the age of its version is not known", instant(at)))
        }
        (None, None, None) => None,
    }
}

fn instant(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
