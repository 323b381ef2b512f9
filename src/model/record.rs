//! What the state database says: one struct a table, with the columns' names.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::policy::{Disposition, words};
use super::{Address, EncryptionKey, Name, ObjectKind, ObjectRef, RotationPolicy, Timestamp};

words! {
    /// The state of one version, in NIST SP 800-57 Part 1 Rev. 5 section 7's words, and the provider's steps before
    /// `destroyed`.
    VersionState {
        /// Made, and not yet primary.
        PreActivation = "pre_activation",
        /// The primary: it encrypts now.
        Active = "active",
        /// It decrypts only.
        Deactivated = "deactivated",
        /// Its use is halted for now.
        Suspended = "suspended",
        /// Disabled at the provider: it decrypts nothing, and can be enabled again.
        Disabled = "disabled",
        /// The provider will destroy it.
        PendingDestruction = "pending_destruction",
        /// Gone.
        Destroyed = "destroyed",
    }
}
words! {
    /// The state of a key in the record.
    KeyState {
        /// Its first version is not yet ready.
        Pending = "pending",
        /// It is in use.
        Active = "active",
        /// It was rolled back, and waits for a person's `release`.
        Held = "held",
        /// It kept failing, and waits for a person's `resume`.
        Parked = "parked",
        /// It left the documents; nothing was destroyed.
        Forgotten = "forgotten",
    }
}
words! {
    /// The kinds of durable workflow on a key.
    Workflow {
        /// Its first version.
        Create = "create",
        /// A new primary version.
        Rotate = "rotate",
        /// The previous version becomes primary again.
        Rollback = "rollback",
        /// An old version is disabled.
        Disable = "disable",
        /// A disabled version decrypts again; a destruction that was scheduled is cancelled.
        Enable = "enable",
        /// The destruction of a disabled version is scheduled.
        ScheduleDestruction = "schedule_destruction",
        /// A scheduled destruction is cancelled; the version stays disabled.
        CancelDestruction = "cancel_destruction",
        /// A version whose waiting period has passed is destroyed.
        Destroy = "destroy",
    }
}
impl Workflow {
    /// Does it lead the stable name somewhere? The others are about an old version.
    #[must_use]
    pub const fn leads(self) -> bool {
        matches!(self, Self::Create | Self::Rotate | Self::Rollback)
    }

    /// What people call it, before `of`: `the rotation of acme/key`.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Create => "creation",
            Self::Rotate => "rotation",
            Self::Rollback => "rollback",
            Self::Disable => "disabling",
            Self::Enable => "enabling",
            Self::ScheduleDestruction => "scheduling of the destruction",
            Self::CancelDestruction => "cancelling of the destruction",
            Self::Destroy => "destruction",
        }
    }
}

words! {
    /// How far a workflow has come.
    Phase {
        /// Its intent is durable, nothing was called.
        Planned = "planned",
        /// The version may have been made.
        Creating = "creating",
        /// The version is made and recorded.
        Created = "created",
        /// The version is proven.
        Verified = "verified",
        /// The stable name leads to it.
        Promoted = "promoted",
        /// Proven again through the stable name, and recorded as primary.
        Settled = "settled",
        /// Given up before promotion.
        Abandoned = "abandoned",
        /// An old version is about to change its state.
        Retiring = "retiring",
    }
}
words! {
    /// The steps of a workflow, each one journal entry before and one after its effect.
    Step {
        /// Make the new version.
        Create = "create",
        /// Give it everything that applications rely on, and prove it.
        Verify = "verify",
        /// Point the stable name at it.
        Promote = "promote",
        /// Read the stable name back and prove it again.
        Settle = "settle",
        /// Change the state of a version that is not primary.
        Retire = "retire",
    }
}
words! {
    /// What is known of a step that was started.
    Outcome {
        /// It was started, and nothing more is known.
        Started = "started",
        /// It is done.
        Succeeded = "succeeded",
        /// It certainly had no effect, or its effect is known to be wrong.
        Failed = "failed",
        /// It may have had its effect.
        Unknown = "unknown",
    }
}
words! {
    /// Why a rotation was begun.
    RotationCause {
        /// The key is new.
        Created = "created",
        /// Its slot has come.
        Due = "due",
        /// Its slot passed a whole interval ago or more.
        Overdue = "overdue",
        /// It was used too often.
        Usage = "usage",
        /// An event asked for it.
        Event = "event",
        /// A person asked for it.
        Manual = "manual",
        /// The primary version is compromised.
        Compromised = "compromised",
    }
}

