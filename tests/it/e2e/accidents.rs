//! What goes wrong by accident: files that are lost or cut off, keys that are removed and wanted back, the switch.

use std::fs;

use serde_json::{Value, json};

use super::providers::documents;
use super::{Kms, Moto, NIGHTLY, NOON, Sandbox, actions, aws_sandbox, with_keys};

const APPLY: &[&str] = &["apply", "--auto-approve"];
const NIGHT: &str = "2026-03-02 02:00:10";

fn applied() -> Sandbox {
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox
}

#[test]
fn a_keystore_that_lost_recorded_versions_is_not_written_over() {
    type Accident = fn(&std::path::Path);
    let accidents: [(&str, Accident); 3] = [
        ("cut off", |keystore| {
            let file = fs::OpenOptions::new().write(true).open(keystore).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
        ("gone", |keystore| fs::remove_file(keystore).unwrap()),
        ("gone with its root key", |keystore| {
            fs::remove_file(keystore).unwrap();
            fs::remove_file(keystore.with_file_name("root.key")).unwrap();
        }),
    ];
    for (what, accident) in accidents {
        let sandbox = applied();
        sandbox.at(NIGHT, APPLY).exits(0);
        sandbox.commit(&with_keys(1));
        let keystore = sandbox.dir().join(".keywheel/keystore");
        accident(&keystore);
        let before = fs::read(&keystore).ok();
        sandbox.at("2026-03-02 03:00:00", APPLY).exits(7).says("Put its newest copy back");
        assert_eq!(fs::read(&keystore).ok(), before, "{what}: it was written");
        let encrypted = sandbox.at("2026-03-02 03:00:00", &["data", "encrypt", "acme/patients"]).input(b"x").exits(1);
        assert_eq!(encrypted.stdout, "", "{what}");
    }
}

#[test]
fn what_a_forgotten_key_encrypted_still_decrypts_and_a_rename_without_a_word_is_noticed() {
    let sandbox = applied();
    let sealed = sandbox.at(NOON, &["data", "encrypt", "acme/patients"]).input(b"a patient").exits(0).stdout;
    sandbox.commit(&NIGHTLY.replace("patients", "people"));
    let plan = sandbox.at(NOON, &["plan", "--format", "json"]).exits(0).json();
    assert_eq!(actions(&plan), ["forget patients", "create people"]);
    assert!(plan["changes"][0]["reason"]["message"].as_str().unwrap().contains("previous_name: patients"), "{plan:#}");
    sandbox.at("2026-03-01 12:05:00", APPLY).exits(0);
    let opened = sandbox.at(NIGHT, &["data", "decrypt"]).input(sealed.as_bytes()).exits(0);
    assert_eq!(opened.stdout, "a patient");
}

#[test]
fn what_is_large_is_encrypted_and_decrypts_again() {
    let sandbox = applied();
    let large: String = "0123456789abcdef".repeat(3 << 16);
    let sealed = sandbox.at(NOON, &["data", "encrypt", "acme/patients"]).input(large.as_bytes()).exits(0).stdout;
    let opened = sandbox.at(NOON, &["data", "decrypt"]).input(sealed.as_bytes()).exits(0).stdout;
    assert!(opened == large, "{} of {} bytes came back", opened.len(), large.len());
}

#[test]
fn the_switch_starts_nothing_anywhere() {
    let sandbox = Sandbox::with("", NIGHTLY);
    let off = |at: &str, arguments: &[&str]| sandbox.at(at, arguments).env("KEY_ROTATION_ENABLED", "false");
    off(NOON, APPLY).exits(0);
    assert_eq!(sandbox.sql("SELECT id FROM encryption_keys"), Vec::<Value>::new());
    sandbox.at(NOON, APPLY).exits(0);
    off(NIGHT, APPLY).exits(0);
    for command in [&["rotate"][..], &["rotate", "--compromised", "--incident", "INC-1"], &["rollback"]] {
        let rest = ["acme/patients", "--reason", "a test", "--auto-approve"];
        let run = off(NIGHT, &[command, &rest].concat()).exits(3).error("manual/switched-off");
        let way_out = format!("`KEY_ROTATION_ENABLED=true keywheel {} acme/patients ...`", command[0]);
        let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&way_out), "{said}");
    }
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM key_versions"), [json!({"n": 1})]);
}

