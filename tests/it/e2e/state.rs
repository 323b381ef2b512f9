//! Care of the state, in SQLite and in PostgreSQL: backups, restoring them, checks, and forgetting a key.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::kept::{Kept, on_both};
use super::providers::documents;
use super::{Kms, Moto, NIGHTLY, actions, aws_sandbox, with_keys};
use crate::support::postgres::database;

on_both! {
    a_backup_restores_into_either_kind_of_database
    a_backup_never_takes_the_place_of_a_file
    a_backup_is_made_while_somebody_works_and_is_nobodys_then
    what_keywheel_wrote_is_sound
    an_edit_behind_keywheels_back_is_named
    an_edit_of_the_audit_log_and_of_its_guards_is_named
    a_version_that_an_older_backup_does_not_know_is_named
    a_lost_keystore_is_named_and_an_unreadable_one_is_not_fine
    a_key_that_left_the_documents_is_forgotten_and_nothing_else_is_done
    a_key_is_not_forgotten_while_an_apply_would_make_it_again
    a_key_that_is_gone_for_good_is_forgotten
    a_rotation_that_can_never_be_finished_is_given_up_with_its_key
    a_rotation_that_has_lost_its_key_is_a_failure_and_what_to_do_is_said
    a_database_of_the_newest_schema_is_not_migrated
    what_a_lost_database_could_not_take_is_taken_back_once
    an_apply_finds_by_asking_what_a_recovery_would_bring
    a_recovery_of_another_or_an_older_record_is_refused
}

