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

const EMERGENCY: &[&str] = &["rotate", "acme/patients", "--compromised", "--incident", "INC-77"];

/// An emergency of the one key, at once.
fn emergency(reason: &'static str) -> Vec<&'static str> {
    [EMERGENCY, &["--reason", reason, "--auto-approve"]].concat()
}

/// Text without its line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn key_state(sandbox: &Sandbox) -> Value {
    sandbox.sql("SELECT state, state_reason FROM encryption_keys").remove(0)
}

#[test]
fn an_emergency_leaves_a_key_parked_or_held_as_a_person_had_it() {
    let sandbox = rotated(NIGHTLY);
    sandbox.at("2026-03-02 03:00:00", &by_hand("park")).exits(0);
    let parked = key_state(&sandbox);
    assert_eq!(parked, json!({"state": "parked", "state_reason": "an old client breaks"}));
    let run = sandbox.at("2026-03-02 03:10:00", &emergency("stolen laptop")).exits(0);
    assert!(flat(&run.stdout).contains("the key stays parked until `resume`"), "{}", run.stdout);
    assert_eq!((key_state(&sandbox), versions(&sandbox).len()), (parked, 3));
    // Due, and still parked.
    sandbox.at(NEXT_NIGHT, APPLY).exits(0);
    assert_eq!(versions(&sandbox).len(), 3);
    sandbox.at(NEXT_NIGHT, &by_hand("resume")).exits(0);
    sandbox.at(NEXT_NIGHT, APPLY).exits(0);
    assert_eq!(versions(&sandbox).len(), 4);

    let sandbox = rotated(NIGHTLY);
    sandbox.at("2026-03-02 03:00:00", &by_hand("rollback")).exits(0);
    let held = key_state(&sandbox);
    let run = sandbox.at("2026-03-02 03:10:00", &emergency("stolen laptop")).exits(0);
    assert!(flat(&run.stdout).contains("the key stays held until `release`"), "{}", run.stdout);
    assert_eq!((&held["state"], key_state(&sandbox), versions(&sandbox).len()), (&json!("held"), held.clone(), 3));
    sandbox.at(NEXT_NIGHT, &by_hand("release")).exits(0);
    assert_eq!(key_state(&sandbox)["state"], "active");
}

