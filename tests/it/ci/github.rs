//! GitHub Actions.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::forge::{Forge, TOKEN};
use super::machine::Machine;
use super::{DAILY, example, merged, proposed, push, weekly, workflows, yaml};

/// What an expression between `${{` and `}}` is worth.
type Facts<'f> = &'f [(&'f str, &'f str)];

/// How a job ended.
#[derive(Debug)]
struct Ended {
    /// The name and the exit status of the step that failed first.
    failed: Option<(String, Option<i32>)>,
    log: String,
    outputs: String,
    summary: String,
    /// The actions that were used and the steps that ran.
    ran: Vec<String>,
}

const REVIEW: &str = "keywheel-review.yaml";
const APPLY: &str = "keywheel-apply.yaml";
const OWN: &str = "github.event.pull_request.head.repo.full_name == github.repository";

fn run(machine: &mut Machine<'_>, file: &str, job: &str, facts: Facts<'_>) -> Ended {
    let workflow = yaml(&example("ci/github").join(file));
    assert_eq!(workflow["defaults"]["run"]["shell"], "bash");
    for name in ["GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_PATH"] {
        let path = machine.file(name);
        fs::write(&path, "").unwrap();
        machine.set(name, path.to_str().unwrap());
    }
    machine.set("RUNNER_TEMP", machine.file("").to_str().unwrap().trim_end_matches('/'));
    machine.set("GITHUB_REPOSITORY", "acme/policies");
    let (mut failed, mut log, mut ran) = (None, String::new(), Vec::new());
    for step in workflow["jobs"][job]["steps"].as_array().unwrap() {
        let condition = step["if"].as_str();
        let outputs = machine.text("GITHUB_OUTPUT");
        if !holds(condition, failed.is_none(), &outputs, facts) {
            continue;
        }
        if let Some(action) = step["uses"].as_str() {
            ran.push(action.to_owned());
            let cache = machine.file("cache");
            if action.starts_with("actions/cache/restore") && cache.exists() {
                fs::copy(cache, machine.sandbox.path(step["with"]["path"].as_str().unwrap())).unwrap();
            }
            continue;
        }
        let name = step["name"].as_str().unwrap().to_owned();
        ran.push(name.clone());
        let variables = step["env"].as_object().into_iter().flatten();
        let variables: BTreeMap<String, String> =
            variables.map(|(name, value)| (name.clone(), filled(value.as_str().unwrap(), facts))).collect();
        let added = machine.text("GITHUB_PATH").lines().collect::<Vec<_>>().join(":");
        if !added.is_empty() && !machine.variables["PATH"].starts_with(&added) {
            let path = format!("{added}:{}", machine.variables["PATH"]);
            machine.set("PATH", &path);
        }
        let done = machine.run(step["run"].as_str().unwrap(), &variables);
        log += &format!("{name}\n{}{}", done.stdout, done.stderr);
        if done.status != Some(0) {
            failed = failed.or(Some((name, done.status)));
        }
    }
    Ended { failed, log, outputs: machine.text("GITHUB_OUTPUT"), summary: machine.text("GITHUB_STEP_SUMMARY"), ran }
}

/// Does a step run?
fn holds(condition: Option<&str>, so_far_good: bool, outputs: &str, facts: Facts<'_>) -> bool {
    let condition = condition.unwrap_or("success()");
    let condition = condition.trim_start_matches("${{").trim_end_matches("}}").trim();
    condition.split(" && ").all(|part| match part {
        "success()" => so_far_good,
        "!cancelled()" => true,
        OWN => facts.iter().any(|(name, value)| *name == OWN && *value == "true"),
        "steps.plan.outputs.changes == 'true'" => so_far_good && outputs.contains("changes=true"),
        other => panic!("a condition that the test does not know: {other}"),
    })
}

/// A value with its expressions filled in.
fn filled(value: &str, facts: Facts<'_>) -> String {
    let mut parts = value.split("${{");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").unwrap();
        let (_, known) = facts
            .iter()
            .find(|(name, _)| *name == expression.trim())
            .unwrap_or_else(|| panic!("an expression that the test does not know: {expression}"));
        text += &format!("{known}{rest}");
    }
    text
}

const PULL_REQUEST: Facts<'static> =
    &[("github.base_ref", "main"), ("github.token", TOKEN), ("github.event.pull_request.number", "7"), (OWN, "true")];

const OF_A_FORK: Facts<'static> = &[("github.base_ref", "main"), (OWN, "false")];

