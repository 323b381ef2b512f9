//! What key states do, against LocalStack, which keeps to them as AWS does and moto does not.

use serde_json::{Value, json};

use super::providers::documents;
use super::{Kms, aws_sandbox};
use crate::support::localstack::LocalStack;

const APPLY: &[&str] = &["apply", "--auto-approve"];

#[test]
fn old_data_decrypts_until_its_version_is_disabled() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).exits(0);
    let (ciphertext, first) = kms.encrypt("alias/key-0", "a patient");
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);
    let (_, second) = kms.encrypt("alias/key-0", "another patient");
    assert_ne!(first, second);
    assert_eq!(kms.describe(&first)["KeyState"], "Enabled", "a rotation disables nothing");
    assert_eq!(kms.decrypt(&ciphertext), "a patient");
    sandbox.keywheel(&["drift", "--detailed-exitcode"]).exits(0);

    kms.call("DisableKey", &json!({"KeyId": first}));
    let (status, answer) = kms.send("Decrypt", &json!({"CiphertextBlob": ciphertext}));
    assert_eq!((status, &answer["__type"]), (400, &json!("DisabledException")));
    // Nobody asked for that in git.
    let drift = sandbox.keywheel(&["drift", "--format", "json"]).exits(0).json();
    assert_eq!(drift["drift"][0]["observed"], "disabled", "{drift:#}");
    assert!(drift["drift"][0]["reason"]["message"].as_str().unwrap().contains(&first), "{drift:#}");
}

#[test]
fn an_adopted_key_rotates_and_its_old_data_decrypts() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    let tags = json!([{"TagKey": "team", "TagValue": "clinic"}]);
    let first = kms.create("alias/key-0", &json!({"Description": "of patients", "Tags": tags}));
    let (ciphertext, _) = kms.encrypt("alias/key-0", "a patient");
    sandbox.commit(&documents(1).replace("kms_alias", &format!("kms_key_id: {first}\nkms_alias")));
    sandbox.keywheel(APPLY).exits(0);
    assert_eq!(kms.keys(), [first.as_str()], "adoption makes nothing");
    let sealed = sandbox.keywheel(&["data", "encrypt", "acme/key-0"]).input(b"a patient").exits(0).stdout;
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);

    let (newer, second) = kms.encrypt("alias/key-0", "another patient");
    assert_ne!(first, second);
    assert_eq!(kms.describe(&second)["Description"], "of patients");
    assert!(kms.tags(&second).contains(&("team".to_owned(), "clinic".to_owned())));
    assert_eq!((kms.decrypt(&ciphertext), kms.decrypt(&newer)), ("a patient".to_owned(), "another patient".to_owned()));
    assert_eq!(sandbox.keywheel(&["data", "decrypt"]).input(sealed.as_bytes()).exits(0).stdout, "a patient");
    // Whoever names a key as well is held to it, and the alias names the new one.
    let (status, answer) = kms.send("Decrypt", &json!({"CiphertextBlob": ciphertext, "KeyId": "alias/key-0"}));
    assert_eq!((status, &answer["__type"]), (400, &json!("IncorrectKeyException")));
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0);
    sandbox.keywheel(&["drift", "--detailed-exitcode"]).exits(0);
}

