//! What a person does to one key: roll a rotation back, release, park, resume, and the emergency lane.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::providers::documents;
use super::{Kms, Moto, NIGHTLY, NOON, Sandbox, actions, aws_sandbox};
use crate::support::hostile::{Hostile, Reply};

const APPLY: &[&str] = &["apply", "--auto-approve"];
const NIGHT: &str = "2026-03-02 02:00:10";
const NEXT_NIGHT: &str = "2026-03-03 02:00:10";

/// A command about the one key, with a reason.
fn by_hand(command: &'static str) -> [&'static str; 5] {
    [command, "acme/patients", "--reason", "an old client breaks", "--auto-approve"]
}

/// A repository whose one key of the keystore was made at noon and rotated in the night.
fn rotated(documents: &str) -> Sandbox {
    let sandbox = Sandbox::with("", documents);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at(NIGHT, APPLY).exits(0);
    sandbox
}

fn versions(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.sql("SELECT number, state FROM key_versions ORDER BY number")
}

#[test]
fn a_rollback_leads_back_and_holds_the_key_until_it_is_released() {
    let sandbox = rotated(NIGHTLY);
    let seal = |at| sandbox.at(at, &["data", "encrypt", "acme/patients"]).input(b"a patient").exits(0).stdout;
    let under_second = seal("2026-03-02 10:00:00");
    let rollback = sandbox.at("2026-03-02 11:00:00", &by_hand("rollback")).exits(0);
    assert!(rollback.stdout.contains("↺ acme/patients  an old client breaks"), "{}", rollback.stdout);
    assert_eq!(
        versions(&sandbox),
        [json!({"number": 1, "state": "active"}), json!({"number": 2, "state": "deactivated"})]
    );
    let under_first = seal("2026-03-02 11:01:00");
    let open = |sealed: &str| {
        let opened = sandbox.at("2026-03-02 11:02:00", &["data", "decrypt"]).input(sealed.as_bytes()).exits(0);
        assert_eq!(opened.stdout, "a patient");
    };
    open(&under_first);
    open(&under_second);
    // The newer version has its own retention from now on.
    let retained = sandbox.sql("SELECT number FROM key_versions WHERE retention IS NOT NULL");
    assert_eq!(retained, [json!({"number": 2})]);

    // Due, and held.
    let plan = sandbox.at(NEXT_NIGHT, &["plan", "--format", "json"]).exits(0).json();
    assert_eq!((actions(&plan), &plan["waiting"][0]["reason"]["code"]), (Vec::new(), &json!("held")), "{plan:#}");
    sandbox.at(NEXT_NIGHT, APPLY).exits(0);
    sandbox.at(NEXT_NIGHT, &by_hand("rotate")).exits(3).error("manual/state");
    sandbox.at(NEXT_NIGHT, &by_hand("rollback")).exits(3).error("manual/state");
    sandbox.at(NEXT_NIGHT, &by_hand("release")).exits(0);
    sandbox.at(NEXT_NIGHT, APPLY).exits(0);
    assert_eq!(versions(&sandbox)[2], json!({"number": 3, "state": "active"}));
    open(&under_first);
    open(&under_second);
    let history = sandbox.at(NEXT_NIGHT, &["history", "--format", "json"]).exits(0).json();
    let workflows: Vec<&Value> =
        history["rotations"].as_array().unwrap().iter().map(|entry| &entry["workflow"]).collect();
    assert_eq!(workflows, ["rotate", "rollback", "rotate", "create"]);
    let said = sandbox.sql("SELECT action FROM audit_log WHERE action IN ('key.rolled_back', 'key.released')");
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn a_rollback_that_is_not_possible_says_why_and_changes_nothing() {
    let refused = |sandbox: &Sandbox, at: &str, code: &str, message: &str| {
        let before = versions(sandbox);
        let run = sandbox.at(at, &by_hand("rollback")).exits(3).error(code);
        assert!(run.stderr.contains(message), "no {message:?} in {}", run.stderr);
        assert_eq!(versions(sandbox), before);
    };
    let sandbox = rotated(NIGHTLY);
    refused(&sandbox, "2026-03-03 03:00:00", "rollback/closed", "closed at 2026-03-03T02:00:1");
    let unwilling = rotated(
        &NIGHTLY.replace("key_type: phi_data\nrotation_i", "key_type: phi_data\nenable_rollback: false\nrotation_i"),
    );
    refused(&unwilling, "2026-03-02 03:00:00", "rollback/disabled", "enable_rollback");
    let fresh = Sandbox::with("", NIGHTLY);
    fresh.at(NOON, APPLY).exits(0);
    refused(&fresh, "2026-03-01 12:10:00", "rollback/nothing", "no rotation");
    let sandbox = rotated(NIGHTLY);
    sandbox.at("2026-03-02 03:00:00", &by_hand("rollback")).exits(0);
    sandbox.at("2026-03-02 03:01:00", &by_hand("release")).exits(0);
    refused(&sandbox, "2026-03-02 03:02:00", "rollback/done", "rolled back already");
    let sandbox = rotated(NIGHTLY);
    let emergency =
        ["rotate", "acme/patients", "--compromised", "--incident", "INC-1", "--reason", "a leak", "--auto-approve"];
    sandbox.at("2026-03-02 03:00:00", &emergency).exits(0);
    refused(&sandbox, "2026-03-02 03:01:00", "rollback/compromised", "marked compromised");
}

#[test]
fn at_aws_a_rollback_re_points_the_alias_even_away_from_a_key_that_is_broken() {
    let moto = Moto::start();
    let kms = Kms::new(moto.endpoint());
    let sandbox = aws_sandbox(moto.endpoint());
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).exits(0);
    let (old_data, first) = kms.encrypt("alias/key-0", "old");
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);
    let (new_data, second) = kms.encrypt("alias/key-0", "new");
    let second = kms.describe(&second)["KeyId"].clone();
    kms.call("DisableKey", &json!({"KeyId": second}));
    sandbox.keywheel(&["rollback", "acme/key-0", "--reason", "it was disabled", "--auto-approve"]).exits(0);
    assert_eq!(kms.describe("alias/key-0")["Arn"], json!(first));
    kms.call("EnableKey", &json!({"KeyId": second}));
    assert_eq!((kms.decrypt(&old_data), kms.decrypt(&new_data)), ("old".to_owned(), "new".to_owned()));
    assert_eq!(kms.keys().len(), 2, "a rollback makes no key");
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_compromised_key_rotates_at_once_whatever_holds_it() {
    let freeze = "apiVersion: keywheel/v1
kind: Freeze
name: closing
from: \"2026-03-01T00:00:00\"
until: \"2026-03-31T00:00:00\"
reason: the books are closed
";
    let sandbox = rotated(NIGHTLY);
    sandbox.at("2026-03-02 03:00:00", &by_hand("rollback")).exits(0);
    sandbox.write("policies/freezes.yaml", freeze);
    sandbox.commit(
        &NIGHTLY.replace("key_type: phi_data\nrotation_i", "key_type: phi_data\nstatus: suspended\nrotation_i"),
    );
    sandbox.at("2026-03-02 03:05:00", APPLY).exits(0);
    let emergency =
        ["rotate", "acme/patients", "--compromised", "--incident", "INC-1", "--reason", "a leak", "--auto-approve"];
    let run = sandbox.at("2026-03-02 03:10:00", &emergency).exits(0);
    assert!(
        run.stdout.contains("version 1 is marked compromised") && run.stdout.contains("still decrypts"),
        "{}",
        run.stdout
    );
    let found = sandbox
        .sql("SELECT number, state, compromised_at IS NOT NULL AS compromised FROM key_versions ORDER BY number");
    assert_eq!(
        found,
        [
            json!({"number": 1, "state": "deactivated", "compromised": 1}),
            json!({"number": 2, "state": "deactivated", "compromised": 0}),
            json!({"number": 3, "state": "active", "compromised": 0}),
        ]
    );
    let cause = sandbox.sql("SELECT cause, reason FROM rotations ORDER BY started_at DESC LIMIT 1");
    assert_eq!(cause[0]["cause"], "compromised");
    assert!(cause[0]["reason"].as_str().unwrap().contains("INC-1"));
    // It is no way around the incident's name.
    sandbox.keywheel(&["rotate", "acme/patients", "--compromised", "--reason", "a leak"]).exits(1);
}