#[test]
fn the_review_is_one_comment_that_each_push_replaces() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(0));
    let mut machine = Machine::new(&sandbox, false);
    machine.set("GITHUB_API_URL", forge.endpoint());
    let ended = run(&mut machine, REVIEW, "review", PULL_REQUEST);
    assert_eq!(ended.failed, None, "{}", ended.log);
    let first = forge.ours();
    assert_eq!(first.len(), 1);
    assert!(first[0].body.starts_with("<!-- keywheel:plan") && first[0].body.contains("1 to 7"), "{}", first[0].body);
    assert_eq!(ended.summary, first[0].body);

    sandbox.commit(&DAILY.replace("rotation_interval_days: 1", "rotation_interval_days: 14"));
    let ended = run(&mut machine, REVIEW, "review", PULL_REQUEST);
    assert_eq!(ended.failed, None, "{}", ended.log);
    let second = forge.ours();
    assert_eq!((second.len(), second[0].id), (1, first[0].id));
    assert!(second[0].body.contains("1 to 14"), "{}", second[0].body);
}

#[test]
fn the_comment_is_found_on_a_later_page_and_nobody_elses_is_touched() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(250));
    let mut machine = Machine::new(&sandbox, false);
    machine.set("GITHUB_API_URL", forge.endpoint());
    for _ in 0..2 {
        let ended = run(&mut machine, REVIEW, "review", PULL_REQUEST);
        assert_eq!(ended.failed, None, "{}", ended.log);
    }
    assert_eq!(forge.ours().len(), 1);
    assert!(forge.others_are_untouched());
}

#[test]
fn a_fork_gets_its_review_without_a_token_a_database_or_a_comment() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(0));
    let mut machine = Machine::new(&sandbox, false);
    machine.set("GITHUB_API_URL", forge.endpoint());
    machine.variables.remove("KEYWHEEL_STATE");
    // What a stranger's `keywheel.yaml` names is opened by nobody.
    let config = sandbox.read("keywheel.yaml").replace("${KEYWHEEL_STATE}", "postgres://127.0.0.1:1/x");
    sandbox.write("keywheel.yaml", &config);
    sandbox.commit_all("another database");
    let ended = run(&mut machine, REVIEW, "review", OF_A_FORK);
    assert_eq!(ended.failed, None, "{}", ended.log);
    assert!(ended.summary.contains("1 to 7"), "{}", ended.summary);
    assert!(!ended.ran.iter().any(|step| step == "Comment"));
    assert_eq!(forge.requests(), 0);
}

#[test]
fn a_mistake_fails_the_job_and_stands_in_the_comment() {
    let (sandbox, forge) =
        (proposed(&DAILY.replace("rotation_interval_days", "rotation_intervall_days")), Forge::start(0));
    let mut machine = Machine::new(&sandbox, false);
    machine.set("GITHUB_API_URL", forge.endpoint());
    let ended = run(&mut machine, REVIEW, "review", PULL_REQUEST);
    assert_eq!(ended.failed, Some(("Check".to_owned(), Some(1))), "{}", ended.log);
    assert!(ended.log.contains("::error file=policies/acme/keys.yaml,line=7"), "{}", ended.log);
    assert!(forge.ours()[0].body.contains("did you mean"), "{}", forge.ours()[0].body);
}

#[test]
fn what_cannot_be_reviewed_at_all_is_said_in_the_comment() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(0));
    let mut machine = Machine::new(&sandbox, false);
    machine.set("GITHUB_API_URL", forge.endpoint());
    let mut facts = PULL_REQUEST.to_vec();
    facts[0].1 = "gone";
    let ended = run(&mut machine, REVIEW, "review", &facts);
    assert_eq!(ended.failed, Some(("Review".to_owned(), Some(1))), "{}", ended.log);
    let body = &forge.ours()[0].body;
    assert!(
        body.starts_with("<!-- keywheel:plan")
            && body.contains("could not be reviewed")
            && body.contains("origin/gone"),
        "{body}"
    );
}

#[test]
fn a_repository_without_cases_of_its_own_is_reviewed_all_the_same() {
    let (sandbox, forge) = (proposed(&weekly()), Forge::start(0));
    let tests = sandbox.path("tests");
    if tests.exists() {
        fs::remove_dir_all(tests).unwrap();
        sandbox.commit_all("no cases");
    }
    let mut machine = Machine::new(&sandbox, false);
    machine.set("GITHUB_API_URL", forge.endpoint());
    let ended = run(&mut machine, REVIEW, "review", PULL_REQUEST);
    assert_eq!(ended.failed, None, "{}", ended.log);
}

