//! What an edit in git does: a policy is suspended, woken, renamed, changed, removed; a key is forgotten.

use serde_json::{Value, json};

use super::{NIGHTLY, NOON, Sandbox, actions, with_keys};

/// A repository that was applied at noon.
fn applied(documents: &str) -> Sandbox {
    let sandbox = Sandbox::with("", documents);
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    sandbox
}

fn plan(sandbox: &Sandbox, instant: &str) -> Value {
    sandbox.at(instant, &["plan", "--format", "json"]).exits(0).json()
}

fn apply(sandbox: &Sandbox, instant: &str) -> Value {
    sandbox.at(instant, &["apply", "--auto-approve", "--format", "json"]).exits(0).report()
}

#[test]
fn a_suspended_policy_starts_nothing_until_it_is_active_again() {
    let sandbox = applied(NIGHTLY);
    sandbox.commit(
        &NIGHTLY.replace("key_type: phi_data\nrotation_i", "key_type: phi_data\nstatus: suspended\nrotation_i"),
    );
    assert_eq!(actions(&plan(&sandbox, "2026-03-01 13:00:00")), ["suspend Nightly"]);
    apply(&sandbox, "2026-03-01 13:00:10");

    let night = plan(&sandbox, "2026-03-02 02:00:10");
    assert_eq!(actions(&night), [""; 0]);
    assert_eq!(night["waiting"][0]["object"]["name"], "patients");
    assert_eq!(night["waiting"][0]["reason"]["code"], "suspended", "{night:#}");
    apply(&sandbox, "2026-03-02 02:00:20");
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM key_versions"), [json!({"n": 1})]);

    sandbox.commit(NIGHTLY);
    assert_eq!(actions(&plan(&sandbox, "2026-03-02 03:00:00")), ["reactivate Nightly", "rotate patients"]);
    apply(&sandbox, "2026-03-02 03:00:10");
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM key_versions"), [json!({"n": 2})]);
    assert_eq!(actions(&plan(&sandbox, "2026-03-02 03:00:20")), [""; 0]);
}