#[test]
fn a_parked_key_does_not_rotate_until_it_is_resumed() {
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at(NOON, &by_hand("park")).exits(0);
    let plan = sandbox.at(NIGHT, &["plan", "--format", "json"]).exits(0).json();
    assert_eq!((actions(&plan), &plan["waiting"][0]["reason"]["code"]), (Vec::new(), &json!("parked")), "{plan:#}");
    assert!(plan["waiting"].to_string().contains("an old client breaks"), "{plan:#}");
    sandbox.at(NIGHT, APPLY).exits(0);
    sandbox.at(NIGHT, &by_hand("park")).exits(3).error("manual/state");
    sandbox.at(NIGHT, &by_hand("resume")).exits(0);
    sandbox.at(NIGHT, APPLY).exits(0);
    assert_eq!(versions(&sandbox).len(), 2);
}

#[test]
fn a_key_that_keeps_failing_is_tried_less_and_less_and_then_parked_and_a_fixed_one_at_once() {
    let moto = Moto::start();
    let (proxy, broken) = Hostile::that_breaks("Encrypt", Reply::error(400, "AccessDeniedException"), moto.endpoint());
    let sandbox = aws_sandbox(proxy.endpoint());
    sandbox.commit(&documents(1));
    sandbox.at(NOON, APPLY).exits(0);
    broken.store(true, Ordering::SeqCst);
    sandbox.at(NIGHT, &["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(7);
    let made = proxy.count("CreateKey");
    // The next run tries again; the one after that does not yet.
    sandbox.at("2026-03-02 02:01:00", APPLY).exits(7);
    let tries = proxy.count("Encrypt");
    let plan = sandbox.at("2026-03-02 02:02:00", &["plan", "--format", "json"]).exits(0).json();
    assert_eq!(plan["waiting"][0]["reason"]["code"], "retry_later", "{plan:#}");
    sandbox.at("2026-03-02 02:02:00", APPLY).exits(0);
    assert_eq!(proxy.count("Encrypt"), tries);
    // An edit of its policy is a reason to try at once.
    sandbox.commit(&documents(1).replace("rotation_interval_days: 1", "rotation_interval_days: 2"));
    sandbox.at("2026-03-02 02:03:00", APPLY).exits(7);
    assert!(proxy.count("Encrypt") > tries);
    for hour in ["03", "05", "08", "14"] {
        sandbox.at(&format!("2026-03-02 {hour}:00:00"), APPLY).exits(7);
    }
    sandbox.at("2026-03-03 03:00:00", APPLY).exits(7);
    let state = sandbox.sql("SELECT state, failures FROM encryption_keys");
    assert_eq!(state, [json!({"state": "parked", "failures": 8})]);
    let tries = proxy.count("Encrypt");
    sandbox.at("2026-03-09 03:00:00", APPLY).exits(0).says("is parked until");
    assert_eq!(proxy.count("Encrypt"), tries);

    broken.store(false, Ordering::SeqCst);
    sandbox.at("2026-03-09 04:00:00", &["resume", "acme/key-0", "--reason", "it may again", "--auto-approve"]).exits(0);
    sandbox.at("2026-03-09 04:01:00", APPLY).exits(0);
    assert_eq!(proxy.count("CreateKey"), made, "the version that was made is used");
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM rotations WHERE phase <> 'settled'"), [json!({"n": 0})]);
}