#[test]
fn an_emergency_of_a_parked_key_that_was_interrupted_is_finished_and_the_key_stays_parked() {
    let moto = Moto::start();
    let (proxy, broken) = Hostile::that_breaks("Encrypt", Reply::error(400, "AccessDeniedException"), moto.endpoint());
    let sandbox = aws_sandbox(proxy.endpoint());
    sandbox.commit(&documents(1));
    sandbox.at(NOON, APPLY).exits(0);
    let by_hand = |command: &[&'static str]| [command, &["--reason", "a test", "--auto-approve"]].concat();
    sandbox.at(NOON, &by_hand(&["park", "acme/key-0"])).exits(0);
    broken.store(true, Ordering::SeqCst);
    let rotate = by_hand(&["rotate", "acme/key-0", "--compromised", "--incident", "INC-77"]);
    sandbox.at("2026-03-01 13:00:00", &rotate).exits(7);
    let alerts = flat(&sandbox.at("2026-03-01 13:00:30", &["status"]).exits(0).stdout);
    assert!(alerts.contains("is marked compromised") && alerts.contains("is still the primary"), "{alerts}");
    broken.store(false, Ordering::SeqCst);
    sandbox.at("2026-03-01 14:00:00", APPLY).exits(0);
    let done = sandbox.sql("SELECT cause, phase FROM rotations WHERE workflow = 'rotate'");
    assert_eq!(done, [json!({"cause": "compromised", "phase": "settled"})]);
    assert_eq!(key_state(&sandbox), json!({"state": "parked", "state_reason": "a test"}));
    // Its own failures stop it at last, as those of any rotation do.
    broken.store(true, Ordering::SeqCst);
    sandbox.at("2026-03-02 00:00:00", &rotate).exits(7);
    for (day, hour) in [(2, 2), (2, 6), (2, 12), (3, 0), (4, 0), (5, 0), (6, 0)] {
        sandbox.at(&format!("2026-03-{day:02} {hour:02}:00:00"), APPLY).exits(7);
    }
    sandbox.at("2026-03-09 00:00:00", APPLY).exits(0).says("is parked until");
}

#[test]
fn why_a_person_rotated_or_rolled_back_is_in_the_audit_log_and_so_is_what_was_compromised() {
    let sandbox = rotated(NIGHTLY);
    let before = sandbox.sql("SELECT provider_ref FROM key_versions WHERE number = 2");
    sandbox.at("2026-03-02 03:00:00", &emergency("stolen laptop")).exits(0);
    sandbox.at("2026-03-02 04:00:00", &by_hand("rotate")).exits(0);
    sandbox.at("2026-03-02 05:00:00", &by_hand("rollback")).exits(0);
    let list = sandbox.at(NEXT_NIGHT, &["audit", "list", "--tenant", "acme", "--format", "json"]).exits(0).json();
    let entries = list["entries"].as_array().unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = ["key.rolled_back", "key.rotated", "key.rotated", "version.compromised", "key.rotated"];
    assert_eq!(actions[..5], expected, "{list:#}");
    for entry in &entries[..2] {
        assert_eq!(entry["after"]["reason"], "an old client breaks", "{entry:#}");
    }
    let (rotated, marked) = (&entries[2], &entries[3]);
    for entry in [rotated, marked] {
        let reason = entry["after"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("stolen laptop (incident INC-77); version 2 is marked"), "{entry:#}");
        assert_eq!(entry["correlation_id"], rotated["correlation_id"]);
    }
    assert_eq!(marked["after"]["incident"], "INC-77");
    assert_eq!((&marked["after"]["number"], &marked["after"]["provider_ref"]), (&json!(2), &before[0]["provider_ref"]));
    assert!(marked["after"]["compromised_at"].as_str().unwrap().starts_with("2026-03-02T03:00:00"), "{marked:#}");
    sandbox.at(NEXT_NIGHT, &["audit", "verify"]).exits(0);
}

#[test]
fn a_compromised_version_is_told_of_until_it_is_disabled() {
    let terms = "key_type: phi_data\nretain_old_keys_days: 2\nrotation_i";
    let documents = NIGHTLY.replace("key_type: phi_data\nrotation_i", terms);
    let sandbox = rotated(&documents);
    let says = |at: &str, command: &str| {
        let field = if command == "status" { "findings" } else { "diagnostics" };
        let document = sandbox.at(at, &[command, "--format", "json"]).exits(0).json();
        let mut found = document[field].as_array().unwrap().clone();
        found.retain(|finding| finding["code"] == "alert/compromised");
        found.iter().map(|finding| finding["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(says("2026-03-02 03:00:00", "status"), [""; 0]);
    sandbox.at("2026-03-02 03:00:00", &emergency("stolen laptop")).exits(0);
    let told = "version 2 of acme/patients is marked compromised since 2026-03-02T03:00:00Z, and still decrypts";
    for command in ["status", "plan"] {
        assert_eq!(says("2026-03-02 03:01:00", command), [told]);
    }
    let kept = "key_type: phi_data\nold_key_disposition: disable\nretain_old_keys_days: 2\nrotation_i";
    sandbox.commit(&NIGHTLY.replace("key_type: phi_data\nrotation_i", kept));
    sandbox.at("2026-03-02 04:00:00", APPLY).exits(0);
    let attest = ["attest", "acme/patients", "2", "rewrapped", "--reason", "job 4711", "--auto-approve"];
    sandbox.at("2026-03-02 05:00:00", &attest).exits(0);
    assert_eq!(says("2026-03-04 01:00:00", "status"), [told]);
    sandbox.at("2026-03-04 04:00:00", APPLY).exits(0);
    assert_eq!(says("2026-03-04 04:01:00", "status"), [""; 0]);
}

#[test]
fn what_cannot_be_done_names_what_can() {
    let sandbox = rotated(NIGHTLY);
    let helps = |command: &'static str, text: &str| {
        let run = sandbox.at(NIGHT, &by_hand(command)).exits(3).error("manual/state");
        assert!(flat(&run.stderr).contains(text), "no {text:?} in {}", run.stderr);
    };
    for command in ["resume", "release"] {
        helps(command, "it is neither parked nor held: there is nothing to resume or to release");
    }
    sandbox.at(NIGHT, &by_hand("park")).exits(0);
    helps("release", "`keywheel resume` lets it rotate again");
    for command in ["rotate", "resume"] {
        let run = sandbox.at(NIGHT, &[command, "acme/patients", "--reason", "a test"]).exits(1);
        let said = flat(&run.error("apply/no-approval").stderr);
        assert!(said.contains("give --auto-approve") && !said.contains("plan --out"), "{said}");
    }
}

#[test]
fn a_name_that_was_moved_stops_even_an_emergency_and_the_command_that_leads_it_back_is_named() {
    let moto = Moto::start();
    let kms = Kms::new(moto.endpoint());
    let sandbox = aws_sandbox(moto.endpoint());
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).exits(0);
    let own = kms.describe("alias/key-0")["Arn"].clone();
    let foreign = kms.call("CreateKey", &json!({}))["KeyMetadata"]["Arn"].clone();
    kms.call("UpdateAlias", &json!({"AliasName": "alias/key-0", "TargetKeyId": foreign}));
    let emergency =
        ["rotate", "acme/key-0", "--compromised", "--incident", "INC-77", "--reason", "a leak", "--auto-approve"];
    let run = sandbox.keywheel(&emergency).exits(3).error("manual/drift");
    let (own, foreign) = (own.as_str().unwrap(), foreign.as_str().unwrap());
    let said = flat(&run.stderr);
    assert!(said.contains(&format!("it leads to {foreign}, and the record says {own}")), "{said}");
    let back = format!("aws kms update-alias --alias-name alias/key-0 --target-key-id {own}");
    assert!(said.contains(&back), "{said}");
    kms.call("UpdateAlias", &json!({"AliasName": "alias/key-0", "TargetKeyId": own}));
    sandbox.keywheel(&emergency).exits(0);
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
