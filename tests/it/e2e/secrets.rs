//! Canaries: secrets that a run is given, and that stand in nothing that it says or writes.

use std::fs;
use std::process::Command;

use super::{NIGHTLY, Sandbox, aws};
use crate::support::hostile::{Hostile, Reply};

/// Thirty-two bytes, as the root key is written.
const ROOT_KEY: &str = "Y2FuYXJ5LW9mLXRoZS1yb290LWtleS0zMi1ieXRlcyE=";
const ROOT_KEY_BYTES: &str = "canary-of-the-root-key-32-bytes!";
const LITERAL: &str = "https://hooks.slack.com/services/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";
const VALUE: &str = "https://hooks.slack.com/services/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";
const SESSION_TOKEN: &str = "canary-of-the-session-token";

#[test]
fn no_secret_is_said_or_written_anywhere() {
    // An endpoint that takes requests, so that they are signed, and answers with something else.
    let endpoint = Hostile::start(|_| Reply::error(400, "AccessDeniedException"));
    let config = aws(endpoint.endpoint()).replace("apply_from: refs/heads/main\n", "");
    let mut sandbox = Sandbox::new(&format!("secrets: {{acme: [SLACK_WEBHOOK_URL]}}\n{config}"));
    for (name, value) in [
        ("KEYWHEEL_ROOT_KEY", ROOT_KEY),
        ("SLACK_WEBHOOK_URL", VALUE),
        ("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000"),
        ("AWS_SECRET_ACCESS_KEY", super::SECRET_ACCESS_KEY),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
        ("RUST_LOG", "trace"),
    ] {
        sandbox.set(name, value);
    }
    let notify =
        |hook: &str| format!("key_type: phi_data\nnotification_settings: {{slack_webhook: \"{hook}\"}}\nrotation_i");
    let literal = NIGHTLY.replace("key_type: phi_data\nrotation_i", &notify(LITERAL));
    let variable = NIGHTLY
        .replace("key_type: phi_data\nrotation_i", &notify("${SLACK_WEBHOOK_URL}"))
        .replace("Nightly", "By variable")
        .replace("patients", "by-variable");
    sandbox.write("policies/acme/more.yaml", &variable);
    let in_aws = NIGHTLY
        .replace("key_type: phi_data\n", "key_type: phi_data\nkms_provider: aws_kms\n")
        .replace("rotation_policy:", "kms_alias: alias/patients\nrotation_policy:")
        .replace("acme", "globex");
    sandbox.write("policies/globex/keys.yaml", &in_aws);
    sandbox.commit(&literal);

    let mut said = String::new();
    let runs: &[&[&str]] = &[
        &["validate"],
        &["validate", "--format", "json"],
        &["plan", "-vv", "--out", "plan.json"],
        &["plan", "--format", "json", "--log-format", "json"],
        &["apply", "-vv", "plan.json"],
        &["rotate", "acme/patients", "--reason", "a test", "--auto-approve", "--format", "json"],
        &["plan", "-vv"],
        &["status", "-v"],
        &["status", "--format", "json"],
        &["history", "-v"],
        &["explain", "acme/Nightly", "-v"],
        &["explain", "acme/By variable", "--format", "json"],
        &["drift"],
        &["data", "encrypt", "acme/patients"],
        &["state", "backup"],
        &["state", "verify", "-vv"],
        &["audit", "checkpoint", "--sign-with", "../home/key", "--out", ".keywheel/audit.json"],
        &["audit", "verify", "-vv"],
    ];
    let signing_key = signing_key(&sandbox);
    for arguments in runs {
        let done = sandbox.keywheel(arguments).ends();
        said.push_str(&format!("\n\n$ keywheel {}\n{}{}", arguments.join(" "), done.stdout, done.stderr));
        assert!(matches!(done.status, Some(0 | 7)), "{said}");
    }
    // What an apply writes down when it loses the database.
    sandbox.tamper(
        "CREATE TRIGGER lost BEFORE INSERT ON rotation_steps WHEN NEW.outcome = 'succeeded' \
         BEGIN SELECT RAISE(ABORT, 'the disk is gone'); END",
    );
    let lost = sandbox.keywheel(&["rotate", "acme/patients", "--reason", "a test", "--auto-approve"]).exits(7);
    assert!(lost.stdout.contains("recovery-"), "{}", lost.stdout);
    said.push_str(&lost.stdout);
    sandbox.tamper("DROP TRIGGER lost");
    // An edit of the literal shows that it changed, and neither what from nor what to.
    sandbox
        .commit(&literal.replace("HookO1", "Hook02").replace("canaryOfTheLiteralHook01", "canaryOfTheOtherHook0002"));
    let plan = sandbox.keywheel(&["plan", "-vv"]).ends();
    said.push_str(&plan.stdout);
    said.push_str(&plan.stderr);
    // A root key that is none is not repeated in the error.
    let wrong = sandbox.keywheel(&["plan"]).env("KEYWHEEL_ROOT_KEY", "canary of a typing mistake").ends();
    said.push_str(&wrong.stdout);
    said.push_str(&wrong.stderr);

    let mut written = vec![("plan.json".into(), fs::read(sandbox.dir().join("plan.json")).unwrap())];
    let folder = fs::read_dir(sandbox.dir().join(".keywheel")).unwrap().map(Result::unwrap);
    written.extend(folder.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())));
    assert!(written.len() > 2, "the database and the keystore are looked at too: {written:?}");
    let canaries = [
        ROOT_KEY,
        ROOT_KEY_BYTES,
        "canaryOfTheLiteralHook01",
        "canaryOfTheOtherHook0002",
        "canaryOfTheVariable00002",
        super::SECRET_ACCESS_KEY,
        SESSION_TOKEN,
        "canary of a typing mistake",
        &signing_key,
    ];
    for canary in canaries {
        if let Some(at) = said.find(canary) {
            panic!("{canary} was said:\n{}", said.get(at.saturating_sub(2000)..at + canary.len()).unwrap_or(&said));
        }
        for (name, bytes) in &written {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} stands in {}", name.display());
        }
    }
}

/// Makes a key that signs checkpoints, and gives a part of its private half.
fn signing_key(sandbox: &Sandbox) -> String {
    let file = sandbox.path("../home/key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file);
    assert!(command.status().expect("ssh-keygen is not installed: tests/run installs it").success());
    let text = fs::read_to_string(file).unwrap();
    // The seed stands in the fourth line of base64.
    text.lines().nth(4).unwrap().to_owned()
}
