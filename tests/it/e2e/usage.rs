//! Keys that rotate because they were used too often, from the report to the rotation.

use serde_json::Value;

use super::{NOON, Sandbox, actions};

const APPLY: &[&str] = &["apply", "--auto-approve"];
const LATER: &str = "2026-03-01 13:00:00";

const BY_USAGE: &str = "
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: By usage
key_type: phi_data
rotation_trigger: usage_based
usage_threshold_warning: 900
max_usage_count: 1000
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: patients
key_type: phi_data
rotation_policy: By usage
";

fn report(sandbox: &Sandbox, instant: &str, source: &str, total: &str, more: &[&str]) -> Value {
    let arguments = ["usage", "report", "acme/patients", "--source", source, "--total", total, "--format", "json"];
    sandbox.at(instant, &[&arguments, more].concat()).exits(0).json()
}

fn plan(sandbox: &Sandbox, instant: &str) -> Value {
    sandbox.at(instant, &["plan", "--format", "json"]).exits(0).json()
}

fn codes(document: &Value, field: &str) -> Vec<String> {
    let of = |finding: &Value| finding["code"].as_str().unwrap_or_default().to_owned();
    document[field].as_array().unwrap().iter().map(of).filter(|code| !code.starts_with("set/")).collect()
}

#[test]
fn a_key_is_warned_of_then_rotated_once_its_sources_together_have_used_it_often_enough() {
    let sandbox = Sandbox::with("", BY_USAGE);
    sandbox.at(NOON, APPLY).exits(0);
    let said = report(&sandbox, NOON, "billing", "500", &[]);
    assert_eq!((&said["usage_count"], &said["version"], &said["is_primary"]), (&500.into(), &1.into(), &true.into()));
    assert_eq!(codes(&plan(&sandbox, NOON), "diagnostics"), [""; 0]);
    // Twice, late and out of order, and from another source.
    report(&sandbox, NOON, "billing", "500", &[]);
    report(&sandbox, NOON, "billing", "499", &[]);
    assert_eq!(report(&sandbox, NOON, "archive", "400", &[])["usage_count"], 900);
    let warned = plan(&sandbox, NOON);
    assert_eq!(codes(&warned, "diagnostics"), ["alert/usage"]);
    assert_eq!(actions(&warned), [""; 0]);
    let status = sandbox.at(NOON, &["status", "--format", "json"]).exits(0).json();
    assert_eq!(codes(&status, "findings"), ["alert/usage"]);
    assert_eq!(status["keys"][0]["primary_version"]["usage_count"], 900);

    report(&sandbox, NOON, "archive", "500", &[]);
    let due = plan(&sandbox, NOON);
    assert_eq!(actions(&due), ["rotate patients"]);
    assert_eq!(due["changes"][0]["reason"]["code"], "usage");
    assert_eq!(due["changes"][0]["reason"]["message"], "used 1000 times, and max_usage_count is 1000");
    let explained = sandbox.at(NOON, &["explain", "acme/patients"]).exits(0);
    assert!(explained.stdout.contains("used 1000 times, and max_usage_count is 1000"), "{}", explained.stdout);

    let applied = sandbox.at(LATER, APPLY).exits(0);
    assert!(applied.stdout.contains("rotated"), "{}", applied.stdout);
    assert_eq!(actions(&plan(&sandbox, LATER)), [""; 0], "a new version begins at nothing");
    let history = sandbox.at(LATER, &["history", "--format", "json"]).exits(0).json();
    assert_eq!(history["rotations"][0]["cause"], "usage");
    // What is counted of the old version makes nothing due.
    let old = report(&sandbox, LATER, "billing", "2000", &["--version-number", "1"]);
    assert_eq!((&old["is_primary"], &old["usage_count"]), (&false.into(), &2500.into()));
    assert_eq!(actions(&plan(&sandbox, LATER)), [""; 0]);
}

#[test]
fn usage_waits_for_the_minimum_gap_and_obeys_a_suspension() {
    let sandbox = Sandbox::with("", BY_USAGE);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at(NOON, &["rotate", "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
    report(&sandbox, NOON, "billing", "1000", &[]);
    let waits = plan(&sandbox, NOON);
    assert_eq!(actions(&waits), [""; 0]);
    assert_eq!(waits["waiting"][0]["reason"]["code"], "minimum_gap");
    let starts_at = waits["waiting"][0]["starts_at"].as_str().unwrap();
    assert!(starts_at.starts_with("2026-03-02T00:00:0"), "{starts_at}");
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.commit(&BY_USAGE.replace("usage_threshold_warning", "status: suspended\nusage_threshold_warning"));
    let later = "2026-03-02 00:00:30";
    let suspended = plan(&sandbox, later);
    assert_eq!(actions(&suspended), ["suspend By usage"]);
    assert_eq!(suspended["waiting"][0]["reason"]["code"], "suspended");
    sandbox.commit(BY_USAGE);
    sandbox.at(later, APPLY).exits(0);
    assert_eq!(sandbox.sql("SELECT max(number) AS newest FROM key_versions")[0]["newest"], 3);
}

#[test]
fn a_limit_under_a_schedule_counts_too_and_the_first_one_reached_wins() {
    let fields = "rotation_trigger: time_based\nrotation_interval_days: 30\n";
    let sandbox = Sandbox::with("", &BY_USAGE.replace("rotation_trigger: usage_based\n", fields));
    sandbox.at(NOON, APPLY).exits(0);
    report(&sandbox, NOON, "billing", "1000", &[]);
    let plan = plan(&sandbox, NOON);
    assert_eq!(plan["changes"][0]["reason"]["code"], "usage");
    let diagnostics = codes(&plan, "diagnostics");
    assert!(!diagnostics.iter().any(|code| code == "plan/not-acting-yet"), "{diagnostics:?}");
}

#[test]
fn a_report_of_what_is_not_there_is_refused_with_what_is() {
    let sandbox = Sandbox::with("", BY_USAGE);
    let report = |key: &str, more: &[&str]| {
        sandbox.at(NOON, &[&["usage", "report", key, "--source", "billing", "--total", "1"], more].concat())
    };
    report("acme/patients", &[]).exits(1).error("state/missing");
    sandbox.at(NOON, APPLY).exits(0);
    let said = report("acme/patient", &[]).exits(1).error("names/unknown");
    assert!(said.stderr.contains("did you mean \"acme/patients\"?"), "{}", said.stderr);
    report("acme/patients", &["--version-number", "7"]).exits(1).error("version/unknown");
    sandbox.at(NOON, &["usage", "report", "acme/patients", "--source", " ", "--total", "1"]).exits(1);
    sandbox.at(NOON, &["usage", "report", "acme/patients", "--source", "x", "--total", "-1"]).exits(1);
    assert_eq!(sandbox.sql("SELECT * FROM usage_counters"), [Value::Null; 0]);
}
