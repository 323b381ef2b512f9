//! WHAT and WHY: the ordered list of changes that make recorded and observed equal desired, each with a reason.
//!
//! [`plan`] is a pure function of its [`Inputs`]: the same inputs give the same bytes. A [`Change`] is data, never a
//! closure, and so specific that apply makes no choices: it names the object, the fields, and in its [`Precondition`]
//! the recorded state that it was made for.
//!
//! Must not know: a clock, a database, a provider, how a rotation is carried out.

mod acting;
pub mod alerts;
pub mod approvals;
mod build;
pub mod burst;
mod cases;
mod compare;
pub mod compliance;
mod consequences;
pub mod cost;
mod due;
pub mod forecast;
mod guardrails;
mod keys;
mod limits;
mod retention;
mod review;
mod saved;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use build::{applied_config, continued_policy, plan};
pub use cases::{Mismatch, Situation, mismatches};
pub use due::{
    KeyTiming, KeyUnder, Verdict, finish_held_back, held_back, history, instant, key_timing, usage_limit, verdict,
};
pub use forecast::{Forecast, ForecastInputs, forecast};
pub use keys::{continued_key, version_drift};
pub use retention::{Due, Retired, due, evidence, is_vetoed, needs_last_use, terms, version_after, version_before};
pub use review::{Review, review};
pub use saved::{FORMAT_VERSION, ParsePlanError, PlanDocument, Saved, Stale, digest, intersect, parse};
pub use snapshot::{KeyAge, ParseSnapshotError, StateSnapshot};

use crate::diagnostic::{Finding, Place};
use crate::document::{Capabilities, Repository};
use crate::model::{
    Address, KeyRecord, KmsProvider, Name, ObjectRef, Observation, Recorded, RotationCause, Timestamp, Workflow,
};

/// Everything that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What git desires.
    pub desired: &'a Repository,
    /// Which trees of git that was.
    pub sources: &'a Sources,
    /// What the state database says.
    pub recorded: &'a Recorded,
    /// What the providers say; a key that is not in it was not asked about.
    pub observed: &'a BTreeMap<Address, Observation>,
    /// Old versions whose time may have come.
    pub retired: &'a Retired,
    /// Tenants whose key manager gave no usable answer for any key, with the reason.
    pub unreachable: &'a BTreeMap<Name, String>,
    /// What each provider can do.
    pub capabilities: fn(KmsProvider) -> Capabilities,
    /// The instant that it is made for.
    pub now: Timestamp,
    /// May anything be started (`KEY_ROTATION_ENABLED`)?
    pub rotation_enabled: bool,
    /// Does what needs approvals wait, rather than being planned and shown as what needs them?
    pub unapproved_waits: bool,
}

/// The trees of git that a plan was made from: they survive a merge or a squash, where a commit does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sources {
    /// The commit; none for the work tree of a repository without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The tree id of `policies/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies_tree: Option<String>,
    /// The blob id of `keywheel.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_blob: Option<String>,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Policy, tenant, guardrail, freeze: it is new. Key: a new key is made at the provider.
    Create,
    /// Some of its fields change.
    Update,
    /// It gets another name and keeps its history; other fields may change with it.
    Rename,
    /// The policy stops starting anything.
    Suspend,
    /// The policy starts again.
    Reactivate,
    /// It leaves; its keys are unlinked, nothing is destroyed.
    Remove,
    /// A key that exists at the provider comes under keywheel's care.
    Adopt,
    /// The key gets a policy, or another one.
    Link,
    /// The key loses its policy.
    Unlink,
    /// The key leaves keywheel's care; nothing happens to it at the provider.
    Forget,
    /// Settings that were changed behind our back are set again.
    Restore,
    /// An interrupted rotation or creation is finished, or abandoned.
    Finish,
    /// A new version becomes primary.
    Rotate,
    /// The version before becomes primary again.
    Rollback,
    /// A key that was rolled back may rotate again.
    Release,
    /// A person stops a key's rotations.
    Park,
    /// A parked key may rotate again.
    Resume,
    /// A person's word about an old version is recorded: it is needed, or nothing is encrypted under it any more.
    Attest,
    /// A disabled version decrypts again; a destruction that was scheduled is cancelled.
    Enable,
    /// A scheduled destruction is cancelled; the version stays disabled.
    CancelDestruction,
    /// An old version is disabled: nothing that it encrypted decrypts, until it is enabled again.
    Disable,
    /// The key manager is told to destroy a disabled version once its waiting period has passed.
    ScheduleDestruction,
    /// A version whose waiting period has passed is destroyed, and with it what it encrypted.
    Destroy,
}