#[test]
fn no_document_and_no_case_gives_a_command_to_whoever_runs_the_job() {
    let sandbox = proposed(&weekly());
    let case =
        "  - {name: \"x\\n::add-mask::rotation ##[error]y\", now: \"2026-12-01T02:00:00Z\", expect: {changes: []}}\n";
    let test = format!("apiVersion: keywheel/v1\nkind: Test\nname: \"::stop-commands::t\"\ncases:\n{case}");
    sandbox.write("tests/evil.test.yaml", &test);
    let description = "description: \"a\\n::error::b\\n  ##[warning]c\"\nrotation_interval_days";
    sandbox.commit(&weekly().replacen("rotation_interval_days", description, 1));
    let mut machine = Machine::new(&sandbox, false);
    machine.set("GITHUB_ACTIONS", "true");
    for command in [
        "keywheel test",
        "keywheel plan --base origin/main",
        "keywheel validate",
        "keywheel fmt --check",
        "keywheel explain acme/logs",
    ] {
        let done = machine.run(command, &BTreeMap::new());
        for line in done.stdout.lines().chain(done.stderr.lines()) {
            assert!(!line.trim_start().starts_with("::") && !line.contains("##["), "{command}: {line}");
        }
        assert!(!done.stdout.is_empty() || !done.stderr.is_empty() || command.contains("fmt"), "{command}");
    }
}

#[test]
fn the_clock_looks_every_fifteen_minutes_and_a_merge_alone_asks_for_a_plan() {
    let workflow = yaml(&example("ci/github").join(APPLY));
    assert_eq!(workflow["on"]["schedule"][0]["cron"], "*/15 * * * *");
    assert_eq!(workflow["on"]["push"]["branches"], serde_json::json!(["main"]));
    let runs = |job: &str, event: &str| match workflow["jobs"][job]["if"].as_str() {
        // The second follows the plan, which does not run by the clock.
        Some("github.event_name != 'schedule'" | "needs.plan.outputs.changes == 'true'") => event != "schedule",
        Some("github.event_name == 'schedule'") => event == "schedule",
        other => panic!("{job} has a condition that the test does not know: {other:?}"),
    };
    for (job, by_clock) in [("plan", false), ("apply", false), ("due", true)] {
        assert_eq!((runs(job, "schedule"), runs(job, "push")), (by_clock, !by_clock), "{job}");
    }
    let drift = yaml(&example("ci/github").join("keywheel-drift.yaml"));
    let cron = drift["on"]["schedule"][0]["cron"].as_str().unwrap();
    let fields: Vec<&str> = cron.split(' ').collect();
    assert!(
        fields[0].parse::<u8>().is_ok() && fields[1].parse::<u8>().is_ok() && fields[2..] == ["*", "*", "*"],
        "{cron}"
    );
}

#[test]
fn another_binary_than_the_one_that_was_agreed_on_is_not_run() {
    let sandbox = proposed(&weekly());
    let mut machine = Machine::new(&sandbox, false);
    machine.set("KEYWHEEL_SHA256", &"0".repeat(64));
    let ended = run(&mut machine, REVIEW, "review", OF_A_FORK);
    assert_eq!(ended.failed.unwrap().0, "Install keywheel", "{}", ended.log);
}

#[test]
fn a_merge_is_planned_and_what_was_planned_is_applied() {
    let sandbox = merged();
    let mut machine = Machine::new(&sandbox, true);
    let ended = run(&mut machine, APPLY, "plan", &[]);
    assert_eq!(ended.failed, None, "{}", ended.log);
    assert_eq!(ended.outputs, "changes=true\n");
    assert!(ended.ran.iter().any(|step| step.starts_with("actions/upload-artifact")));
    assert!(ended.summary.contains("acme/logs"), "{}", ended.summary);
    let ended = run(&mut machine, APPLY, "apply", &[]);
    assert_eq!(ended.failed, None, "{}", ended.log);
    let ages: Value = serde_json::from_str(&sandbox.read("keywheel-ages.json")).unwrap();
    assert_eq!(ages["keys"][0]["key_name"], "logs");

    let ended = run(&mut machine, APPLY, "plan", &[]);
    assert_eq!((ended.failed, ended.outputs.as_str()), (None, "changes=false\n"), "{}", ended.log);
}

#[test]
fn a_review_knows_the_ages_that_the_last_apply_left_and_none_that_the_pull_request_brings() {
    let sandbox = merged();
    let mut machine = Machine::new(&sandbox, true);
    machine.at("2026-03-01 12:00:00");
    for job in ["plan", "apply"] {
        assert_eq!(run(&mut machine, APPLY, job, &[]).failed, None);
    }
    let ages = sandbox.read("keywheel-ages.json");
    fs::remove_file(sandbox.path("keywheel-ages.json")).unwrap();
    fs::remove_file(sandbox.path("plan.json")).unwrap();
    // An edit that makes the key due: it was made on the first of March.
    sandbox.commit(&weekly());
    push(&sandbox);
    sandbox.git(&["checkout", "-qb", "feature"]);
    sandbox.commit(DAILY);
    let mut machine = Machine::new(&sandbox, false);
    machine.at("2026-03-03 12:00:00");
    fs::write(machine.file("cache"), ages).unwrap();
    let review = |machine: &mut Machine<'_>| {
        let ended = run(machine, REVIEW, "review", OF_A_FORK);
        assert_eq!(ended.failed, None, "{}", ended.log);
        ended.summary
    };
    let knowing = review(&mut machine);
    assert!(knowing.contains("1 key becomes due at once") && !knowing.contains("up to 1 key"), "{knowing}");
    fs::remove_file(machine.file("cache")).unwrap();
    sandbox.write("keywheel-ages.json", "what the pull request brings");
    let unknowing = review(&mut machine);
    assert!(unknowing.contains("up to 1 key"), "{unknowing}");
}

