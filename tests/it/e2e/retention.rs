//! The end of old versions: each step at its own time, on evidence, shown first and loudest, and never more than a limit.

use std::fs;

use serde_json::{Value, json};

use super::{NOON, Sandbox, actions};
use crate::support::sandbox::Run;

const APPLY: &[&str] = &["apply", "--auto-approve"];
const PLAN: &[&str] = &["plan", "--format", "json"];

/// A policy that rotates once a quarter, with more of its own fields.
fn documents(terms: &str) -> String {
    format!(
        "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Quarterly\nkey_type: phi_data\n\
         rotation_interval_days: 90\nenable_rollback: false\nretain_old_keys_days: 3\n{terms}---\n\
         apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: patients\nkey_type: phi_data\n\
         rotation_policy: Quarterly\n"
    )
}

const DESTROY: &str = "old_key_disposition: destroy\ndestroy_after_disabled_days: 2\ndata_max_age_days: 3\n";
const DISABLE: &str = "old_key_disposition: disable\ndata_max_age_days: 3\n";

/// A key that was made on 1 March at noon and rotated by hand on the day after, and what its first version encrypted.
fn rotated(terms: &str) -> (Sandbox, String) {
    rotated_with("", terms)
}

fn rotated_with(config: &str, terms: &str) -> (Sandbox, String) {
    let sandbox = Sandbox::with(config, &documents(terms));
    sandbox.at(NOON, APPLY).exits(0);
    let sealed = sandbox.at(NOON, &["data", "encrypt", "acme/patients"]).input(b"a patient").exits(0).stdout;
    by_hand(&sandbox, "2026-03-02 12:00:00", &["rotate", "acme/patients"]).exits(0);
    (sandbox, sealed)
}

fn by_hand(sandbox: &Sandbox, at: &str, command: &[&str]) -> Run {
    sandbox.at(at, &[command, &["--reason", "an audit", "--auto-approve"]].concat())
}

fn state_of(sandbox: &Sandbox, number: u32) -> Value {
    sandbox.sql(&format!("SELECT state FROM key_versions WHERE number = {number}")).remove(0)["state"].take()
}

fn decrypts(sandbox: &Sandbox, at: &str, sealed: &str) -> bool {
    let run = sandbox.at(at, &["data", "decrypt"]).input(sealed.as_bytes());
    let ended = run.ends();
    ended.status == Some(0) && ended.stdout == "a patient"
}