#[test]
fn an_edit_takes_tags_and_description_away_again_and_a_rotation_brings_none_back() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    let plain = documents(1);
    sandbox
        .commit(&plain.replace("kms_alias", "description: of patients\ntags: {team: clinic, cost: \"42\"}\nkms_alias"));
    sandbox.keywheel(APPLY).exits(0);
    let theirs = json!([{"TagKey": "owner", "TagValue": "somebody"}]);
    kms.call("TagResource", &json!({"KeyId": kms.describe("alias/key-0")["KeyId"], "Tags": theirs}));
    let of_others = || {
        let key = kms.describe("alias/key-0");
        let mut tags = kms.tags(key["Arn"].as_str().unwrap());
        tags.retain(|(name, _)| !name.starts_with("keywheel:"));
        (key["Description"].clone(), tags.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
    };
    assert_eq!(of_others(), (json!("of patients"), vec!["cost".into(), "owner".into(), "team".into()]));
    sandbox.commit(&plain.replace("kms_alias", "tags: {team: clinic}\nkms_alias"));
    sandbox.keywheel(APPLY).exits(0);
    assert_eq!(of_others(), (json!(""), vec!["owner".into(), "team".into()]));
    sandbox.commit(&plain);
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);
    assert_eq!(of_others(), (json!(""), vec!["owner".into()]));
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_lost_database_is_noticed_among_more_keys_than_a_page_has() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    // AWS gives at most 1,000 keys a page.
    for _ in 0..1000 {
        kms.call("CreateKey", &json!({}));
    }
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).exits(0);
    let page = kms.call("ListKeys", &json!({"Limit": 1000}));
    let own = kms.describe("alias/key-0")["Arn"].clone();
    let first = page["Keys"].as_array().unwrap().iter().any(|key| key["KeyArn"] == own);
    assert_eq!((page["Truncated"].as_bool(), first), (Some(true), false), "the key is not in the first page");
    std::fs::remove_file(sandbox.database()).unwrap();
    sandbox.keywheel(&["plan"]).exits(3).error("state/unknown-keys");
}

#[test]
fn an_unusable_primary_is_drift_and_is_not_rotated_until_it_is_usable_again() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    sandbox.commit(&documents(2));
    sandbox.keywheel(APPLY).exits(0);
    let primary = |number: u32| kms.describe(&format!("alias/key-{number}"))["KeyId"].clone();
    let (disabled, doomed) = (primary(0), primary(1));
    kms.call("DisableKey", &json!({"KeyId": disabled}));
    kms.call("ScheduleKeyDeletion", &json!({"KeyId": doomed, "PendingWindowInDays": 7}));
    let plan = || sandbox.keywheel(&["plan", "--as-of", "2027-06-01", "--format", "json"]).exits(0).json();
    let found = plan();
    assert_eq!(found["changes"], json!([]), "{found:#}");
    let observed: Vec<&Value> = found["drift"].as_array().unwrap().iter().map(|drift| &drift["observed"]).collect();
    assert_eq!(observed, ["disabled", "pending_destruction"], "{found:#}");
    sandbox.keywheel(APPLY).exits(7).says("2 keys need a person");
    sandbox.keywheel(&["drift", "--detailed-exitcode"]).exits(6).says("applications cannot use it");
    for (key, code) in [("acme/key-0", "DisabledException"), ("acme/key-1", "KMSInvalidStateException")] {
        sandbox.keywheel(&["explain", key]).exits(0).says("`keywheel drift` asks");
        let refused = sandbox.keywheel(&["data", "encrypt", key]).input(b"a patient").exits(1);
        assert!(refused.stderr.contains(code) && refused.stderr.contains("help: "), "{}", refused.stderr);
    }
    // Cancelling a deletion leaves a key disabled.
    kms.call("CancelKeyDeletion", &json!({"KeyId": doomed}));
    kms.call("EnableKey", &json!({"KeyId": doomed}));
    let found = plan();
    assert_eq!(super::actions(&found), ["rotate key-1"], "{found:#}");
    // A person may give applications a key that works again.
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0).says("is disabled");
    assert_eq!(kms.describe("alias/key-0")["KeyState"], "Enabled");
    assert_eq!(super::actions(&plan()), ["rotate key-0", "rotate key-1"]);
}

#[test]
fn a_rollback_leads_away_from_a_key_that_does_not_work() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).exits(0);
    let (_, first) = kms.encrypt("alias/key-0", "a patient");
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);
    let broken = kms.describe("alias/key-0")["KeyId"].clone();
    kms.call("DisableKey", &json!({"KeyId": broken}));
    sandbox.keywheel(&["rollback", "acme/key-0", "--reason", "it is disabled", "--auto-approve"]).exits(0);
    assert_eq!(kms.encrypt("alias/key-0", "a patient").1, first);
}

