//! What a person types and reads: other people's words begin no line, and numbers that are none are answered by what to write.

use crate::support::sandbox::Sandbox;

/// What somebody gives as a reason, so that it looks like the tool's own words.
const FORGED: &str =
    "a test\nSound: everything\n\n! nothing to see\nerror[forged/code]: no\nhelp: run this\r\n\u{1b}[2Kx";

fn begins_no_line(command: &[&str], text: &str) {
    // What is wrapped goes on further in.
    for line in text.lines() {
        let line = line.strip_prefix("! ").unwrap_or(line);
        for forged in ["Sound:", "nothing to see", "error[forged", "help: run this"] {
            assert!(!line.starts_with(forged), "{command:?} lets a reason begin a line:\n{text}");
        }
    }
    assert!(!text.contains('\u{1b}'), "{command:?}: {text:?}");
}

#[test]
fn a_reason_with_lines_of_its_own_begins_none() {
    let sandbox = Sandbox::with_policies();
    let key = "my-team/first-key";
    let auto = "--auto-approve";
    let mut said = 0;
    let mut look = |command: &[&str]| {
        let done = sandbox.keywheel(command).ends();
        begins_no_line(command, &done.stdout);
        begins_no_line(command, &done.stderr);
        said += usize::from(done.stdout.contains("a test Sound: everything"));
        said += usize::from(done.stderr.contains("a test Sound: everything"));
    };
    sandbox.keywheel(&["apply", auto]).exits(0);
    sandbox.keywheel(&["rotate", key, "--reason", FORGED, auto]).exits(0);
    look(&["history", "-v"]);
    look(&["explain", key]);
    look(&["audit", "list"]);
    look(&["audit", "why", key]);
    look(&["rollback", key, "--reason", FORGED, auto]);
    look(&["status", "-v"]);
    look(&["plan", "-v"]);
    look(&["rotate", key, "--reason", "again", auto]);
    look(&["release", key, "--reason", FORGED, auto]);
    look(&["park", key, "--reason", FORGED, auto]);
    look(&["park", key, "--reason", FORGED, auto]);
    look(&["rotate", key, "--reason", FORGED, auto]);
    look(&["outbox", "list", "-v"]);
    look(&["status"]);
    look(&["explain", key]);
    look(&["forecast"]);
    look(&["drift"]);
    look(&["compliance", "report", "--framework", "NIST"]);
    look(&["state", "forget", key, "--reason", FORGED, auto]);
    look(&["attest", key, "1", "needed", "--reason", FORGED, auto]);
    look(&["lock", "break", "7", "--reason", FORGED]);
    look(&["state", "reclaim", "--reason", FORGED, auto]);
    look(&["audit", "list", "--limit", "500"]);
    assert!(said >= 8, "the reason was shown {said} times only");
}

#[test]
fn a_number_that_is_none_is_answered_by_what_to_write() {
    let sandbox = Sandbox::with_policies();
    let version = "write the number of a version, such as 3";
    let cases: &[(&[&str], &str)] = &[
        (&["lock", "break", "abc", "--reason", "x"], "write the number of a lock: `keywheel lock list` shows it"),
        (&["lock", "break", "0", "--reason", "x"], "write the number of a lock"),
        (&["attest", "acme/k", "1.5", "needed", "--reason", "x"], version),
        (&["enable", "acme/k", "", "--reason", "x"], version),
        (&["destroy", "acme/k", "v2", "--reason", "x"], version),
        (&["usage", "report", "acme/k", "--source", "s", "--total", "many"], "write how often in all"),
        (&["usage", "report", "acme/k", "--source", "s", "--total", "1", "--version-number", "-"], version),
        (&["history", "--limit", "0"], "write a whole number from 1"),
        (&["forecast", "--days", "3661"], "write a whole number of days from 1 to 3660"),
    ];
    for (command, advice) in cases {
        let refused = sandbox.keywheel(command).exits(1);
        assert!(refused.stderr.contains(advice), "{command:?}: {}", refused.stderr);
        for words in ["digit", "integer", "not in"] {
            assert!(!refused.stderr.contains(words), "{command:?}: {}", refused.stderr);
        }
    }
    let mode = sandbox.keywheel(&["status", "--state-url", "postgres://db/k?sslmode=requir"]).exits(1);
    assert!(mode.stderr.contains("unknown `sslmode`") && mode.stderr.contains("verify-full"), "{}", mode.stderr);
}
