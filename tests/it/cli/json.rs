//! JSON outputs: nothing else on standard output, and each as its schema says.

use std::fs;
use std::path::Path;

use keywheel::render::schemas;
use serde_json::Value;

use crate::support::sandbox::Sandbox;

#[test]
fn the_schemas_in_the_repository_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    for (name, schema) in schemas::all() {
        let stored = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(stored == schemas::text(&schema), "schema/{name} is stale: run `keywheel schema --write schema/`");
    }
    let known: Vec<&str> = schemas::all().into_iter().map(|(name, _)| name).collect();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name.as_str()), "schema/{name} is of no output");
    }
}

#[test]
fn every_json_output_is_one_document_of_its_schema() {
    let sandbox = Sandbox::with_policies();
    // Before the first apply, and after it: a plan with changes and one without, a history with and without rows.
    for step in 0..2 {
        let outputs: &[(&str, &[&str])] = &[
            ("validate", &["validate"]),
            ("plan", &["plan"]),
            ("drift", &["drift"]),
            ("status", &["status"]),
            ("history", &["history"]),
            ("explain", &["explain", "my-team/first-key"]),
            ("explain", &["explain", "my-team/Quarterly"]),
            ("version", &["version"]),
        ];
        let of_state: &[(&str, &[&str])] = &[
            ("audit-list", &["audit", "list"]),
            ("audit-verify", &["audit", "verify"]),
            ("audit-why", &["audit", "why", "my-team/first-key"]),
            ("lock-list", &["lock", "list"]),
            ("usage-report", &["usage", "report", "my-team/first-key", "--source", "a", "--total", "3"]),
        ];
        for (schema, arguments) in outputs.iter().chain(of_state.iter().filter(|_| step > 0)) {
            let run = sandbox.keywheel(&[arguments, &["--format", "json"][..]].concat()).ends();
            assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{arguments:?}");
            let document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
            assert!(document.get("format_version").is_some(), "{arguments:?}: {document}");
            holds(&format!("{schema}.v1.json"), &document);
        }
        if step == 0 {
            sandbox.keywheel(&["apply", "--auto-approve"]).exits(0);
            sandbox
                .keywheel(&["rotate", "my-team/first-key", "--reason", "a second version", "--auto-approve"])
                .exits(0);
        }
    }
}

#[test]
fn a_saved_plan_is_what_the_json_of_the_plan_is() {
    let sandbox = Sandbox::with_policies();
    let printed = sandbox.keywheel(&["plan", "--out", "plan.json", "--format", "json"]).exits(0).stdout;
    assert_eq!(fs::read_to_string(sandbox.path("plan.json")).unwrap(), printed);
    assert_eq!(sandbox.keywheel(&["show", "plan.json", "--format", "json"]).exits(0).stdout, printed);
}

#[test]
fn apply_streams_lines_from_the_version_to_the_report() {
    let sandbox = Sandbox::with_policies();
    let stream = sandbox.keywheel(&["apply", "--auto-approve", "--format", "json"]).exits(0).stdout;
    let lines: Vec<Value> = stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        holds("apply-line.v1.json", line);
    }
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("version", "report"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "change_done").count(), 4, "{kinds:?}");
    assert_eq!(lines.last().unwrap()["done"]["create"], 4);
}

#[test]
fn a_stream_that_fails_ends_with_the_error() {
    let sandbox = Sandbox::with_policies();
    fs::write(sandbox.path("policies/my-team/new.yaml"), "").unwrap();
    let run = sandbox.keywheel(&["apply", "--auto-approve", "--format", "json"]).exits(3);
    let last: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    holds("apply-line.v1.json", &last);
    assert_eq!(last["type"], "error");
    assert!(run.stderr.contains(last["code"].as_str().unwrap()), "{}", run.stderr);
}

/// Holds a document against a schema of the repository.
pub(super) fn holds(schema: &str, document: &Value) {
    let (_, schema) = schemas::all().into_iter().find(|(name, _)| *name == schema).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}
