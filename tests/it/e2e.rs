//! The binary from end to end, as a user runs it: on real git repositories, against a real moto server over HTTP, with a
//! plain SQLite client looking at the database, and with libfaketime where a test needs another day.
//!
//! moto lets a disabled key decrypt, so that nothing here is concluded from what key states do.

use serde_json::Value;

use crate::support::kms::Kms;
use crate::support::moto::Moto;
use crate::support::sandbox::Sandbox;

mod access;
mod accidents;
mod alerts;
mod approvals;
mod audit;
mod by_hand;
mod changes;
mod checkpoints;
mod compliance;
mod crashes;
mod databases;
mod flags;
mod forecast;
mod guardrails;
mod interrupted;
mod kept;
mod localstack;
mod lost;
mod providers;
mod refusals;
mod retention;
mod retention_aws;
mod review;
mod saved_plans;
mod secrets;
mod signed;
mod signed_openpgp;
mod state;
mod story;
mod tenants;
mod usage;

/// A day's noon, and the slots after it.
const NOON: &str = "2026-03-01 12:00:00";

/// A policy of the local provider with one key, due each night at two.
const NIGHTLY: &str = "
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: Nightly
key_type: phi_data
rotation_interval_days: 1
rotation_time_of_day: \"02:00:00\"
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: patients
key_type: phi_data
rotation_policy: Nightly
";

/// Documents of the local provider: further keys of [`NIGHTLY`]'s policy.
fn with_keys(count: usize) -> String {
    let key = |number| NIGHTLY.split_once("---").unwrap().1.replace("patients", &format!("key-{number:03}"));
    (0..count).fold(NIGHTLY.to_owned(), |documents, number| format!("{documents}---{}", key(number)))
}

/// What `keywheel.yaml` says of an emulator of AWS KMS.
fn aws(endpoint: &str) -> String {
    format!(
        "apply_from: refs/heads/main\nproviders:\n  aws_kms: {{region: us-east-1, endpoint_url: \"{endpoint}\", \
         consistency_delay: 0s, operation_timeout: 9s, connect_timeout: 1s}}\n"
    )
}

/// A repository whose keys are in an emulator of AWS KMS, with credentials for it.
pub(crate) fn aws_sandbox(endpoint: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(&aws(endpoint));
    sandbox.set("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000");
    sandbox.set("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    sandbox
}

/// Nobody's; no output may ever show it.
const SECRET_ACCESS_KEY: &str = "canary-of-the-secret-access-key";

/// The actions of a plan's changes, with their objects' names, in order.
fn actions(plan: &Value) -> Vec<String> {
    let changes = plan["changes"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    changes.iter().map(|change| format!("{} {}", text(&change["action"]), text(&change["object"]["name"]))).collect()
}
