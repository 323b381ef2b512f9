//! Plans as text, as a person reads them.

use std::collections::BTreeMap;

use chrono::Duration;
use serde_json::{Map, Value, json};

use super::*;
use crate::diagnostic::{Finding, Place};
use crate::model::{Address, Name};
use crate::plan::{Precondition, Reason, Refusal, Sources};

const PLAIN: View = View { width: None, full: false };
const DIGEST: &str = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

#[test]
fn nothing_to_do_is_one_stable_line() {
    insta::assert_snapshot!(drawn(&empty(), PLAIN), @"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

    No changes. Every policy and key is as git says, and nothing is due.
    ");
}

#[test]
fn what_is_new_shows_the_fields_that_somebody_chose() {
    let plan = Plan {
        changes: vec![
            create(
                policy("Daily PHI Key Rotation"),
                "a new policy for 1 key",
                json!({
                    "tenant_id": "healthcare-org-123", "policy_name": "Daily PHI Key Rotation", "key_type": "phi_data",
                    "kms_provider": "local", "status": "active", "rotation_trigger": "time_based",
                    "rotation_interval_days": 1, "rotation_time_of_day": "02:00:00", "timezone": "UTC",
                    "enable_rollback": true, "rollback_period_hours": 24, "retain_old_keys_days": 30,
                    "old_key_disposition": "keep", "compliance_tags": ["HIPAA", "SOC2"]
                }),
            ),
            create(
                key("patient-data-encryption-key"),
                "a new local key under policy Daily PHI Key Rotation",
                json!({
                    "tenant_id": "healthcare-org-123", "key_name": "patient-data-encryption-key", "key_type": "phi_data",
                    "kms_provider": "local", "rotation_policy": "Daily PHI Key Rotation"
                }),
            ),
        ],
        ..empty()
    };
    insta::assert_snapshot!(drawn(&plan, PLAIN), @"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

      + create

    Policy changes (1)

      + RotationPolicy healthcare-org-123/Daily PHI Key Rotation
         a new policy for 1 key
           key_type                phi_data
           rotation_interval_days  1
           rotation_time_of_day    02:00:00
           compliance_tags
             HIPAA
             SOC2

    Key changes (1)

      + EncryptionKey healthcare-org-123/patient-data-encryption-key
         a new local key under policy Daily PHI Key Rotation
           key_type         phi_data
           rotation_policy  Daily PHI Key Rotation

    Plan: 2 to create.
    ");
}

#[test]
fn an_update_shows_each_field_before_and_after() {
    insta::assert_snapshot!(drawn(&updates(), PLAIN), @"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

      ~ change

    Policy changes (1)

      ~ RotationPolicy healthcare-org-123/Quarterly  update
         90 to 30 days; 41 keys become due now
           max_usage_count         (none) -> 1000000
           rotation_interval_days  90 -> 30
           compliance_tags
               HIPAA
             - SOC2
             + PCI-DSS
           description
             - Rotate keys
             + Rotate every key that protects records of patients, often enough for everyone

    Plan: 1 to update.
    ");
}

#[test]
fn the_full_view_shows_yaml() {
    insta::assert_snapshot!(drawn(&updates(), View { full: true, ..PLAIN }), @"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

      ~ change

    Policy changes (1)

      ~ RotationPolicy healthcare-org-123/Quarterly  update
         90 to 30 days; 41 keys become due now
             compliance_tags:
             - HIPAA
           - - SOC2
           + - PCI-DSS
           - description: Rotate keys
           + description: Rotate every key that protects records of patients, often enough for everyone
           + max_usage_count: 1000000
           - rotation_interval_days: 90
           + rotation_interval_days: 30

    Plan: 1 to update.
    ");
}

#[test]
fn what_leaves_and_what_is_adopted_have_marks_of_their_own() {
    let plan = Plan {
        changes: vec![
            change(policy("Old"), Action::Remove, "its document is gone: 3 keys are unlinked, nothing is destroyed"),
            Change {
                after: fields(
                    json!({"key_type": "phi_data", "kms_provider": "aws_kms", "kms_alias": "alias/patient-data"}),
                ),
                ..change(key("patient-data"), Action::Adopt, "adopted: its primary is 120 days old")
            },
            Change {
                before: fields(json!({"rotation_policy": "Old"})),
                after: fields(json!({"rotation_policy": null})),
                ..change(key("billing"), Action::Unlink, "it has no policy any more, and is not rotated")
            },
            change(key("orphan"), Action::Finish, "its rotate was interrupted when it was created"),
        ],
        ..empty()
    };
    insta::assert_snapshot!(drawn(&plan, PLAIN), @"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

      - remove from keywheel   <> adopt or link   ↻ rotate

    Policy changes (1)

      - RotationPolicy healthcare-org-123/Old  remove
         its document is gone: 3 keys are unlinked, nothing is destroyed

    Key changes (2)

      <> EncryptionKey healthcare-org-123/patient-data  adopt
         adopted: its primary is 120 days old
           key_type      phi_data
           kms_alias     alias/patient-data
           kms_provider  aws_kms

      <> EncryptionKey healthcare-org-123/billing  unlink
         it has no policy any more, and is not rotated
           rotation_policy  Old -> (none)

    Due work (1)

      ↻ healthcare-org-123/orphan  finish: its rotate was interrupted when it was created

    Plan: 1 to adopt, 1 to unlink, 1 to remove, 1 to finish.
    ");
}

#[test]
fn of_five_thousand_changes_fifty_are_shown_and_all_are_counted() {
    let changes = (0..5_000)
        .map(|n| change(key(&format!("key-{n:04}")), Action::Rotate, "due since 2026-11-23T02:00:00Z"))
        .collect();
    let text = drawn(&Plan { changes, ..empty() }, PLAIN);
    assert_eq!(text.matches("due since").count(), SHOWN);
    let last: Vec<&str> = text.lines().skip(5 + SHOWN).collect();
    insta::assert_snapshot!(last.join("\n"), @"
      ↻ healthcare-org-123/key-0049  due since 2026-11-23T02:00:00Z

      ... and 4,950 more; --format json lists all of them

    Plan: 5,000 to rotate.
    ");
}

#[test]
fn what_waits_says_why_and_until_when() {
    let waiting = |name: &str, code: &str, message: &str, starts_at| Waiting {
        object: key(name),
        action: Action::Rotate,
        version: None,
        reason: Reason::new(code, message),
        starts_at,
    };
    let plan = Plan {
        waiting: vec![
            waiting("billing", "window", "due, and outside its rotation_windows", Some(as_of() + Duration::hours(20))),
            waiting(
                "ledger",
                "freeze",
                "due, and frozen by \"Year-end change freeze\"",
                Some(as_of() + Duration::days(43)),
            ),
            waiting("parked", "parked", "it kept failing, and is parked until `resume`: AccessDenied", None),
        ],
        ..empty()
    };
    insta::assert_snapshot!(drawn(&plan, PLAIN), @r#"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

    Waiting (3)

      ↻ healthcare-org-123/billing  due, and outside its rotation_windows; until 2026-11-24T01:20:00Z (in 20 hours)
      ↻ healthcare-org-123/ledger   due, and frozen by "Year-end change freeze"; until 2027-01-05T05:20:00Z (in 43 days)
      ↻ healthcare-org-123/parked   it kept failing, and is parked until `resume`: AccessDenied

    No changes. Nothing can be done now; 3 waiting.
    "#);
}

#[test]
fn drift_shows_what_was_recorded_and_what_is_there() {
    let plan = Plan {
        drift: vec![Drift {
            object: key("patient-data"),
            field: "description".to_owned(),
            reason: Reason::new("settings", "it was changed at the key manager, and is set again"),
            recorded: Some("Patients' records".to_owned()),
            observed: Some(String::new()),
        }],
        changes: vec![Change {
            before: fields(json!({"description": ""})),
            after: fields(json!({"description": "Patients' records"})),
            ..change(key("patient-data"), Action::Restore, "description was changed at the key manager")
        }],
        ..empty()
    };
    insta::assert_snapshot!(drawn(&plan, PLAIN), @r#"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

      ~ change

    Key changes (1)

      ~ EncryptionKey healthcare-org-123/patient-data  restore
         description was changed at the key manager
           description  "" -> Patients' records

    Drift (1)

      !  healthcare-org-123/patient-data  description
         it was changed at the key manager, and is set again
         next: `keywheel apply` sets it again; to keep the change, write it into the document
           recorded  Patients' records
           observed  ""

      Primary versions were looked at; `keywheel drift` looks at every version.

    Plan: 1 to restore; 1 drifted.
    "#);
}

#[test]
fn a_refusal_stands_at_the_end_with_the_way_out() {
    let plan = Plan {
        changes: vec![change(key("a"), Action::Rotate, "due since 2026-11-23T02:00:00Z")],
        left_out: BTreeMap::from([(name("acme"), "its documents have errors".to_owned())]),
        diagnostics: vec![
            Finding::info("plan/not-acting-yet", "stored, and without effect in keywheel 0.1.0: waivers (1)"),
            Finding::error("key/not-found", "aws_kms has no key alias/x").help("check the region"),
        ],
        refusals: vec![Refusal {
            code: "limits/max-rotations".to_owned(),
            message: "5000 rotations in all, and max_rotations allows 200".to_owned(),
            help: "raise limits.max_rotations, or name this plan: --override-limits DIGEST --reason TEXT".to_owned(),
            place: Some(Place { file: "keywheel.yaml".into(), line: 4, column: 26, length: 3 }),
        }],
        ..empty()
    };
    insta::assert_snapshot!(drawn(&plan, PLAIN), @"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

      ↻ rotate

    Due work (1)

      ↻ healthcare-org-123/a  due since 2026-11-23T02:00:00Z

    Findings (2)

    note[plan/not-acting-yet]: stored, and without effect in keywheel 0.1.0: waivers (1)

    error[key/not-found]: aws_kms has no key alias/x
    help: check the region

    1 error and 1 note

    Left out: 1 tenant

      !  acme: nothing of it was planned
         its documents have errors

    REFUSED: this plan cannot be applied as it stands

      error[limits/max-rotations]: 5000 rotations in all, and max_rotations allows 200
        --> keywheel.yaml:4:26
        help: raise limits.max_rotations, or name this plan: --override-limits
        sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0 --reason TEXT

    Plan: 1 to rotate.
    ");
}

#[test]
fn a_narrow_terminal_wraps_sentences_and_long_values() {
    let mut plan = updates();
    plan.changes.push(change(
        key("patient-data-encryption-key"),
        Action::Rotate,
        "overdue by 3 days: its slot of 2026-11-20T02:00:00Z was missed, this serves the one of 2026-11-23T02:00:00Z",
    ));
    let text = drawn(&plan, View { width: Some(60), full: false });
    assert!(text.lines().all(|line| columns(line) <= 60), "{text}");
    insta::assert_snapshot!(text, @"
    Plan as of 2026-11-23T05:20:00Z, commit 0123456789ab

      ~ change   ↻ rotate

    Policy changes (1)

      ~ RotationPolicy healthcare-org-123/Quarterly  update
         90 to 30 days; 41 keys become due now
           max_usage_count         (none) -> 1000000
           rotation_interval_days  90 -> 30
           compliance_tags
               HIPAA
             - SOC2
             + PCI-DSS
           description
             - Rotate keys
             + Rotate every key that protects records of
             + patients, often enough for everyone

    Due work (1)

      ↻ healthcare-org-123/patient-data-encryption-key
          overdue by 3 days: its slot of 2026-11-20T02:00:00Z
          was missed, this serves the one of
          2026-11-23T02:00:00Z

    Plan: 1 to update, 1 to rotate.
    ");
}

#[test]
fn a_document_cannot_draw_over_the_plan() {
    let mut plan = updates();
    plan.changes[0].after = fields(json!({"description": "\u{1b}[2K\u{1b}[1ANo changes.\u{202e}"}));
    plan.changes[0].reason.message = "\u{1b}]0;owned\u{7}".to_owned();
    for view in [PLAIN, View { full: true, ..PLAIN }] {
        let text = drawn(&plan, view);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
    }
}

/// The text without colours. Escapes that keywheel did not make stay in it.
fn drawn(plan: &Plan, view: View) -> String {
    let mut text = draw(plan, view);
    for code in ["0", "1", "2", "30", "31", "32", "33", "34", "35", "36"] {
        text = text.replace(&format!("\u{1b}[{code}m"), "");
    }
    if plan.diagnostics.is_empty() { text } else { anstream::adapter::strip_str(&text).to_string() }
}

fn as_of() -> Timestamp {
    "2026-11-23T05:20:00Z".parse().unwrap()
}

fn empty() -> Plan {
    Plan {
        as_of: as_of(),
        tz_version: "2025b".to_owned(),
        sources: Sources { commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()), ..Sources::default() },
        lineage: None,
        digest: DIGEST.to_owned(),
        changes: Vec::new(),
        waiting: Vec::new(),
        drift: Vec::new(),
        refusals: Vec::new(),
        left_out: BTreeMap::new(),
        diagnostics: Vec::new(),
        not_applicable: None,
        base: None,
        consequences: Vec::new(),
        needs: Vec::new(),
    }
}

fn updates() -> Plan {
    Plan {
        changes: vec![Change {
            before: fields(json!({
                "compliance_tags": ["HIPAA", "SOC2"], "description": "Rotate keys", "rotation_interval_days": 90,
                "max_usage_count": null
            })),
            after: fields(json!({
                "compliance_tags": ["HIPAA", "PCI-DSS"], "rotation_interval_days": 30, "max_usage_count": 1_000_000,
                "description": "Rotate every key that protects records of patients, often enough for everyone"
            })),
            ..change(policy("Quarterly"), Action::Update, "90 to 30 days; 41 keys become due now")
        }],
        ..empty()
    }
}

fn change(object: ObjectRef, action: Action, why: &str) -> Change {
    Change::new(object, action, Reason::new("test", why), Precondition::default())
}

fn create(object: ObjectRef, why: &str, after: Value) -> Change {
    Change { after: fields(after), ..change(object, Action::Create, why) }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a change has")]
fn fields(value: Value) -> Option<Map<String, Value>> {
    let Value::Object(fields) = value else { panic!("{value} is no object") };
    Some(fields)
}

fn policy(policy: &str) -> ObjectRef {
    ObjectRef::policy(&Address::new(name("healthcare-org-123"), name(policy)))
}

fn key(key: &str) -> ObjectRef {
    ObjectRef::key(&Address::new(name("healthcare-org-123"), name(key)))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
