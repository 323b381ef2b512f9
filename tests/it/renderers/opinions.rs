//! Second opinions: the JSON schema of SARIF, an XSD of test results, a parser of Markdown as GitHub extends it.

use std::collections::BTreeSet;

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
