//! Alerts: what `status` and `plan` tell a person to look at.

use serde_json::Value;

use super::{NIGHTLY, NOON, Sandbox};

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