/// The change in git that something comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The commit.
    pub commit: String,
    /// Who wrote it: `Name <email>`.
    pub author: String,
    /// Who committed it.
    pub committer: String,
    /// Who signed it, where that was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.commit.get(..12).unwrap_or(&self.commit), self.author)
    }
}

/// A row of `key_rotation_policies`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Its identity, kept through renames.
    pub id: Uuid,
    /// The policy as last applied.
    pub policy: RotationPolicy,
    /// The latest of its keys' last rotations; a summary for readers.
    pub last_rotation_at: Option<Timestamp>,
    /// The earliest of its keys' next rotations; a summary for readers.
    pub next_rotation_at: Option<Timestamp>,
    /// The change that made it.
    pub created_by: Origin,
    /// The change that last changed it.
    pub last_modified_by: Origin,
    /// The API token that made it, where one did.
    pub created_by_token_id: Option<Uuid>,
    /// The API token that last changed it, where one did.
    pub last_modified_by_token_id: Option<Uuid>,
    /// The apply that last changed it.
    pub correlation_id: String,
    /// Counts the changes, from 1: the precondition of a saved plan.
    pub revision: u64,
    /// When it was first applied.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A row of `encryption_keys`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its identity, kept through renames.
    pub id: Uuid,
    /// The key as last applied.
    pub key: EncryptionKey,
    /// Its policy.
    pub rotation_policy_id: Option<Uuid>,
    /// Its state.
    pub state: KeyState,
    /// Why it is in that state, where a person should know.
    pub state_reason: Option<String>,
    /// When it came under keywheel's care.
    pub managed_since: Timestamp,
    /// Was it adopted, rather than created here?
    pub adopted: bool,
    /// Its primary version.
    pub primary_version: Option<VersionRecord>,
    /// When it was last rotated, by whatever cause.
    pub last_rotation_at: Option<Timestamp>,
    /// The slot that the last rotation served, if it was a scheduled one.
    pub last_slot: Option<Timestamp>,
    /// A cache of when it is next due, for readers.
    pub next_rotation_at: Option<Timestamp>,
    /// How many runs in a row could not finish a rotation of it.
    pub failures: u32,
    /// Before this instant it is not tried again, unless its documents change.
    pub retry_at: Option<Timestamp>,
    /// The change that made it.
    pub created_by: Origin,
    /// The change that last changed it.
    pub last_modified_by: Origin,
    /// The apply that last changed it.
    pub correlation_id: String,
    /// Counts the changes, from 1: the precondition of a saved plan.
    pub revision: u64,
    /// When it was first applied.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl KeyRecord {
    /// `TENANT/NAME`.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::new(self.key.tenant_id.clone(), self.key.key_name.clone())
    }
}

/// A row of `key_versions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its identity.
    pub id: Uuid,
    /// Its key.
    pub key_id: Uuid,
    /// Counts the versions of a key, from 1.
    pub number: u32,
    /// What the provider calls it: an ARN, or `NAME:VERSION`.
    pub provider_ref: String,
    /// Its state.
    pub state: VersionState,
    /// The rotation that made it; none for an adopted one.
    pub rotation_id: Option<Uuid>,
    /// Was it made, and never recorded as the outcome of its rotation?
    pub orphan: bool,
    /// When its material was made, by the provider's clock.
    pub provider_created_at: Option<Timestamp>,
    /// When it became primary.
    pub activated_at: Option<Timestamp>,
    /// When it stopped being primary.
    pub deactivated_at: Option<Timestamp>,
    /// When it became known to be in the wrong hands.
    pub compromised_at: Option<Timestamp>,
    /// The retention terms in force at its deactivation, which outlive the policy.
    pub retention: Option<Retention>,
    /// Until when those terms keep it as it is, whatever becomes of the policy.
    pub retain_until: Option<Timestamp>,
    /// When it was disabled.
    pub disabled_at: Option<Timestamp>,
    /// When its waiting period ends, once its destruction is scheduled.
    pub destroy_at: Option<Timestamp>,
    /// When it was destroyed.
    pub destroyed_at: Option<Timestamp>,
    /// When a person recorded that nothing is encrypted under it any more.
    pub rewrapped_at: Option<Timestamp>,
    /// When a person recorded that something still needs it.
    pub needed_at: Option<Timestamp>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

