//! A record that was lost, emptied or cut, or that an older backup replaced: nothing calls it sound, and there is a way out.

use std::fs;

use serde_json::{Value, json};

use super::kept::{Kept, on_both};
use super::providers::documents;
use super::{Kms, Moto, NIGHTLY, NOON, Sandbox, actions, aws_sandbox};

const APPLY: &[&str] = &["apply", "--auto-approve"];
const RECLAIM: &[&str] = &["state", "reclaim", "--reason", "an older backup was restored", "--auto-approve"];

on_both! {
    an_older_backup_is_brought_up_to_what_the_keystore_holds
    what_is_recorded_without_an_entry_of_the_log_is_named
}

#[test]
fn an_empty_record_beside_keys_is_not_called_sound() {
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.at(NOON, APPLY).exits(0);
    fs::remove_file(sandbox.database()).unwrap();
    // An apply refuses, and leaves an empty database where there was none.
    sandbox.at(NOON, APPLY).exits(3).error("state/unknown-keys");
    let verified = sandbox.keywheel(&["state", "verify", "--format", "json"]).exits(1).json();
    assert_eq!(verified["findings"][0]["code"], "verify/lost-record", "{verified:#}");
    let empty = sandbox.keywheel(&["audit", "verify"]).exits(1).error("audit/empty");
    assert!(!empty.stdout.contains("Whole"), "{}", empty.stdout);
    sandbox.keywheel(&["state", "backup", "empty.db"]).exits(3).error("state/empty");
    assert!(!sandbox.path("empty.db").exists(), "a backup of nothing was written");
    // What nobody has made a key for is a first run.
    fs::remove_file(sandbox.path(".keywheel/keystore")).unwrap();
    sandbox.keywheel(&["state", "verify"]).exits(0).says("Sound: 0 keys");
}

fn what_is_recorded_without_an_entry_of_the_log_is_named(kept: &Kept) {
    let cut = |sql: &str| {
        kept.tamper(match kept.postgres {
            Some(_) => "DROP TRIGGER IF EXISTS audit_log_is_never_changed ON audit_log",
            None => "DROP TRIGGER IF EXISTS audit_log_is_never_shortened",
        });
        kept.tamper(sql);
    };
    kept.sandbox.keywheel(&["audit", "verify"]).exits(0).says("Whole: 6 entries in 2 chains.");
    // The newest entry of a chain, which is that of a rotation.
    cut("DELETE FROM audit_log WHERE action = 'key.rotated'");
    let verify = |status| kept.sandbox.keywheel(&["audit", "verify", "--format", "json"]).exits(status).json();
    let found = verify(1);
    assert_eq!((&found["broken"], found["unlogged"].as_array().unwrap().len()), (&Value::Null, 1), "{found:#}");
    let text = kept.sandbox.keywheel(&["audit", "verify"]).exits(1).stdout;
    assert!(text.contains("Missing: acme/patients: its rotate of ") && !text.contains("Whole"), "{text}");
    assert!(kept.codes(&["--offline"], 1).contains(&"verify/unlogged".to_owned()));
    kept.sandbox.keywheel(&["state", "verify", "--offline"]).exits(1).says("the log has no entry of that");
    // All of a tenant's chain.
    cut("DELETE FROM audit_log WHERE tenant_id = 'acme'");
    let found = verify(1);
    let what = found["unlogged"][0]["what"].as_str().unwrap();
    assert_eq!(
        what, "the log of tenant acme is empty, and 4 objects and 4 settled rotations are recorded",
        "{found:#}"
    );
}

/// The older database is restored over the newer one.
fn restored(kept: &Kept, backup: &str) {
    let url = match &kept.postgres {
        None => {
            fs::copy(kept.sandbox.path(backup), kept.sandbox.database()).unwrap();
            return;
        }
        Some(database) => &database.url,
    };
    let tables = "DO $$ DECLARE it text; BEGIN \
                  FOR it IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP \
                  EXECUTE 'DROP TABLE IF EXISTS ' || quote_ident(it) || ' CASCADE'; END LOOP; \
                  FOR it IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace LOOP \
                  EXECUTE 'DROP FUNCTION IF EXISTS ' || it || ' CASCADE'; END LOOP; END $$";
    kept.tamper(tables);
    let from = format!("sqlite:{backup}");
    kept.with_state(url, &["state", "copy", &from, "${KEYWHEEL_STATE}"]).exits(0);
}

