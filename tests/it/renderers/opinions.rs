//! Second opinions: the JSON schema of SARIF, an XSD of test results, a parser of Markdown as GitHub extends it.

use std::collections::BTreeSet;

use keywheel::plan::PlanDocument;
use serde_json::{Value, json};

use super::{forms, situations};
use crate::support::python::Script;
use crate::support::sandbox::Sandbox;

#[test]
fn what_others_parse_is_what_keywheel_says() {
    let mut review = Script::start("review.py");
    let mut situations = situations::all();
    situations.push(("thousands", situations::thousands()));
    for (situation, plan) in situations {
        for (form, text) in forms(&plan) {
            let opinion = review.ask(&json!({ "form": form, "text": text }));
            assert_eq!(opinion["problems"], json!([]), "{situation} as {form}:\n{text:.20000}");
        }
    }
}

#[test]
fn each_thing_is_on_its_line_once_and_in_every_form() {
    let mut review = Script::start("review.py");
    let plan = situations::errors();
    for (form, text) in forms(&plan) {
        if !["sarif", "github", "gitlab", "junit"].contains(&form) {
            continue;
        }
        let opinion = review.ask(&json!({ "form": form, "text": text }));
        let places: BTreeSet<&str> = opinion["places"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for place in ["policies/acme corp/phi.yaml:12", "policies/acme corp/phi.yaml:40"] {
            assert!(places.contains(place), "{form}: {places:?}");
        }
        // Two errors, a tenant that is left out, a warning and a note.
        assert_eq!(opinion["count"], 5, "{form}");
    }
}

#[test]
fn a_broken_guardrail_is_shown_with_its_rule_its_value_and_the_way_out_in_every_form() {
    let plan = situations::guardrails();
    let mut json = Vec::new();
    PlanDocument::from(plan.clone()).write(&mut json).unwrap();
    let json = ("json", String::from_utf8(json).unwrap());
    let mut review = Script::start("review.py");
    for (form, text) in forms(&plan).into_iter().chain([json]) {
        // Markdown keeps a `_` from being emphasis.
        let words = text.replace('\\', "");
        for said in [situations::BROKEN, situations::BROKEN_HELP, "plan.rotations is 12", "the guardrail is here"] {
            assert!(words.contains(said), "{form} does not say {said:?}:\n{text}");
        }
        let rule = match form {
            "json" => {
                let plan: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(plan["refusals"][0]["place"]["line"], 23, "{plan:#}");
                plan["diagnostics"][0]["related"]["place"]["line"].clone()
            }
            "sarif" => {
                let log: Value = serde_json::from_str(&text).unwrap();
                let results = log["runs"][0]["results"].as_array().unwrap();
                let broken = results.iter().find(|it| it["ruleId"] == "guardrail/a-quarter").unwrap();
                let physical = &broken["relatedLocations"][0]["physicalLocation"];
                assert_eq!(physical["artifactLocation"]["uri"], "policies/guardrails.yaml", "{broken:#}");
                physical["region"]["startLine"].clone()
            }
            _ => json!(if text.contains("policies/guardrails.yaml:5") { 5 } else { 0 }),
        };
        assert_eq!(rule, 5, "where the rule stands, in {form}:\n{text}");
        if ["sarif", "junit", "github", "gitlab"].contains(&form) {
            let opinion = review.ask(&json!({ "form": form, "text": text }));
            let places = opinion["places"].as_array().unwrap();
            // The policy's line, of the finding and of the tenant that is left out; and the rule over the plan.
            let at_policy = places.iter().filter(|place| *place == "policies/healthcare-org-123/phi.yaml:9");
            assert_eq!(at_policy.count(), 2, "{form}: {places:?}");
            assert!(places.contains(&json!("policies/guardrails.yaml:23")), "{form}: {places:?}");
        } else {
            assert!(form == "json" || text.contains("policies/guardrails.yaml:23:7"), "{form}:\n{text}");
        }
    }
}

#[test]
fn whatever_is_shown_stands_on_a_line_of_a_file() {
    let mut review = Script::start("review.py");
    for (situation, plan) in situations::all() {
        for (form, text) in forms(&plan) {
            if !["sarif", "github", "gitlab", "junit"].contains(&form) {
                continue;
            }
            let opinion = review.ask(&json!({ "form": form, "text": text }));
            let places: Vec<&str> = opinion["places"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert_eq!(opinion["count"], places.len(), "{situation} as {form}");
            let is_line = |place: &str| {
                place.split_once(".yaml:").is_some_and(|(_, line)| line.parse::<u32>().is_ok_and(|line| line > 0))
            };
            assert!(places.iter().all(|place| is_line(place)), "{situation} as {form}: {places:?}");
        }
    }
}

#[test]
fn a_check_has_the_same_readers() {
    let mut review = Script::start("review.py");
    let sandbox = Sandbox::with_policies();
    sandbox.write(
        "policies/my-team/a, b: 100%/x y.yaml",
        "apiVersion: keywheel/v1\nkind: RotationPolicy\npolicy_nam: Ümlaut\n",
    );
    for form in ["sarif", "junit", "github", "gitlab"] {
        let run = sandbox.keywheel(&["validate", "--format", form]).exits(1);
        let opinion = review.ask(&json!({ "form": form, "text": run.stdout }));
        assert_eq!(opinion["problems"], json!([]), "{form}: {}", run.stdout);
        let places = opinion["places"].as_array().unwrap();
        assert!(places.iter().any(|place| place == "policies/my-team/a, b: 100%/x y.yaml:3"), "{form}: {places:?}");
    }
}

#[test]
fn a_check_is_a_comment_and_a_page_too() {
    let sandbox = Sandbox::with_policies();
    for form in ["markdown", "html"] {
        let run = sandbox.keywheel(&["validate", "--format", form]).exits(0);
        assert!(run.stdout.contains("The documents are valid"), "{form}: {}", run.stdout);
    }
    let hostile = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: my-team\n\"@everyone <b>#1\": 1\n";
    sandbox.write("policies/my-team/wrong.yaml", hostile);
    let comment = sandbox.keywheel(&["validate", "--format", "markdown"]).exits(1).stdout;
    assert!(comment.starts_with("<!-- keywheel:check -->\n## The documents are not valid: "), "{comment}");
    assert!(comment.contains("`policies/my-team/wrong.yaml:4:1`"), "{comment}");
    let page = sandbox.keywheel(&["validate", "--format", "html"]).exits(1).stdout;
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("wrong.yaml:4:1"), "{page}");
    for text in [comment, page] {
        assert!(!text.contains("@everyone <b>"), "nobody is notified, and nothing is bold: {text}");
    }
}

#[test]
fn a_fingerprint_stays_where_only_the_line_moves() {
    let fingerprints = |plan: &keywheel::plan::Plan| -> Vec<String> {
        keywheel::render::notices::of_plan(plan).into_iter().map(|notice| notice.fingerprint).collect()
    };
    let before = situations::errors();
    let mut after = before.clone();
    for finding in &mut after.diagnostics {
        if let Some(place) = &mut finding.place {
            place.line += 7;
        }
    }
    assert_eq!(fingerprints(&before), fingerprints(&after));
    let distinct: BTreeSet<String> = fingerprints(&before).into_iter().collect();
    assert_eq!(distinct.len(), 5, "two of the same on two lines are two");
}