impl Action {
    /// Every action, in the order in which apply carries them out.
    pub const ALL: &'static [Self] = &[
        Self::Finish,
        Self::Create,
        Self::Update,
        Self::Rename,
        Self::Suspend,
        Self::Reactivate,
        Self::Remove,
        Self::Adopt,
        Self::Link,
        Self::Unlink,
        Self::Forget,
        Self::Restore,
        Self::Release,
        Self::Park,
        Self::Resume,
        Self::Rollback,
        Self::Rotate,
        Self::Attest,
        Self::Enable,
        Self::CancelDestruction,
        Self::Disable,
        Self::ScheduleDestruction,
        Self::Destroy,
    ];

    /// The word in plans and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Rename => "rename",
            Self::Suspend => "suspend",
            Self::Reactivate => "reactivate",
            Self::Remove => "remove",
            Self::Adopt => "adopt",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Forget => "forget",
            Self::Restore => "restore",
            Self::Finish => "finish",
            Self::Rotate => "rotate",
            Self::Rollback => "rollback",
            Self::Release => "release",
            Self::Park => "park",
            Self::Resume => "resume",
            Self::Attest => "attest",
            Self::Enable => "enable",
            Self::CancelDestruction => "cancel_destruction",
            Self::Disable => "disable",
            Self::ScheduleDestruction => "schedule_destruction",
            Self::Destroy => "destroy",
        }
    }

    /// What has happened once it is done.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
            Self::Rename => "renamed",
            Self::Suspend => "suspended",
            Self::Reactivate => "reactivated",
            Self::Remove => "removed",
            Self::Adopt => "adopted",
            Self::Link => "linked",
            Self::Unlink => "unlinked",
            Self::Forget => "forgotten",
            Self::Restore => "restored",
            Self::Finish => "finished",
            Self::Rotate => "rotated",
            Self::Rollback => "rolled back",
            Self::Release => "released",
            Self::Park => "parked",
            Self::Resume => "resumed",
            Self::Attest => "attested",
            Self::Enable => "enabled",
            Self::CancelDestruction => "destruction cancelled",
            Self::Disable => "disabled",
            Self::ScheduleDestruction => "destruction scheduled",
            Self::Destroy => "destroyed",
        }
    }

    /// The workflow that carries out a change of an old version's state; none for any other change.
    #[must_use]
    pub const fn retirement(self) -> Option<Workflow> {
        match self {
            Self::Enable => Some(Workflow::Enable),
            Self::CancelDestruction => Some(Workflow::CancelDestruction),
            Self::Disable => Some(Workflow::Disable),
            Self::ScheduleDestruction => Some(Workflow::ScheduleDestruction),
            Self::Destroy => Some(Workflow::Destroy),
            _ => None,
        }
    }

    /// Does it take away that something decrypts?
    #[must_use]
    pub const fn is_destructive(self) -> bool {
        matches!(self, Self::Disable | Self::ScheduleDestruction | Self::Destroy)
    }
}

/// Why: a word for machines and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// A stable word, such as `overdue`.
    pub code: String,
    /// A sentence without a full stop.
    pub message: String,
}

impl Reason {
    /// A reason.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// The recorded state that a change was made for. When it is another by the time of apply, the change is stale.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Precondition {
    /// The object's recorded revision; 0 means that it is not recorded.
    pub revision: u64,
    /// The key's primary version, as the provider calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// The unfinished rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_id: Option<Uuid>,
}

impl Precondition {
    /// That a key is as it is recorded.
    #[must_use]
    pub fn of(record: &KeyRecord) -> Self {
        let primary = record.primary_version.as_ref().map(|version| version.provider_ref.clone());
        Self { revision: record.revision, primary, rotation_id: None }
    }
}

impl Change {
    /// A change of something as it is recorded, with no fields yet.
    #[must_use]
    pub const fn new(object: ObjectRef, action: Action, reason: Reason, precondition: Precondition) -> Self {
        Self { object, action, version: None, reason, before: None, after: None, place: None, precondition }
    }

    /// What a saved and a fresh plan know it by: no plan has two changes with the same.
    #[must_use]
    pub fn identity(&self) -> (&ObjectRef, Action, Option<u32>) {
        (&self.object, self.action, self.version)
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What changes.
    pub object: ObjectRef,
    /// What is done to it.
    pub action: Action,
    /// The number of the version that it is about; absent where it is about the whole object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// The changed fields before; absent for something new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Map<String, Value>>,
    /// The changed fields after; absent for something that leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Map<String, Value>>,
    /// Where the document of its object stands, if it takes away that something decrypts: a reviewer is led there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The recorded state that it was made for.
    pub precondition: Precondition,
}

/// The code of what waits because its key manager gave no usable answer.
pub(crate) const UNANSWERED: &str = "provider_unknown";

/// Something that is due and cannot happen now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// What waits.
    pub object: ObjectRef,
    /// What would be done.
    pub action: Action,
    /// The number of the version that it is about; absent where it is about the whole object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What it waits for.
    pub reason: Reason,
    /// When it can start; absent where that depends on a person or a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
}

/// Something that differs from the record without anyone having asked for it in git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// What drifted.
    pub object: ObjectRef,
    /// Which field of it.
    pub field: String,
    /// What happened, and what keywheel does about it.
    pub reason: Reason,
    /// What the record says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// What the provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
}

