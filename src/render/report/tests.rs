//! Reports as a person reads them.

use std::collections::BTreeMap;

use super::*;
use crate::engine::PolicyResult;
use crate::model::{ObjectRef, Timestamp};
use crate::plan::{Action, Reason};

const PLAIN: View = View { width: None, full: false };

#[test]
fn what_was_done_is_one_line() {
    let report = Report { done: BTreeMap::from([(Action::Create, 3), (Action::Rotate, 1)]), ..empty() };
    insta::assert_snapshot!(plain(&draw(&report, PLAIN)), @"
    Applied: 3 created, 1 rotated (2.3 s).
    correlation_id 01a20700-1cf2
    ");
    assert!(!is_partial(&report));
}

#[test]
fn what_failed_comes_with_help_and_when_it_goes_on() {
    let failed = FailedChange {
        object: key("billing"),
        action: Action::Rotate,
        error: "CreateKey timed out: it may have made a key".to_owned(),
        help: Some("nothing to do: the next apply looks for it".to_owned()),
        resumable: true,
        retry_at: Some("2026-11-23T05:25:00Z".parse().unwrap()),
    };
    let result = |policy: &str, status, rotated_keys, failed_keys| PolicyResult {
        tenant_id: "healthcare-org-123".parse().unwrap(),
        policy_name: policy.parse().unwrap(),
        status,
        rotated_keys,
        failed_keys,
    };
    let report = Report {
        done: BTreeMap::from([(Action::Rotate, 41)]),
        failed: vec![failed],
        policies: vec![result("Daily PHI Key Rotation", "success", 41, 0), result("Monthly", "failed", 0, 1)],
        left_out: BTreeMap::from([("acme".parse().unwrap(), "its documents have errors".to_owned())]),
        ..empty()
    };
    insta::assert_snapshot!(plain(&draw(&report, PLAIN)), @"
    Failed (1)

      ↻ healthcare-org-123/billing
          could not rotate: CreateKey timed out: it may have made a key
          help: nothing to do: the next apply looks for it
          the next apply can go on with it from 2026-11-23T05:25:00Z

    ! tenant acme was left out: its documents have errors

    policy_name                                status    rotated_keys  failed_keys
    healthcare-org-123/Daily PHI Key Rotation  success             41            0
    healthcare-org-123/Monthly                 failed               0            1

    Applied: 41 rotated, 1 failed (2.3 s).
    correlation_id 01a20700-1cf2
    ");
    assert!(is_partial(&report));
}

#[test]
fn a_stale_plan_names_what_moved() {
    let moved = Reason::new("moved", "it was done already, or its object changed since the plan was made");
    let stale = NotStarted { object: key("billing"), action: Action::Rotate, reason: moved };
    insta::assert_snapshot!(plain(&draw(&Report { stale: vec![stale], ..empty() }, PLAIN)), @"
    Stale: in the saved plan, and not possible any more (1)

      ↻ healthcare-org-123/billing: it was done already, or its object changed since the plan was made

    Applied: nothing changed (2.3 s).
    ");
}

#[test]
fn the_next_steps_can_be_typed() {
    let key = "healthcare-org-123/patient data".parse().unwrap();
    insta::assert_snapshot!(plain(&next_steps("keywheel", &key)), @r#"
    The keys are in use. Try one: encrypt a line, rotate, decrypt it again.

      echo "attending physician: Dr. Vega" | keywheel data encrypt "healthcare-org-123/patient data" > note.enc
      keywheel rotate "healthcare-org-123/patient data" --reason "trying it out"
      keywheel data decrypt "healthcare-org-123/patient data" < note.enc

    What was encrypted before the rotation still decrypts after it. `keywheel status` shows the keys.
    "#);
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn key(name: &str) -> ObjectRef {
    ObjectRef::key(&format!("healthcare-org-123/{name}").parse().unwrap())
}

fn empty() -> Report {
    Report {
        digest: "sha256:0".to_owned(),
        correlation_id: "01a20700-1cf2".to_owned(),
        done: BTreeMap::new(),
        failed: Vec::new(),
        not_started: Vec::new(),
        stale: Vec::new(),
        policies: Vec::new(),
        left_out: BTreeMap::new(),
        errors: Vec::new(),
        blocked: Vec::new(),
        unanswered: Vec::new(),
        warnings: Vec::new(),
        interrupted: false,
        started_at: Timestamp::UNIX_EPOCH,
        duration_ms: 2_345,
    }
}
