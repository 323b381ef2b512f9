//! Joins the core and the edges, and owns time: load, observe, plan, apply, resume.
//!
//! Every function here takes what it needs and returns a value; nothing is printed. What a person should see while
//! work goes on comes as [`Event`]s through a [`Progress`].
//!
//! Must not know: how anything is drawn, which command asked.

mod admission;
mod alerts;
mod apply;
mod approval;
mod approve;
mod audit;
mod checkpoint;
pub mod clock;
mod compliance;
pub mod data;
mod execute;
mod explain;
mod facts;
#[cfg(debug_assertions)]
mod fault_points;
#[cfg(test)]
mod fixture;
mod forecast;
mod history;
mod init;
mod journal;
mod leases;
mod load;
mod locks;
mod manual;
mod messages;
mod names;
mod observe;
mod outbox;
mod ownership;
mod planning;
mod providers;
mod reclaim;
mod records;
mod recovery;
mod retire;
mod review;
mod run;
#[cfg(test)]
mod simulation;
mod state_backup;
mod state_copy;
mod state_migrate;
mod state_snapshot;
mod state_verify;
mod status;
mod stopped;
mod test;
mod unlogged;
mod usage;
mod versioned;
mod workflow;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use schemars::JsonSchema;
use serde::Serialize;

pub use apply::{Approve, apply, manual};
pub use approve::{ApproveReport, approve, approver};
pub use audit::{AuditReport, Why, audit, export_audit, why};
pub use checkpoint::{Against, AuditVerified, CheckpointCheck, CheckpointReport, checkpoint, verify_audit};
pub use compliance::{AuditEvidence, ComplianceOptions, ComplianceReport, ComplianceSummary, compliance};
pub use explain::{Applied, Due, Explained, Explanation, Field, FieldOrigin, Obstacle, Upcoming, Version, explain};
pub use forecast::{ForecastOptions, forecast};
pub use history::{HistoryReport, Overridden, history};
pub use init::{InitReport, init};
pub use load::load;
pub use locks::{LockReport, break_lock, locks};
pub use manual::{Fact, Request};
pub use outbox::{FailedReceiver, OutboxReport, SendReport, outbox, send_outbox};
pub use planning::{drift, plan, plan_by_hand};
pub use reclaim::{ApproveReclaim, LeftAlone, ReclaimReport, Reclaimed, ReclaimedVersion, reclaim};
pub use recovery::{ApproveRecovery, LostRotation, RecoveryReport, Verdict, recover_state};
pub use review::{ReviewOptions, review};
pub use state_backup::{BackupReport, back_up};
pub use state_copy::{CopiedTable, CopyReport, copy_state};
pub use state_migrate::{MigrateReport, Migration, migrate_state};
pub use state_snapshot::snapshot_state;
pub use state_verify::{VerifyReport, verify_state};
pub use status::{
    PendingDestruction, PrimaryVersion, Standing, StatusEntry, StatusFilter, StatusOrder, StatusReport, Unfinished,
    status,
};
pub use test::{CaseReport, TEST_ENDINGS, TestReport, run_tests};
pub use unlogged::Unlogged;
pub use usage::{UsageOptions, UsageReport, report_usage};
pub use versioned::{OUTPUT_VERSION, Versioned};

pub use crate::store::{
    AuditCheck, AuditFilter, AuditLink, BrokenLink, HistoryEntry, HistoryFilter, LeaseRecord, OutboxFilter, Undelivered,
};

use crate::diagnostic::Finding;
use crate::document::Repository;
use crate::model::{Name, ObjectRef, Origin, Timestamp};
use crate::plan::approvals::Approval;
use crate::plan::{Action, Drift, Plan, Reason, Saved, Sources, Waiting};
use crate::store::Location;

/// Which documents are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The files as they lie in the work tree (or in a plain directory, without git).
    WorkTree,
    /// The documents of a commit, read from git's object database.
    Ref(String),
}

/// Where the repository is, and which documents of it are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// A directory inside the policy repository.
    pub dir: PathBuf,
    /// Which documents.
    pub selection: Selection,
}

/// The documents of a workspace, read and checked.
#[derive(Debug)]
pub struct Desired {
    /// The policy repository's top directory; relative paths of `keywheel.yaml` start here.
    pub root: PathBuf,
    /// The documents.
    pub repository: Repository,
    /// What was found in them.
    pub findings: Vec<Finding>,
    /// The trees that they are.
    pub sources: Sources,
    /// The commit and its people; none without git or without a commit.
    pub origin: Option<Origin>,
    /// Changes under `policies/` or in `keywheel.yaml` that are not committed.
    pub dirty: Vec<String>,
}

impl Desired {
    /// Where the state database is: `state`, or else what `keywheel.yaml` says.
    fn location(&self, state: Option<&str>) -> Result<Location, EngineError> {
        planning::location(&self.root, state.unwrap_or(&self.repository.config.state))
    }
}

/// How a plan is made.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Ask the key managers?
    pub refresh: bool,
    /// Another instant than now.
    pub as_of: Option<Timestamp>,
    /// Another state database than `keywheel.yaml` names.
    pub state: Option<String>,
}