fn a_backup_restores_into_either_kind_of_database(kept: &Kept) {
    let sandbox = &kept.sandbox;
    let report = sandbox.keywheel(&["state", "backup", "kept/backup.db", "--format", "json"]).exits(0).json();
    let rows = |table: &str| {
        let tables = report["tables"].as_array().unwrap();
        tables.iter().find(|row| row["table"] == table).unwrap()["rows"].as_u64().unwrap()
    };
    assert_eq!((rows("encryption_keys"), rows("key_versions"), rows("rotations")), (3, 4, 4), "{report:#}");
    assert_eq!(report["audit_entries"].as_u64(), Some(rows("audit_log")));
    let mode = fs::metadata(sandbox.path("kept/backup.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read it");
    assert_eq!(fs::read_dir(sandbox.path("kept")).unwrap().count(), 1, "something was left beside it");

    let original = kept.story(kept.url());
    let other = database();
    for url in ["sqlite:restored.db", &other.url] {
        let restore = ["state", "copy", "sqlite:kept/backup.db", "${KEYWHEEL_STATE}"];
        kept.with_state(url, &restore).exits(0).says("every row is the same");
        assert_eq!(kept.story(url), original);
        kept.with_state(url, &["audit", "verify"]).exits(0);
        kept.with_state(url, &["state", "verify"]).exits(0);
        kept.with_state(url, &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
    }
    kept.with_state(&other.url, &["rotate", "acme/key-000", "--reason", "it works", "--auto-approve"]).exits(0);
}

fn a_backup_never_takes_the_place_of_a_file(kept: &Kept) {
    let sandbox = &kept.sandbox;
    sandbox.write("precious.db", "a recipe");
    sandbox.keywheel(&["state", "backup", "precious.db"]).exits(1).error("state/no-backup");
    assert_eq!(sandbox.read("precious.db"), "a recipe");
    let unwritable = sandbox.keywheel(&["state", "backup", "precious.db/backup.db"]).exits(1);
    unwritable.error("state/no-backup");
    // Without a name it is named by the instant.
    let report = sandbox.keywheel(&["state", "backup", "--format", "json"]).exits(0).json();
    let file = report["file"].as_str().unwrap();
    assert!(file.contains(".keywheel/backup-") && fs::metadata(sandbox.path(file)).is_ok(), "{report:#}");
}

fn a_backup_is_made_while_somebody_works_and_is_nobodys_then(kept: &Kept) {
    kept.tamper("UPDATE leases SET expires_at = '2999-01-01T00:00:00.000000Z'");
    kept.sandbox.keywheel(&["state", "backup", "backup.db"]).exits(0).says("Backed up.");
    kept.sandbox.keywheel(&["lock", "list"]).exits(0).says("tenant acme");
    kept.sandbox.keywheel(&["lock", "list", "--state", "sqlite:backup.db"]).exits(0).says("Nobody holds a lock.");
    kept.sandbox.keywheel(&["state", "copy", "sqlite:backup.db", "sqlite:restored.db"]).exits(0);
}

#[test]
fn a_key_of_aws_that_was_changed_behind_keywheels_back_is_named() {
    let moto = Moto::start();
    let kms = Kms::new(moto.endpoint());
    let sandbox = aws_sandbox(moto.endpoint());
    sandbox.commit(&documents(2));
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);
    let kept = Kept { sandbox, postgres: None };
    assert_eq!(kept.codes(&[], 0), [""; 0]);

    let refs = kept.sandbox.sql("SELECT provider_ref FROM key_versions WHERE number = 1 AND state = 'deactivated'");
    let old = json!({"KeyId": kms.describe(refs[0]["provider_ref"].as_str().unwrap())["KeyId"]});
    kms.call("DisableKey", &old);
    assert_eq!(kept.codes(&[], 1), ["verify/version-state"]);
    kms.call("EnableKey", &old);
    let own = kms.describe("alias/key-1")["KeyId"].clone();
    kms.call("UpdateAlias", &json!({"AliasName": "alias/key-1", "TargetKeyId": old["KeyId"]}));
    assert_eq!(kept.codes(&[], 1), ["verify/primary-moved"]);
    kms.call("UpdateAlias", &json!({"AliasName": "alias/key-1", "TargetKeyId": own}));

    let meta =
        kept.sandbox.sql("SELECT lineage, (SELECT id FROM encryption_keys WHERE key_name = 'key-1') AS id FROM meta");
    let marks = [("keywheel:lineage", &meta[0]["lineage"]), ("keywheel:key-id", &meta[0]["id"])];
    let tags = marks.map(|(name, value)| json!({"TagKey": name, "TagValue": value}));
    kms.call("CreateKey", &json!({"Tags": tags}));
    assert_eq!(kept.codes(&[], 1), ["verify/unrecorded"]);
    drop(moto);
    assert_eq!(kept.codes(&[], 7), ["verify/no-answer"]);
    let silent = kept.sandbox.keywheel(&["state", "verify"]).exits(7);
    silent.says("answered for 0 keys and not for 2 keys; which keys carry keywheel's marks, one did not say");
}

fn what_keywheel_wrote_is_sound(kept: &Kept) {
    let report = kept.sandbox.keywheel(&["state", "verify", "--format", "json"]).exits(0).json();
    assert_eq!((&report["keys"], &report["versions"], &report["answered"]), (&3.into(), &4.into(), &3.into()));
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report:#}");
    kept.sandbox.keywheel(&["state", "verify"]).exits(0).says("Sound: 3 keys, 4 versions, 4 rotations");
    let offline = kept.sandbox.keywheel(&["state", "verify", "--offline"]).exits(0);
    offline.says("the key managers were not asked");
}

fn an_edit_behind_keywheels_back_is_named(kept: &Kept) {
    let version = |number: u8| {
        format!(
            "(SELECT id FROM key_versions WHERE number = {number} AND key_id = (SELECT id FROM encryption_keys WHERE key_name = 'patients'))"
        )
    };
    let edit = |set: &str| format!("UPDATE key_versions SET {set} WHERE id = {}", version(2));
    let rotation = |set: &str| format!("UPDATE rotations SET {set} WHERE workflow = 'rotate'");
    let theirs = "provider_ref = (SELECT provider_ref FROM key_versions WHERE key_id = (SELECT id FROM encryption_keys WHERE key_name = 'key-000'))";
    let cases = [
        (edit("state = 'deactivated'"), edit("state = 'active'"), "verify/primary", 1),
        (edit("number = 7"), edit("number = 2").replace("number = 2 AND", "number = 7 AND"), "verify/numbers", 1),
        (
            rotation("to_ref = 'nothing', from_ref = from_ref"),
            rotation("to_ref = (SELECT provider_ref FROM key_versions WHERE number = 2)"),
            "verify/refs",
            1,
        ),
        (
            edit("activated_at = '2999-01-01T00:00:00.000000Z'"),
            edit("activated_at = '2026-01-01T00:00:00.000000Z'"),
            "verify/instants",
            0,
        ),
        (rotation("phase = 'created'"), rotation("phase = 'settled'"), "verify/journal", 1),
        (edit(theirs), String::new(), "verify/shared-ref", 1),
    ];
    for (edit, undo, code, status) in cases {
        kept.tamper(&edit);
        let codes = kept.codes(&["--offline"], status);
        assert!(codes.iter().any(|found| found == code), "{edit}: {codes:?}");
        if !undo.is_empty() {
            kept.tamper(&undo);
            assert_eq!(kept.codes(&["--offline"], 0), [""; 0], "{undo}");
        }
    }
}

fn an_edit_of_the_audit_log_and_of_its_guards_is_named(kept: &Kept) {
    let on = if kept.postgres.is_some() { " ON audit_log" } else { "" };
    kept.tamper(&format!("DROP TRIGGER audit_log_is_never_changed{on}"));
    assert_eq!(kept.codes(&["--offline"], 1), ["verify/database"]);
    kept.tamper("UPDATE audit_log SET actor = 'nobody' WHERE tenant_id = 'acme' AND seq = 2");
    assert_eq!(kept.codes(&["--offline"], 1), ["verify/database", "verify/audit"]);
    kept.sandbox.keywheel(&["state", "verify"]).exits(1).says("entry 2 of the audit log of acme");
    // It is copied as it is, and said to be so.
    kept.sandbox.keywheel(&["state", "backup", "backup.db"]).exits(1).says("The audit log is broken at entry 2");
    assert!(kept.sandbox.path("backup.db").exists(), "the copy is kept");
}

fn a_version_that_an_older_backup_does_not_know_is_named(kept: &Kept) {
    kept.sandbox.keywheel(&["state", "backup", "older.db"]).exits(0);
    kept.sandbox.keywheel(&["rotate", "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
    let older = &["--state", "sqlite:older.db"];
    assert_eq!(kept.codes(older, 1), ["verify/primary-moved", "verify/unrecorded"]);
    assert_eq!(kept.codes(&[older, &["--offline"][..]].concat(), 0), [""; 0]);
}

fn a_lost_keystore_is_named_and_an_unreadable_one_is_not_fine(kept: &Kept) {
    let keystore = kept.sandbox.path(".keywheel/keystore");
    let bytes = fs::read(&keystore).unwrap();
    fs::write(&keystore, b"this was a keystore once").unwrap();
    assert_eq!(kept.codes(&[], 7), ["verify/no-answer"]);
    fs::remove_file(&keystore).unwrap();
    let lost = kept.codes(&[], 1);
    assert!(lost.contains(&"verify/missing-key".to_owned()), "{lost:?}");
    fs::write(&keystore, bytes).unwrap();
    assert_eq!(kept.codes(&[], 0), [""; 0]);
}

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// Forgets the key that has rotated.
const FORGET: &[&str] = &["state", "forget", "acme/patients", "--reason", "it is gone", "--auto-approve"];

/// The documents of every key but the one that has rotated.
fn others() -> String {
    let documents = with_keys(2);
    let parts: Vec<&str> = documents.split("---").filter(|part| !part.contains("key_name: patients")).collect();
    parts.join("---")
}

fn a_key_that_left_the_documents_is_forgotten_and_nothing_else_is_done(kept: &Kept) {
    let sandbox = &kept.sandbox;
    let keystore = fs::read(sandbox.path(".keywheel/keystore")).unwrap();
    let new_key = NIGHTLY.split_once("---").unwrap().1.replace("patients", "new");
    sandbox.commit(&format!("{}---{new_key}", others()));
    sandbox.keywheel(FORGET).exits(0).says("Applied: 1 forgotten");
    assert_eq!(fs::read(sandbox.path(".keywheel/keystore")).unwrap(), keystore, "the key manager was called");
    let entry = &sandbox.keywheel(&["audit", "list", "--limit", "1", "--format", "json"]).exits(0).json()["entries"][0];
    assert_eq!((&entry["action"], &entry["after"]), (&json!("key.forgotten"), &json!({"reason": "it is gone"})));
    let plan = sandbox.keywheel(&["plan", "--format", "json"]).exits(0).json();
    assert_eq!(actions(&plan), ["create new"], "another change was made, or the key is wanted again");
    // Its versions carry the marks of this state, and are known to it.
    assert_eq!(kept.codes(&[], 0), [""; 0]);
    sandbox.keywheel(FORGET).exits(1).error("manual/unknown-key");
}

fn a_key_is_not_forgotten_while_an_apply_would_make_it_again(kept: &Kept) {
    let sandbox = &kept.sandbox;
    sandbox.keywheel(FORGET).exits(3).error("forget/documented");
    sandbox.write("policies/acme/keys.yaml", &others());
    let uncommitted = sandbox.keywheel(FORGET).exits(3).error("forget/documented");
    assert!(uncommitted.stderr.contains("the committed documents"), "{}", uncommitted.stderr);
    sandbox.commit(&with_keys(2).replace("key_name: patients", "key_name: people\nprevious_name: patients"));
    sandbox.keywheel(FORGET).exits(3).error("forget/documented");
    sandbox.commit(&format!("{}---\nnonsense: true\n", others()));
    sandbox.keywheel(FORGET).exits(3).error("forget/documents");
    assert_eq!(kept.codes(&[], 0), [""; 0]);
    sandbox.commit(&others());
    sandbox.keywheel(FORGET).exits(0);
}

fn a_key_that_is_gone_for_good_is_forgotten(kept: &Kept) {
    let sandbox = &kept.sandbox;
    fs::remove_file(sandbox.path(".keywheel/keystore")).unwrap();
    sandbox.commit("");
    for key in ["patients", "key-000", "key-001"] {
        let forget = ["state", "forget", &format!("acme/{key}"), "--reason", "its keystore is lost", "--auto-approve"];
        sandbox.keywheel(&forget).exits(0);
    }
    assert_eq!(kept.codes(&[], 0), [""; 0]);
}

fn a_rotation_that_can_never_be_finished_is_given_up_with_its_key(kept: &Kept) {
    let sandbox = &kept.sandbox;
    sandbox.commit(&others());
    kept.tamper("UPDATE encryption_keys SET state = 'parked' WHERE key_name = 'patients'");
    let rotation =
        |phase: &str| format!("UPDATE rotations SET phase = '{phase}', finished_at = NULL WHERE workflow = 'rotate'");
    kept.tamper(&rotation("promoted"));
    sandbox.keywheel(FORGET).exits(3).error("manual/unfinished");
    kept.tamper(&rotation("created"));
    sandbox.keywheel(FORGET).exits(0);
    let abandoned = sandbox.keywheel(&["history", "--format", "json"]).exits(0).json();
    assert_eq!(abandoned["rotations"][0]["status"], "abandoned", "{abandoned:#}");
    sandbox.keywheel(&["audit", "list"]).exits(0).says("rotation.abandoned acme/patients");
}

fn a_rotation_that_has_lost_its_key_is_a_failure_and_what_to_do_is_said(kept: &Kept) {
    let sandbox = &kept.sandbox;
    sandbox.commit(&others());
    kept.tamper("UPDATE encryption_keys SET state = 'forgotten', removed_at = created_at WHERE key_name = 'patients'");
    kept.tamper("UPDATE rotations SET phase = 'created', finished_at = NULL WHERE workflow = 'rotate'");
    let report = sandbox.keywheel(&["apply", "--auto-approve", "--format", "json"]).exits(7).report();
    let failed = &report["failed"][0];
    let about = json!({"kind": "EncryptionKey", "tenant_id": "acme", "name": "patients"});
    assert_eq!((&failed["object"], &failed["action"]), (&about, &json!("finish")), "{report:#}");
    assert_eq!(failed["error"], "an unfinished rotation of acme/patients has no key in the record");
    sandbox.keywheel(APPLY).exits(7).says("Failed (1)").says("keywheel state copy");
}

fn a_database_of_the_newest_schema_is_not_migrated(kept: &Kept) {
    let report = kept.sandbox.keywheel(&["state", "migrate", "--format", "json"]).exits(0).json();
    assert_eq!(report["migrated"], json!(null), "{report:#}");
    kept.sandbox.keywheel(&["state", "migrate"]).exits(0).says("has the newest schema");
    let missing = ["state", "migrate", "--state", "sqlite:typing-mistake.db"];
    kept.sandbox.keywheel(&missing).exits(1).error("state/missing");
    assert!(!kept.sandbox.path("typing-mistake.db").exists());
}

const ROTATE: &[&str] = &["rotate", "acme/key-000", "--reason", "a test", "--auto-approve"];

/// Rotates a key with a database that is lost as soon as the key manager has done something. Gives the file that the run
/// wrote; afterwards the database is back.
fn lose_the_database(kept: &Kept) -> String {
    let (lose, find) = match kept.postgres {
        None => (
            "CREATE TRIGGER lost BEFORE INSERT ON rotation_steps WHEN NEW.outcome = 'succeeded' \
             BEGIN SELECT RAISE(ABORT, 'the disk is gone'); END",
            "DROP TRIGGER lost",
        ),
        Some(_) => (
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100'', MESSAGE = ''the disk is gone''; END'; \
             CREATE TRIGGER lost BEFORE INSERT ON rotation_steps FOR EACH ROW WHEN (NEW.outcome = 'succeeded') \
             EXECUTE FUNCTION lose()",
            "DROP FUNCTION lose CASCADE",
        ),
    };
    kept.tamper(lose);
    kept.sandbox.keywheel(ROTATE).exits(7).says("warning[state/recovery]");
    kept.tamper(find);
    let files = fs::read_dir(kept.sandbox.path(".keywheel")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut files = files.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with("recovery-"));
    let file = format!(".keywheel/{}", files.next().expect("no file was written"));
    let mode = fs::metadata(kept.sandbox.path(&file)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read it");
    file
}

/// Fails unless the rotation of the key came to its end with one new version.
fn rotated_once(kept: &Kept) {
    let report = kept.sandbox.keywheel(&["state", "verify", "--format", "json"]).exits(0).json();
    assert_eq!((&report["versions"], &report["rotations"]), (&json!(5), &json!(5)), "{report:#}");
}

fn what_a_lost_database_could_not_take_is_taken_back_once(kept: &Kept) {
    let file = lose_the_database(kept);
    let sandbox = &kept.sandbox;
    sandbox.keywheel(&["state", "recover", &file]).exits(1).error("state/no-approval");
    let recover = ["state", "recover", &file, "--auto-approve"];
    sandbox.keywheel(&recover).exits(0).says("Recorded: 1 rotation.");
    let history = sandbox.keywheel(&["history", "--limit", "1", "--format", "json"]).exits(0).json();
    assert_eq!(history["rotations"][0]["status"], "created", "{history:#}");
    assert_eq!(kept.codes(&["--offline"], 0), [""; 0], "the journal leads to where the rotation is");
    sandbox.keywheel(&["audit", "list", "--limit", "1"]).exits(0).says("state.recovered");
    sandbox.keywheel(&recover).exits(1).error("state/recovery-file");
    let taken = format!("{file}.taken");
    sandbox.keywheel(&["state", "recover", &taken, "--auto-approve"]).exits(0).says("Nothing to record");
    sandbox.keywheel(APPLY).exits(0);
    rotated_once(kept);
}

fn an_apply_finds_by_asking_what_a_recovery_would_bring(kept: &Kept) {
    let file = lose_the_database(kept);
    let apply = kept.sandbox.keywheel(APPLY).exits(0);
    assert!(
        apply.stderr.contains(&format!("`keywheel state recover {}", kept.sandbox.path(&file).display())),
        "{}",
        apply.stderr
    );
    rotated_once(kept);
    let recover = ["state", "recover", &file, "--format", "json", "--auto-approve"];
    let report = kept.sandbox.keywheel(&recover).exits(0).json();
    assert_eq!(report["rotations"][0]["verdict"], "known", "{report:#}");
    rotated_once(kept);
    let quiet = kept.sandbox.keywheel(APPLY).exits(0);
    assert!(!quiet.stderr.contains("recover"), "{}", quiet.stderr);
}

fn a_recovery_of_another_or_an_older_record_is_refused(kept: &Kept) {
    let sandbox = &kept.sandbox;
    sandbox.keywheel(&["state", "backup", "older.db"]).exits(0);
    let file = lose_the_database(kept);
    let recover = ["state", "recover", &file, "--auto-approve"];
    sandbox
        .keywheel(&[&recover[..], &["--state", "sqlite:older.db"]].concat())
        .exits(3)
        .error("state/recovery-unknown");
    let text = sandbox.read(&file);
    sandbox.write(&file, &text.replace("\"created\"", "\"settled\""));
    sandbox.keywheel(&recover).exits(1).error("state/recovery-file");
    sandbox.write(&file, &text);
    kept.tamper("UPDATE meta SET lineage = '00000000-0000-4000-8000-000000000000'");
    sandbox.keywheel(&recover).exits(3).error("state/recovery-foreign");
}