#[test]
fn a_plan_that_something_has_overtaken_is_not_applied() {
    let sandbox = merged();
    let mut machine = Machine::new(&sandbox, true);
    assert_eq!(run(&mut machine, APPLY, "plan", &[]).failed, None);
    let variables = BTreeMap::new();
    assert_eq!(machine.run("keywheel apply --auto-approve", &variables).status, Some(0));
    let ended = run(&mut machine, APPLY, "apply", &[]);
    assert_eq!(ended.failed, Some(("Apply".to_owned(), Some(4))), "{}", ended.log);
}

#[test]
fn the_clock_rotates_what_is_due_and_applies_no_merge_that_nobody_approved() {
    let sandbox = merged();
    let mut machine = Machine::new(&sandbox, true);
    machine.at("2026-03-01 12:00:00");
    let ended = run(&mut machine, APPLY, "due", &[]);
    // A database that is lost is not passed over in silence, and nothing is made anew.
    assert!(ended.failed.is_some() && ended.log.contains("error[state/missing]"), "{}", ended.log);
    for job in ["plan", "apply"] {
        let ended = run(&mut machine, APPLY, job, &[]);
        assert_eq!(ended.failed, None, "{}", ended.log);
    }
    // Merged, and not approved yet: a slower policy and another key.
    let more = DAILY.split("---\n").nth(1).unwrap().replace("key_name: logs", "key_name: more");
    sandbox.commit(&format!("{}---\n{more}", weekly()));
    push(&sandbox);
    machine.at("2026-03-02 02:05:00");
    let ended = run(&mut machine, APPLY, "due", &[]);
    assert_eq!(ended.failed, None, "{}", ended.log);
    let status = machine.run("keywheel status --format json", &BTreeMap::new()).json();
    let keys = status["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["key_name"]), (1, &Value::from("logs")), "{status:#}");
    assert_eq!(keys[0]["primary_version"]["number"], 2, "{status:#}");
}

#[test]
fn the_nightly_report_fails_where_something_drifted() {
    let sandbox = merged();
    let mut machine = Machine::new(&sandbox, true);
    for job in ["plan", "apply"] {
        assert_eq!(run(&mut machine, APPLY, job, &[]).failed, None);
    }
    let drift = |machine: &mut Machine<'_>| run(machine, "keywheel-drift.yaml", "drift", &[]);
    let ended = drift(&mut machine);
    assert!(ended.failed.is_none() && ended.summary.starts_with("## Drift\n"), "{}", ended.log);
    // Somebody with another database rotates the key.
    let (state, saved) = (sandbox.path("../state.db"), machine.file("state.db"));
    fs::copy(&state, &saved).unwrap();
    let rotated = machine.run("keywheel rotate acme/logs --reason elsewhere --auto-approve", &BTreeMap::new());
    assert_eq!(rotated.status, Some(0), "{}", rotated.stderr);
    fs::copy(&saved, &state).unwrap();
    let ended = drift(&mut machine);
    let (step, status) = ended.failed.unwrap();
    assert!(step == "Drift" && status == Some(6), "{status:?} {}", ended.log);
    // The ages are those of the record, whatever the key managers say.
    assert!(ended.ran.iter().any(|step| step == "Ages") && sandbox.read("keywheel-ages.json").contains("\"logs\""));
}

#[test]
fn nothing_that_a_stranger_writes_becomes_a_script_and_no_job_has_more_rights_than_it_needs() {
    for file in workflows() {
        let text = fs::read_to_string(&file).unwrap();
        let workflow = yaml(&file);
        assert!(workflow["on"].get("pull_request_target").is_none());
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{}", file.display());
        for job in workflow["jobs"].as_object().unwrap().values() {
            assert_eq!(job["permissions"]["contents"], "read");
            let is_review = workflow["on"].get("pull_request").is_some();
            assert_eq!(job["permissions"].get("id-token").is_some(), !is_review);
            for step in job["steps"].as_array().unwrap() {
                assert!(!step["run"].as_str().unwrap_or_default().contains("${{"), "{text}");
                assert!(!is_review || !step.to_string().contains("secrets."), "{text}");
            }
        }
    }
}
