//! What would stop a rotation if its slot came now.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Address, EncryptionKey, KeyState, PolicyStatus, RotationPolicy, Timestamp};
use crate::plan::{KeyTiming, Reason, held_back};
use crate::schedule::{Decision, Hold};

use super::{Applied, KeyOf, View};

/// How many uncommitted files are named.
const NAMED: usize = 3;

/// Something that would stop a rotation now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Obstacle {
    /// What.
    pub reason: Reason,
    /// Until when; absent where that depends on a person.
    pub until: Option<Timestamp>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Obstacle {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { reason: Reason::new(code, message), until: None, help: None }
    }

    fn until(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl View<'_> {
    pub(super) fn policy_obstacles(
        &self,
        timings: &KeyTiming<'_>,
        address: &Address,
        policy: &RotationPolicy,
        applied: Applied,
    ) -> Vec<Obstacle> {
        let mut found = self.nothing_starts(applied);
        found.extend(suspended(policy));
        // What holds every key of it: the freezes that name a class of data or a tenant name theirs.
        found.extend(self.closed(timings, address, address, &policy.key_type));
        found
    }

    pub(super) fn key_obstacles(
        &self,
        timings: &KeyTiming<'_>,
        policy: Option<(&Address, &RotationPolicy)>,
        key: &KeyOf<'_>,
        decision: Option<&Decision>,
        applied: Applied,
    ) -> Vec<Obstacle> {
        let mut found = self.nothing_starts(applied);
        if let Some((policy_address, policy)) = policy {
            found.extend(suspended(policy));
            found.extend(self.closed(timings, policy_address, key.address, &key.document.key_type));
        }
        found.extend(decision.and_then(too_early));
        found.extend(self.stopped(key));
        found
    }

    /// What stops every rotation of the tenant, and of this object as its document stands.
    fn nothing_starts(&self, applied: Applied) -> Vec<Obstacle> {
        let mut found = Vec::new();
        match applied {
            Applied::Errors => found.push(
                Obstacle::new("documents", "documents have errors, and nothing is planned until they are corrected")
                    .help("`keywheel validate` shows the errors"),
            ),
            Applied::Gone => {
                found.push(Obstacle::new("document_gone", "its document is gone: the next apply lets go of it"));
            }
            Applied::NotYet => found.push(
                Obstacle::new("not_applied", "it is not applied yet")
                    .help("`keywheel plan` shows what `keywheel apply` would do"),
            ),
            Applied::Yes | Applied::Edited => {}
        }
        found.extend(self.uncommitted());
        match &self.switch {
            Ok(true) => {}
            Ok(false) => found.push(
                Obstacle::new("switched_off", "KEY_ROTATION_ENABLED=false starts nothing")
                    .help("unset KEY_ROTATION_ENABLED"),
            ),
            Err(error) => {
                let obstacle = Obstacle::new("switched_off", format!("{}: nothing is planned", error.message));
                found.push(Obstacle { help: error.help.clone(), ..obstacle });
            }
        }
        found
    }

    fn uncommitted(&self) -> Option<Obstacle> {
        let named = self.dirty.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let (verb, more) = match self.dirty.len() {
            0 => return None,
            1 => ("is", String::new()),
            2..=NAMED => ("are", String::new()),
            all => ("are", format!(" and {} more", all - NAMED)),
        };
        let message = format!("{named}{more} {verb} not committed: `keywheel apply` refuses that");
        Some(
            Obstacle::new("uncommitted", message).help("commit or stash the changes, or apply them with --allow-dirty"),
        )
    }

    /// A window that is not open, or a freeze.
    fn closed(&self, timings: &KeyTiming<'_>, policy: &Address, key: &Address, key_type: &str) -> Option<Obstacle> {
        let freezes = timings.freezes(key, key_type);
        let (hold, until) = timings.of(policy)?.open_at(&freezes, self.now).err()?;
        let obstacle = match hold {
            Hold::Freeze(name) => {
                let freeze = freezes.iter().find(|freeze| freeze.name.as_str() == name);
                let why = freeze.map(|freeze| format!(": {}", freeze.reason)).unwrap_or_default();
                Obstacle::new("freeze", format!("the freeze {name:?} holds{why}"))
            }
            _ => Obstacle::new("window", "no window of rotation_windows is open"),
        };
        Some(obstacle.until(until))
    }

    /// What the record of a key says.
    fn stopped(&self, key: &KeyOf<'_>) -> Vec<Obstacle> {
        let Some(record) = key.record else { return Vec::new() };
        let mut found = Vec::new();
        if record.state == KeyState::Pending {
            let because = record.state_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            found.push(Obstacle::new("pending", format!("its first version is not ready{because}")));
        }
        if let Some((reason, until)) = held_back(self.wanted, self.recorded, record, self.now) {
            let help = command(record.state, &record_name(key.document));
            found.push(Obstacle { reason, until, help });
        }
        if let Some(rotation) = self.recorded.unfinished_of(record.id) {
            let error = rotation.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            let message = format!("its {} is unfinished ({}){error}", rotation.workflow.noun(), rotation.phase);
            found.push(Obstacle::new("unfinished", message).help("`keywheel apply` goes on with it"));
        }
        found
    }
}

fn record_name(key: &EncryptionKey) -> Address {
    Address::new(key.tenant_id.clone(), key.key_name.clone())
}

/// What a person can do about a key's state.
fn command(state: KeyState, key: &Address) -> Option<String> {
    let verb = match state {
        KeyState::Held => "release",
        KeyState::Parked => "resume",
        KeyState::Pending | KeyState::Active | KeyState::Forgotten => return None,
    };
    Some(format!("`keywheel {verb} {key}`"))
}

fn suspended(policy: &RotationPolicy) -> Option<Obstacle> {
    (policy.status == PolicyStatus::Suspended).then(|| {
        Obstacle::new("suspended", format!("policy {} is suspended: it starts nothing", policy.policy_name))
            .help("set its status to active in git, and apply that")
    })
}

/// What holds a due key back besides windows and freezes.
fn too_early(decision: &Decision) -> Option<Obstacle> {
    let Decision::Waiting { hold, starts_at, .. } = decision else { return None };
    let obstacle = match hold {
        // They are told of without a slot, too.
        Hold::Window | Hold::Freeze(_) => return None,
        Hold::Spread => Obstacle::new("spread", "its share of rotation_spread_minutes has not passed"),
        Hold::MinimumGap => Obstacle::new("minimum_gap", "its last rotation was too short a time ago")
            .help("`keywheel rotate` does not wait for that"),
        Hold::FirstSlotAfterAdoption => {
            Obstacle::new("adopted_overdue", "it was adopted overdue, and waits for its policy's first slot since")
        }
    };
    Some(obstacle.until(*starts_at))
}
