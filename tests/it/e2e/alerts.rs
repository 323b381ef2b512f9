//! Alerts: what `status` and `plan` tell a person to look at.

use std::sync::atomic::Ordering;

use serde_json::Value;

use super::providers::documents;
use super::{Moto, NIGHTLY, NOON, Sandbox, aws_sandbox};
use crate::support::hostile::{Hostile, Reply};

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// Beside the nightly key: one that a person rotates, one that ends soon and one that nothing rotates.
const MORE: &str = "---
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: By hand
key_type: phi_data
rotation_trigger: manual
---
{apiVersion: keywheel/v1, kind: EncryptionKey, tenant_id: acme, key_name: cards, key_type: phi_data, rotation_policy: By hand}
---
{apiVersion: keywheel/v1, kind: EncryptionKey, tenant_id: acme, key_name: archive, key_type: phi_data, expires_at: \"2026-03-20\"}
---
{apiVersion: keywheel/v1, kind: EncryptionKey, tenant_id: acme, key_name: nobodys, key_type: phi_data}
";

fn codes(document: &Value, field: &str) -> Vec<(String, String)> {
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let findings = document[field].as_array().unwrap().iter();
    let found = findings.map(|finding| (text(finding, "code"), text(&finding["object"], "name")));
    found.filter(|(code, _)| code.starts_with("alert/")).collect()
}

fn named(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(code, name)| ((*code).to_owned(), (*name).to_owned())).collect()
}

#[test]
fn status_and_plan_tell_what_a_person_should_look_at_and_neither_fails_for_it() {
    let sandbox = Sandbox::with("", &format!("{NIGHTLY}{MORE}"));
    sandbox.at(NOON, APPLY).exits(0);
    for day in 2..8 {
        let instant = format!("2026-03-{day:02} 12:00:00");
        sandbox.at(&instant, &["rotate", "acme/cards", "--reason", "a habit", "--auto-approve"]).exits(0);
    }
    sandbox.at("2026-03-08 02:00:00", APPLY).exits(0);
    // When everybody has gone home.
    sandbox.at("2026-03-08 02:30:00", &["rotate", "acme/cards", "--reason", "a guest", "--auto-approve"]).exits(0);

    // Two slots later.
    let later = "2026-03-10 02:10:00";
    let status = sandbox.at(later, &["status", "--format", "json"]).exits(0).json();
    let overdue = ("alert/overdue", "patients");
    let unusual = ("alert/unusual-hour", "cards");
    let archive = ("alert/expires-without-policy", "archive");
    let nobodys = ("alert/key-without-policy", "nobodys");
    assert_eq!(codes(&status, "findings"), named(&[archive, nobodys, overdue, unusual]));
    let text = sandbox.at(later, &["status"]).exits(0).stdout;
    assert!(text.contains("! acme/archive ends on 2026-03-20, in 10 days, and no active policy rotates it"), "{text}");

    // What the check of the documents says already is not said again.
    let plan = sandbox.at(later, &["plan", "--format", "json"]).exits(0).json();
    assert_eq!(codes(&plan, "diagnostics"), named(&[archive, overdue, unusual]));
    let place = plan["diagnostics"].as_array().unwrap().iter().find(|it| it["code"] == "alert/overdue").unwrap();
    assert_eq!(place["place"]["file"], "policies/acme/keys.yaml");

    // A filter asks for fewer keys, and gets fewer alerts.
    let status = sandbox.at(later, &["status", "--policy", "Nightly", "--format", "json"]).exits(0).json();
    assert_eq!(codes(&status, "findings"), named(&[overdue]));
    // What was done is over.
    sandbox.at(later, APPLY).exits(0);
    let status = sandbox.at(later, &["status", "--policy", "Nightly", "--format", "json"]).exits(0).json();
    assert_eq!(codes(&status, "findings"), []);
}