#[test]
fn in_ci_a_keystore_in_the_checkout_is_refused_while_the_record_stays() {
    let sandbox = Sandbox::with("", NIGHTLY);
    let state = format!("sqlite:{}", sandbox.dir().with_file_name("state.db").display());
    let apply = ["apply", "--auto-approve", "--state", &state];
    sandbox.at(NOON, &apply).env("CI", "true").exits(3).error("apply/ephemeral-keystore");
    sandbox.at(NOON, &[&apply[..], &["--ephemeral-state"]].concat()).env("CI", "true").exits(0);
}

#[test]
fn a_secret_by_its_looks_goes_no_further_than_its_document() {
    let canary = "AKIAIOSFODNN7EXAMPLE";
    let sandbox = Sandbox::with(
        "",
        &NIGHTLY.replace(
            "key_type: phi_data\nrotation_i",
            &format!("description: token {canary}\nkey_type: phi_data\nrotation_i"),
        ),
    );
    let plan = sandbox.at(NOON, &["plan", "--format", "json", "-v"]).exits(0);
    assert!(plan.stdout.contains("secret/literal") && !plan.stdout.contains(canary), "{}", plan.stdout);
    sandbox.at(NOON, APPLY).exits(0);
    let database = fs::read(sandbox.database()).unwrap();
    assert!(!String::from_utf8_lossy(&database).contains(canary));
}

#[test]
fn a_reason_says_something() {
    let sandbox = applied();
    for arguments in [
        &["rotate", "acme/patients", "--auto-approve", "--reason", " "][..],
        &["apply", "--auto-approve", "--allow-older", ""],
    ] {
        sandbox.at(NOON, arguments).exits(1).says("");
    }
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM key_versions"), [json!({"n": 1})]);
}

#[test]
fn a_file_is_read_however_its_extension_is_written() {
    let sandbox = Sandbox::new("");
    sandbox.write("policies/acme/keys.YAML", NIGHTLY);
    sandbox.commit_all("in capitals");
    assert_eq!(actions(&sandbox.at(NOON, &["plan", "--format", "json"]).exits(0).json()).len(), 3);
}

#[test]
fn adoption_shows_what_it_will_change_at_the_key_and_changes_it_once() {
    let moto = Moto::start();
    let kms = Kms::new(moto.endpoint());
    let sandbox = aws_sandbox(moto.endpoint());
    let arn = kms.create("alias/key-0", &json!({"Description": "legacy"}));
    let adopted = format!("kms_key_id: {arn}\ndescription: ours now\nkms_alias");
    sandbox.commit(&documents(1).replace("kms_alias", &adopted));
    let plan = sandbox.keywheel(&["plan", "--format", "json"]).exits(0).json();
    let change = plan["changes"].as_array().unwrap().iter().find(|change| change["action"] == "adopt").unwrap();
    assert_eq!(
        (&change["before"]["description"], &change["after"]["description"]),
        (&json!("legacy"), &json!("ours now"))
    );
    sandbox.keywheel(APPLY).exits(0);
    assert_eq!(kms.describe(&arn)["Description"], "ours now");
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_key_whose_alias_was_moved_fails_the_apply_and_is_not_rotated_by_hand_either() {
    let moto = Moto::start();
    let kms = Kms::new(moto.endpoint());
    let sandbox = aws_sandbox(moto.endpoint());
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).exits(0);
    let foreign = kms.call("CreateKey", &json!({}))["KeyMetadata"]["KeyId"].clone();
    kms.call("UpdateAlias", &json!({"AliasName": "alias/key-0", "TargetKeyId": foreign}));
    let keys = kms.keys().len();
    sandbox.keywheel(APPLY).exits(7).says("1 key needs a person");
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(3).error("manual/drift");
    assert_eq!(kms.keys().len(), keys, "a key was made that could not be promoted");
}

#[test]
fn another_repository_of_other_tenants_begins_in_the_same_account() {
    let moto = Moto::start();
    let first = aws_sandbox(moto.endpoint());
    first.commit(&documents(1));
    first.keywheel(APPLY).exits(0);
    let second = aws_sandbox(moto.endpoint());
    second.write(
        "policies/globex/keys.yaml",
        &documents(1).replace("acme", "globex").replace("alias/key", "alias/other"),
    );
    second.commit_all("other tenants");
    second.keywheel(APPLY).exits(0);
    // The same tenant with an empty database is what a lost one looks like.
    let lost = aws_sandbox(moto.endpoint());
    lost.commit(&documents(1));
    lost.keywheel(APPLY).exits(3).error("state/unknown-keys");
}
