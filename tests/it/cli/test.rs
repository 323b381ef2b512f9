//! `keywheel test` as its users run it.

use std::path::Path;
use std::process::Command;

use keywheel::document::{self, SourceFile, TestSource};
use serde_json::{Value, json};

use crate::support::python::Script;
use crate::support::sandbox::Sandbox;

/// A policy and a key as they stand in a test.
const GIVEN: &str = "\
given:
  documents:
    - {apiVersion: keywheel/v1, kind: RotationPolicy, tenant_id: acme, policy_name: Monthly, key_type: logs, kms_provider: local,
       rotation_interval_days: 30, rotation_time_of_day: \"02:00:00\", old_key_disposition: disable, retain_old_keys_days: 7}
    - {apiVersion: keywheel/v1, kind: EncryptionKey, tenant_id: acme, key_name: k, key_type: logs, kms_provider: local,
       rotation_policy: Monthly}
";

/// A repository with one file of tests.
fn with(tests: &str) -> Sandbox {
    let sandbox = Sandbox::new("");
    sandbox.write("tests/a.test.yaml", tests);
    sandbox
}

fn test(rest: &str) -> String {
    format!("apiVersion: keywheel/v1\nkind: Test\nname: Logs\n{rest}")
}

#[test]
fn the_tests_of_this_repository_hold() {
    let run = Command::new(env!("CARGO_BIN_EXE_keywheel"))
        .args(["test", "--color", "never"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_case_that_does_not_hold_shows_what_was_expected_beside_what_was_planned() {
    let sandbox = with(&test(&format!(
        "{GIVEN}recorded:
  keys:
    - key: acme/k
      rotated_at: \"2026-11-01T02:00:00Z\"
      old_versions: [{{deactivated_at: \"2026-11-01T02:00:00Z\", rewrapped_at: \"2026-11-02T02:00:00Z\"}}]
cases:
  - name: holds
    now: \"2026-11-05T02:00:00Z\"
    expect: {{changes: [], waiting: []}}
  - name: does not hold
    now: \"2026-12-01T02:00:00Z\"
    expect:
      changes:
        - {{action: rotate, object: key acme/k, reason: overdue}}
"
    )));
    let run = sandbox.keywheel(&["test"]).exits(1);
    let expected = "\
tests/a.test.yaml
  Logs
    ok    holds
    FAIL  does not hold  tests/a.test.yaml:19
          changes at 2026-12-01T02:00:00Z: - expected, + planned
          - rotate key acme/k, reason: overdue
          + rotate key acme/k, reason: due
          + disable key acme/k, reason: disable, version: 1

1 case passed, 1 failed.
";
    assert_eq!(run.stdout, expected);
}

#[test]
fn the_report_is_the_same_on_any_day_and_nothing_is_written() {
    let sandbox = Sandbox::with_policies();
    let run = sandbox.keywheel(&["test", "--format", "json"]).exits(0);
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    super::json::holds("test.v1.json", &document);
    assert_eq!((&document["failed"], document["findings"].as_array().unwrap().len()), (&Value::from(0), 0));
    assert!(!sandbox.path(".keywheel").exists());
    assert!(sandbox.git(&["status", "--porcelain"]).is_empty());
}

#[test]
fn an_edit_is_a_document_as_it_was_applied_and_one_as_it_is_now() {
    let sandbox = with(&test(&format!(
        "{GIVEN}recorded:
  documents:
    - {{apiVersion: keywheel/v1, kind: RotationPolicy, tenant_id: acme, policy_name: Monthly, key_type: logs,
       kms_provider: local, rotation_interval_days: 90, rotation_time_of_day: \"02:00:00\"}}
    - {{apiVersion: keywheel/v1, kind: RotationPolicy, tenant_id: acme, policy_name: Old, key_type: logs, kms_provider: local,
       rotation_trigger: manual}}
  keys:
    - {{key: acme/k, rotated_at: \"2026-11-01T02:00:00Z\"}}
cases:
  - name: the shorter interval makes the key due
    now: \"2026-12-01T02:00:00Z\"
    expect:
      changes:
        - {{action: update, object: policy acme/Monthly, fields: {{rotation_interval_days: 30}}, message: 90 to 30 days}}
        - {{action: remove, object: policy acme/Old}}
        - {{action: rotate, object: key acme/k}}
"
    )));
    sandbox.keywheel(&["test"]).exits(0);
}

#[test]
fn a_mistake_in_a_test_has_its_place_and_keeps_nothing_else_from_running() {
    let sandbox = with(&format!(
        "{}---\n{}",
        test("cases:\n  - name: a\n    now: \"soon\"\n    expcet: {}\n"),
        test(&format!(
            "{GIVEN}cases:\n  - {{name: b, now: \"2026-12-01T02:00:00Z\", expect: {{matching: subset, changes: [{{action: create, object: key acme/k}}]}}}}\n"
        ))
    ));
    let run = sandbox.keywheel(&["test"]).exits(1);
    assert!(run.stdout.contains("ok    b"), "{}", run.stdout);
    assert!(
        run.stdout.contains("tests/a.test.yaml:7:5") && run.stdout.contains("did you mean `expect`?"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("tests/a.test.yaml:6:"), "{}", run.stdout);
}

#[test]
fn a_test_that_is_cut_off_or_lacks_a_line_is_read_without_harm() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies.test.yaml")).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let without = (0..lines.len()).map(|line| [&lines[..line], &lines[line + 1..]].concat().concat());
    let cut = (0..text.len()).step_by(7).map(|length| text[..length].to_owned());
    for text in without.chain(cut) {
        let file = SourceFile { path: "a.test.yaml".into(), content: text.as_bytes().into(), symlink: false };
        let source = TestSource { config: None, config_path: "keywheel.yaml", files: &[] };
        for given in &document::test_file(&file).tests {
            let now = given.test.cases[0].now;
            let loaded = given.given(source, keywheel::provider::capabilities, now);
            let here = loaded.findings.iter().filter_map(|finding| finding.place.as_ref());
            assert!(here.clone().all(|place| place.line as usize <= lines.len()), "{text}");
        }
    }
}

#[test]
fn what_is_written_otherwise_than_a_case_wants_it_is_told_how() {
    let sandbox = with(&test(
        "recorded: {keys: [{key: acme, rotated_at: \"yesterday\"}]}
cases:
  - name: a
    now: 2026-12-01T02:00:00Z
    expect: {changes: [{action: rotat, object: acme/k}]}
",
    ));
    let found = sandbox.keywheel(&["test"]).exits(1).stdout;
    for help in [
        "write `TENANT/NAME`",
        "write an instant as `\"2026-12-31T02:00:00Z\"`",
        "quote it: `\"2026-12-01T02:00:00Z\"`",
        "did you mean `rotate`?",
        "write `key TENANT/NAME`, `policy TENANT/NAME`",
    ] {
        assert!(found.contains(help), "{help}: {found}");
    }
}

#[test]
fn a_mistake_in_a_document_of_a_test_fails_its_cases_at_its_place_unless_it_is_expected() {
    let given = GIVEN.replace("rotation_interval_days: 30", "rotation_interval_days: 0");
    let cases = "cases:
  - {name: fails, now: \"2026-12-01T02:00:00Z\", expect: {changes: []}}
  - {name: holds, now: \"2026-12-01T02:00:00Z\", expect: {matching: subset, findings: [{code: schema/out-of-range}]}}
";
    let sandbox = with(&test(&format!("{given}{cases}")));
    let run = sandbox.keywheel(&["test"]).exits(1);
    assert!(run.stdout.contains("FAIL  fails") && run.stdout.contains("+ schema/out-of-range"), "{}", run.stdout);
    assert!(run.stdout.contains("ok    holds"), "{}", run.stdout);
}

#[test]
fn a_test_under_policies_is_run_and_is_no_document() {
    let sandbox = Sandbox::with_policies();
    let documents = || {
        let run = sandbox.keywheel(&["validate", "--color", "never"]).exits(0);
        run.stdout
    };
    let before = documents();
    // Whatever is wrong with it: its tenant's keys go on.
    sandbox.write("policies/my-team/wrong.test.yaml", "apiVersion: keywheel/v1\nkind: Test\nnmae: x\n");
    assert_eq!(documents(), before);
    let run = sandbox.keywheel(&["test"]).exits(1);
    assert!(run.stdout.contains("did you mean `name`?"), "{}", run.stdout);
    sandbox.keywheel(&["test", "tests"]).exits(0);
}

#[test]
fn policies_in_a_file_with_that_ending_are_policies() {
    let sandbox = Sandbox::with_policies();
    let documents = sandbox.read("policies/my-team/keys.yaml");
    std::fs::remove_file(sandbox.path("policies/my-team/keys.yaml")).unwrap();
    sandbox.write("policies/my-team/keys.test.yaml", &documents);
    let plan = sandbox.keywheel(&["plan"]).exits(0).stdout;
    assert!(plan.contains("my-team/first-key"), "{plan}");
    let run = sandbox.keywheel(&["test"]).exits(1);
    assert!(run.stdout.contains("test/not-a-test"), "{}", run.stdout);
}

#[test]
fn a_file_that_no_document_is_at_and_a_key_that_no_document_tells_of_are_mistakes() {
    let sandbox = with(&test(
        "given: {files: [policies/nobody]}
recorded:
  keys: [{key: acme/k, rotated_at: \"2026-11-01T02:00:00Z\"}]
cases:
  - {name: a, now: \"2026-12-01T02:00:00Z\", expect: {}}
",
    ));
    let run = sandbox.keywheel(&["test"]).exits(1);
    assert!(run.stdout.contains("test/no-such-file") && run.stdout.contains("test/unknown-key"), "{}", run.stdout);
}

#[test]
fn no_tests_at_all_is_an_error_that_says_where_to_write_one() {
    let run = Sandbox::new("").keywheel(&["test"]).exits(1);
    assert!(run.stderr.contains("test/none") && run.stderr.contains("tests/keys.test.yaml"), "{}", run.stderr);
}

#[test]
fn a_key_that_is_recorded_twice_is_a_mistake_and_a_case_may_have_it_otherwise() {
    let key = "{key: acme/k, rotated_at: \"2026-11-01T02:00:00Z\"}";
    let sandbox = with(&test(&format!(
        "{GIVEN}recorded:
  keys: [{key}, {key}]
cases:
  - {{name: a, now: \"2026-11-05T02:00:00Z\", expect: {{}}}}
---
{}",
        test(&format!(
            "{GIVEN}recorded:
  keys: [{key}]
cases:
  - name: b
    now: \"2026-12-01T02:00:00Z\"
    keys: [{{key: acme/k, rotated_at: \"2026-11-20T02:00:00Z\"}}]
    expect: {{changes: []}}
"
        ))
    )));
    let run = sandbox.keywheel(&["test"]).exits(1);
    assert!(run.stdout.contains("FAIL  a") && run.stdout.contains("test/key-twice"), "{}", run.stdout);
    assert!(run.stdout.contains("ok    b"), "{}", run.stdout);
}

#[test]
fn a_suspended_policy_a_freeze_and_a_limit_are_seen_by_a_case() {
    let documents = GIVEN.replace("retain_old_keys_days: 7}", "retain_old_keys_days: 7, status: suspended}")
        + "    - {apiVersion: keywheel/v1, kind: Config, limits: {max_removals: 0}}\n";
    let sandbox = with(&test(&format!(
        "{documents}recorded:
  documents:
    - {{apiVersion: keywheel/v1, kind: Config, limits: {{max_removals: 0}}}}
    - {{apiVersion: keywheel/v1, kind: RotationPolicy, tenant_id: acme, policy_name: Old, key_type: logs, kms_provider: local,
       rotation_trigger: manual}}
  keys: [{{key: acme/k, rotated_at: \"2026-10-01T02:00:00Z\"}}]
cases:
  - name: a suspended policy starts nothing, and a removal is over the limit
    now: \"2026-12-01T02:00:00Z\"
    expect: {{matching: subset, refusals: [limits/max-removals], changes: [{{action: remove, object: policy acme/Old}}]}}
  - name: a limit that nobody spoke of fails
    now: \"2026-12-01T02:00:00Z\"
    expect: {{}}
"
    )));
    let run = sandbox.keywheel(&["test"]).exits(1);
    assert!(run.stdout.contains("ok    a suspended policy"), "{}", run.stdout);
    assert!(run.stdout.contains("FAIL  a limit") && run.stdout.contains("+ limits/max-removals"), "{}", run.stdout);
}

#[test]
fn an_editor_holds_the_documents_of_a_test_against_their_kinds() {
    let validator = jsonschema::draft202012::new(&document::schema()).unwrap();
    let with = |interval: Value| {
        json!({
            "apiVersion": "keywheel/v1", "kind": "Test", "name": "n",
            "given": {"documents": [{
                "apiVersion": "keywheel/v1", "kind": "RotationPolicy", "tenant_id": "acme", "policy_name": "p",
                "key_type": "logs", "kms_provider": "local", "rotation_interval_days": interval,
            }]},
            "cases": [{"name": "c", "now": "2026-12-01T02:00:00Z", "expect": {"changes": []}}],
        })
    };
    assert!(validator.is_valid(&with(json!(30))));
    assert!(!validator.is_valid(&with(json!("thirty"))));
}

#[test]
fn junit_has_a_case_for_each_case() {
    let sandbox = Sandbox::with_policies();
    let xml = sandbox.keywheel(&["test", "--format", "junit"]).exits(0).stdout;
    assert_eq!(xml.matches("<testcase ").count(), 2, "{xml}");
    assert!(xml.contains("failures=\"0\"") && !xml.contains("<failure"), "{xml}");
    // With what must be escaped, a mistake in the file, and a case that fails; as other programs read it.
    let cases = "cases:\n  - {name: \"<b> & \\\"c\\\"\", now: \"2026-12-01T02:00:00Z\", expect: {changes: []}}\n";
    sandbox.write("tests/b.test.yaml", &format!("{}---\nkind: Test\n", test(&format!("{GIVEN}{cases}"))));
    let xml = sandbox.keywheel(&["test", "--format", "junit"]).exits(1).stdout;
    let opinion = Script::start("review.py").ask(&json!({"form": "junit", "text": xml}));
    assert_eq!(opinion["problems"], json!([]), "{xml}");
    assert_eq!(xml.matches("<failure ").count(), 2, "{xml}");
}