#[test]
fn a_renamed_policy_keeps_its_identity_its_keys_and_their_history() {
    let sandbox = applied(NIGHTLY);
    apply(&sandbox, "2026-03-02 02:00:10");
    let identity = || sandbox.sql("SELECT id FROM key_rotation_policies WHERE removed_at IS NULL");
    let before = identity();

    let renamed = NIGHTLY
        .replace("policy_name: Nightly", "policy_name: Each night\nprevious_name: Nightly")
        .replace("rotation_policy: Nightly", "rotation_policy: Each night");
    sandbox.commit(&renamed);
    let planned = actions(&plan(&sandbox, "2026-03-02 12:00:00"));
    assert!(planned.contains(&"rename Each night".to_owned()), "{planned:?}");
    assert!(planned.iter().all(|change| !change.starts_with("rotate") && !change.starts_with("create")), "{planned:?}");
    apply(&sandbox, "2026-03-02 12:00:10");

    assert_eq!(identity(), before);
    let history = sandbox.at("2026-03-02 12:01:00", &["history", "--key", "acme/patients", "--format", "json"]);
    let history = history.exits(0).json();
    let causes: Vec<&str> =
        history["rotations"].as_array().unwrap().iter().map(|r| r["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["due", "created"]);
    assert_eq!(actions(&plan(&sandbox, "2026-03-02 12:02:00")), [""; 0]);
    assert_eq!(actions(&plan(&sandbox, "2026-03-03 02:00:10")), ["rotate patients"]);
}

#[test]
fn a_shorter_interval_says_how_many_keys_become_due() {
    let quarterly = with_keys(3).replace("rotation_interval_days: 1", "rotation_interval_days: 90");
    let sandbox = applied(&quarterly);
    assert_eq!(actions(&plan(&sandbox, "2026-04-15 12:00:00")), [""; 0]);

    sandbox.commit(&quarterly.replace("rotation_interval_days: 90", "rotation_interval_days: 30"));
    let planned = plan(&sandbox, "2026-04-15 12:00:00");
    let policy = &planned["changes"][0];
    assert_eq!(
        (&policy["before"], &policy["after"]),
        (&json!({"rotation_interval_days": 90}), &json!({"rotation_interval_days": 30}))
    );
    let reason = policy["reason"]["message"].as_str().unwrap();
    assert!(reason.contains("4 keys"), "{reason}");
    assert_eq!(planned["summary"]["rotate"], 4);
    assert_eq!(apply(&sandbox, "2026-04-15 12:00:10")["policies"][0]["rotated_keys"], 4);
}

#[test]
fn a_removed_policy_leaves_its_keys_and_what_they_encrypted() {
    let sandbox = applied(NIGHTLY);
    let sealed = sandbox.at("2026-03-01 12:10:00", &["data", "encrypt", "acme/patients"]).input(b"a patient").exits(0);
    let (_, key) = NIGHTLY.split_once("---").unwrap();
    sandbox.commit(&key.replace("rotation_policy: Nightly\n", ""));
    assert_eq!(actions(&plan(&sandbox, "2026-03-01 13:00:00")), ["unlink patients", "remove Nightly"]);
    apply(&sandbox, "2026-03-01 13:00:10");

    assert_eq!(actions(&plan(&sandbox, "2026-03-09 13:00:00")), [""; 0], "without a policy nothing is ever due");
    let opened = sandbox.at("2026-03-09 13:00:00", &["data", "decrypt"]).input(sealed.stdout.as_bytes()).exits(0);
    assert_eq!(opened.stdout, "a patient");
    let key = sandbox.sql("SELECT state, rotation_policy_id FROM encryption_keys");
    assert_eq!(key, [json!({"state": "active", "rotation_policy_id": null})]);
    let policy = sandbox.sql("SELECT removed_at FROM key_rotation_policies");
    assert_eq!(policy[0]["removed_at"].as_str().unwrap().get(..16), Some("2026-03-01T13:00"), "a row is kept");
}

#[test]
fn a_forgotten_key_stays_at_its_provider_and_its_row_is_kept() {
    let sandbox = applied(&with_keys(1));
    let keystore = sandbox.state()[std::ffi::OsStr::new("keystore")].clone();
    sandbox.commit(NIGHTLY);
    assert_eq!(actions(&plan(&sandbox, "2026-03-01 13:00:00")), ["forget key-000"]);
    apply(&sandbox, "2026-03-01 13:00:10");
    assert_eq!(sandbox.state()[std::ffi::OsStr::new("keystore")], keystore, "nothing happens to the key itself");
    let rows = sandbox.sql("SELECT key_name, state, removed_at IS NULL AS live FROM encryption_keys ORDER BY key_name");
    let expected = [("key-000", "forgotten", 0), ("patients", "active", 1)];
    assert_eq!(rows, expected.map(|(name, state, live)| json!({"key_name": name, "state": state, "live": live})));
    assert_eq!(actions(&plan(&sandbox, "2026-03-01 14:00:00")), [""; 0]);
}

#[test]
fn explain_tells_a_key_s_past_and_what_would_stop_it_now() {
    let sandbox =
        Sandbox::with("", &NIGHTLY.replace("rotation_time_of_day", "timezone: Europe/Berlin\nrotation_time_of_day"));
    sandbox.at(NOON, &["apply", "--auto-approve"]).exits(0);
    let rotate = ["rotate", "acme/patients", "--reason", "an audit asks for it", "--auto-approve"];
    sandbox.at("2026-03-01 12:05:00", &rotate).exits(0);
    let explain = || {
        sandbox.at("2026-03-01 12:06:00", &["explain", "acme/patients", "--format", "json"]).exits(0).json()["objects"]
            [0]
        .clone()
    };
    let found = explain();
    let states: Vec<&str> =
        found["versions"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "deactivated"]);
    let workflows: Vec<&str> =
        found["rotations"].as_array().unwrap().iter().map(|it| it["workflow"].as_str().unwrap()).collect();
    assert_eq!(workflows, ["rotate", "create"]);
    assert_eq!(found["rotations"][0]["reason"], "an audit asks for it");
    assert_eq!(found["upcoming"].as_array().map(Vec::len), Some(10));
    // Daylight saving begins on 29 March.
    let zones: Vec<&str> =
        found["upcoming"].as_array().unwrap().iter().map(|it| it["zone"].as_str().unwrap()).collect();
    assert!(zones.iter().all(|zone| *zone == "CET"), "{zones:?}");
    assert_eq!(found["obstacles"], serde_json::json!([]));

    sandbox.write("policies/acme/keys.yaml", &(NIGHTLY.to_owned() + "rotation_polcy: Nightly\n"));
    let found = explain();
    let codes: Vec<&str> =
        found["obstacles"].as_array().unwrap().iter().map(|it| it["reason"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["documents", "uncommitted"]);
    assert!(found["fields"].as_array().unwrap().iter().all(|field| field["origin"] == "record"), "{found:#}");
}
