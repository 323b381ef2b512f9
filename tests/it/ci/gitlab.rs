//! GitLab CI.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::forge::{Forge, TOKEN};
use super::machine::Machine;
use super::{DAILY, example, merged, proposed, push, weekly, yaml};
use crate::support::sandbox::Done;

/// Runs a job: its scripts in one shell, as the runner does.
fn run(machine: &Machine<'_>, job: &str) -> Done {
    let file = yaml(&example("ci/gitlab.yaml"));
    let job = &file[job];
    let base = job["extends"].as_str().map_or(&Value::Null, |name| &file[name]);
    let lines = |name: &str| {
        let own = job.get(name).or_else(|| base.get(name)).and_then(Value::as_array).cloned().unwrap_or_default();
        own.iter().map(|line| format!("{}\n", line.as_str().unwrap())).collect::<String>()
    };
    let done = machine.run(&(lines("before_script") + &lines("script")), &BTreeMap::new());
    let after = machine.run(&lines("after_script"), &BTreeMap::new());
    assert_eq!(after.status, Some(0), "{}", after.stderr);
    done
}

fn machine<'s>(sandbox: &'s crate::support::sandbox::Sandbox, forge: &Forge) -> Machine<'s> {
    let mut machine = Machine::new(sandbox, true);
    machine.set("CI_PROJECT_DIR", sandbox.dir().to_str().unwrap());
    machine.set("CI_API_V4_URL", &format!("{}/api/v4", forge.endpoint()));
    machine.set("CI_MERGE_REQUEST_PROJECT_ID", "42");
    machine.set("CI_MERGE_REQUEST_IID", "7");
    machine.set("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main");
    machine.set("CI_JOB_URL", "https://gitlab.example.org/jobs/1");
    machine.set("AWS_TOKEN", "a.web.token");
    machine
}

#[test]
fn the_review_is_one_comment_that_each_push_replaces() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(250));
    let mut machine = machine(&sandbox, &forge);
    machine.set("KEYWHEEL_COMMENT_TOKEN", TOKEN);
    let done = run(&machine, "review");
    assert_eq!(done.status, Some(0), "{}{}", done.stdout, done.stderr);
    let first = forge.ours();
    assert!(first.len() == 1 && first[0].body.contains("1 to 7"), "{first:?}");
    sandbox.commit(&DAILY.replace("rotation_interval_days: 1", "rotation_interval_days: 14"));
    assert_eq!(run(&machine, "review").status, Some(0));
    let second = forge.ours();
    assert_eq!((second.len(), second[0].id), (1, first[0].id));
    assert!(second[0].body.contains("1 to 14") && forge.others_are_untouched());
    let quality: Value = serde_json::from_str(&sandbox.read("code-quality.json")).unwrap();
    assert!(quality.is_array() && sandbox.read("cases.xml").contains("<testcase "));
}

#[test]
fn a_fork_gets_its_review_without_a_token_and_without_a_comment() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(0));
    let mut machine = machine(&sandbox, &forge);
    machine.variables.remove("KEYWHEEL_STATE");
    machine.variables.remove("AWS_TOKEN");
    let done = run(&machine, "review").says("1 to 7");
    assert_eq!((done.status, forge.requests()), (Some(0), 0), "{}", done.stderr);
}

#[test]
fn what_cannot_be_reviewed_fails_the_job_and_is_said_in_the_comment() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(0));
    let mut machine = machine(&sandbox, &forge);
    machine.set("KEYWHEEL_COMMENT_TOKEN", TOKEN);
    // Ages that somebody altered.
    fs::write(sandbox.path("keywheel-ages.json"), "{}").unwrap();
    assert_eq!(run(&machine, "review").status, Some(1));
    let body = &forge.ours()[0].body;
    assert!(body.starts_with("<!-- keywheel:plan") && body.contains("https://gitlab.example.org/jobs/1"), "{body}");
}

#[test]
fn a_merge_is_planned_and_what_was_planned_is_applied_and_the_clock_goes_on_from_there() {
    let (sandbox, forge) = (merged(), Forge::start(0));
    let mut machine = machine(&sandbox, &forge);
    machine.at("2026-03-01 12:00:00");
    // A database that is lost is not passed over in silence, and nothing is made anew.
    run(&machine, "due").error("state/missing");
    for job in ["plan", "apply", "drift"] {
        let done = run(&machine, job);
        assert_eq!(done.status, Some(0), "{job}: {}{}", done.stdout, done.stderr);
    }
    assert!(sandbox.read("keywheel-ages.json").contains("\"logs\""));
    // No token stays behind.
    assert!(!sandbox.path("../repo.tmp/aws-token").exists());
    sandbox.commit(&weekly());
    push(&sandbox);
    machine.at("2026-03-02 02:05:00");
    let done = run(&machine, "due");
    assert_eq!(done.status, Some(0), "{}{}", done.stdout, done.stderr);
    let status = machine.run("keywheel status --format json", &BTreeMap::new()).json();
    assert_eq!(status["keys"][0]["primary_version"]["number"], 2, "{status:#}");
}
