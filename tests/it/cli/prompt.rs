//! `apply` on a terminal: it shows the plan, asks, and takes `yes` alone for a yes.

use std::process::{Command, Output};

use crate::support::sandbox::Sandbox;

/// Runs a command on a terminal of its own, types an answer at the question, and exits as the command does.
const TERMINAL: &str = r#"
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown, answer = b"", sys.argv[1].encode().decode("unicode_escape").encode()
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    shown += data
    if answer and b"Only `yes` is accepted" in shown:
        os.write(terminal, answer)
        answer = b""
sys.stdout.buffer.write(shown)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

#[test]
fn yes_applies() {
    let sandbox = Sandbox::with_policies();
    let run = answered(&sandbox, "yes\\n");
    assert_eq!((run.status.code(), shows(&run, "4 created")), (Some(0), true), "{}", text(&run));
    assert!(shows(&run, "\u{1b}[32m"), "a terminal gets colours: {}", text(&run));
}

#[test]
fn anything_else_and_an_interrupt_change_nothing() {
    for answer in ["y\\n", "\\n", "\\x03"] {
        let sandbox = Sandbox::with_policies();
        let run = answered(&sandbox, answer);
        assert_eq!(run.status.code(), Some(1), "{answer}: {}", text(&run));
        assert!(shows(&run, "error[apply/cancelled]"), "{answer}: {}", text(&run));
        assert!(sandbox.keywheel(&["status"]).exits(0).stdout.contains("No key was applied yet"), "{answer}");
        // The lock was given back: nobody waits for a run that was called off.
        sandbox.keywheel(&["apply", "--auto-approve", "--lock-timeout", "0s"]).exits(0);
    }
}

fn answered(sandbox: &Sandbox, answer: &str) -> Output {
    let keywheel = sandbox.keywheel(&["apply"]).command;
    let mut terminal = Command::new("python3");
    terminal.args(["-c", TERMINAL, answer]).arg(keywheel.get_program()).args(keywheel.get_args());
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
