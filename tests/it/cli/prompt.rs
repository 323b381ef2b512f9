//! Commands on a terminal: they show what they are about to do, ask, and take `yes` alone for a yes. Between the question
//! and the answer time passes, and what was planned may be due no more.

use std::fs;
use std::process::{Command, Output};

use crate::support::sandbox::{Sandbox, faked};

/// Runs a command on a terminal of its own, and types an answer at the question, at which it is the time that is given.
/// Exits as the command does.
const TERMINAL: &str = r#"
import os, pty, sys
answer, later, clock = sys.argv[1:4]
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[4], sys.argv[4:])
shown, answer = b"", answer.encode().decode("unicode_escape").encode()
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    shown += data
    if answer and b"Only `yes` is accepted" in shown:
        with open(clock + ".new", "w") as file:
            file.write(later)
        os.replace(clock + ".new", clock)
        os.write(terminal, answer)
        answer = b""
sys.stdout.buffer.write(shown)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// A policy with one key that is due each night at two, and a rollback period of a day.
const NIGHTLY: &str = "
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: Nightly
key_type: phi_data
rotation_interval_days: 1
rotation_time_of_day: \"02:00:00\"
rollback_period_hours: 24
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: patients
key_type: phi_data
rotation_policy: Nightly
";

const ROTATE: &[&str] = &["rotate", "acme/patients", "--reason", "a test"];
const ROLL_BACK: &[&str] = &["rollback", "acme/patients", "--reason", "it does not work"];

#[test]
fn yes_applies() {
    let sandbox = Sandbox::with_policies();
    let run = answered(&sandbox, &["apply"], "yes\\n");
    assert_eq!((run.status.code(), shows(&run, "4 created")), (Some(0), true), "{}", text(&run));
    assert!(shows(&run, "\u{1b}[32m"), "a terminal gets colours: {}", text(&run));
}

#[test]
fn anything_else_and_an_interrupt_change_nothing() {
    for answer in ["y\\n", "\\n", "\\x03"] {
        let sandbox = Sandbox::with_policies();
        let run = answered(&sandbox, &["apply"], answer);
        assert_eq!(run.status.code(), Some(1), "{answer}: {}", text(&run));
        assert!(shows(&run, "error[apply/cancelled]"), "{answer}: {}", text(&run));
        assert!(sandbox.keywheel(&["status"]).exits(0).stdout.contains("No key was applied yet"), "{answer}");
        // The lock was given back: nobody waits for a run that was called off.
        sandbox.keywheel(&["apply", "--auto-approve", "--lock-timeout", "0s"]).exits(0);
    }
}

#[test]
fn a_rollback_is_shown_before_it_is_done_and_whoever_declines_it_has_changed_nothing() {
    let sandbox = applied("2026-03-01 12:00:00", NIGHTLY);
    by_hand(&sandbox, "2026-03-01 12:10:00");
    let before = sandbox.state();
    for answer in ["no\\n", "\\n", "\\x03"] {
        let run = answered_at(&sandbox, ROLL_BACK, ["2026-03-01 12:20:00"; 2], answer);
        assert_eq!(run.status.code(), Some(1), "{answer}: {}", text(&run));
        for part in ["acme/patients", "it does not work", "error[apply/cancelled]"] {
            assert!(shows(&run, part), "{answer}: no {part:?} in {}", text(&run));
        }
        assert!(sandbox.state() == before, "{answer}: the state or a key was changed: {}", text(&run));
    }
    let run = answered_at(&sandbox, ROLL_BACK, ["2026-03-01 12:20:00"; 2], "yes\\n");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
    assert_eq!(sandbox.sql("SELECT number FROM key_versions WHERE state = 'active'")[0]["number"], 1);
}

#[test]
fn a_window_that_closes_before_the_answer_lets_nothing_begin() {
    let window = "rotation_windows:\n  - {start: \"01:00\", end: \"03:00\"}\nrotation_time";
    let sandbox = applied("2026-03-01 12:00:00", &NIGHTLY.replace("rotation_time", window));
    for command in [&["apply"], ROTATE] {
        too_late(
            &sandbox,
            command,
            ["2026-03-02 02:59:50", "2026-03-02 03:00:10"],
            "its window has closed since it was planned",
        );
    }
    // While it is open, it is open after the answer too.
    let run = answered_at(&sandbox, &["apply"], ["2026-03-03 02:59:40", "2026-03-03 02:59:50"], "yes\\n");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
}