impl VersionRecord {
    /// Is its destruction scheduled for later than an instant?
    #[must_use]
    pub fn is_pending_at(&self, now: Timestamp) -> bool {
        self.state == VersionState::PendingDestruction && self.destroy_at.is_some_and(|at| at > now)
    }

    /// A version that was just made, and is not primary yet.
    #[must_use]
    pub const fn new(id: Uuid, key_id: Uuid, number: u32, provider_ref: String, created_at: Timestamp) -> Self {
        Self {
            id,
            key_id,
            number,
            provider_ref,
            state: VersionState::PreActivation,
            rotation_id: None,
            orphan: false,
            provider_created_at: None,
            activated_at: None,
            deactivated_at: None,
            compromised_at: None,
            retention: None,
            retain_until: None,
            disabled_at: None,
            destroy_at: None,
            destroyed_at: None,
            rewrapped_at: None,
            needed_at: None,
            created_at,
        }
    }
}

/// What becomes of an old version, and when: the fields of the policy that was in force at its deactivation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retention {
    /// What happens to it once its retention has passed.
    pub old_key_disposition: Disposition,
    /// Days for which it certainly stays readable.
    pub retain_old_keys_days: u32,
    /// Hours within which it can become primary again; 0 where rollback is off.
    pub rollback_period_hours: u32,
    /// Days of being disabled before it is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy_after_disabled_days: Option<u32>,
    /// Days after which nothing that it encrypted is kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_max_age_days: Option<u32>,
    /// Why a person had it enabled again: it is kept from then on, whatever the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_because: Option<String>,
}

impl Retention {
    /// The terms of a policy.
    #[must_use]
    pub fn of(policy: &RotationPolicy) -> Self {
        Self {
            old_key_disposition: policy.old_key_disposition,
            retain_old_keys_days: policy.retain_old_keys_days,
            rollback_period_hours: if policy.enable_rollback { policy.rollback_period_hours } else { 0 },
            destroy_after_disabled_days: policy.destroy_after_disabled_days,
            data_max_age_days: policy.data_max_age_days,
            kept_because: None,
        }
    }

    /// The terms of a version that no policy speaks of: it is kept.
    #[must_use]
    pub const fn keep() -> Self {
        Self {
            old_key_disposition: Disposition::Keep,
            retain_old_keys_days: 0,
            rollback_period_hours: 0,
            destroy_after_disabled_days: None,
            data_max_age_days: None,
            kept_because: None,
        }
    }

    /// Until when a version that was deactivated at `deactivated_at` stays as it is.
    #[must_use]
    pub fn until(&self, deactivated_at: Timestamp) -> Timestamp {
        let (days, hours) = (i64::from(self.retain_old_keys_days), i64::from(self.rollback_period_hours));
        let kept = chrono::Duration::try_days(days).unwrap_or_default();
        let kept = kept.max(chrono::Duration::try_hours(hours).unwrap_or_default());
        deactivated_at.checked_add_signed(kept).unwrap_or(Timestamp::MAX_UTC)
    }
}

/// A row of `usage_counters`: how often one version was used, as one source counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageCounter {
    /// The version.
    pub key_version_id: Uuid,
    /// Who counts: a service, a host.
    pub source: String,
    /// How often in all, since the version was made. A report that comes twice, or late, changes nothing.
    pub total: u64,
    /// When that was reported.
    pub reported_at: Timestamp,
}

/// A row of `rotations`: one run of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RotationRecord {
    /// Its identity, which every version that it makes carries.
    pub id: Uuid,
    /// Its key.
    pub key_id: Uuid,
    /// The key's address when it began.
    pub address: Address,
    /// Which workflow.
    pub workflow: Workflow,
    /// How far it has come.
    pub phase: Phase,
    /// The step that was started and whose outcome is not known, if there is one.
    pub open_step: Option<Step>,
    /// Why it was begun.
    pub cause: RotationCause,
    /// Why, in words.
    pub reason: String,
    /// The slot that it serves, if it is a scheduled one.
    pub slot: Option<Timestamp>,
    /// The primary when it began, as the provider calls it.
    pub from_ref: Option<String>,
    /// The version that it made, as the provider calls it.
    pub to_ref: Option<String>,
    /// What a probe needs to tell this rotation's effect from another's (a provider's own notes, never a secret).
    pub intent: Value,
    /// The policy that it began with, and is finished under.
    pub policy: Option<RotationPolicy>,
    /// The error that it met last.
    pub error: Option<String>,
    /// How often its current step was tried.
    pub attempt: u32,
    /// The apply that began it.
    pub correlation_id: String,
    /// The commit that was applied when it began.
    pub commit: Option<String>,
    /// When its intent became durable.
    pub started_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// When it was settled or abandoned.
    pub finished_at: Option<Timestamp>,
}

