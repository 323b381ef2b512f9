//! A plan in the forms that others read: snapshots of real situations, and the second opinion of programs that share
//! nothing with keywheel but the standards.

use keywheel::plan::{Plan, PlanDocument};
use keywheel::render::View;
use keywheel::render::plan::{draw, markdown, page};
use keywheel::render::{github, gitlab, junit, notices, sarif};

use crate::support::sandbox::Sandbox;

mod browser;
mod hostile;
mod opinions;
mod situations;
mod snapshots;

/// Every form but JSON, with the text that it makes of a plan.
fn forms(plan: &Plan) -> [(&'static str, String); 7] {
    let notices = notices::of_plan(plan);
    let text = anstream::adapter::strip_str(&draw(plan, View { width: None, full: false })).to_string();
    [
        ("text", text),
        ("markdown", markdown::draw(plan)),
        ("html", page::draw(plan)),
        ("sarif", sarif::draw(&notices, Some(plan))),
        ("junit", junit::draw(&notices, Some(plan))),
        ("github", github::draw(&notices)),
        ("gitlab", gitlab::draw(&notices)),
    ]
}

/// What the binary shows of a plan that was saved.
fn shown(plan: Plan, form: &str) -> String {
    let sandbox = Sandbox::empty();
    let mut bytes = Vec::new();
    PlanDocument::from(plan).write(&mut bytes).unwrap();
    std::fs::write(sandbox.path("plan.json"), bytes).unwrap();
    let run = sandbox.keywheel(&["show", "plan.json", "--format", form]).exits(0);
    if form != "text" {
        assert_eq!(run.stderr, "", "{form}");
    }
    run.stdout
}

#[test]
fn what_the_binary_shows_is_what_is_tested_here() {
    let plan = situations::pull_request();
    for (form, text) in forms(&plan) {
        assert!(shown(plan.clone(), form) == text, "{form}");
    }
}
