//! What apply refuses: each with its exit status and its code, and with nothing changed.

use std::fs;

use serde_json::{Value, json};

use super::{NIGHTLY, NOON, Sandbox, with_keys};

const APPLY: &[&str] = &["apply", "--auto-approve", "--lock-timeout", "0s"];

/// A repository that was applied at noon, from the only branch that may be.
fn applied(documents: &str) -> Sandbox {
    let sandbox = Sandbox::with("apply_from: refs/heads/main\n", documents);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox
}

/// Fails unless the command is refused with this status and code, and leaves every file of the state as it was.
fn refused(sandbox: &Sandbox, instant: &str, arguments: &[&str], status: i32, code: &str) {
    let before = sandbox.state();
    sandbox.at(instant, arguments).exits(status).error(code);
    assert!(sandbox.state() == before, "{code}: the state was changed");
}

#[test]
fn a_dirty_tree_is_not_applied_unless_told() {
    let sandbox = applied(NIGHTLY);
    sandbox
        .write("policies/acme/keys.yaml", &NIGHTLY.replace("rotation_interval_days: 1", "rotation_interval_days: 9"));
    refused(&sandbox, "2026-03-01 13:00:00", APPLY, 3, "apply/dirty");
    sandbox.at("2026-03-01 13:00:00", &["apply", "--auto-approve", "--allow-dirty"]).exits(0);
    let commits = sandbox.sql("SELECT last_modified_by_commit AS id FROM key_rotation_policies");
    assert!(commits[0]["id"].as_str().unwrap().ends_with("-dirty"), "{commits:?}");
}

#[test]
fn a_repository_without_a_commit_is_not_applied() {
    let sandbox = Sandbox::new("");
    sandbox.write("policies/acme/keys.yaml", NIGHTLY);
    sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(2);
    refused(&sandbox, NOON, APPLY, 1, "apply/no-commit");
}

#[test]
fn a_commit_that_is_not_on_the_branch_is_not_applied() {
    let sandbox = applied(NIGHTLY);
    sandbox.git(&["checkout", "-qb", "mine"]);
    sandbox.commit(&with_keys(1));
    refused(&sandbox, "2026-03-01 13:00:00", APPLY, 3, "apply/not-on-branch");
    // The branch cannot let itself in.
    sandbox.write("keywheel.yaml", "apiVersion: keywheel/v1\nkind: Config\napply_from: refs/heads/mine\n");
    sandbox.commit_all("let me in");
    refused(&sandbox, "2026-03-01 13:00:00", APPLY, 3, "apply/not-on-branch");
}

#[test]
fn an_older_commit_is_applied_only_with_a_reason_that_is_recorded() {
    let sandbox = applied(NIGHTLY);
    sandbox.commit(&with_keys(1));
    sandbox.at("2026-03-01 13:00:00", APPLY).exits(0);
    sandbox.git(&["checkout", "-q", "--detach", "HEAD~1"]);
    refused(&sandbox, "2026-03-01 14:00:00", APPLY, 3, "apply/older");
    // On a machine whose clock is behind, too.
    refused(&sandbox, "2026-03-01 11:00:00", APPLY, 3, "apply/older");
    let back = ["apply", "--auto-approve", "--allow-older", "the new key was a mistake"];
    sandbox.at("2026-03-01 14:00:00", &back).exits(0);
    let plans = sandbox.sql("SELECT override_reason AS why FROM applied_plans WHERE override_reason IS NOT NULL");
    assert_eq!(plans, [json!({"why": "the new key was a mistake"})]);
    let said = overrides(&sandbox, "2026-03-01 15:00:00");
    assert_eq!((said.len(), &said[0]["reason"]), (1, &json!("the new key was a mistake")), "{said:?}");
    let refused = said[0]["refused"][0].as_str().unwrap();
    assert!(refused.starts_with("commit ") && refused.contains(" is older than "), "{refused}");
    // Where there is nothing to allow, nothing was overridden.
    sandbox.at("2026-03-01 16:00:00", &back).exits(0);
    assert_eq!(overrides(&sandbox, "2026-03-01 16:00:00").len(), 1);
}

/// What the audit log says of what was done in spite of a refusal, the newest first.
fn overrides(sandbox: &Sandbox, instant: &str) -> Vec<Value> {
    let list = sandbox.at(instant, &["audit", "list", "--tenant", "acme", "--format", "json"]).exits(0).json();
    let entries = list["entries"].as_array().unwrap().iter();
    entries.filter(|entry| entry["action"] == "plan.overridden").map(|entry| entry["after"].clone()).collect()
}