impl Drift {
    /// Does it keep its key from rotating, until a person has looked?
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        matches!(self.reason.code.as_str(), "missing" | "primary_moved" | "primary_unusable")
    }

    /// What a person can do about it.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let object = &self.object;
        Some(match self.reason.code.as_str() {
            "missing" => format!(
                "put it back where the key manager can; if it is gone for good, remove its document, and \
                 `keywheel state forget {object} --reason WHY`"
            ),
            "primary_moved" => format!(
                "find out who moved it, and lead it back to the recorded version; after an older backup was restored, \
                 `keywheel state reclaim {object} --reason WHY` records the versions that were made since"
            ),
            "primary_unusable" => format!(
                "enable it at the key manager, or lead applications to a new version: `keywheel rotate {object} --reason WHY`"
            ),
            "settings" => "`keywheel apply` sets it again; to keep the change, write it into the document".to_owned(),
            "version_state" => format!(
                "find out who changed it, and undo that at the key manager while it can be undone; \
                 `keywheel explain {object}` shows what is recorded of it"
            ),
            _ => return None,
        })
    }
}

pub(crate) const EMPTY_SOURCE: &str = "limits/empty-source";

/// A limit that the plan goes over: nothing of it may be applied without an override that names its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The limit: `limits/max-rotations`, `limits/empty-source`, ...
    pub code: String,
    /// By how much, and where.
    pub message: String,
    /// What to do.
    pub help: String,
    /// What somebody would edit: the setting that it goes over, or the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Refusal {
    /// Can an override lift it? An empty folder is no wish that goes too far: nothing was planned. A
    /// guardrail is the owners' to change, and an approval theirs to give.
    #[must_use]
    pub fn is_liftable(&self) -> bool {
        self.code != EMPTY_SOURCE && !self.code.starts_with("guardrail/") && !self.code.starts_with("approvals/")
    }
}

/// The commit that documents were compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Base {
    /// As it was named: `origin/main`.
    pub reference: String,
    /// The commit: where the branch left that ref, so that what others merged meanwhile is not in it.
    pub commit: String,
}

/// What follows from a change: how many keys become due and when, what waits, what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Consequence {
    /// What changes.
    pub object: ObjectRef,
    /// A stable word: `due_at_once`, `outside_window`, `burst`, `cost`, ...
    pub code: String,
    /// A sentence without a full stop.
    pub message: String,
}

/// The plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The instant that it was made for.
    pub as_of: Timestamp,
    /// The version of the tz database that its times were computed with.
    pub tz_version: String,
    /// The trees that it was made from.
    pub sources: Sources,
    /// The identity of the state database; none where there is no database yet.
    pub lineage: Option<Uuid>,
    /// The plan's identity: SHA-256 over sources, lineage, changes and their preconditions, not over the instant.
    pub digest: String,
    /// The changes, in the order in which apply carries them out.
    pub changes: Vec<Change>,
    /// What is due and waits.
    pub waiting: Vec<Waiting>,
    /// What was changed behind our back.
    pub drift: Vec<Drift>,
    /// Limits that the plan goes over.
    pub refusals: Vec<Refusal>,
    /// The approvals without which it is not applied.
    pub needs: Vec<approvals::Need>,
    /// Tenants that were left out, with the reason.
    pub left_out: BTreeMap<Name, String>,
    /// What else is worth knowing.
    pub diagnostics: Vec<Finding>,
    /// Why the saved form of this plan could not be applied, if so (`--as-of`, `--refresh=false`).
    pub not_applicable: Option<String>,
    /// What the documents were compared with, where that was another commit and not the record.
    pub base: Option<Base>,
    /// What follows from the changes, by object in the order of the changes.
    pub consequences: Vec<Consequence>,
}

impl Plan {
    /// How many changes there are of each action, zeros left out.
    #[must_use]
    pub fn summary(&self) -> BTreeMap<Action, usize> {
        let mut counts = BTreeMap::new();
        for change in &self.changes {
            *counts.entry(change.action).or_insert(0) += 1;
        }
        counts
    }

    /// Is there nothing to do? (Something may still wait, or have drifted.)
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The keys that would be rotated, with the cause in each reason's code.
    pub fn rotations(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.action == Action::Rotate)
    }

    /// What cannot be judged because the key manager gave no usable answer: due or not, nobody knows.
    pub fn unanswered(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(|waiting| waiting.reason.code == UNANSWERED)
    }

    /// The tenants that the changes touch.
    #[must_use]
    pub fn tenants(&self) -> BTreeSet<&Name> {
        self.changes.iter().filter_map(|change| change.object.tenant_id.as_ref()).collect()
    }
}

/// The cause that a rotation's reason code stands for.
#[must_use]
pub fn cause(reason: &Reason) -> RotationCause {
    reason.code.parse().unwrap_or(RotationCause::Manual)
}
