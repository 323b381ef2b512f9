//! `--out FILE` never takes the place of anything but a plan or a snapshot.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::sandbox::Sandbox;

/// A repository whose key of the local provider was made.
fn applied() -> Sandbox {
    let sandbox = Sandbox::with_policies();
    sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
    sandbox
}

/// Every command that saves something, without its file.
const SAVING: &[&[&str]] =
    &[&["plan"], &["state", "snapshot"], &["destroy", "my-team/first-key", "2", "--reason", "a twin"]];

fn mode(sandbox: &Sandbox, file: &str) -> u32 {
    fs::metadata(sandbox.path(file)).unwrap().permissions().mode() & 0o777
}

fn is_plan(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|plan| plan["changes"].is_array())
}

#[test]
fn a_file_of_another_kind_is_left_as_it_is() {
    let sandbox = applied();
    sandbox.write("notes.json", "{\"digest\": \"mine\"}");
    symlink(sandbox.path(".keywheel/keystore"), sandbox.path("link")).unwrap();
    let precious = [
        ".keywheel/keystore",
        ".keywheel/root.key",
        ".keywheel/state.db",
        "keywheel.yaml",
        "policies/my-team/keys.yaml",
        "schema/keywheel.v1.json",
        "notes.json",
        "link",
        ".git/config",
        ".git/HEAD",
    ];
    for file in precious {
        let before = fs::read(sandbox.path(file)).unwrap();
        for command in SAVING {
            sandbox.keywheel(&[command, &["--out", file][..]].concat()).exits(1).error("cli/file-kept");
        }
        assert!(fs::read(sandbox.path(file)).unwrap() == before, "{file} was changed");
    }
    assert!(fs::symlink_metadata(sandbox.path("link")).unwrap().is_symlink(), "the link was replaced");
    for nothing in [".git/plan.json", ".git/refs/heads/plan", "policies"] {
        sandbox.keywheel(&["plan", "--out", nothing]).exits(1).error("cli/file-kept");
    }
    assert!(!sandbox.path(".git/plan.json").exists() && !sandbox.path(".git/refs/heads/plan").exists());
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
}

#[test]
fn an_older_plan_or_snapshot_and_an_empty_file_are_replaced() {
    let sandbox = applied();
    sandbox.write("plan.json", "");
    fs::set_permissions(sandbox.path("plan.json"), fs::Permissions::from_mode(0o640)).unwrap();
    sandbox.keywheel(&["plan", "--out", "plan.json"]).exits(0);
    let first = sandbox.read("plan.json");
    sandbox.keywheel(&["plan", "--out", "plan.json"]).exits(0);
    assert!(is_plan(first.as_bytes()) && sandbox.read("plan.json") != first, "it was not replaced");
    assert_eq!(mode(&sandbox, "plan.json"), 0o640, "its mode is its owner's choice");
    sandbox.keywheel(&["state", "snapshot", "--out", "ages.json"]).exits(0);
    sandbox.keywheel(&["state", "snapshot", "--out", "ages.json"]).exits(0);
    sandbox.write("any", "");
    assert_eq!(mode(&sandbox, "ages.json"), mode(&sandbox, "any"), "a new file has the umask's mode");
    assert!(sandbox.read("ages.json").contains("first-key"));
}

#[test]
fn a_link_is_followed_and_stays() {
    let sandbox = applied();
    fs::create_dir(sandbox.path("plans")).unwrap();
    symlink("plans/today.json", sandbox.path("latest.json")).unwrap();
    for _ in 0..2 {
        sandbox.keywheel(&["plan", "--out", "latest.json"]).exits(0);
        assert!(fs::symlink_metadata(sandbox.path("latest.json")).unwrap().is_symlink());
        assert!(is_plan(&fs::read(sandbox.path("plans/today.json")).unwrap()));
    }
    symlink("ring", sandbox.path("ring")).unwrap();
    let ring = sandbox.keywheel(&["plan", "--out", "ring"]).exits(1);
    assert!(ring.stderr.contains("too many symbolic links"), "{}", ring.stderr);
}

#[test]
fn a_pipe_a_device_and_a_descriptor_are_written_to() {
    let sandbox = applied();
    let pipe = sandbox.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
    sandbox.keywheel(&["plan", "--out", "pipe"]).exits(0);
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "the pipe was replaced");
    assert!(is_plan(&reader.wait_with_output().unwrap().stdout));

    symlink("/dev/null", sandbox.path("null")).unwrap();
    sandbox.keywheel(&["plan", "--out", "null"]).exits(0);
    assert!(fs::symlink_metadata(sandbox.path("null")).unwrap().is_symlink());

    // Standard output may be a file: what was printed before stays in it.
    symlink("/dev/stdout", sandbox.path("out")).unwrap();
    let mut run = sandbox.keywheel(&["plan", "--out", "out"]);
    run.command.stdout(fs::File::create(sandbox.path("log")).unwrap());
    assert!(run.command.status().unwrap().success());
    let log = sandbox.read("log");
    assert!(log.contains("No changes") && is_plan(log.lines().last().unwrap().as_bytes()), "{log}");
}
