//! A state database or a keystore that cannot be used: nothing is made in its place, and nothing is changed.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{NIGHTLY, NOON, Sandbox};
use crate::support::confined::{Confinement, SmallDisk, is_confined, read_only};

const APPLY: &[&str] = &["apply", "--auto-approve", "--lock-timeout", "0s"];
const NIGHT: &str = "2026-03-02 02:00:10";

fn applied() -> Sandbox {
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox
}

/// Fails unless plan and apply are both refused so, and the files stay as they are, byte by byte.
fn unusable(sandbox: &Sandbox, code: &str) {
    let before = files(&sandbox.dir().join(".keywheel"));
    for arguments in [&["plan"][..], APPLY] {
        sandbox.at(NIGHT, arguments).exits(1).error(code);
        assert!(files(&sandbox.dir().join(".keywheel")) == before, "{arguments:?} changed a file");
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_database_that_is_damaged_is_not_replaced() {
    let sandbox = applied();
    fs::write(sandbox.database(), "this was a database once, and is a text now").unwrap();
    unusable(&sandbox, "state/corrupt");
}

#[test]
fn a_database_that_was_cut_off_is_not_used() {
    let sandbox = applied();
    let bytes = fs::read(sandbox.database()).unwrap();
    fs::write(sandbox.database(), bytes.get(..bytes.len() / 3).unwrap()).unwrap();
    unusable(&sandbox, "state/corrupt");
}

#[test]
fn another_programs_database_is_not_used() {
    let sandbox = applied();
    fs::remove_file(sandbox.database()).unwrap();
    sandbox.tamper("CREATE TABLE recipes (name TEXT)");
    unusable(&sandbox, "state/corrupt");
}

#[test]
fn a_database_of_a_newer_keywheel_is_not_used() {
    let sandbox = applied();
    sandbox.tamper("UPDATE meta SET schema_version = 99");
    unusable(&sandbox, "state/newer");
}

#[test]
fn a_database_that_may_only_be_read_is_planned_from_and_not_applied_to() {
    let name = concat!(module_path!(), "::a_database_that_may_only_be_read_is_planned_from_and_not_applied_to");
    if !is_confined(Confinement::Modes, name) {
        return;
    }
    let sandbox = applied();
    let folder = sandbox.dir().join(".keywheel");
    read_only(&sandbox.database());
    read_only(&folder);
    let before = files(&folder);
    sandbox.at(NIGHT, &["plan", "--detailed-exitcode"]).exits(2);
    sandbox.at(NIGHT, APPLY).exits(1).error("state/read-only");
    assert!(files(&folder) == before, "a file was changed");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_state_variable_that_is_not_set_is_no_empty_database() {
    let sandbox = Sandbox::with("state: ${KEYWHEEL_STATE}\n", NIGHTLY);
    for arguments in [&["plan"][..], APPLY] {
        sandbox.keywheel(arguments).exits(1).error("state/variable");
    }
    sandbox.keywheel(APPLY).env("KEYWHEEL_STATE", "sqlite:../elsewhere.db").exits(0);
    assert!(sandbox.dir().join("../elsewhere.db").is_file());
}

#[test]
fn another_root_key_opens_no_keystore() {
    let root_key = |letter: &str| format!("{}=", letter.repeat(43));
    let mut sandbox = Sandbox::with("", NIGHTLY);
    sandbox.set("KEYWHEEL_ROOT_KEY", &root_key("A"));
    sandbox.at(NOON, APPLY).exits(0);
    let before = sandbox.state();
    let refused = sandbox.at(NIGHT, APPLY).env("KEYWHEEL_ROOT_KEY", &root_key("E")).exits(7);
    assert!(refused.stdout.contains("root key from KEYWHEEL_ROOT_KEY is not the one"), "{}", refused.stdout);
    let keystore = std::ffi::OsStr::new("keystore");
    assert_eq!(sandbox.state().get(keystore), before.get(keystore));
    assert_eq!(sandbox.sql("SELECT phase FROM rotations WHERE workflow = 'rotate'").len(), 0, "nothing was begun");
    sandbox.at(NIGHT, APPLY).exits(0);
}

#[test]
fn a_full_disk_loses_nothing_and_apply_goes_on_when_there_is_room() {
    let name = concat!(module_path!(), "::a_full_disk_loses_nothing_and_apply_goes_on_when_there_is_room");
    if !is_confined(Confinement::OwnMounts, name) {
        return;
    }
    let sandbox = Sandbox::with("", &super::with_keys(40));
    let folder = sandbox.dir().join(".keywheel");
    fs::create_dir(&folder).unwrap();
    let _disk = SmallDisk::at(&folder, "16m");
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![0; (16 << 20) - (192 << 10)]).unwrap();
    // The disk fills up somewhere between the first write and the last.
    let full = sandbox.at(NOON, APPLY).ends();
    assert!(full.status != Some(0), "40 keys fit into 192 KiB\n{}", full.stdout);
    assert!(full.stderr.contains("disk") || full.stdout.contains("disk"), "{}\n{}", full.stdout, full.stderr);
    assert!(!full.stderr.contains("panicked"), "{}", full.stderr);
    fs::remove_file(ballast).unwrap();
    sandbox.at("2026-03-01 12:10:00", APPLY).exits(0);
    sandbox.at("2026-03-01 12:11:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
}

/// Another process that writes, until it is dropped.
struct Writer(Child);

impl Writer {
    fn of(sandbox: &Sandbox) -> Self {
        let mut sqlite = Command::new("sqlite3");
        let mut child = sqlite.arg(sandbox.database()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"BEGIN EXCLUSIVE;\nSELECT 'it has the lock';\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "it has the lock\n");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_database_that_another_process_writes_is_waited_for_and_then_left_alone() {
    let sandbox = applied();
    let before = sandbox.state();
    let writer = Writer::of(&sandbox);
    let waiting = sandbox.at(NIGHT, APPLY).exits(5).error("state/busy");
    drop(writer);
    assert!(sandbox.state() == before, "something was changed: {}", waiting.stderr);
    // Once it has ended, the same apply does its work.
    sandbox.at(NIGHT, APPLY).exits(0);
    assert!(sandbox.state() != before);
}

#[test]
fn where_keywheel_yaml_has_errors_nothing_is_said_to_be_empty() {
    let sandbox = applied();
    let config = sandbox.read("keywheel.yaml");
    sandbox.write("keywheel.yaml", &format!("{config}x: [\n"));
    let commands: [&[&str]; 5] =
        [&["status"], &["history"], &["outbox", "list"], &["audit", "list"], &["lock", "list"]];
    for command in commands {
        let done = sandbox.keywheel(command).exits(1).error("state/unknown");
        assert_eq!(done.stdout, "", "{command:?}");
    }
}

#[test]
fn where_there_is_no_database_yet_its_place_is_named_and_a_mistyped_one_is_an_error() {
    let sandbox = Sandbox::with("state: sqlite:kept/elswhere.db\n", NIGHTLY);
    for command in ["status", "history"] {
        let text = sandbox.keywheel(&[command]).exits(0).stdout;
        assert!(text.contains("there is no state database at sqlite:") || text.contains("There is no state"), "{text}");
        assert!(text.contains("kept/elswhere.db"), "{text}");
        let json = sandbox.keywheel(&[command, "--format", "json"]).exits(0).json();
        assert!(json["no_database_at"].as_str().unwrap().ends_with("kept/elswhere.db"), "{json:#}");
    }
    for command in [["status", "--state-url"], ["history", "--state"], ["history", "--state-url"]] {
        let named = [&command[..], &["sqlite:nope.db"]].concat();
        let refused = sandbox.keywheel(&named).exits(1).error("state/missing");
        assert!(refused.stderr.contains("nope.db") && !refused.stderr.contains("keywheel apply"), "{}", refused.stderr);
    }
    sandbox.at(NOON, APPLY).exits(0);
    let json = sandbox.at(NOON, &["status", "--format", "json"]).exits(0).json();
    assert!(json["no_database_at"].is_null() && json["keys"][0]["key_name"] == "patients", "{json:#}");
}

#[test]
fn what_is_named_and_not_there_is_said_to_be_missing_before_anything_else() {
    let sandbox = applied();
    let copied =
        sandbox.keywheel(&["state", "copy", "sqlite:nope.db", "sqlite:copy.db"]).exits(1).error("state/missing");
    assert!(copied.stderr.contains("nope.db") && !copied.stderr.contains("keywheel apply"), "{}", copied.stderr);
    assert!(!sandbox.path("nope.db").exists() && !sandbox.path("copy.db").exists());
    sandbox.keywheel(&["state", "recover", "nofile"]).exits(1).error("state/recovery-file");
    fs::create_dir(sandbox.path("folder")).unwrap();
    for command in [&["status", "--state-url", "sqlite:folder"][..], &["plan", "--state", "sqlite:folder"]] {
        let refused = sandbox.keywheel(command).exits(1).error("state/folder");
        assert!(refused.stderr.contains("sqlite:FOLDER/state.db"), "{}", refused.stderr);
    }
}