#[test]
fn a_freeze_that_comes_before_the_answer_lets_nothing_begin() {
    let freeze = "---\napiVersion: keywheel/v1\nkind: Freeze\nname: closing\nfrom: \"2026-03-02T03:00:00\"\n\
                  until: \"2026-03-03T00:00:00\"\nreason: the books are closed\n";
    let sandbox = Sandbox::new("");
    sandbox.write("policies/freezes.yaml", freeze);
    sandbox.commit(NIGHTLY);
    sandbox.at("2026-03-01 12:00:00", &["apply", "--auto-approve"]).exits(0);
    for command in [&["apply"], ROTATE] {
        too_late(
            &sandbox,
            command,
            ["2026-03-02 02:59:50", "2026-03-02 03:00:10"],
            "frozen by \"closing\" since it was planned",
        );
    }
}

#[test]
fn a_rollback_period_that_ends_before_the_answer_leaves_the_key_as_it_is() {
    let sandbox = applied("2026-03-01 12:00:00", NIGHTLY);
    by_hand(&sandbox, "2026-03-01 12:10:00");
    too_late(
        &sandbox,
        ROLL_BACK,
        ["2026-03-02 12:09:50", "2026-03-02 12:10:30"],
        "its rollback period has closed since it was planned",
    );
    // A second earlier it is done.
    let run = answered_at(&sandbox, ROLL_BACK, ["2026-03-02 12:09:40", "2026-03-02 12:09:50"], "yes\\n");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
}

fn applied(instant: &str, documents: &str) -> Sandbox {
    let sandbox = Sandbox::with("", documents);
    sandbox.at(instant, &["apply", "--auto-approve"]).exits(0);
    sandbox
}

/// Rotates the key by hand.
fn by_hand(sandbox: &Sandbox, instant: &str) {
    sandbox.at(instant, &[ROTATE, &["--auto-approve"]].concat()).exits(0);
}

/// Says yes to what must not begin any more: it ends with 7 and says why, and at the key manager everything is as it was.
fn too_late(sandbox: &Sandbox, command: &[&str], times: [&str; 2], why: &str) {
    let keystore = || fs::read(sandbox.path(".keywheel/keystore")).unwrap();
    let versions = || sandbox.sql("SELECT number, state, provider_ref FROM key_versions ORDER BY number");
    let before = (keystore(), versions());
    let run = answered_at(sandbox, command, times, "yes\\n");
    assert_eq!((run.status.code(), shows(&run, why)), (Some(7), true), "{command:?}: no {why:?} in {}", text(&run));
    assert!((keystore(), versions()) == before, "{command:?}: a key was changed: {}", text(&run));
}

fn answered(sandbox: &Sandbox, arguments: &[&str], answer: &str) -> Output {
    on_a_terminal(sandbox, arguments, None, answer)
}

/// The command begins at one time, and is answered at another.
fn answered_at(sandbox: &Sandbox, arguments: &[&str], times: [&str; 2], answer: &str) -> Output {
    on_a_terminal(sandbox, arguments, Some(times), answer)
}

fn on_a_terminal(sandbox: &Sandbox, arguments: &[&str], times: Option<[&str; 2]>, answer: &str) -> Output {
    let keywheel = sandbox.keywheel(arguments).command;
    let clock = tempfile::NamedTempFile::new().unwrap();
    let [begins, later] = times.unwrap_or_default();
    let mut terminal = Command::new("python3");
    terminal.args(["-c", TERMINAL, answer, later]).arg(clock.path());
    // The clock is the command's alone.
    let mut variables = Vec::new();
    if times.is_some() {
        fs::write(clock.path(), begins).unwrap();
        variables = faked("");
        variables.retain(|(name, _)| *name != "FAKETIME");
        variables.push(("FAKETIME_TIMESTAMP_FILE", clock.path().to_str().unwrap().to_owned()));
        variables.push(("FAKETIME_NO_CACHE", "1".to_owned()));
    }
    terminal.arg("env").args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    terminal.arg(keywheel.get_program()).args(keywheel.get_args());
    terminal.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm");
    terminal.current_dir(keywheel.get_current_dir().unwrap());
    terminal.envs(keywheel.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.output().unwrap()
}

fn text(run: &Output) -> String {
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

fn shows(run: &Output, wanted: &str) -> bool {
    text(run).contains(wanted)
}
