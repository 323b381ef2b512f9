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
        ("ECC_NIST_P256", "KEY_AGREEMENT"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
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
