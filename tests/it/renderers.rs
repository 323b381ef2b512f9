//! A plan in the forms that others read: snapshots of real situations, and the second opinion of programs that share
//! nothing with keywheel but the standards.

use keywheel::plan::{Plan, PlanDocument, Saved, parse};
use keywheel::render::View;
use keywheel::render::plan::{draw, draw_saved, markdown, page};
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

/// A sandbox with a plan that was saved, and the plan as it is read again.
fn saved(document: &PlanDocument) -> (Sandbox, Saved) {
    let sandbox = Sandbox::empty();
    let mut bytes = Vec::new();
    document.write(&mut bytes).unwrap();
    std::fs::write(sandbox.path("plan.json"), &bytes).unwrap();
    (sandbox, parse(bytes.as_slice()).unwrap())
}

#[test]
fn what_the_binary_shows_is_what_is_tested_here() {
    let (sandbox, saved) = saved(&PlanDocument::from(situations::pull_request()));
    let now = "2026-11-24T06:00:00Z".parse().unwrap();
    let view = View { width: None, full: false };
    for (form, text) in forms(&saved.plan) {
        let text = match form {
            "text" => anstream::adapter::strip_str(&draw_saved(&saved, now, view)).to_string(),
            "markdown" => markdown::draw_saved(&saved, now),
            "html" => page::draw_saved(&saved, now),
            _ => text,
        };
        let run = sandbox.at("2026-11-24 06:00:00", &["show", "plan.json", "--format", form]).exits(0);
        assert_eq!(run.stderr, "", "{form}");
        assert!(run.stdout == text, "{form}:\n{}", run.stdout);
    }
}
