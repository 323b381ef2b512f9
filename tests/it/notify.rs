//! Word gets out: what is put into the outbox, and what real receivers get of it.

use serde_json::Value;

use crate::support::sandbox::Sandbox;

mod facts;
mod receivers;
mod trouble;

const APPLY: &[&str] = &["apply", "--auto-approve"];
const NOON: &str = "2026-03-01 12:00:00";

/// Lets the tenant name the variables of these tests.
const SECRETS: &str = "secrets: {acme: [HOOK, HOOK_SECRET, SLACK]}\n";

/// A policy that tells a webhook and Slack, with one key of the local provider that is due each night at two.
const TOLD: &str = "
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: Nightly
key_type: phi_data
rotation_interval_days: 1
rotation_time_of_day: \"02:00:00\"
notification_settings:
  webhook_url: ${HOOK}
  webhook_secret: ${HOOK_SECRET}
  slack_webhook: ${SLACK}
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: patients
key_type: phi_data
rotation_policy: Nightly
";

/// A repository whose one key was made at noon.
fn told() -> Sandbox {
    let sandbox = Sandbox::with(SECRETS, TOLD);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox
}

/// A command about the one key, with a reason.
fn by_hand(command: &'static str) -> [&'static str; 5] {
    [command, "acme/patients", "--reason", "an old client breaks", "--auto-approve"]
}

/// The messages to one receiver, the oldest first: kind and text.
fn messages(sandbox: &Sandbox, channel: &str) -> Vec<(String, String)> {
    let query = format!("SELECT payload FROM outbox WHERE channel = '{channel}' ORDER BY created_at, id");
    let rows = sandbox.sql(&query);
    let payloads = rows.iter().map(|row| serde_json::from_str::<Value>(row["payload"].as_str().unwrap()).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    payloads.map(|payload| (text(&payload["kind"]), text(&payload["text"]))).collect()
}

fn kinds(sandbox: &Sandbox) -> Vec<String> {
    messages(sandbox, "webhook").into_iter().map(|(kind, _)| kind).collect()
}
