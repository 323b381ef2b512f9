//! A saved plan is an approval: it is applied once, in time, to what it was made for, and as it was reviewed.

use serde_json::{Value, json};

use super::{NIGHTLY, NOON, Sandbox, with_keys};

const OUT: &[&str] = &["plan", "--out", "plan.json"];
const APPLY: &[&str] = &["apply", "plan.json"];

/// A repository that was applied at noon, whose commit with another key has a saved plan.
fn reviewed() -> Sandbox {
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.commit(&with_keys(1));
    sandbox.at("2026-03-01 13:00:00", OUT).exits(0);
    sandbox
}

/// Fails unless the plan is refused as stale for a reason that has this text, and leaves every file of the state.
fn stale(sandbox: &Sandbox, instant: &str, code: &str, reason: &str) {
    let before = sandbox.state();
    let refused = sandbox.at(instant, APPLY).exits(4).error(code);
    assert!(refused.stderr.contains(reason), "no {reason:?} in\n{}", refused.stderr);
    assert!(sandbox.state() == before, "{reason}: the state was changed");
}

#[test]
fn it_is_applied_as_it_was_saved_and_once() {
    let sandbox = reviewed();
    // In the night more is due: that is left for the next plan.
    sandbox.at("2026-03-02 02:00:10", APPLY).exits(0);
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM rotations WHERE workflow = 'rotate'"), [json!({"n": 0})]);
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM encryption_keys"), [json!({"n": 2})]);
    stale(&sandbox, "2026-03-02 02:01:00", "plan/spent", "applied already");
}

#[test]
fn it_survives_a_merge_that_leaves_its_documents() {
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.git(&["checkout", "-qb", "more-keys"]);
    sandbox.commit(&with_keys(1));
    sandbox.at(NOON, OUT).exits(0);
    sandbox.git(&["checkout", "-q", "main"]);
    sandbox.git(&["merge", "-q", "--squash", "more-keys"]);
    sandbox.commit_all("squashed");
    sandbox.at("2026-03-01 13:00:00", APPLY).exits(0);
}

#[test]
fn it_is_stale_when_the_documents_changed() {
    let sandbox = reviewed();
    sandbox.commit(&with_keys(2));
    stale(&sandbox, "2026-03-01 13:10:00", "plan/stale", "other documents");
}

#[test]
fn it_is_stale_when_keywheel_yaml_changed() {
    let sandbox = reviewed();
    sandbox.write("keywheel.yaml", "apiVersion: keywheel/v1\nkind: Config\nlimits: {max_rotations: 1}\n");
    sandbox.commit_all("fewer");
    stale(&sandbox, "2026-03-01 13:10:00", "plan/stale", "keywheel.yaml");
}

#[test]
fn it_is_foreign_to_another_database() {
    let sandbox = reviewed();
    std::fs::rename(sandbox.dir().join(".keywheel"), sandbox.dir().join("../elsewhere")).unwrap();
    sandbox.at("2026-03-01 13:05:00", &["apply", "--auto-approve"]).exits(0);
    stale(&sandbox, "2026-03-01 13:10:00", "plan/stale", "another state database");
}

#[test]
fn it_expires() {
    let sandbox = reviewed();
    stale(&sandbox, "2026-03-09 13:00:00", "plan/stale", "expired");
}

#[test]
fn it_says_which_of_its_changes_moved() {
    let sandbox = Sandbox::with("", &with_keys(1));
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox.at("2026-03-02 02:00:10", OUT).exits(0);
    let rotate = ["rotate", "acme/patients", "--reason", "a leaving engineer", "--auto-approve"];
    sandbox.at("2026-03-02 02:00:20", &rotate).exits(0);
    let applied = sandbox.at("2026-03-02 02:00:30", &["apply", "plan.json", "--format", "json"]).exits(4).report();
    assert_eq!(applied["stale"][0]["object"]["name"], "patients", "{applied:#}");
    assert_eq!(applied["done"], json!({"rotate": 1}), "the other key is rotated");
}

#[test]
fn one_that_was_made_for_reading_is_not_applied() {
    for option in [["--as-of", "2026-03-05"], ["--refresh", "false"]] {
        let sandbox = reviewed();
        let option = option.join("=");
        sandbox.at("2026-03-01 13:00:00", &[OUT, &[&option]].concat()).exits(0);
        stale(&sandbox, "2026-03-01 13:10:00", "plan/stale", "can only be read");
    }
}

#[test]
fn one_that_was_altered_is_not_applied() {
    let sandbox = reviewed();
    let reviewed = sandbox.read("plan.json");
    let edits: &[fn(&mut Value)] = &[
        |plan| plan["changes"][0]["object"]["name"] = json!("patients"),
        |plan| plan["changes"][0]["action"] = json!("forget"),
        |plan| plan["changes"].as_array_mut().unwrap().clear(),
        |plan| plan["sources"]["policies_tree"] = json!("0000000000000000000000000000000000000000"),
        |plan| plan["lineage"] = json!(null),
        |plan| plan["digest"] = json!("sha256:0"),
        |plan| plan["format_version"] = json!("2.0"),
        |plan| plan["expires_at"] = json!("2030-01-01T00:00:00Z"),
        |plan| plan["not_applicable"] = json!("in a hurry"),
        |plan| plan["changes"][0]["reason"]["message"] = json!("comment only, reviewed by security"),
        |plan| plan["summary"] = json!({}),
    ];
    for edit in edits {
        let mut plan: Value = serde_json::from_str(&reviewed).unwrap();
        edit(&mut plan);
        sandbox.write("plan.json", &plan.to_string());
        stale(&sandbox, "2026-03-01 13:10:00", "plan/file", "plan.json");
    }
    sandbox.write("plan.json", reviewed.get(..reviewed.len() / 2).unwrap());
    stale(&sandbox, "2026-03-01 13:10:00", "plan/file", "not a saved plan");
}

#[test]
fn what_happened_to_be_planned_twice_has_the_same_bytes() {
    let sandbox = reviewed();
    let first = sandbox.read("plan.json");
    sandbox.at("2026-03-01 13:00:00", OUT).exits(0);
    let same_instant = |text: &str| {
        let mut plan: Value = serde_json::from_str(text).unwrap();
        for field in ["as_of", "document_digest", "expires_at"] {
            plan[field] = Value::Null;
        }
        plan.to_string()
    };
    assert_eq!(same_instant(&sandbox.read("plan.json")), same_instant(&first));
    let as_of = ["plan", "--as-of", "2026-03-05T00:00:00Z", "--format", "json"];
    assert_eq!(sandbox.keywheel(&as_of).exits(0).stdout, sandbox.keywheel(&as_of).exits(0).stdout);
}
