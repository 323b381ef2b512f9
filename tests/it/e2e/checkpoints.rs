//! Signed checkpoints of the audit log, in SQLite and in PostgreSQL, held against OpenSSH's own `ssh-keygen`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::kept::{Kept, on_both};
use crate::support::sandbox::Done;

const CHECKPOINT: &[&str] = &["audit", "checkpoint", "--sign-with", "key", "--out", "kept/audit.json"];
const VERIFY: &[&str] =
    &["audit", "verify", "--checkpoint", "kept/audit.json", "--allowed-signers", "signers", "--format", "json"];

on_both! {
    a_checkpoint_is_signed_as_ssh_keygen_signs
    a_log_that_grew_goes_on_from_its_checkpoint
    a_log_that_was_cut_off_is_found
    a_log_that_was_written_anew_is_found
    a_chain_that_is_missing_is_found
    a_checkpoint_that_shows_more_than_the_log_is_not_replaced
    a_checkpoint_counts_only_if_somebody_signed_it_who_may
    a_checkpoint_of_another_database_says_nothing_about_this_one
    a_key_that_is_not_kept_well_signs_nothing
}

/// Makes a key, allows it, and signs a checkpoint with it.
fn signed(kept: &Kept) -> Done {
    let public = ssh_key(kept, "key", "");
    kept.sandbox.write("signers", &format!("# the nightly job\nci@example.org namespaces=\"keywheel-audit\" {public}"));
    kept.sandbox.keywheel(CHECKPOINT).exits(0)
}

/// Makes a key, and gives its public half.
fn ssh_key(kept: &Kept, file: &str, passphrase: &str) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-C", "", "-N", passphrase, "-f"]).arg(kept.sandbox.path(file));
    assert!(command.status().expect("ssh-keygen is not installed: tests/run installs it").success());
    kept.sandbox.read(&format!("{file}.pub"))
}

/// Lets entries be taken away from the log, as somebody with the database's password can.
fn unguard(kept: &Kept) {
    match kept.postgres {
        Some(_) => kept.tamper("DROP TRIGGER audit_log_is_never_changed ON audit_log"),
        None => kept.tamper("DROP TRIGGER audit_log_is_never_shortened"),
    }
}

/// What does not go on from the checkpoint: whose chain, where, and why.
fn lost(kept: &Kept) -> Vec<(Value, Value, String)> {
    // No link of what is there is broken: without a checkpoint it is the record that tells of an entry that is not.
    let alone = kept.sandbox.keywheel(&["audit", "verify", "--format", "json"]).exits(1).json();
    assert!(alone["broken"].is_null() && alone["unlogged"].is_array(), "{alone:#}");
    let report = kept.sandbox.keywheel(VERIFY).exits(1).json();
    let lost = report["checkpoint"]["lost"].as_array().unwrap();
    lost.iter().map(|link| (link["tenant_id"].clone(), link["seq"].clone(), link["what"].to_string())).collect()
}

fn a_checkpoint_is_signed_as_ssh_keygen_signs(kept: &Kept) {
    signed(kept).says("Signed: 6 entries in 2 chains");
    let file = kept.sandbox.read("kept/audit.json");
    let checkpoint: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file, format!("{checkpoint}\n"), "it is canonical: its fields are sorted, on one line");
    assert_eq!((&checkpoint["entries"], &checkpoint["heads"][1]["tenant_id"]), (&json!(6), &json!("acme")));
    let verify = |identity: &str, namespace: &str| {
        let mut command = Command::new("ssh-keygen");
        command
            .current_dir(kept.sandbox.dir())
            .args(["-Y", "verify", "-f", "signers", "-I", identity, "-n", namespace]);
        command.args(["-s", "kept/audit.json.sig"]).stdin(File::open(kept.sandbox.path("kept/audit.json")).unwrap());
        command.output().unwrap().status.success()
    };
    assert!(verify("ci@example.org", "keywheel-audit"));
    assert!(!verify("ci@example.org", "git") && !verify("eve@example.org", "keywheel-audit"));
    let report = kept.sandbox.keywheel(VERIFY).exits(0).json();
    assert_eq!(report["checkpoint"]["signer"], "ci@example.org");

    // And what ssh-keygen signed counts here: its signature of the same file is the same.
    fs::remove_file(kept.sandbox.path("kept/audit.json.sig")).unwrap();
    let mut sign = Command::new("ssh-keygen");
    sign.current_dir(kept.sandbox.dir()).args([
        "-Y",
        "sign",
        "-q",
        "-f",
        "key",
        "-n",
        "keywheel-audit",
        "kept/audit.json",
    ]);
    assert!(sign.status().unwrap().success());
    kept.sandbox.keywheel(VERIFY).exits(0);
}

fn a_log_that_grew_goes_on_from_its_checkpoint(kept: &Kept) {
    signed(kept);
    kept.sandbox.keywheel(&["rotate", "acme/key-000", "--reason", "a test", "--auto-approve"]).exits(0);
    kept.sandbox.keywheel(VERIFY).exits(0);
    let text = &VERIFY[..VERIFY.len() - 2];
    kept.sandbox.keywheel(text).exits(0).says("It goes on from the checkpoint of");
    // The next one takes its place.
    kept.sandbox.keywheel(CHECKPOINT).exits(0).says("Signed: 7 entries");
    kept.sandbox.keywheel(VERIFY).exits(0);
}