/// What a plan was made from, and the plan.
#[derive(Debug)]
pub struct Planned {
    /// The documents.
    pub desired: Desired,
    /// The plan.
    pub plan: Plan,
}

/// What `apply` may do beyond its defaults.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Another state database than `keywheel.yaml` names.
    pub state: Option<String>,
    /// Apply although the work tree has uncommitted changes, or the commit is not on `apply_from`.
    pub allow_dirty: bool,
    /// Apply a commit that is an ancestor of the last applied one: why.
    pub allow_older: Option<String>,
    /// The digest of a plan whose limits are overridden, and why.
    pub override_limits: Option<(String, String)>,
    /// Use cloud providers from CI although the state file is thrown away with the machine.
    pub ephemeral_state: bool,
    /// How long to wait for somebody else's lock, in seconds.
    pub lock_timeout: u32,
    /// Only what this saved plan has too.
    pub saved: Option<Saved>,
    /// The approvals of a plan that was saved for this.
    pub approvals: Vec<Approval>,
    /// Set by the first interrupt: nothing new is begun, and the apply ends with what is unfinished named.
    pub interrupt: Arc<AtomicBool>,
}

/// What happens while work goes on. Each is one JSON line of `apply --format json`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A longer piece of work begins: reading documents, asking a provider, applying.
    PhaseStarted {
        /// `load`, `observe`, `plan`, `apply`.
        phase: &'static str,
        /// How many things it has to do, where that is known.
        total: Option<usize>,
    },
    /// It went on by so many things.
    Advanced {
        /// The phase.
        phase: &'static str,
        /// How many more are done.
        by: usize,
    },
    /// A change begins.
    ChangeStarted {
        /// Of what.
        object: ObjectRef,
        /// Which.
        action: Action,
    },
    /// A change is complete and recorded.
    ChangeDone {
        /// Of what.
        object: ObjectRef,
        /// Which.
        action: Action,
        /// The new primary, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// How long it took.
        duration_ms: u64,
    },
    /// A change failed; what it had done is recorded.
    ChangeFailed {
        /// Of what.
        object: ObjectRef,
        /// Which.
        action: Action,
        /// What happened.
        error: String,
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        help: Option<String>,
        /// Will the next apply go on with it?
        resumable: bool,
    },
    /// Something worth a line: waiting for a lock, for a provider's consistency, for an open window.
    Notice {
        /// What.
        message: String,
    },
}

/// Where events go.
pub trait Progress: Send + Sync {
    /// Takes one event. Must return quickly.
    fn event(&self, event: Event);
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// The digest of the plan.
    pub digest: String,
    /// Everything that it did carries this.
    pub correlation_id: String,
    /// How many changes were made, by action.
    pub done: BTreeMap<Action, usize>,
    /// Changes that failed.
    pub failed: Vec<FailedChange>,
    /// Changes that were not begun (an interrupt, a lost lock).
    pub not_started: Vec<NotStarted>,
    /// What the saved plan had and the fresh one lacks.
    pub stale: Vec<NotStarted>,
    /// The original's result of each policy that had keys to rotate.
    pub policies: Vec<PolicyResult>,
    /// Tenants that were left out, with the reason.
    pub left_out: BTreeMap<Name, String>,
    /// What the plan could not do for single objects: an alias that exists already, say.
    pub errors: Vec<Finding>,
    /// Keys that do not rotate until a person has looked: gone, unusable, or moved at their key manager.
    pub blocked: Vec<Drift>,
    /// Keys whose key manager gave no usable answer: nothing is known of what is due there.
    pub unanswered: Vec<Waiting>,
    /// What a person should know: a root key was made for trying out, say.
    pub warnings: Vec<Finding>,
    /// Was it interrupted?
    pub interrupted: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
}

/// A change that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FailedChange {
    /// Of what.
    pub object: ObjectRef,
    /// Which.
    pub action: Action,
    /// What happened.
    pub error: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Will the next apply go on with it?
    pub resumable: bool,
    /// When the next apply can go on with it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// A change that was not begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NotStarted {
    /// Of what.
    pub object: ObjectRef,
    /// Which.
    pub action: Action,
    /// Why not.
    pub reason: Reason,
}

/// What an apply did for one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyResult {
    /// Whose.
    pub tenant_id: Name,
    /// Which.
    pub policy_name: Name,
    /// `success`, `partial` or `failed`.
    pub status: &'static str,
    /// How many keys it rotated.
    pub rotated_keys: usize,
    /// How many it could not.
    pub failed_keys: usize,
}

/// Why the engine could not do what was asked. The kind decides the exit status.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// The kind.
    pub kind: ErrorKind,
    /// A stable code, such as `apply/dirty`.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// The kinds of failure, one for each exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Status 1.
    Error,
    /// Status 3: a limit, a guardrail or a rule of safety refused.
    Refused,
    /// Status 4: the saved plan is stale, or another's.
    Stale,
    /// Status 5: somebody else holds the lock.
    Locked,
}

impl EngineError {
    /// A failure with status 1.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Error, code, message: message.into(), help: None }
    }

    /// A failure of another kind.
    #[must_use]
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
