//! A key that exists comes under a policy by way of a pull request, and rotates the night after.

use serde_json::{Value, json};

use super::{Kms, Moto, NOON, Sandbox, actions, aws, aws_sandbox};
use crate::support::postgres::Server;
use crate::support::sandbox::faked;

/// The policy of the original description, and a key as a pull request adds them.
fn documents(kms_key_id: &str) -> String {
    format!(
        "
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: healthcare-org-123
policy_name: Daily PHI Key Rotation
description: Rotate PHI encryption keys daily at 2 AM UTC
key_type: phi_data
kms_provider: aws_kms
status: active
rotation_trigger: time_based
rotation_interval_days: 1
rotation_time_of_day: \"02:00:00\"
timezone: UTC
enable_rollback: true
rollback_period_hours: 24
retain_old_keys_days: 30
compliance_tags: [HIPAA, SOC2]
notification_settings:
  email: [security@healthcare-org.com]
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: healthcare-org-123
key_name: patient-data-encryption-key
key_type: phi_data
kms_provider: aws_kms
kms_region: us-east-1
kms_alias: alias/patient-data
kms_key_id: {kms_key_id}
rotation_policy: Daily PHI Key Rotation
"
    )
}

const FILE: &str = "policies/healthcare-org-123/phi.yaml";

/// A repository whose `main` has no documents yet, and a branch that adds them.
fn pull_request(endpoint: &str, kms_key_id: &str) -> Sandbox {
    let sandbox = aws_sandbox(endpoint);
    open_pull_request(&sandbox, kms_key_id);
    sandbox
}

fn open_pull_request(sandbox: &Sandbox, kms_key_id: &str) {
    sandbox.commit_all("an empty policy repository");
    sandbox.git(&["checkout", "-qb", "daily-phi-rotation"]);
    sandbox.write(FILE, &documents(kms_key_id));
    sandbox.commit_all("rotate PHI keys daily");
}

fn merge(sandbox: &Sandbox) {
    sandbox.git(&["checkout", "-q", "main"]);
    sandbox.git(&["merge", "-q", "--no-ff", "-m", "merge the pull request", "daily-phi-rotation"]);
}

#[test]
fn an_existing_key_is_adopted_by_a_pull_request_and_rotates_the_night_after() {
    an_existing_key_rotates(aws_sandbox, |_| {}, Sandbox::sql);
}

#[test]
fn so_it_is_with_the_state_in_postgresql() {
    let server = Server::start("");
    let sandbox = |endpoint: &str| {
        let mut sandbox = aws_sandbox(endpoint);
        let config = format!("apiVersion: keywheel/v1\nkind: Config\nstate: ${{KEYWHEEL_STATE}}\n{}", aws(endpoint));
        sandbox.write("keywheel.yaml", &config);
        sandbox.set("KEYWHEEL_STATE", &server.url("postgres"));
        sandbox
    };
    let move_to = |instant: &str| {
        server.stop("fast");
        server.start_again(&faked(instant));
    };
    let rows = |_: &Sandbox, sql: &str| {
        let rows = server.query("postgres", &format!("SELECT json_agg(row_to_json(t)) FROM ({sql}) AS t")).unwrap();
        serde_json::from_str(&rows).unwrap()
    };
    an_existing_key_rotates(sandbox, move_to, rows);
}