#[test]
fn a_key_that_is_to_be_deleted_is_not_adopted() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    let arn = kms.create("alias/key-0", &json!({}));
    kms.call("ScheduleKeyDeletion", &json!({"KeyId": arn, "PendingWindowInDays": 7}));
    sandbox.commit(&documents(1).replace("kms_alias", &format!("kms_key_id: {arn}\nkms_alias")));
    sandbox.keywheel(&["plan"]).exits(7).says("key/not-usable");
    sandbox.keywheel(APPLY).exits(7).says("1 not possible");
    assert_eq!(sandbox.sql("SELECT id FROM encryption_keys"), Vec::<Value>::new());
}

#[test]
fn keys_of_every_usage_are_made_proven_and_succeeded() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    let kinds = [
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("RSA_2048", "SIGN_VERIFY"),
        ("ECC_NIST_P256", "SIGN_VERIFY"),
        ("ECC_NIST_P521", "SIGN_VERIFY"),
        ("ECC_SECG_P256K1", "SIGN_VERIFY"),
        ("ECC_NIST_P256", "KEY_AGREEMENT"),
        ("ECC_NIST_P384", "KEY_AGREEMENT"),
        ("HMAC_224", "GENERATE_VERIFY_MAC"),
        ("HMAC_512", "GENERATE_VERIFY_MAC"),
    ];
    let mut text = String::new();
    for (number, (spec, usage)) in kinds.iter().enumerate() {
        let key = documents(1).split_once("---").unwrap().1.replace("key-0", &format!("key-{number}"));
        text += &format!("---{key}key_spec: {spec}\nkey_usage: {usage}\n");
    }
    sandbox.commit(&documents(0).replace("---\n", ""));
    sandbox.write("policies/acme/kinds.yaml", text.trim_start_matches("---\n"));
    sandbox.commit_all("keys of every kind");
    sandbox.keywheel(APPLY).exits(0);
    for (number, (spec, usage)) in kinds.iter().enumerate() {
        let alias = format!("alias/key-{number}");
        let first = kms.describe(&alias);
        assert_eq!((&first["KeySpec"], &first["KeyUsage"]), (&json!(spec), &json!(usage)));
        let name = format!("acme/key-{number}");
        sandbox.keywheel(&["rotate", &name, "--reason", "a test", "--auto-approve"]).exits(0);
        let second = kms.describe(&alias);
        assert_ne!(first["KeyId"], second["KeyId"], "{spec} {usage}");
        assert_eq!((&second["KeySpec"], &second["KeyUsage"]), (&json!(spec), &json!(usage)));
    }
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_symmetric_multi_region_key_moves_in_every_region() {
    let localstack = LocalStack::start();
    let (sandbox, kms) = (aws_sandbox(localstack.endpoint()), Kms::new(localstack.endpoint()));
    let there = kms.in_region("eu-central-1");
    let arn = kms.create("alias/key-0", &json!({"MultiRegion": true}));
    kms.call("ReplicateKey", &json!({"KeyId": arn, "ReplicaRegion": "eu-central-1"}));
    let id = arn.rsplit('/').next().unwrap().to_owned();
    there.call("CreateAlias", &json!({"AliasName": "alias/key-0", "TargetKeyId": id}));
    sandbox.commit(&documents(1).replace("kms_alias", &format!("multi_region: true\nkms_key_id: {arn}\nkms_alias")));
    sandbox.keywheel(APPLY).exits(0);
    let (ciphertext, _) = kms.encrypt("alias/key-0", "a patient");
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);
    let (here, there_now) = (kms.describe("alias/key-0"), there.describe("alias/key-0"));
    assert_ne!(here["KeyId"], json!(id));
    assert_eq!(here["KeyId"], there_now["KeyId"], "the alias leads to one key in both regions");
    assert_eq!(kms.decrypt(&ciphertext), "a patient");
}
