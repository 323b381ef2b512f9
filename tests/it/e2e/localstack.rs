//! What key states do, against LocalStack, which keeps to them as AWS does and moto does not. Runs where
//! `KEYWHEEL_TEST_LOCALSTACK` names an endpoint.

use serde_json::json;

use super::providers::documents;
use super::{Kms, Sandbox, aws_sandbox};

/// An account of this test's own: LocalStack takes an access key of twelve digits for the account.
fn account(endpoint: &str) -> (Sandbox, Kms) {
    let account = format!("{:012}", keywheel::engine::clock::new_id().as_u128() % 1_000_000_000_000);
    let mut sandbox = aws_sandbox(endpoint);
    sandbox.set("AWS_ACCESS_KEY_ID", &account);
    (sandbox, Kms::of_account(endpoint, &account))
}

#[test]
fn old_data_decrypts_until_its_version_is_disabled() {
    let Ok(endpoint) = std::env::var("KEYWHEEL_TEST_LOCALSTACK") else { return };
    let (sandbox, kms) = account(&endpoint);
    sandbox.commit(&documents(1));
    sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
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
    assert!(drift["drift"].to_string().contains(&first), "{drift:#}");
}

#[test]
fn a_disabled_primary_is_drift_and_is_not_rotated() {
    let Ok(endpoint) = std::env::var("KEYWHEEL_TEST_LOCALSTACK") else { return };
    let (sandbox, kms) = account(&endpoint);
    sandbox.commit(&documents(1));
    sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
    let primary = kms.describe("alias/key-0")["KeyId"].clone();
    kms.call("DisableKey", &json!({"KeyId": primary}));
    let plan = sandbox.keywheel(&["plan", "--as-of", "2099-01-01", "--format", "json"]).exits(0).json();
    assert_eq!(plan["changes"], json!([]), "{plan:#}");
    assert_eq!(plan["drift"][0]["object"]["name"], "key-0", "{plan:#}");
}

#[test]
fn a_key_that_is_to_be_deleted_is_not_adopted() {
    let Ok(endpoint) = std::env::var("KEYWHEEL_TEST_LOCALSTACK") else { return };
    let (sandbox, kms) = account(&endpoint);
    let arn = kms.create("alias/key-0", &json!({}));
    kms.call("ScheduleKeyDeletion", &json!({"KeyId": arn, "PendingWindowInDays": 7}));
    sandbox.commit(&documents(1).replace("kms_alias", &format!("kms_key_id: {arn}\nkms_alias")));
    sandbox.keywheel(&["plan"]).exits(7).says("key/not-usable");
    sandbox.keywheel(&["apply", "--auto-approve"]).exits(7);
    assert_eq!(sandbox.sql("SELECT id FROM encryption_keys"), Vec::<serde_json::Value>::new());
}