fn an_older_backup_is_brought_up_to_what_the_keystore_holds(kept: &Kept) {
    let sandbox = &kept.sandbox;
    let sealed = sandbox.keywheel(&["data", "encrypt", "acme/patients"]).input(b"a record").exits(0).stdout;
    sandbox.keywheel(&["state", "backup", "older.db"]).exits(0);
    let rotate = ["rotate", "acme/patients", "--reason", "a test", "--auto-approve"];
    sandbox.keywheel(&rotate).exits(0);
    let between = sandbox.keywheel(&["data", "encrypt", "acme/patients"]).input(b"between").exits(0).stdout;
    sandbox.keywheel(&rotate).exits(0);
    restored(kept, "older.db");

    let refused = sandbox.keywheel(&rotate).exits(3).error("manual/drift");
    assert!(refused.stderr.contains("keywheel state reclaim acme/patients"), "{}", refused.stderr);
    sandbox.keywheel(&["plan"]).exits(0).says("keywheel state reclaim acme/patients");
    assert_eq!(kept.codes(&[], 1), ["verify/primary-moved", "verify/unrecorded"]);

    let keystore = fs::read(sandbox.path(".keywheel/keystore")).unwrap();
    let unasked = &RECLAIM[..RECLAIM.len() - 1];
    sandbox.keywheel(unasked).exits(1).error("state/no-approval");
    assert_eq!(kept.codes(&[], 1), ["verify/primary-moved", "verify/unrecorded"], "it was recorded unasked");
    let unknown = ["state", "reclaim", "acme/patient", "--reason", "a slip"];
    sandbox.keywheel(&unknown).exits(1).error("names/unknown");
    let report = sandbox.keywheel(&[RECLAIM, &["--format", "json"]].concat()).exits(0).json();
    let versions = report["keys"][0]["versions"].as_array().unwrap();
    let recorded: Vec<_> = versions.iter().map(|version| (&version["number"], &version["state"])).collect();
    assert_eq!(recorded, [(&json!(3), &json!("deactivated")), (&json!(4), &json!("active"))], "{report:#}");
    assert_eq!((report["keys"].as_array().unwrap().len(), &report["left"]), (1, &json!([])), "{report:#}");
    assert!(fs::read(sandbox.path(".keywheel/keystore")).unwrap() == keystore, "the key manager was called");

    assert_eq!(kept.codes(&[], 0), [""; 0], "everything is recorded");
    sandbox.keywheel(&["audit", "verify"]).exits(0).says("Whole");
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    let why = sandbox.keywheel(&["audit", "why", "acme/patients", "--format", "json"]).exits(0).json();
    assert_eq!(why["made_primary_by"]["action"], "key.reclaimed", "{why:#}");
    assert_eq!(why["made_primary_by"]["after"]["reason"], "an older backup was restored", "{why:#}");
    for (sealed, plain) in [(&sealed, "a record"), (&between, "between")] {
        sandbox.keywheel(&["data", "decrypt", "acme/patients"]).input(sealed.as_bytes()).exits(0).says(plain);
    }
    sandbox.keywheel(RECLAIM).exits(0).says("Nothing to record");
    sandbox.keywheel(&rotate).exits(0);
    assert_eq!(kept.codes(&[], 0), [""; 0], "the next rotation goes on from there");
}

#[test]
fn at_aws_the_versions_with_the_marks_are_recorded_and_no_others() {
    let moto = Moto::start();
    let kms = Kms::new(moto.endpoint());
    let sandbox = aws_sandbox(moto.endpoint());
    sandbox.commit(&documents(2));
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&["state", "backup", "older.db"]).exits(0);
    let rotate = |key: &str| ["rotate", key, "--reason", "a test", "--auto-approve"].map(str::to_owned);
    let rotated = |key: &str| {
        let arguments = rotate(key);
        sandbox.keywheel(&arguments.each_ref().map(String::as_str)).exits(0);
    };
    rotated("acme/key-0");
    rotated("acme/key-0");
    fs::copy(sandbox.path("older.db"), sandbox.database()).unwrap();
    // Somebody led the other alias to a key of their own.
    let theirs = kms.create("alias/theirs", &json!({}));
    kms.call("UpdateAlias", &json!({"AliasName": "alias/key-1", "TargetKeyId": theirs}));

    let report = sandbox.keywheel(&[RECLAIM, &["--format", "json"]].concat()).exits(7).json();
    let left = report["left"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["key"]), (1, &json!("acme/key-1")), "{report:#}");
    assert!(left[0]["why"].as_str().unwrap().contains("does not carry its marks"), "{report:#}");
    let primary = kms.describe("alias/key-0")["Arn"].clone();
    assert_eq!(
        (&report["keys"][0]["key"], &report["keys"][0]["primary"]),
        (&json!("acme/key-0"), &primary),
        "{report:#}"
    );
    assert_eq!(report["keys"][0]["versions"].as_array().unwrap().len(), 2, "{report:#}");
    let plan = sandbox.keywheel(&["plan", "--format", "json"]).exits(0).json();
    let drifted: Vec<&Value> = plan["drift"].as_array().unwrap().iter().map(|drift| &drift["object"]["name"]).collect();
    assert_eq!(drifted, ["key-1"], "{plan:#}");
    rotated("acme/key-0");
}

#[test]
fn a_key_that_was_rolled_back_since_the_backup_is_held() {
    let sandbox = Sandbox::with(
        "",
        &NIGHTLY
            .replace("rotation_time_of_day", "enable_rollback: true\nrollback_period_hours: 24\nrotation_time_of_day"),
    );
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&["state", "backup", "older.db"]).exits(0);
    for by_hand in ["rotate", "rollback"] {
        sandbox.keywheel(&[by_hand, "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
    }
    fs::copy(sandbox.path("older.db"), sandbox.database()).unwrap();
    sandbox.keywheel(RECLAIM).exits(0).says("`keywheel release acme/patients` lets it rotate again");
    let status = sandbox.keywheel(&["status", "--format", "json"]).exits(0).json();
    assert_eq!(
        (&status["keys"][0]["state"], &status["keys"][0]["primary_version"]["number"]),
        (&json!("held"), &json!(1))
    );
    assert_eq!(status["keys"][0]["next_rotation_at"], Value::Null, "it waits for a person: {status:#}");
    sandbox.keywheel(&["state", "verify"]).exits(0).says("Sound: 1 key, 2 versions");
    let plan = sandbox.keywheel(&["plan", "--format", "json"]).exits(0).json();
    assert_eq!(actions(&plan), [""; 0], "{plan:#}");
}
