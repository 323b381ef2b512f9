//! The examples for CI, hooks and editors, run as they stand: the scripts of the jobs in real repositories, with the
//! comments' API behind them.

mod forge;
mod github;
mod gitlab;
mod hooks;
mod machine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::python::python;
use crate::support::sandbox::Sandbox;

/// A daily policy with a key.
const DAILY: &str = "\
apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: Daily
key_type: logs
kms_provider: local
rotation_interval_days: 1
rotation_time_of_day: \"02:00:00\"
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: logs
key_type: logs
kms_provider: local
rotation_policy: Daily
";

/// A test that always holds.
const A_TEST: &str = "\
apiVersion: keywheel/v1
kind: Test
name: Logs
given: {files: [policies/acme]}
cases:
  - name: a first plan makes the key
    now: \"2026-03-01T12:00:00Z\"
    expect:
      matching: subset
      changes:
        - {action: create, object: key acme/logs}
";

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

/// A file of YAML 1.2.
fn yaml(path: &Path) -> Value {
    let script = "import json, sys\nfrom ruamel.yaml import YAML\njson.dump(YAML(typ='safe').load(open(sys.argv[1])), sys.stdout)";
    let output = Command::new(python()).args(["-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A repository whose `main` is at `origin`, with a branch checked out on which `edited` was committed.
fn proposed(edited: &str) -> Sandbox {
    let sandbox = merged();
    sandbox.git(&["checkout", "-qb", "feature"]);
    sandbox.commit(edited);
    sandbox
}

/// The same with `main` checked out.
fn merged() -> Sandbox {
    let sandbox = Sandbox::new("state: ${KEYWHEEL_STATE}\nproviders:\n  local:\n    keystore: ../keystore\n");
    sandbox.keywheel(&["fmt"]).exits(0);
    sandbox.write("tests/logs.test.yaml", A_TEST);
    sandbox.commit(DAILY);
    sandbox.git(&["branch", "-M", "main"]);
    push(&sandbox);
    sandbox
}

/// Brings `main` to `origin`.
fn push(sandbox: &Sandbox) {
    let origin = sandbox.path("../origin.git");
    if !origin.exists() {
        sandbox.git(&["init", "-q", "--bare", origin.to_str().unwrap()]);
        sandbox.git(&["remote", "add", "origin", origin.to_str().unwrap()]);
    }
    sandbox.git(&["push", "-q", "origin", "main"]);
}

fn weekly() -> String {
    DAILY.replace("rotation_interval_days: 1", "rotation_interval_days: 7")
}

#[test]
fn the_jobs_are_what_github_and_gitlab_understand() {
    let check = |schema: &str, files: &[PathBuf]| {
        let tool = python().with_file_name("check-jsonschema");
        let output = Command::new(tool).args(["--builtin-schema", schema]).args(files).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    check("vendor.github-workflows", &workflows());
    check("vendor.gitlab-ci", &[example("ci/gitlab.yaml")]);
}

/// The workflows for GitHub.
fn workflows() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(example("ci/github")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3);
    files
}

#[test]
fn the_editors_settings_cover_every_document_and_read_every_problem() {
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(example("editor/vscode").join(name)).unwrap()).unwrap()
    };
    let sandbox = Sandbox::with_policies();
    let patterns = read("settings.json")["yaml.schemas"]["schema/keywheel.v1.json"].clone();
    let task = read("tasks.json")["tasks"][0].clone();
    assert_eq!(read("extensions.json")["recommendations"][0], "redhat.vscode-yaml");
    sandbox.write("policies/my-team/keys.yaml", "apiVersion: keywheel/v1\nkind: RotationPolicy\npolicy_nam: x\n");
    assert_eq!(task["command"], "keywheel");
    let arguments: Vec<&str> = task["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let problems = sandbox.keywheel(&arguments).exits(1).stdout;
    // Globs and regular expressions as JavaScript and Python have in common.
    let script = "
import json, re, sys
question = json.load(sys.stdin)
glob = lambda it: re.compile('^' + re.escape(it).replace(r'\\*\\*/', '(.*/)?').replace(r'\\*', '[^/]*') + '$')
print(json.dumps({
    'covered': [path for path in question['paths'] if any(glob(it).match(path) for it in question['globs'])],
    'problems': [m.groups() for line in question['lines'] if (m := re.match(question['pattern'], line))],
}))";
    let paths = sandbox.git(&["ls-files", "*.yaml", ":!.github"]);
    let question = serde_json::json!({
        "globs": patterns, "paths": paths.lines().collect::<Vec<_>>(), "lines": problems.lines().collect::<Vec<_>>(),
        "pattern": task["problemMatcher"]["pattern"]["regexp"],
    });
    let answer = machine::ask(Command::new(python()).args(["-c", script]), &question);
    assert_eq!(answer["covered"], serde_json::json!(paths.lines().collect::<Vec<_>>()));
    let first = &answer["problems"][0];
    assert_eq!(
        (&first[0], &first[1]),
        (&Value::from("error"), &Value::from("policies/my-team/keys.yaml")),
        "{problems}"
    );
    assert_eq!(answer["problems"].as_array().unwrap().len(), problems.lines().count());
}
