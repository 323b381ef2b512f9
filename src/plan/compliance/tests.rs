//! The past of a key, worked out by hand.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::review::as_recorded;
use super::*;
use crate::document::{self, Capabilities, SourceFile};
use crate::model::ObjectRef;

const DOCUMENTS: &str = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Monthly\nkey_type: t\n\
    rotation_interval_days: 30\nrotation_time_of_day: \"02:00:00\"\ncompliance_tags: [HIPAA]\n---\n\
    apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: patients\nkey_type: t\nrotation_policy: Monthly\n";

fn at(text: &str) -> Timestamp {
    format!("2026-{text}Z").parse().unwrap()
}

/// A key that came under care on 1 March at noon, under a policy of thirty days.
struct Life {
    recorded: Recorded,
    entries: Vec<AuditEntry>,
    rotations: Vec<Turn>,
}

impl Life {
    fn new() -> Self {
        let file =
            SourceFile { path: "policies/acme/all.yaml".into(), content: DOCUMENTS.as_bytes().into(), symlink: false };
        let began = at("03-01T12:00:00");
        let can = |_| Capabilities { available: true, rollback: true, ..Capabilities::NONE };
        let documents = document::load(None, &[file], can, began).repository;
        let recorded = as_recorded(&documents, &BTreeMap::new(), began);
        let policy = recorded.policies.keys().next().unwrap();
        let spec = serde_json::to_value(&recorded.policies[policy].policy).unwrap();
        let mut life = Self { recorded: recorded.clone(), entries: Vec::new(), rotations: Vec::new() };
        life.tell("03-01T12:00:00", "policy.created", ObjectRef::policy(policy), None, Some(spec));
        life
    }

    fn record(&self) -> &KeyRecord {
        self.recorded.keys.values().next().unwrap()
    }

    fn tell(
        &mut self,
        on: &str,
        action: &str,
        object: ObjectRef,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) {
        let (actor, action, correlation_id) = ("ada".to_owned(), action.to_owned(), "run".to_owned());
        self.entries.push(AuditEntry {
            at: at(on),
            actor,
            commit: None,
            correlation_id,
            action,
            object,
            before,
            after,
        });
    }

    fn key(&mut self, on: &str, action: &str) {
        let object = ObjectRef::key(&self.record().address());
        self.tell(on, action, object, None, Some(json!({ "state": "parked" })));
    }

    fn turn(&mut self, on: &str, workflow: Workflow, result: Phase) {
        let record = self.record();
        let turn = Turn {
            rotation_id: Uuid::from_u128(self.rotations.len() as u128),
            key_id: record.id,
            key_name: record.key.key_name.clone(),
            workflow,
            result,
            cause: RotationCause::Due,
            reason: "it is due".to_owned(),
            started_at: at(on),
            ended_at: Some(at(on)),
            duration_ms: Some(1),
            from_ref: None,
            to_ref: None,
            commit: None,
            correlation_id: "run".to_owned(),
            approvers: BTreeSet::new(),
            error: None,
        };
        self.rotations.push(turn);
    }

    fn evidence(&self, from: &str, until: &str) -> TenantEvidence {
        let past = Past {
            framework: pack("HIPAA").unwrap(),
            recorded: &self.recorded,
            forgotten: &[],
            entries: &self.entries,
            rotations: &self.rotations,
            from: at(from),
            until: at(until),
            now: at(until),
        };
        of_tenant(&"acme".parse().unwrap(), &past)
    }

    /// Its gaps until the first of June: `code from until (meanwhile)`.
    fn gaps(&self) -> Vec<String> {
        let short = |at: Timestamp| at.format("%m-%dT%H").to_string();
        let told =
            |gap: &Gap| format!("{} {} {} ({})", gap.code, short(gap.from), short(gap.until), gap.meanwhile.join(", "));
        self.evidence("03-01T12:00:00", "06-01T00:00:00").keys[0].gaps.iter().map(told).collect()
    }
}

#[test]
fn rotations_that_failed_end_no_gap_and_stand_beside_it() {
    let mut life = Life::new();
    life.turn("04-02T02:00:00", Workflow::Rotate, Phase::Abandoned);
    assert_eq!(life.gaps(), ["late 04-01T02 06-01T00 (1 rotation failed)"]);
    life.turn("04-03T02:00:00", Workflow::Rotate, Phase::Abandoned);
    life.turn("04-04T02:00:00", Workflow::Rotate, Phase::Settled);
    life.turn("05-04T02:00:00", Workflow::Rotate, Phase::Settled);
    assert_eq!(life.gaps(), ["late 04-01T02 04-04T02 (2 rotations failed)"]);
    let key = &life.evidence("03-01T12:00:00", "06-01T00:00:00").keys[0];
    assert_eq!(key.rotations.len(), 4);
    assert_eq!((key.days, key.days_within), (91.5, 88.5));
    // Of another key nothing counts, whatever it is called.
    for turn in &mut life.rotations {
        turn.key_id = Uuid::from_u128(99);
    }
    assert_eq!(life.gaps(), ["late 04-01T02 06-01T00 ()"]);
}

#[test]
fn a_rollback_brings_the_age_before_back() {
    let mut life = Life::new();
    life.turn("03-31T02:00:00", Workflow::Rotate, Phase::Settled);
    life.turn("03-31T20:00:00", Workflow::Rollback, Phase::Settled);
    life.key("03-31T20:00:00", "key.rolled_back");
    life.turn("04-05T12:00:00", Workflow::Rotate, Phase::Settled);
    life.turn("05-05T12:00:00", Workflow::Rotate, Phase::Settled);
    assert_eq!(life.gaps(), ["late 04-01T02 04-05T12 (it was held after a rollback)"]);
}

#[test]
fn what_stopped_it_before_a_gap_is_told_and_what_was_over_is_not() {
    let mut life = Life::new();
    life.key("03-05T00:00:00", "key.parked");
    life.key("03-20T00:00:00", "key.resumed");
    life.turn("04-10T02:00:00", Workflow::Rotate, Phase::Settled);
    life.key("04-11T00:00:00", "key.parked");
    assert_eq!(life.gaps(), ["late 04-01T02 04-10T02 ()", "late 05-11T02 06-01T00 (it was parked)"]);
}

#[test]
fn a_key_that_came_after_the_period_or_was_never_tagged_is_no_evidence() {
    let mut life = Life::new();
    let before = life.evidence("01-01T00:00:00", "02-01T00:00:00");
    assert_eq!((before.keys.len(), before.untagged), (0, 0), "it was not there");
    life.entries[0].after.as_mut().unwrap()["compliance_tags"] = json!([]);
    let untagged = life.evidence("03-01T12:00:00", "06-01T00:00:00");
    assert_eq!((untagged.keys.len(), untagged.untagged), (0, 1));
}