fn a_log_that_was_cut_off_is_found(kept: &Kept) {
    signed(kept);
    unguard(kept);
    kept.tamper("DELETE FROM audit_log WHERE tenant_id = 'acme' AND seq = 5");
    let found = lost(kept);
    assert_eq!((found.len(), &found[0].0, &found[0].1), (1, &json!("acme"), &json!(5)), "{found:?}");
    assert!(found[0].2.contains("it had 5 entries when it was signed, and ends at 4"), "{found:?}");
}

fn a_log_that_was_written_anew_is_found(kept: &Kept) {
    signed(kept);
    unguard(kept);
    kept.tamper("DELETE FROM audit_log WHERE tenant_id = 'acme' AND seq >= 4");
    for key in ["acme/key-000", "acme/key-001"] {
        kept.sandbox.keywheel(&["rotate", key, "--reason", "a test", "--auto-approve"]).exits(0);
    }
    let found = lost(kept);
    assert_eq!((found.len(), &found[0].1), (1, &json!(5)), "{found:?}");
    assert!(found[0].2.contains("the chain was rewritten"), "{found:?}");
}

fn a_chain_that_is_missing_is_found(kept: &Kept) {
    signed(kept);
    unguard(kept);
    kept.tamper("DELETE FROM audit_log WHERE tenant_id = 'acme'");
    let found = lost(kept);
    assert!(found[0].2.contains("the whole chain is missing: it had 5 entries"), "{found:?}");
}

fn a_checkpoint_that_shows_more_than_the_log_is_not_replaced(kept: &Kept) {
    signed(kept);
    let before = kept.sandbox.read("kept/audit.json");
    unguard(kept);
    kept.tamper("DELETE FROM audit_log WHERE tenant_id = 'acme' AND seq = 5");
    kept.sandbox.keywheel(CHECKPOINT).exits(3).error("audit/checkpoint-lost");
    kept.sandbox.write("kept/audit.json", "a recipe");
    kept.sandbox.keywheel(CHECKPOINT).exits(1).error("audit/checkpoint-form");
    kept.sandbox.write("kept/audit.json", &before);
    // Nor does a broken log get one.
    kept.tamper("DELETE FROM audit_log WHERE tenant_id = 'acme' AND seq = 2");
    kept.sandbox
        .keywheel(&["audit", "checkpoint", "--sign-with", "key", "--out", "new.json"])
        .exits(3)
        .error("audit/broken");
}

fn a_checkpoint_counts_only_if_somebody_signed_it_who_may(kept: &Kept) {
    signed(kept);
    let sandbox = &kept.sandbox;
    let (signers, checkpoint) = (sandbox.read("signers"), sandbox.read("kept/audit.json"));
    sandbox.write("kept/audit.json", &checkpoint.replacen("\"entries\":6", "\"entries\":5", 1));
    sandbox.keywheel(VERIFY).exits(1).error("audit/checkpoint-signature");
    sandbox.write("kept/audit.json", &checkpoint);
    let stranger = ssh_key(kept, "stranger", "");
    for refused in [
        format!("ci@example.org {stranger}"),
        signers.replace("keywheel-audit", "git"),
        signers.replace("namespaces", "valid-before=\"20200101Z\",namespaces"),
        signers.replace("namespaces", "valid-after=\"29990101Z\",namespaces"),
    ] {
        sandbox.write("signers", &refused);
        sandbox.keywheel(VERIFY).exits(1).error("audit/checkpoint-signature");
    }
    sandbox.write("signers", "whoever can read this");
    sandbox.keywheel(VERIFY).exits(1).error("audit/allowed-signers");
    fs::remove_file(sandbox.path("kept/audit.json.sig")).unwrap();
    sandbox.keywheel(VERIFY).exits(1).error("audit/checkpoint-file");
}

fn a_checkpoint_of_another_database_says_nothing_about_this_one(kept: &Kept) {
    signed(kept);
    kept.tamper("UPDATE meta SET lineage = '00000000-0000-4000-8000-000000000000'");
    kept.sandbox.keywheel(VERIFY).exits(1).error("audit/checkpoint-foreign");
}

fn a_key_that_is_not_kept_well_signs_nothing(kept: &Kept) {
    ssh_key(kept, "key", "");
    fs::set_permissions(kept.sandbox.path("key"), Permissions::from_mode(0o640)).unwrap();
    kept.sandbox.keywheel(CHECKPOINT).exits(3).error("audit/checkpoint-key");
    fs::remove_file(kept.sandbox.path("key")).unwrap();
    ssh_key(kept, "key", "a passphrase");
    let refused = kept.sandbox.keywheel(CHECKPOINT).exits(1).error("audit/checkpoint-key");
    assert!(refused.stderr.contains("encrypted with a passphrase"), "{}", refused.stderr);
    // From the environment as well.
    fs::remove_file(kept.sandbox.path("key")).unwrap();
    ssh_key(kept, "key", "");
    let unsaid = ["audit", "checkpoint", "--out", "kept/audit.json"];
    kept.sandbox.keywheel(&unsaid).exits(1);
    kept.sandbox.keywheel(&unsaid).env("KEYWHEEL_CHECKPOINT_KEY", "key").exits(0);
}
