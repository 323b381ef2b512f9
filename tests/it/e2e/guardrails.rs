//! Guardrails, compliance packs and waivers, as they stop a change or let it pass.

use super::{NIGHTLY, NOON, Sandbox};

const APPLY: &[&str] = &["apply", "--auto-approve"];

/// A guardrail for all tenants.
fn rule(name: &str, more: &str) -> String {
    format!("apiVersion: keywheel/v1\nkind: Guardrail\nname: {name}\n{more}")
}

/// A repository with one nightly policy whose document says this too, under these guardrails.
fn sandbox(policy: &str, guardrails: &str) -> Sandbox {
    let sandbox = Sandbox::new("");
    sandbox.write("policies/guardrails.yaml", guardrails);
    sandbox.commit(&NIGHTLY.replacen(
        "rotation_interval_days: 1\n",
        &format!("rotation_interval_days: 1\n{policy}"),
        1,
    ));
    sandbox
}

const HALF_A_YEAR: &str = "rule: policy.rotation_interval_days >= 180\nmessage: nobody rotates that often\nhelp: set rotation_interval_days to 180\n";

#[test]
fn a_broken_rule_names_the_field_its_value_and_the_rule_and_leaves_its_tenant_out() {
    let sandbox = sandbox("", &rule("Half a year", HALF_A_YEAR));
    let said = sandbox.at(NOON, &["validate"]).exits(1);
    let said = format!("{}{}", said.stdout, said.stderr);
    for part in [
        "guardrail/half-a-year",
        "nobody rotates that often: rotation_interval_days is 1",
        "policies/acme/keys.yaml:7:25",
        "policies/guardrails.yaml:4:7",
        "set rotation_interval_days to 180",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    sandbox.at(NOON, APPLY).exits(7);
    assert!(sandbox.sql("SELECT * FROM key_versions").is_empty(), "the tenant's keys are not made");
}

#[test]
fn a_rule_selects_tenants_and_key_types_and_a_milder_one_stops_nothing() {
    for selector in ["key_types: [pci_data]\n", "severity: warning\n"] {
        let sandbox = sandbox("", &rule("Half a year", &format!("{HALF_A_YEAR}{selector}")));
        let said = sandbox.at(NOON, &["validate"]).exits(0);
        let warned = format!("{}{}", said.stdout, said.stderr).contains("guardrail/half-a-year");
        assert_eq!(warned, selector.starts_with("severity"), "{selector}");
        sandbox.at(NOON, APPLY).exits(0);
    }
}

#[test]
fn a_rule_that_is_none_stops_everything_at_its_own_place() {
    let sandbox = sandbox("", &rule("Typo", "rule: policy.rotation_interval <= 90\nmessage: at most ninety days\n"));
    let said = sandbox.at(NOON, &["validate"]).exits(1);
    let said = format!("{}{}", said.stdout, said.stderr);
    assert!(said.contains("did you mean `policy.rotation_interval_days`?"), "{said}");
    assert!(said.contains("policies/guardrails.yaml:4:7"), "{said}");
    sandbox.at(NOON, APPLY).exits(1).error("apply/documents");
}

#[test]
fn a_field_that_is_not_set_fails_a_rule_that_does_not_ask_for_it_first() {
    let unguarded = "rule: policy.destroy_after_disabled_days >= 7\nmessage: a week at least\n";
    let sandbox = sandbox("", &rule("A week", unguarded));
    let said = sandbox.at(NOON, &["validate"]).exits(1);
    assert!(format!("{}{}", said.stdout, said.stderr).contains("guardrail/not-judged"));
    let guarded =
        unguarded.replace("rule: ", "rule: \"!has(policy.destroy_after_disabled_days) || ").replace(">= 7", ">= 7\"");
    sandbox.write("policies/guardrails.yaml", &rule("A week", &guarded));
    sandbox.at(NOON, &["validate"]).exits(0);
}

#[test]
fn what_a_document_leaves_out_because_it_is_empty_is_empty_and_not_missing() {
    let tagged = rule("Tagged", "rule: \"'PCI-DSS' in policy.compliance_tags\"\nmessage: it is tagged\n");
    let said = sandbox("", &tagged).at(NOON, &["validate"]).exits(1);
    assert!(format!("{}{}", said.stdout, said.stderr).contains("guardrail/tagged"));
    sandbox("compliance_tags: [PCI-DSS]\n", &tagged).at(NOON, &["validate"]).exits(0);
    let single = rule("Single", "rule: \"!key.multi_region && size(key.tags) == 0\"\nmessage: one region\n");
    sandbox("", &single).at(NOON, &["validate"]).exits(0);
}

#[test]
fn a_waiver_holds_until_its_last_day_and_is_an_error_after_it() {
    let waiver =
        "waivers:\n- {rule: guardrail/half-a-year, until: \"2026-03-10\", reason: a test fleet, approver: Ada}\n";
    let sandbox = sandbox(waiver, &rule("Half a year", HALF_A_YEAR));
    let said = sandbox.at("2026-03-10 23:00:00", &["validate"]).exits(0);
    let said = format!("{}{}", said.stdout, said.stderr);
    assert!(said.contains("waived until 2026-03-10 by Ada: a test fleet"), "{said}");
    let said = sandbox.at("2026-03-11 00:00:10", &["validate"]).exits(1);
    let said = format!("{}{}", said.stdout, said.stderr);
    assert!(said.contains("policy/ended-waiver") && said.contains("guardrail/half-a-year"), "{said}");
    sandbox.write("policies/guardrails.yaml", &rule("Half a years", HALF_A_YEAR));
    let said = sandbox.at(NOON, &["validate"]).exits(1);
    assert!(format!("{}{}", said.stdout, said.stderr).contains("did you mean `guardrail/half-a-years`?"));
}

#[test]
fn a_compliance_tag_is_checked_and_an_unknown_one_is_told() {
    let said = |tags: &str, status| {
        let sandbox =
            sandbox(&format!("compliance_tags: [{tags}]\n"), &rule("Any", "rule: plan.changes >= 0\nmessage: none\n"));
        let documents = sandbox
            .read("policies/acme/keys.yaml")
            .replace("rotation_interval_days: 1\n", "rotation_interval_days: 800\n");
        sandbox.write("policies/acme/keys.yaml", &documents);
        let done = sandbox.at(NOON, &["validate"]).exits(status);
        format!("{}{}", done.stdout, done.stderr)
    };
    let nist = said("NIST-800-57", 1);
    assert!(nist.contains("guardrail/nist-800-57-5-3-6-encryption-cryptoperiod"), "{nist}");
    assert!(nist.contains("5.3.6, Table 1") && nist.contains("longest_interval_days is 800"), "{nist}");
    let pci = said("pci dss", 0);
    assert!(pci.contains("guardrail/pci-dss-3-7-4-a-year"), "{pci}");
    assert!(said("HIPPA", 0).contains("did you mean `HIPAA`?"));
}

#[test]
fn a_rule_over_the_plan_refuses_it_and_no_override_lifts_that() {
    let sandbox = sandbox("", &rule("Small steps", "rule: plan.creations == 0\nmessage: nothing new this year\n"));
    let refused = sandbox.at(NOON, APPLY).exits(3).error("apply/limits");
    assert!(refused.stderr.contains("nothing new this year: plan.creations is 2"), "{}", refused.stderr);
    let plan = sandbox.at(NOON, &["plan", "--format", "json"]).ends().json();
    let place = &plan["refusals"][0]["place"];
    assert_eq!((&place["file"], &place["line"]), (&"policies/guardrails.yaml".into(), &4.into()), "{plan:#}");
    let digest = plan["digest"].as_str().unwrap();
    sandbox.at(NOON, &["apply", "--auto-approve", "--override-limits", digest, "--override-reason", "a test"]).ends();
    assert!(sandbox.sql("SELECT * FROM key_versions").is_empty());
}

#[test]
fn a_change_is_judged_by_the_guardrail_that_was_applied_before_it() {
    let daily = "rule: policy.rotation_interval_days <= 1\nmessage: every day\n";
    let sandbox = sandbox("", &rule("Daily", daily));
    sandbox.at(NOON, APPLY).exits(0);
    let documents =
        sandbox.read("policies/acme/keys.yaml").replace("rotation_interval_days: 1\n", "rotation_interval_days: 30\n");
    sandbox.write("policies/guardrails.yaml", &rule("Daily", &daily.replace("<= 1", "<= 90")));
    sandbox.commit(&documents);
    let refused = sandbox.at("2026-03-01 13:00:00", APPLY).exits(3);
    assert!(refused.stderr.contains("apply that change first, by itself"), "{}", refused.stderr);
    let review = sandbox.at("2026-03-01 13:00:00", &["plan", "--base", "HEAD~1", "--format", "json"]).ends().json();
    let refusal = &review["refusals"][0];
    assert_eq!(refusal["code"], "guardrail/daily", "the review says so before the merge: {review:#}");
    assert_eq!(refusal["message"], "every day: of acme/Nightly rotation_interval_days is 30");
    let place = (&refusal["place"]["file"], &refusal["place"]["line"]);
    assert_eq!(place, (&"policies/guardrails.yaml".into(), &4.into()), "the rule that is changed: {review:#}");
    // By itself it may be changed, and then the policy.
    sandbox.commit(&documents.replace("rotation_interval_days: 30\n", "rotation_interval_days: 1\n"));
    sandbox.at("2026-03-01 13:00:00", APPLY).exits(0);
    sandbox.commit(&documents);
    sandbox.at("2026-03-01 13:00:00", APPLY).exits(0);
}

#[test]
fn a_rule_that_a_commit_takes_away_points_at_what_breaks_it() {
    let daily = "rule: policy.rotation_interval_days <= 1\nmessage: every day\n";
    let sandbox = sandbox("", &rule("Daily", daily));
    sandbox.at(NOON, APPLY).exits(0);
    let documents =
        sandbox.read("policies/acme/keys.yaml").replace("rotation_interval_days: 1\n", "rotation_interval_days: 30\n");
    sandbox.git(&["rm", "-q", "policies/guardrails.yaml"]);
    sandbox.commit(&documents);
    let plan = sandbox.at("2026-03-01 13:00:00", &["plan", "--format", "json"]).exits(3).json();
    let line = documents.lines().position(|line| line == "rotation_interval_days: 30").unwrap() + 1;
    let place = &plan["refusals"][0]["place"];
    assert_eq!((&place["file"], &place["line"]), (&"policies/acme/keys.yaml".into(), &line.into()), "{plan:#}");
    let said = sandbox.at("2026-03-01 13:00:00", &["plan"]).exits(3).stdout;
    assert!(said.contains(&format!("--> policies/acme/keys.yaml:{line}:")), "{said}");
}

#[test]
fn a_rule_of_one_tenant_is_no_other_tenants() {
    let half_a_year = rule("Half a year", &format!("{HALF_A_YEAR}tenants: [umbrella]\n"));
    let sandbox = sandbox("", &half_a_year);
    sandbox.write("policies/umbrella/keys.yaml", &NIGHTLY.replace("acme", "umbrella"));
    sandbox.commit_all("another tenant");
    let report = sandbox.at(NOON, &["validate", "--format", "json"]).exits(1).json();
    let errors: Vec<_> =
        report["diagnostics"].as_array().unwrap().iter().filter(|it| it["severity"] == "error").collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0]["tenant_id"], "umbrella");
    sandbox.at(NOON, APPLY).exits(7);
    let made = sandbox.sql("SELECT tenant_id FROM encryption_keys");
    assert_eq!(made, [serde_json::json!({"tenant_id": "acme"})], "one tenant's mistake is not another's");
}

