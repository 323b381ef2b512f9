//! The next rotations of a policy or key, if each happens when it can start.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Address, KeyRecord, KeyState, Name, PolicyStatus, RotationPolicy, Timestamp};
use crate::plan::{self, KeyTiming};
use crate::schedule::{KeyHistory, Timing};

use super::{Applied, KeyOf, SHOWN, View};

/// An instant at which keys rotate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Upcoming {
    /// When, in UTC.
    pub at: Timestamp,
    /// When, in the policy's zone.
    pub local: String,
    /// What that zone is called then, such as `CEST`.
    pub zone: String,
    /// How many keys rotate then.
    pub keys: usize,
    /// Which key, if it is one only.
    pub key_name: Option<Name>,
}

impl View<'_> {
    pub(super) fn upcoming_of_key(&self, timings: &KeyTiming<'_>, policy: &Address, key: &KeyOf<'_>) -> Vec<Upcoming> {
        self.upcoming_of_policy(timings, policy, std::slice::from_ref(key))
    }

    /// The next instants at which any of the keys rotates.
    pub(super) fn upcoming_of_policy(
        &self,
        timings: &KeyTiming<'_>,
        policy: &Address,
        keys: &[KeyOf<'_>],
    ) -> Vec<Upcoming> {
        let Some(timing) = timings.of(policy) else { return Vec::new() };
        let mut found: BTreeMap<Timestamp, (usize, &Name)> = BTreeMap::new();
        for key in keys {
            for at in self.instants(timings, timing, key) {
                found.entry(at).or_insert((0, &key.address.name)).0 += 1;
            }
            // What lies beyond the tenth instant is not shown, and need not be kept.
            while found.len() > SHOWN as usize {
                found.pop_last();
            }
        }
        found.into_iter().map(|(at, (keys, name))| upcoming(at, timing.timezone(), keys, name)).collect()
    }

    /// The next rotations of a key; one that is not applied yet counts from now.
    fn instants(&self, timings: &KeyTiming<'_>, timing: &Timing, key: &KeyOf<'_>) -> Vec<Timestamp> {
        let new =
            KeyHistory { version_created_at: Some(self.now), managed_since: Some(self.now), ..KeyHistory::default() };
        let history = key.record.map_or(new, plan::history);
        let freezes = timings.freezes(key.address, &key.document.key_type);
        timing.upcoming(key.address, &history, &freezes, self.now, SHOWN as usize)
    }
}

/// What a person has to do before the rotations of a policy come true.
pub(super) fn once_policy(applied: Applied, policy: &RotationPolicy) -> Option<String> {
    let once = match (applied, policy.status) {
        (Applied::Gone, _) => "its document is back",
        (_, PolicyStatus::Suspended) => "its status is active again",
        (_, PolicyStatus::Active) => return None,
    };
    Some(once.to_owned())
}

/// What a person has to do before the rotations of a key come true.
pub(super) fn once_key(
    applied: Applied,
    record: Option<&KeyRecord>,
    policy: Option<&RotationPolicy>,
) -> Option<String> {
    let is_suspended = policy.is_some_and(|policy| policy.status == PolicyStatus::Suspended);
    let once = match (applied, record.map(|record| record.state)) {
        (Applied::Gone, _) => "its document is back",
        (_, None) => "it is applied, reckoned from now",
        _ if is_suspended => "its policy is active again",
        (_, Some(KeyState::Held)) => "it is released",
        (_, Some(KeyState::Parked)) => "it is resumed",
        (_, Some(KeyState::Pending)) => "its first version is ready",
        (_, Some(KeyState::Active | KeyState::Forgotten)) => return None,
    };
    Some(once.to_owned())
}

fn upcoming(at: Timestamp, timezone: Tz, keys: usize, name: &Name) -> Upcoming {
    let local = at.with_timezone(&timezone);
    Upcoming {
        at,
        local: local.format("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        zone: local.format("%Z").to_string(),
        keys,
        key_name: (keys == 1).then(|| name.clone()),
    }
}
