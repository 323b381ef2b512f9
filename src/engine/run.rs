//! One apply under way: what it works with, and what it has done so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

use crate::model::{AuditEntry, Name, ObjectRef, Origin};
use crate::plan::{Action, Change, Plan, Reason};
use crate::store::Write;

use super::approval::Counted;
use super::providers::Managers;
use super::stopped::Stopped;
use super::workflow::Context;
use super::{Event, FailedChange, NotStarted, PolicyResult, Progress, clock};

/// What every change of an apply works with.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    pub context: &'a Context,
    pub managers: &'a Managers,
    pub progress: &'a dyn Progress,
    pub origin: Origin,
}

/// One apply under way.
pub(super) struct Run<'a> {
    pub scope: Scope<'a>,
    pub done: BTreeMap<Action, usize>,
    pub failed: Vec<FailedChange>,
    pub not_started: Vec<NotStarted>,
    /// The approvals of its plan.
    pub approvals: Vec<Counted>,
    /// What refused it, and was overridden.
    pub overrides: Vec<Override>,
    /// Rotated keys of each policy, and failed ones.
    rotated: BTreeMap<(Name, Name), (usize, usize)>,
}

/// What refused an apply, and why a person had it done all the same.
#[derive(Debug)]
pub(super) struct Override {
    pub refused: Vec<String>,
    pub reason: String,
}

impl Override {
    /// Its entries in the audit log: one in the chain of each tenant whose objects the plan changes.
    pub(super) fn audit(&self, scope: &Scope<'_>, plan: &Plan, digest: &str) -> Vec<Write> {
        let Self { refused, reason } = self;
        let after = json!({ "digest": digest, "refused": refused, "reason": reason });
        let object = |tenant: &Option<Name>| tenant.as_ref().map_or_else(ObjectRef::config, ObjectRef::tenant);
        let mut objects: BTreeSet<ObjectRef> =
            plan.changes.iter().map(|change| object(&change.object.tenant_id)).collect();
        if objects.is_empty() {
            objects.insert(ObjectRef::config());
        }
        let entry = |object: &ObjectRef| scope.audit("plan.overridden".to_owned(), object, None, Some(after.clone()));
        objects.iter().map(entry).collect()
    }
}

/// What became of a change.
pub(super) enum Outcome {
    Done {
        version: Option<String>,
    },
    Stopped(Stopped),
    /// An interrupt, or a lost lease, came first.
    NotBegun,
}

/// A change's outcome, on its way to the report.
pub(super) struct Finished {
    pub object: ObjectRef,
    pub action: Action,
    pub started: Instant,
    pub outcome: Outcome,
    /// The policy that it counts for, if it was a rotation.
    pub rotation_of: Option<(Name, Name)>,
}

impl Finished {
    pub(super) fn stopped(object: ObjectRef, action: Action, started: Instant, stopped: Stopped) -> Self {
        Self { object, action, started, outcome: Outcome::Stopped(stopped), rotation_of: None }
    }

    /// What it was told where nobody answers.
    pub(super) fn unanswered(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Stopped(stopped) if stopped.out_of_reach => Some(&stopped.error),
            _ => None,
        }
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(scope: Scope<'a>) -> Self {
        let (done, rotated) = (BTreeMap::new(), BTreeMap::new());
        let (approvals, overrides) = (Vec::new(), Vec::new());
        Self { scope, done, failed: Vec::new(), not_started: Vec::new(), approvals, overrides, rotated }
    }

    pub(super) fn succeed(&mut self, object: ObjectRef, action: Action, version: Option<String>, started: Instant) {
        *self.done.entry(action).or_insert(0) += 1;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.scope.progress.event(Event::ChangeDone { object, action, version, duration_ms });
    }

    pub(super) fn finish(&mut self, change: Finished) {
        let Finished { object, action, started, outcome, rotation_of } = change;
        if let Some(policy) = rotation_of {
            let (rotated, failed) = self.rotated.entry(policy).or_default();
            match outcome {
                Outcome::Done { .. } => *rotated += 1,
                Outcome::Stopped(_) => *failed += 1,
                Outcome::NotBegun => {}
            }
        }
        match outcome {
            Outcome::Done { version } => self.succeed(object, action, version, started),
            Outcome::Stopped(stopped) => self.fail(object, action, stopped),
            Outcome::NotBegun => {
                let reason = Reason::new("interrupted", "the apply was stopped before it");
                self.not_started.push(NotStarted { object, action, reason });
            }
        }
    }

    fn fail(&mut self, object: ObjectRef, action: Action, stopped: Stopped) {
        let Stopped { error, help, resumable, retry_at, .. } = stopped;
        self.scope.progress.event(Event::ChangeFailed {
            object: object.clone(),
            action,
            error: error.clone(),
            help: help.clone(),
            resumable,
        });
        self.failed.push(FailedChange { object, action, error, help, resumable, retry_at });
    }

    /// The original's result of each policy that had keys to rotate.
    pub(super) fn policies(&self) -> Vec<PolicyResult> {
        let results = self.rotated.iter().map(|((tenant_id, policy_name), (rotated_keys, failed_keys))| PolicyResult {
            tenant_id: tenant_id.clone(),
            policy_name: policy_name.clone(),
            status: match (rotated_keys, failed_keys) {
                (_, 0) => "success",
                (0, _) => "failed",
                _ => "partial",
            },
            rotated_keys: *rotated_keys,
            failed_keys: *failed_keys,
        });
        results.collect()
    }
}

impl Scope<'_> {
    pub(super) fn audit(
        &self,
        action: String,
        object: &ObjectRef,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Write {
        Write::Audit(Box::new(AuditEntry {
            at: clock::now(),
            actor: self.context.actor.clone(),
            commit: Some(self.origin.commit.clone()),
            correlation_id: self.context.correlation_id.clone(),
            action,
            object: object.clone(),
            before,
            after,
        }))
    }

    /// The audit entry of a change.
    pub(super) fn audit_change(&self, change: &Change) -> Write {
        let value = |map: &Option<serde_json::Map<String, Value>>| map.clone().map(Value::Object);
        let action = format!("{}.{}", change.object.kind.word(), change.action.done().replace(' ', "_"));
        self.audit(action, &change.object, value(&change.before), value(&change.after))
    }
}