#[test]
fn what_waits_for_a_person_and_what_is_unlike_a_keys_past_is_told() {
    let idle = "---\napiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Idle\nkey_type: phi_data\n\
                rotation_interval_days: 9\n";
    let parked = NIGHTLY.split_once("---").unwrap().1.replace("patients", "lives");
    let sandbox =
        Sandbox::with("", &format!("{NIGHTLY}---{parked}{}{idle}", MORE.replace(", expires_at: \"2026-03-20\"", "")));
    sandbox.at(NOON, APPLY).exits(0);
    let by_hand = |at: &str, command: &str, key: &str| {
        sandbox.at(at, &[command, &format!("acme/{key}"), "--reason", "a person", "--auto-approve"]).exits(0);
    };
    by_hand("2026-03-01 13:00:00", "park", "lives");
    sandbox.at("2026-03-02 02:00:10", APPLY).exits(0);
    by_hand("2026-03-02 11:00:00", "rollback", "patients");
    for day in 2..8 {
        by_hand(&format!("2026-03-{day:02} 12:00:00"), "rotate", "cards");
    }
    by_hand("2026-03-07 13:00:00", "rotate", "cards");
    let told = |at: &str| {
        let of_status = codes(&sandbox.at(at, &["status", "--format", "json"]).exits(0).json(), "findings");
        let of_plan = codes(&sandbox.at(at, &["plan", "--format", "json"]).exits(0).json(), "diagnostics");
        // These the check of the documents says already.
        let by_documents = ["alert/policy-without-keys", "alert/key-without-policy"];
        let rest: Vec<_> =
            of_status.iter().filter(|(code, _)| !by_documents.contains(&code.as_str())).cloned().collect();
        assert_eq!(of_plan, rest, "{at}");
        of_status
    };
    let held = ("alert/held", "patients");
    let (one, other) = (("alert/key-without-policy", "archive"), ("alert/key-without-policy", "nobodys"));
    let parked = ("alert/parked", "lives");
    let idle = ("alert/policy-without-keys", "Idle");
    let often = ("alert/unusual-frequency", "cards");
    assert_eq!(told("2026-03-07 14:00:00"), named(&[held, one, other, parked, idle, often]));
    // Two days and more after the last of a daily habit.
    let late = ("alert/unusual-delay", "cards");
    assert_eq!(told("2026-03-09 12:59:00"), named(&[held, one, other, parked, idle, often]));
    assert_eq!(told("2026-03-09 13:01:00"), named(&[held, one, other, parked, idle, late, often]));
    // What a person has seen to is over.
    by_hand("2026-03-09 14:00:00", "release", "patients");
    by_hand("2026-03-09 14:00:00", "resume", "lives");
    sandbox.at("2026-03-09 14:00:00", APPLY).exits(0);
    by_hand("2026-03-09 14:00:00", "rotate", "cards");
    assert_eq!(told("2026-03-09 14:30:00"), named(&[one, other, idle]));
}

#[test]
fn a_rotation_that_failed_is_told_with_why_until_it_is_done() {
    let moto = Moto::start_at(NOON);
    let (proxy, broken) = Hostile::that_breaks("Encrypt", Reply::error(400, "AccessDeniedException"), moto.endpoint());
    let sandbox = aws_sandbox(proxy.endpoint());
    sandbox.commit(&documents(1));
    sandbox.at(NOON, APPLY).exits(0);
    broken.store(true, Ordering::SeqCst);
    sandbox.at("2026-03-02 02:00:10", APPLY).exits(7);
    let later = "2026-03-02 03:00:00";
    let failed = named(&[("alert/rotation-failed", "key-0")]);
    let status = sandbox.at(later, &["status", "--format", "json"]).exits(0).json();
    assert_eq!(codes(&status, "findings"), failed);
    let told = status["findings"].as_array().unwrap().iter().find(|it| it["code"] == "alert/rotation-failed").unwrap();
    assert!(told["message"].as_str().unwrap().contains("AccessDenied"), "{told:#}");
    let plan = sandbox.at(later, &["plan", "--format", "json"]).ends().json();
    assert_eq!(codes(&plan, "diagnostics"), failed);
    broken.store(false, Ordering::SeqCst);
    sandbox.at("2026-03-02 09:00:00", APPLY).exits(0);
    let status = sandbox.at("2026-03-02 09:01:00", &["status", "--format", "json"]).exits(0).json();
    assert_eq!(codes(&status, "findings"), []);
}