/// The story, in a repository of AWS keys whose state is somewhere: the clock there moves when it is told so, and a plain
/// client reads rows.
fn an_existing_key_rotates(
    sandbox: impl Fn(&str) -> Sandbox,
    move_to: impl Fn(&str),
    rows: impl Fn(&Sandbox, &str) -> Vec<Value>,
) {
    let moto = Moto::start_at(NOON);
    let kms = Kms::new(moto.endpoint());
    let key_policy = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "clinic", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "kms:*", "Resource": "*"}]})
    .to_string();
    let first = kms.create(
        "alias/patient-data",
        &json!({"Description": "patients' records", "Policy": key_policy,
            "Tags": [{"TagKey": "team", "TagValue": "clinic"}]}),
    );
    kms.call(
        "CreateGrant",
        &json!({"KeyId": first, "Name": "reports", "GranteePrincipal": "arn:aws:iam::123456789012:role/reports",
            "Operations": ["Decrypt"]}),
    );
    let (ciphertext, by) = kms.encrypt("alias/patient-data", "a patient's record");
    assert_eq!(by, first);

    // The review of the pull request: a plan, and nothing is written.
    let sandbox = sandbox(moto.endpoint());
    open_pull_request(&sandbox, &first);
    let plan = sandbox.at("2026-03-01 12:10:00", &["plan", "--format", "json"]).exits(0).json();
    let adoption = ["create keywheel.yaml", "create Daily PHI Key Rotation", "adopt patient-data-encryption-key"];
    assert_eq!(actions(&plan), adoption);
    assert_eq!(plan["commit"], sandbox.git(&["rev-parse", "HEAD"]));
    assert!(sandbox.state().is_empty(), "a plan makes no state");
    sandbox.at("2026-03-01 12:11:00", &["apply", "--auto-approve"]).exits(3).error("apply/not-on-branch");
    assert_eq!(kms.tags(&first), [("team".to_owned(), "clinic".to_owned())], "nothing was written to AWS");

    // The merge: the plan is saved, and applied by the job of `main`.
    merge(&sandbox);
    sandbox.at("2026-03-01 12:20:00", &["plan", "--out", "plan.json"]).exits(0).says("Daily PHI Key Rotation");
    move_to("2026-03-01 12:21:00");
    sandbox.at("2026-03-01 12:21:00", &["apply", "plan.json"]).exits(0);
    assert_eq!(kms.keys(), std::slice::from_ref(&first), "adoption makes and rotates nothing");
    sandbox.at("2026-03-01 12:22:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    sandbox.at("2026-03-02 01:59:50", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");

    // At two in the night it is due.
    move_to("2026-03-02 02:00:05");
    let due = sandbox.at("2026-03-02 02:00:05", &["plan", "--detailed-exitcode", "--format", "json"]).exits(2).json();
    assert_eq!(actions(&due), ["rotate patient-data-encryption-key"]);
    let applied = sandbox.at("2026-03-02 02:00:10", &["apply", "--auto-approve", "--format", "json"]).exits(0);
    let report = applied.report();
    assert_eq!(
        report["policies"],
        json!([{"tenant_id": "healthcare-org-123", "policy_name": "Daily PHI Key Rotation", "status": "success",
            "rotated_keys": 1, "failed_keys": 0}])
    );

    // Applications go on as they are: old data decrypts, new data comes from the successor.
    assert_eq!(kms.decrypt(&ciphertext), "a patient's record");
    let (_, second) = kms.encrypt("alias/patient-data", "a new record");
    assert_ne!(second, first);
    assert_eq!(kms.keys().len(), 2);
    let successor = kms.describe(&second);
    assert_eq!(successor["Description"], "patients' records");
    for field in ["KeySpec", "KeyUsage", "Origin"] {
        assert_eq!(successor[field], kms.describe(&first)[field], "{field}");
    }
    let policy = kms.call("GetKeyPolicy", &json!({"KeyId": second, "PolicyName": "default"}));
    assert_eq!(policy["Policy"].as_str().unwrap(), key_policy);
    let grants = kms.call("ListGrants", &json!({"KeyId": second}));
    assert_eq!(grants["Grants"][0]["GranteePrincipal"], "arn:aws:iam::123456789012:role/reports");
    assert_eq!(grants["Grants"][0]["Operations"], json!(["Decrypt"]));
    let tags = kms.tags(&second);
    assert!(tags.contains(&("team".to_owned(), "clinic".to_owned())), "{tags:?}");
    let marks = ["keywheel:key-id", "keywheel:lineage", "keywheel:rotation-id", "keywheel:tenant-id"];
    assert!(marks.iter().all(|mark| tags.iter().any(|(name, _)| name == mark)), "{tags:?}");

    // It is in the history, in the database, and done.
    let history = sandbox.at("2026-03-02 02:05:00", &["history", "--format", "json"]).exits(0).json();
    let rotation = &history["rotations"][0];
    assert_eq!((&rotation["status"], &rotation["cause"]), (&json!("settled"), &json!("due")), "{history:#}");
    assert_eq!(rotation["correlation_id"], report["correlation_id"]);
    assert_eq!((&rotation["from_ref"], &rotation["to_ref"]), (&json!(first), &json!(second)));
    let versions = rows(&sandbox, "SELECT provider_ref, state FROM key_versions ORDER BY number");
    let expected = [(&first, "deactivated"), (&second, "active")];
    let expected = expected.map(|(arn, state)| json!({"provider_ref": arn, "state": state}));
    assert_eq!(versions, expected);
    let policy = "SELECT CAST(next_rotation_at AS text) AS next, CAST(compliance_tags AS text) AS tags,
                      last_modified_by_author AS author FROM key_rotation_policies";
    let policy = &rows(&sandbox, policy)[0];
    assert!(policy["next"].as_str().unwrap().replace(' ', "T").starts_with("2026-03-03T02:00:00"), "{policy}");
    let tags: Value = serde_json::from_str(policy["tags"].as_str().unwrap()).unwrap();
    assert_eq!(tags, json!(["HIPAA", "SOC2"]));
    assert_eq!(policy["author"], "Ada <ada@example.org>");
    move_to("2026-03-02 02:06:00");
    sandbox.at("2026-03-02 02:06:00", &["apply", "--auto-approve"]).exits(0).says("No changes");
    assert_eq!(kms.keys().len(), 2);
}

#[test]
fn a_key_is_adopted_by_its_id_its_arn_or_its_alias() {
    let moto = Moto::start();
    let kms = Kms::new(moto.endpoint());
    let arn = kms.create("alias/patient-data", &json!({}));
    let id = arn.rsplit('/').next().unwrap();
    let alias_arn = "arn:aws:kms:us-east-1:123456789012:alias/patient-data";
    for name in [&arn, id, "alias/patient-data", alias_arn] {
        let sandbox = pull_request(moto.endpoint(), name);
        merge(&sandbox);
        sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
        assert_eq!(sandbox.sql("SELECT provider_ref FROM key_versions"), [json!({"provider_ref": arn})], "{name}");
        sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    }
    assert_eq!(kms.keys(), [arn]);
}