#[test]
fn more_rotations_than_the_limit_need_the_plans_digest_and_a_reason() {
    let sandbox = Sandbox::with("limits: {max_rotations: 2}\n", &with_keys(2));
    sandbox.at(NOON, APPLY).exits(0);
    let night = "2026-03-02 02:00:10";
    refused(&sandbox, night, APPLY, 3, "apply/limits");
    let plan = sandbox.at(night, &["plan", "--format", "json"]).exits(3).json();
    assert_eq!(plan["summary"]["rotate"], 3, "a plan over a limit is shown in full");
    assert_eq!(plan["refusals"][0]["code"], "limits/max-rotations");

    let with =
        |digest| ["apply", "--auto-approve", "--override-limits", digest, "--reason", "the auditor asked for it"];
    refused(&sandbox, night, &with("sha256:0"), 3, "apply/limits");
    let other = sandbox.at(night, &with("sha256:0")).exits(3).stderr;
    let other = other.split_whitespace().collect::<Vec<_>>().join(" ");
    let own =
        format!("--override-limits names another plan, sha256:0, and this one is {}", plan["digest"].as_str().unwrap());
    assert!(other.contains(&own), "{other}");
    assert_eq!(overrides(&sandbox, night), Vec::<Value>::new());
    sandbox.at(night, &with(plan["digest"].as_str().unwrap())).exits(0);
    let plans =
        sandbox.sql("SELECT digest, override_reason AS why FROM applied_plans WHERE override_reason IS NOT NULL");
    assert_eq!(plans, [json!({"digest": plan["digest"], "why": "the auditor asked for it"})]);
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM rotations WHERE cause = 'due'"), [json!({"n": 3})]);
    let refused = ["3 rotations in all, and max_rotations allows 2"];
    let entry = json!({"digest": plan["digest"], "refused": refused, "reason": "the auditor asked for it"});
    assert_eq!(overrides(&sandbox, night), [entry]);
    sandbox.at(night, &["audit", "list"]).exits(0).says("plan.overridden");
    let history = sandbox.at(night, &["history", "--format", "json"]).exits(0).json();
    let overridden = &history["overrides"][0];
    assert_eq!(overridden["reason"], "the auditor asked for it", "{history:#}");
    assert_eq!(overridden["correlation_id"], history["rotations"][0]["correlation_id"], "{history:#}");
    sandbox.at(night, &["history"]).exits(0).says("was refused, and done all the same: the auditor asked for it");
    // An apply as usual says nothing of the kind.
    sandbox.at("2026-03-02 03:00:00", &["rotate", "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
    let one = sandbox.at("2026-03-02 03:00:00", &["history", "--limit", "1"]).exits(0).stdout;
    assert!(!one.contains("refused"), "{one}");
}

#[test]
fn an_edit_cannot_raise_the_limit_that_it_goes_over() {
    let sandbox = applied(&with_keys(12));
    sandbox.write("policies/acme/keys.yaml", NIGHTLY);
    sandbox.write(
        "keywheel.yaml",
        "apiVersion: keywheel/v1\nkind: Config\nlimits: {max_removals: 900, max_percent: 100}\n",
    );
    sandbox.commit_all("away with them");
    refused(&sandbox, "2026-03-01 13:00:00", APPLY, 3, "apply/limits");
}

#[test]
fn an_empty_folder_removes_nothing() {
    let sandbox = applied(NIGHTLY);
    fs::remove_dir_all(sandbox.dir().join("policies")).unwrap();
    sandbox.commit_all("oops");
    refused(&sandbox, "2026-03-01 13:00:00", APPLY, 3, "apply/limits");
    let plan = sandbox.at("2026-03-01 13:00:00", &["plan", "--format", "json"]).exits(3).json();
    assert_eq!(plan["refusals"][0]["code"], "limits/empty-source");
}

#[test]
fn another_apply_that_holds_the_lock_is_named() {
    let sandbox = applied(NIGHTLY);
    sandbox.tamper(
        "UPDATE leases SET who = 'grace@build-7', pid = 4711, operation = 'apply',
         acquired_at = '2026-03-01T12:59:00.000000Z', expires_at = '2026-03-01T13:01:00.000000Z'",
    );
    let before = sandbox.state();
    let locked = sandbox.at("2026-03-01 13:00:00", APPLY).exits(5);
    assert!(locked.stderr.contains("grace@build-7"), "{}", locked.stderr);
    assert!(sandbox.state() == before, "the state was changed");
    sandbox.at("2026-03-01 13:00:00", &["plan"]).exits(0);
    // A worker that died gives nothing back: its lease ends by itself.
    sandbox.at("2026-03-01 13:02:00", APPLY).exits(0);
}

#[test]
fn a_switch_that_is_neither_on_nor_off_stops_the_work_and_off_starts_nothing() {
    let sandbox = applied(NIGHTLY);
    let night = "2026-03-02 02:00:10";
    let before = sandbox.state();
    for neither in ["flase", "", " "] {
        sandbox.at(night, APPLY).env("KEY_ROTATION_ENABLED", neither).exits(1).error("settings/switch");
    }
    assert!(sandbox.state() == before, "the state was changed");
    sandbox.at(night, APPLY).env("KEY_ROTATION_ENABLED", "false").exits(0);
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM key_versions"), [json!({"n": 1})]);
    sandbox.at(night, APPLY).exits(0);
    assert_eq!(sandbox.sql("SELECT count(*) AS n FROM key_versions"), [json!({"n": 2})]);
}

#[test]
fn a_tenant_with_errors_is_left_out_and_the_others_go_on() {
    let sandbox = applied(NIGHTLY);
    let other = NIGHTLY.replace("tenant_id: acme", "tenant_id: globex");
    sandbox.write(
        "policies/globex/keys.yaml",
        &other.replace("rotation_interval_days: 1", "rotation_interval_days: none"),
    );
    sandbox.commit_all("globex comes");
    sandbox.at("2026-03-02 02:00:10", &["validate"]).exits(1);
    let report = sandbox.at("2026-03-02 02:00:20", &["apply", "--auto-approve", "--format", "json"]).exits(7).report();
    assert!(report["left_out"]["globex"].is_string(), "{report:#}");
    assert_eq!(report["done"], json!({"rotate": 1}));
}