#[test]
fn an_old_version_is_disabled_scheduled_and_destroyed_each_in_a_plan_of_its_own_time() {
    let (sandbox, sealed) = rotated(DESTROY);
    // Retained for three days after its deactivation, whatever is applied meanwhile.
    sandbox.at("2026-03-05 11:59:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "deactivated");
    assert!(decrypts(&sandbox, "2026-03-05 11:59:30", &sealed));

    let plan = sandbox.at("2026-03-05 12:01:00", PLAN).exits(0).json();
    assert_eq!(actions(&plan), ["disable patients"]);
    assert_eq!(plan["changes"][0]["version"], 1);
    let annotated = sandbox.at("2026-03-05 12:01:00", &["plan", "--format", "github"]).exits(0).stdout;
    let line = sandbox.read("policies/acme/keys.yaml").lines().position(|line| line.contains("EncryptionKey")).unwrap();
    let place = format!("file=policies/acme/keys.yaml,line={line},");
    assert!(annotated.contains(&place), "a reviewer is led to the key, {place}: {annotated}");
    let text = sandbox.at("2026-03-05 12:01:00", &["plan"]).exits(0).stdout;
    let loud = text.find("Data that will not decrypt any more (1)").expect(&text);
    assert!(text[..loud].lines().count() <= 5, "it comes first: {text}");
    assert!(text.contains("version 1 is DISABLED"), "{text}");
    assert!(text.contains("older than data_max_age_days"), "the evidence: {text}");
    assert!(text.contains("Plan: 1 to disable."), "{text}");
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");
    let refused = sandbox.at("2026-03-05 12:02:00", &["data", "decrypt"]).input(sealed.as_bytes()).exits(1);
    let help = "`keywheel enable acme/patients 1 --reason TEXT` makes it decrypt again";
    let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("is disabled") && said.contains(help), "{said}");
    sandbox.at("2026-03-05 12:02:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");

    // Two days of being disabled.
    sandbox.at("2026-03-07 12:00:00", &["plan", "--detailed-exitcode"]).exits(0);
    let plan = sandbox.at("2026-03-07 12:02:00", PLAN).exits(0).json();
    assert_eq!(actions(&plan), ["schedule_destruction patients"]);
    let said = plan["changes"][0]["reason"]["message"].as_str().unwrap();
    let gone = "after a waiting period of 30 days, on 2026-04-06T12:02:";
    assert!(said.contains(gone) && said.contains("at the earliest, what it encrypted is lost for ever"), "{said}");
    sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "pending_destruction");

    // Until then everybody sees when that is, and nothing is to be done.
    let plan = sandbox.at("2026-03-08 12:00:00", &["plan", "--detailed-exitcode"]).exits(0).stdout;
    let waits =
        "destroy version 1: its destruction is scheduled, and `keywheel enable` cancels it; until 2026-04-06T12:02:";
    assert!(plan.contains(waits) && plan.contains("No changes. Nothing can be done now; 1 waiting."), "{plan}");
    let status = sandbox.at("2026-03-08 12:00:00", &["status"]).exits(0).stdout;
    assert!(status.contains("version 1 of acme/patients will be destroyed on 2026-04-06T12:02:"), "{status}");
    let explained = sandbox.at("2026-03-08 12:00:00", &["explain", "acme/patients"]).exits(0).stdout;
    assert!(explained.contains("will be destroyed on 2026-04-06T12:02:"), "{explained}");
    assert!(
        explained.contains("pending destruction") && explained.contains("disabled 2026-03-05T12:01:"),
        "{explained}"
    );

    // And the key manager's own thirty.
    sandbox.at("2026-04-06 12:01:00", &["plan", "--detailed-exitcode"]).exits(0);
    let keystore = fs::read(sandbox.path(".keywheel/keystore")).unwrap();
    let plan = sandbox.at("2026-04-06 12:03:00", PLAN).exits(0).json();
    assert_eq!(actions(&plan), ["destroy patients"]);
    sandbox.at("2026-04-06 12:03:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "destroyed");
    assert_ne!(fs::read(sandbox.path(".keywheel/keystore")).unwrap(), keystore, "it is written anew");
    let lost = sandbox.at("2026-04-06 12:04:00", &["data", "decrypt"]).input(sealed.as_bytes()).exits(1);
    assert!(lost.stderr.contains("destroyed"), "{}", lost.stderr);
    by_hand(&sandbox, "2026-04-06 12:04:00", &["enable", "acme/patients", "1"]).exits(3).error("version/state");

    sandbox.at("2026-04-06 12:05:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    sandbox.at("2026-04-06 12:05:00", &["drift", "--detailed-exitcode"]).exits(0);
    sandbox.at("2026-04-06 12:05:00", &["audit", "verify"]).exits(0);
    let said = sandbox.sql("SELECT action FROM audit_log WHERE action LIKE 'version.%' ORDER BY seq");
    let said: Vec<_> = said.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(said, ["version.disabled", "version.destruction_scheduled", "version.destroyed"]);
    // What is in use is as it was, and rotates on.
    let sealed = sandbox.at("2026-04-06 12:06:00", &["data", "encrypt", "acme/patients"]).input(b"a patient").exits(0);
    sandbox.at("2026-07-01 12:00:00", APPLY).exits(0);
    assert!(decrypts(&sandbox, "2026-07-01 12:01:00", &sealed.stdout));
}

#[test]
fn without_evidence_nothing_is_disabled_and_each_kind_of_evidence_will_do() {
    let terms = "old_key_disposition: disable\n";
    let waits = |sandbox: &Sandbox, at: &str| {
        let plan = sandbox.at(at, PLAN).exits(0).json();
        assert!(actions(&plan).is_empty(), "{plan:#}");
        let waiting = &plan["waiting"][0];
        assert_eq!((&waiting["action"], &waiting["version"]), (&json!("disable"), &json!(1)), "{plan:#}");
        assert_eq!(waiting["reason"]["code"], "no_evidence", "{plan:#}");
    };
    let (sandbox, _) = rotated(terms);
    waits(&sandbox, "2026-04-01 12:00:00");
    sandbox.at("2026-04-01 12:00:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "deactivated");

    // A waiver of that rule, until its last day.
    let waiver =
        "waivers:\n  - {rule: retention/evidence, until: \"2026-04-03\", reason: a test fleet, approver: Ada}\n";
    sandbox.commit(&documents(&format!("{terms}{waiver}")));
    let plan = sandbox.at("2026-04-03 23:59:00", PLAN).exits(0).json();
    assert!(actions(&plan).contains(&"disable patients".to_owned()), "{plan:#}");
    assert!(plan["changes"].to_string().contains("waived until 2026-04-03 by Ada"), "{plan:#}");
    let plan = sandbox.at("2026-04-04 00:01:00", PLAN).exits(7).json();
    assert_eq!(plan["changes"], serde_json::json!([]), "the waiver has ended");
    assert_eq!(plan["diagnostics"][0]["code"], "policy/ended-waiver", "{plan:#}");

    // The age of the data, counted from the deactivation.
    sandbox.commit(&documents(&format!("{terms}data_max_age_days: 60\n")));
    let disables = |at: &str| actions(&sandbox.at(at, PLAN).exits(0).json()).contains(&"disable patients".to_owned());
    assert!(!disables("2026-05-01 11:00:00") && disables("2026-05-01 12:01:00"));

    // A person's record that the data was encrypted anew.
    sandbox.commit(&documents(terms));
    sandbox.at("2026-04-05 12:00:00", APPLY).exits(0);
    waits(&sandbox, "2026-04-05 12:01:00");
    by_hand(&sandbox, "2026-04-05 12:02:00", &["attest", "acme/patients", "1", "rewrapped"]).exits(0);
    sandbox.at("2026-04-05 12:03:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");
    sandbox.at("2027-04-05 12:03:00", PLAN).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled", "it is never destroyed under this policy");
}

#[test]
fn what_a_person_changes_of_a_version_is_shown_and_nothing_else() {
    let (sandbox, _) = rotated(DESTROY);
    let fields = |at: &str, command: &[&str]| {
        let shown = by_hand(&sandbox, at, command).exits(0).stdout;
        let lines = shown.lines().filter(|line| line.contains(" -> "));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let attested = fields("2026-03-03 12:00:00", &["attest", "acme/patients", "1", "rewrapped"]);
    assert_eq!(attested, ["rewrapped_at (none) -> when it is applied"]);
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
    let attested = fields("2026-03-05 13:00:00", &["attest", "acme/patients", "1", "needed"]);
    assert_eq!(attested, ["needed_at (none) -> when it is applied"]);
    let said = sandbox.sql("SELECT needed_at > rewrapped_at AS later FROM key_versions WHERE number = 1");
    assert_eq!(said, [json!({"later": 1})]);
    let enabled = fields("2026-03-05 14:00:00", &["enable", "acme/patients", "1"]);
    let expected = [
        "disabled_at 2026-03-05T12:01:00Z -> (none)",
        "retain_until 2026-03-05T12:00:00Z -> counted anew",
        "state disabled -> deactivated",
    ];
    assert_eq!(enabled, expected);
}

#[test]
fn what_is_still_needed_is_enabled_again_and_stays_so() {
    let (sandbox, sealed) = rotated(DESTROY);
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
    sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "pending_destruction");
    // A use was refused: somebody says so, and the next apply gives it back.
    by_hand(&sandbox, "2026-03-08 12:00:00", &["attest", "acme/patients", "1", "needed"]).exits(0);
    let plan = sandbox.at("2026-03-08 12:01:00", PLAN).exits(0).json();
    assert_eq!(actions(&plan), ["enable patients"]);
    sandbox.at("2026-03-08 12:01:00", APPLY).exits(0);
    assert!(decrypts(&sandbox, "2026-03-08 12:02:00", &sealed));
    sandbox.at("2026-06-01 12:00:00", APPLY).exits(0);
    assert!(decrypts(&sandbox, "2026-06-01 12:01:00", &sealed), "needed until somebody says otherwise");
    by_hand(&sandbox, "2026-06-01 12:02:00", &["attest", "acme/patients", "1", "rewrapped"]).exits(0);
    sandbox.at("2026-06-01 12:03:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled", "its retention began anew when it was enabled, and has passed");

    // By hand at once; the reason is kept, and no policy takes it away again.
    by_hand(&sandbox, "2026-06-01 12:04:00", &["enable", "acme/patients", "1"]).exits(0);
    sandbox.at("2027-01-01 12:00:00", APPLY).exits(0);
    assert!(decrypts(&sandbox, "2027-01-01 12:01:00", &sealed));
    by_hand(&sandbox, "2027-01-01 12:02:00", &["enable", "acme/patients", "1"]).exits(3).error("version/state");
    by_hand(&sandbox, "2027-01-01 12:02:00", &["destroy", "acme/patients", "1"]).exits(3).error("version/state");
    by_hand(&sandbox, "2027-01-01 12:02:00", &["enable", "acme/patients", "77"]).exits(1).error("version/unknown");
    let primary = sandbox.sql("SELECT max(number) AS number FROM key_versions")[0]["number"].to_string();
    by_hand(&sandbox, "2027-01-01 12:02:00", &["attest", "acme/patients", &primary, "needed"]).exits(3);
}

#[test]
fn a_policy_that_changes_its_mind_keeps_cancels_and_never_shortens() {
    let (sandbox, sealed) = rotated(DESTROY);
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
    sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    // From destroy to disable: the destruction is cancelled, and it stays disabled.
    sandbox.commit(&documents(DISABLE));
    let plan = sandbox.at("2026-03-08 12:00:00", PLAN).exits(0).json();
    assert!(actions(&plan).contains(&"cancel_destruction patients".to_owned()), "{plan:#}");
    sandbox.at("2026-03-08 12:00:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");
    sandbox.at("2026-03-08 12:01:00", &["plan", "--detailed-exitcode"]).exits(0);
    // To keep: it decrypts again.
    sandbox.commit(&documents(""));
    sandbox.at("2026-03-09 12:00:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "deactivated");
    assert!(decrypts(&sandbox, "2026-03-09 12:01:00", &sealed));

    // What was promised at a deactivation is not made shorter afterwards.
    let (sandbox, _) = rotated_with("", &DISABLE.replace("data_max_age_days: 3", "data_max_age_days: 300"));
    sandbox.commit(&documents(DISABLE).replace("retain_old_keys_days: 3", "retain_old_keys_days: 1"));
    sandbox.at("2026-03-04 12:00:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "deactivated");
    // Without a policy the terms that were in force at its deactivation still hold.
    let (sandbox, _) = rotated(DISABLE);
    let key = documents("").split_once("---\n").unwrap().1.replace("rotation_policy: Quarterly\n", "");
    sandbox.commit(&key);
    sandbox.at("2026-03-04 12:00:00", APPLY).exits(0);
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");
}

#[test]
fn freezes_windows_suspension_the_switch_and_parking_hold_every_step() {
    let freeze = "---\napiVersion: keywheel/v1\nkind: Freeze\nname: Audit week\nreason: auditors\n\
                  from: \"2026-03-05T00:00:00\"\nuntil: \"2026-03-06T00:00:00\"\n";
    let holds = |documents: &str, prepare: &dyn Fn(&mut Sandbox), code: &str, until: Value| {
        let (mut sandbox, _) = rotated(DESTROY);
        sandbox.write(
            "policies/acme/keys.yaml",
            documents.split("---\napiVersion: keywheel/v1\nkind: Freeze").next().unwrap(),
        );
        if let Some((_, freeze)) = documents.split_once("kind: Freeze") {
            sandbox.write("policies/freeze.yaml", &format!("apiVersion: keywheel/v1\nkind: Freeze{freeze}"));
        }
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "hold"]);
        prepare(&mut sandbox);
        sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
        let plan = sandbox.at("2026-03-05 12:02:00", PLAN).exits(0).json();
        let waiting = plan["waiting"].as_array().unwrap().iter().find(|waiting| waiting["action"] == "disable");
        let waiting = waiting.unwrap_or_else(|| panic!("{code}: {plan:#}"));
        assert_eq!((&waiting["reason"]["code"], &waiting["starts_at"]), (&json!(code), &until), "{plan:#}");
        sandbox.at("2026-03-05 12:02:00", APPLY).exits(0);
        assert_eq!(state_of(&sandbox, 1), "deactivated", "{code}");
    };
    let nothing = |_: &mut Sandbox| {};
    let plain = documents(DESTROY);
    holds(&format!("{plain}{freeze}"), &nothing, "freeze", json!("2026-03-06T00:00:00Z"));
    let window = documents(&format!("{DESTROY}rotation_windows:\n  - {{start: \"22:00\", end: \"23:00\"}}\n"));
    holds(&window, &nothing, "window", json!("2026-03-05T22:00:00Z"));
    holds(&documents(&format!("{DESTROY}status: suspended\n")), &nothing, "suspended", Value::Null);
    holds(&plain, &|sandbox| sandbox.set("KEY_ROTATION_ENABLED", "false"), "switched_off", Value::Null);
    let park = |sandbox: &mut Sandbox| {
        by_hand(sandbox, "2026-03-04 12:00:00", &["park", "acme/patients"]).exits(0);
    };
    holds(&plain, &park, "parked", Value::Null);
}

#[test]
fn destructions_have_a_limit_of_their_own_in_numbers_and_in_percent() {
    let (sandbox, _) = rotated_with("limits: {max_destructions: 0}\n", DESTROY);
    let plan = sandbox.at("2026-03-05 12:01:00", PLAN).exits(3).json();
    assert_eq!(plan["refusals"][0]["code"], "limits/max-destructions", "{plan:#}");
    let place = json!({"file": "keywheel.yaml", "line": 3, "column": 28, "length": 1});
    assert_eq!(plan["refusals"][0]["place"], place, "the limit's own field: {plan:#}");
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(3);
    assert_eq!(state_of(&sandbox, 1), "deactivated");
    let digest = plan["digest"].as_str().unwrap();
    let overridden =
        ["apply", "--auto-approve", "--override-limits", digest, "--reason", "agreed with the data owners"];
    sandbox.at("2026-03-05 12:02:00", &overridden).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");

    // Six of twelve versions are more than the 30 percent of the default.
    let keys = (0..6).fold(documents(DESTROY), |text, number| {
        let key = documents("").split_once("---").unwrap().1.replace("patients", &format!("key-{number}"));
        if number == 0 { text } else { format!("{text}---{key}") }
    });
    let sandbox = Sandbox::with("", &keys);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at("2026-06-01 12:00:00", APPLY).exits(0);
    let plan = sandbox.at("2026-06-05 12:00:00", PLAN).exits(3).json();
    assert_eq!(actions(&plan).len(), 6, "{plan:#}");
    assert_eq!(plan["refusals"][0]["code"], "limits/max-percent", "{plan:#}");
    let place = json!({"file": "keywheel.yaml", "line": 1, "column": 1, "length": 1});
    assert_eq!(plan["refusals"][0]["place"], place, "nobody has set it: {plan:#}");
}

#[test]
fn a_saved_plan_disables_what_it_was_approved_for_and_nothing_else() {
    let (sandbox, _) = rotated(DESTROY);
    sandbox.at("2026-03-05 12:01:00", &["plan", "--out", "plan.json"]).exits(0);
    // Somebody keeps it meanwhile: the approval is stale.
    by_hand(&sandbox, "2026-03-05 12:02:00", &["attest", "acme/patients", "1", "needed"]).exits(0);
    sandbox.at("2026-03-05 12:03:00", &["apply", "plan.json"]).exits(4);
    assert_eq!(state_of(&sandbox, 1), "deactivated");
    by_hand(&sandbox, "2026-03-05 12:04:00", &["attest", "acme/patients", "1", "rewrapped"]).exits(0);
    sandbox.at("2026-03-05 12:05:00", &["plan", "--out", "plan.json"]).exits(0);
    sandbox.at("2026-03-05 12:06:00", &["apply", "plan.json"]).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");
    // What is asked of a plan without the providers is never a destruction.
    let plan = sandbox.at("2026-03-20 12:00:00", &["plan", "--refresh=false", "--format", "json"]).exits(0).json();
    assert!(actions(&plan).is_empty(), "{plan:#}");
}

#[test]
fn a_rotation_can_be_rolled_back_whatever_became_of_older_versions_since() {
    let terms = "old_key_disposition: disable\ndata_max_age_days: 3\nrollback_period_hours: 24\n";
    let documents = documents(terms).replace("enable_rollback: false", "enable_rollback: true");
    let sandbox = Sandbox::with("", &documents);
    sandbox.at(NOON, APPLY).exits(0);
    by_hand(&sandbox, "2026-03-02 12:00:00", &["rotate", "acme/patients"]).exits(0);
    by_hand(&sandbox, "2026-03-06 12:00:00", &["rotate", "acme/patients"]).exits(0);
    sandbox.at("2026-03-06 12:10:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");
    by_hand(&sandbox, "2026-03-06 12:20:00", &["rollback", "acme/patients"]).exits(0);
    assert_eq!(state_of(&sandbox, 2), "active");
}

#[test]
fn a_key_with_a_version_that_is_about_to_be_destroyed_is_not_forgotten() {
    let (sandbox, sealed) = rotated(DESTROY);
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
    sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "pending_destruction");
    sandbox.git(&["rm", "-q", "policies/acme/keys.yaml"]);
    sandbox.write("policies/acme/tenant.yaml", "apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: acme\n");
    sandbox.commit_all("it is not needed any more");
    sandbox.at("2026-03-08 12:00:00", &["plan"]).exits(7).says("error[key/pending-destruction]");
    sandbox.at("2026-03-08 12:00:00", APPLY).exits(7);
    let keys = sandbox.sql("SELECT key_name FROM encryption_keys WHERE removed_at IS NULL");
    assert_eq!(keys, [json!({"key_name": "patients"})]);
    // The way out: it is kept after all, and may leave then.
    sandbox.write("policies/acme/keys.yaml", &documents("old_key_disposition: keep\n"));
    sandbox.commit_all("keep it");
    sandbox.at("2026-03-08 12:10:00", APPLY).exits(0);
    assert!(decrypts(&sandbox, "2026-03-08 12:11:00", &sealed));
    sandbox.git(&["rm", "-q", "policies/acme/keys.yaml"]);
    sandbox.commit_all("gone");
    sandbox.at("2026-03-08 12:20:00", APPLY).exits(0);
    // And what was forgotten on purpose is no lost database.
    sandbox.git(&["revert", "--no-edit", "HEAD"]);
    sandbox.at("2026-03-08 12:30:00", &["plan"]).exits(0).says("create");
}

#[test]
fn rewrapped_ends_what_enable_asked_for() {
    let (sandbox, _) = rotated(DISABLE);
    sandbox.at("2026-03-06 12:00:00", APPLY).exits(0);
    by_hand(&sandbox, "2026-03-06 13:00:00", &["enable", "acme/patients", "1"]).exits(0);
    sandbox.at("2026-03-20 12:00:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "deactivated", "it was asked for");
    by_hand(&sandbox, "2026-03-20 13:00:00", &["attest", "acme/patients", "1", "rewrapped"]).exits(0);
    sandbox.at("2026-04-20 12:00:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "disabled");
}

#[test]
fn a_copy_of_the_keys_from_before_a_destruction_is_drift() {
    let (sandbox, _) = rotated(DESTROY);
    sandbox.at("2026-03-05 12:01:00", APPLY).exits(0);
    sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    let before = fs::read(sandbox.path(".keywheel/keystore")).unwrap();
    sandbox.at("2026-04-06 12:03:00", APPLY).exits(0);
    assert_eq!(state_of(&sandbox, 1), "destroyed");
    fs::write(sandbox.path(".keywheel/keystore"), before).unwrap();
    sandbox.at("2026-04-06 12:04:00", &["drift", "--detailed-exitcode"]).exits(6).says("is there again");
}