/// A rotation that was settled, as far as it tells a key's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRotation {
    /// Its key.
    pub key_id: Uuid,
    /// When it began.
    pub at: Timestamp,
    /// The slot that it served; none where no schedule asked for it.
    pub slot: Option<Timestamp>,
    /// Why it was begun.
    pub cause: RotationCause,
}

/// A row of `rotation_steps`: the journal, in the order of its sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its rotation.
    pub rotation_id: Uuid,
    /// Which step.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
    /// How often the step was tried, from 1.
    pub attempt: u32,
    /// What the provider answered: a version's name, an error's text.
    pub detail: Option<String>,
    /// When it was written.
    pub at: Timestamp,
}

/// A row of `audit_log`, before its place in the chain is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a person, a CI job, a token, `keywheel`.
    pub actor: String,
    /// The commit in force.
    pub commit: Option<String>,
    /// The apply that it belongs to.
    pub correlation_id: String,
    /// What was done: `policy.created`, `rotation.settled`, ...
    pub action: String,
    /// To what.
    pub object: ObjectRef,
    /// The changed fields before.
    pub before: Option<Value>,
    /// The changed fields after.
    pub after: Option<Value>,
}

/// A document without a table of its own (a tenant, a guardrail, a freeze), as last applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentRecord {
    /// What it is.
    pub object: ObjectRef,
    /// Its content.
    pub spec: Value,
    /// Counts the changes, from 1.
    pub revision: u64,
    /// The change that last changed it.
    pub last_modified_by: Origin,
}

/// A row of `applied_plans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedPlan {
    /// The digest of the plan.
    pub digest: String,
    /// The commit that it was made from.
    pub origin: Origin,
    /// The run that is bound to it.
    pub correlation_id: String,
    /// When that run began.
    pub started_at: Timestamp,
    /// When it was complete; a complete plan is spent.
    pub finished_at: Option<Timestamp>,
    /// The reason of an override of the limits, where one was given.
    pub override_reason: Option<String>,
}

/// Everything that the state database says and a plan needs, read in one transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// The database's identity; none where there is no database yet.
    pub lineage: Option<Uuid>,
    /// Policies by address; tombstones left out.
    pub policies: BTreeMap<Address, PolicyRecord>,
    /// Keys by address; forgotten ones left out.
    pub keys: BTreeMap<Address, KeyRecord>,
    /// Tenants, guardrails and freezes.
    pub documents: BTreeMap<ObjectRef, DocumentRecord>,
    /// Rotations that are neither settled nor abandoned.
    pub unfinished: Vec<RotationRecord>,
    /// How often primary versions were used, all sources together, by their ids; those that nobody reported are left out.
    pub usage: BTreeMap<Uuid, u64>,
    /// The plan that was applied last.
    pub last_applied: Option<AppliedPlan>,
}

impl Recorded {
    /// The unfinished rotation of a key, of which there is at most one.
    #[must_use]
    pub fn unfinished_of(&self, key_id: Uuid) -> Option<&RotationRecord> {
        self.unfinished.iter().find(|rotation| rotation.key_id == key_id)
    }

    /// How often the primary version of a key was used, as far as that was reported.
    #[must_use]
    pub fn usage_of(&self, key: &KeyRecord) -> u64 {
        key.primary_version.as_ref().and_then(|version| self.usage.get(&version.id)).copied().unwrap_or(0)
    }

    /// Has it neither policies nor keys, as before the first apply?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.keys.is_empty()
    }

    /// Has nothing ever been applied to it? A database that was lost, or that nobody meant, looks like this too.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.is_empty() && self.last_applied.is_none()
    }

    /// The tenants that have anything in the record.
    pub fn tenants(&self) -> impl Iterator<Item = &Name> {
        let policies = self.policies.keys().map(|address| &address.tenant_id);
        let keys = self.keys.keys().map(|address| &address.tenant_id);
        let documents = self
            .documents
            .keys()
            .filter(|object| object.kind == ObjectKind::Tenant)
            .filter_map(|object| object.tenant_id.as_ref());
        policies.chain(keys).chain(documents)
    }
}