#[test]
fn a_key_is_judged_with_its_policy_and_waived_by_it() {
    let rule = rule(
        "Named",
        "rule: key.key_name != \"patients\" || policy.rotation_interval_days > 1\nmessage: not nightly\n",
    );
    let said = sandbox("", &rule).at(NOON, &["validate"]).exits(1);
    let said = format!("{}{}", said.stdout, said.stderr);
    assert!(said.contains("not nightly: key_name is \"patients\", rotation_interval_days is 1"), "{said}");
    let waiver = "waivers:\n- {rule: guardrail/named, until: \"2026-03-10\", reason: a test fleet, approver: Ada}\n";
    sandbox(waiver, &rule).at(NOON, &["validate"]).exits(0);
}

#[test]
fn a_milder_rule_over_the_plan_is_said_and_stops_nothing() {
    let small = "rule: plan.creations == 0\nmessage: nothing new this year\nseverity: warning\n";
    let sandbox = sandbox("", &rule("Small steps", small));
    let plan = sandbox.at(NOON, &["plan", "--format", "json"]).exits(0).json();
    let found = plan["diagnostics"].as_array().unwrap();
    let small = found.iter().find(|it| it["code"] == "guardrail/small-steps").unwrap();
    assert_eq!((&small["place"]["file"], &small["place"]["line"]), (&"policies/guardrails.yaml".into(), &4.into()));
    sandbox.at(NOON, APPLY).exits(0);
}

#[test]
fn a_users_own_case_is_planned_under_the_guardrails() {
    let sandbox = sandbox("", &rule("Small steps", "rule: plan.creations == 0\nmessage: nothing new this year\n"));
    let case = |code: &str| {
        format!(
            "apiVersion: keywheel/v1\nkind: Test\nname: T\ncases:\n- name: it is refused\n  now: \"2026-03-01T12:00:00Z\"\n  \
             expect: {{matching: subset, refusals: [{code}]}}\n"
        )
    };
    sandbox.write("tests/a.test.yaml", &case("guardrail/small-steps"));
    sandbox.at(NOON, &["test"]).exits(0);
    sandbox.write("tests/a.test.yaml", &case("limits/max-rotations"));
    sandbox.at(NOON, &["test"]).exits(1);
}
