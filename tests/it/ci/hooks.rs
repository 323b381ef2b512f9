//! Hooks that run before a commit.

use std::fs;
use std::process::Command;

use super::{A_TEST, DAILY, example, merged, yaml};
use crate::support::python::python;
use crate::support::sandbox::{Done, Sandbox};

/// What git does on `git commit`, with keywheel on the path.
fn commit(sandbox: &Sandbox) -> Done {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_keywheel"));
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-qm", "a change"]);
    command.current_dir(sandbox.dir()).env_clear().env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binary.parent().unwrap().display()));
    command.output().unwrap().into()
}

fn with_hook() -> Sandbox {
    let sandbox = merged();
    fs::copy(example("ci/pre-commit/pre-commit"), sandbox.path(".git/hooks/pre-commit")).unwrap();
    sandbox
}

#[test]
fn a_git_hook_looks_at_what_is_staged_and_not_at_the_work_tree() {
    let sandbox = with_hook();
    let wrong = DAILY.replace("rotation_interval_days", "rotation_intervall_days");
    sandbox.write("policies/acme/keys.yaml", &wrong);
    sandbox.git(&["add", "-A"]);
    sandbox.write("policies/acme/keys.yaml", DAILY);
    let done = commit(&sandbox);
    assert!(done.status == Some(1) && done.stderr.contains("did you mean `rotation_interval_days`?"), "{done:?}");

    sandbox.write("policies/acme/keys.yaml", &DAILY.replace("days: 1", "days: 2"));
    sandbox.git(&["add", "-A"]);
    sandbox.write("policies/acme/keys.yaml", &wrong);
    let done = commit(&sandbox);
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(sandbox.git(&["show", "HEAD:policies/acme/keys.yaml"]).contains("rotation_interval_days: 2"));
}

#[test]
fn a_git_hook_runs_the_cases_and_lets_other_commits_pass() {
    let sandbox = with_hook();
    sandbox.write("tests/logs.test.yaml", &A_TEST.replace("key acme/logs", "key acme/gone"));
    sandbox.git(&["add", "-A"]);
    let done = commit(&sandbox);
    assert!(done.status == Some(1) && done.stderr.contains("FAIL"), "{done:?}");
    sandbox.git(&["reset", "-q", "--hard"]);
    sandbox.write("README.md", "Policies\n");
    sandbox.git(&["add", "-A"]);
    assert_eq!(commit(&sandbox).status, Some(0));
}

#[test]
fn pre_commit_runs_the_same_checks() {
    let sandbox = merged();
    fs::copy(example("ci/pre-commit/pre-commit-config.yaml"), sandbox.path(".pre-commit-config.yaml")).unwrap();
    sandbox.git(&["add", "-A"]);
    let run = || {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_keywheel"));
        let mut command = Command::new(python().with_file_name("pre-commit"));
        command.args(["run", "--all-files", "--color", "never"]).current_dir(sandbox.dir()).env_clear();
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", binary.parent().unwrap().display()));
        command.env("HOME", sandbox.path("../home"));
        Done::from(command.output().unwrap())
    };
    let done = run();
    assert_eq!(done.status, Some(0), "{done:?}");
    assert_eq!(done.stdout.matches("Passed").count(), 3, "{}", done.stdout);
    sandbox.write("policies/acme/keys.yaml", &DAILY.replace("rotation_policy: Daily", "rotation_policy: Dayly"));
    sandbox.git(&["add", "-A"]);
    let done = run();
    assert!(done.status == Some(1) && done.stdout.contains("set/dangling-policy"), "{done:?}");
}

#[test]
fn this_repository_offers_the_hooks_of_the_example() {
    let manifest = example("../.pre-commit-hooks.yaml");
    let tool = python().with_file_name("pre-commit");
    let output = Command::new(tool).arg("validate-manifest").arg(&manifest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut offered = yaml(&manifest);
    for hook in offered.as_array_mut().unwrap() {
        hook.as_object_mut().unwrap().remove("description");
    }
    assert_eq!(offered, yaml(&example("ci/pre-commit/pre-commit-config.yaml"))["repos"][0]["hooks"]);
}
