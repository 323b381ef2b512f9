//! What each form says of each situation, word by word.

use chrono::Duration;
use keywheel::plan::PlanDocument;
use keywheel::plan::approvals::Approval;
use keywheel::render::plan::markdown::{BUDGET, MARKER};
use keywheel::render::plan::{draw_saved, markdown, page};
use keywheel::render::{View, forecast};

use super::{forms, saved, situations};
use crate::support::sandbox::Sandbox;

const WIDE: View = View { width: None, full: false };

/// What a form says, without the version of keywheel and the style of a page.
fn words(form: &str, text: &str) -> String {
    match text.split_once("</style>") {
        Some((_, body)) if form.ends_with("html") => body.replace('>', ">\n"),
        _ => text.replace(env!("CARGO_PKG_VERSION"), "VERSION"),
    }
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn every_form_of_every_situation() {
    for (situation, plan) in situations::all() {
        for (form, text) in forms(&plan) {
            snapshot(&format!("{situation}.{form}"), &words(form, &text));
        }
    }
}

#[test]
fn a_program_reads_what_is_broken_and_where() {
    let document = serde_json::to_value(PlanDocument::from(situations::guardrails())).unwrap();
    let mut text = serde_json::to_string_pretty(&document).unwrap();
    let digest = document["document_digest"].as_str().unwrap();
    text = text.replace(digest, "DIGEST");
    snapshot("guardrails.json", &words("json", &text));
}

#[test]
fn a_saved_plan_says_until_when_it_can_be_applied_and_who_has_approved_it() {
    let approval = Approval { approved_at: situations::as_of(), signature: "no signature".to_owned() };
    let (_, saved) = saved(&PlanDocument::from(situations::approvals()).approved([approval]));
    for (name, now) in [("approved", Duration::days(1)), ("expired", Duration::days(8))] {
        let now = situations::as_of() + now;
        snapshot(&format!("{name}.text"), &plain(&draw_saved(&saved, now, WIDE)));
        snapshot(&format!("{name}.markdown"), &words("markdown", &markdown::draw_saved(&saved, now)));
        snapshot(&format!("{name}.html"), &words("html", &page::draw_saved(&saved, now)));
    }
}

/// Two keys that rotate each night.
const KEYS: &str = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Nightly\nkey_type: phi_data\n\
                    rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"\n---\n\
                    apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: patients\nkey_type: phi_data\n\
                    rotation_policy: Nightly\n---\n\
                    apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: billing\nkey_type: phi_data\n\
                    rotation_policy: Nightly\n";

#[test]
fn what_apply_says_of_a_plan_that_is_stale() {
    let sandbox = Sandbox::with("", KEYS);
    let apply = |at: &str| {
        let run = sandbox.at(at, &["apply", "plan.json", "--auto-approve"]).exits(4);
        let changing = ["Applied:", "correlation_id", "Plan as of "];
        let lines = run.stdout.lines().chain(run.stderr.lines()).map(|line| match line.split_once(" in ") {
            Some((before, _)) if line.starts_with('↻') => format!("{before} in a moment"),
            _ => without_commits(line),
        });
        let lines: Vec<String> = lines.filter(|line| changing.iter().all(|it| !line.starts_with(it))).collect();
        lines.join("\n").trim_start_matches('\n').to_owned()
    };
    sandbox.at("2026-03-01 12:00:00", &["apply", "--auto-approve"]).exits(0);
    sandbox.at("2026-03-02 02:00:10", &["plan", "--out", "plan.json"]).exits(0);
    let plan: serde_json::Value = serde_json::from_str(&sandbox.read("plan.json")).unwrap();
    let expires = format!("{}Z", &plan["expires_at"].as_str().unwrap()[..19]);
    snapshot("stale.expired", &apply("2026-03-09 02:00:40").replace(&expires, "EXPIRY"));
    sandbox.commit(&KEYS.replace("rotation_interval_days: 1", "rotation_interval_days: 2"));
    snapshot("stale.documents", &apply("2026-03-02 02:00:20"));
    sandbox.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let rotate = ["rotate", "acme/patients", "--reason", "a leaving engineer", "--auto-approve"];
    sandbox.at("2026-03-02 02:00:30", &rotate).exits(0);
    snapshot("stale.moved", &apply("2026-03-02 02:00:40"));
}

/// A commit is another one in each repository.
fn without_commits(text: &str) -> String {
    let is_commit = |word: &&str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let commits: Vec<&str> = text.split([' ', ',', '\n']).filter(is_commit).collect();
    commits.iter().fold(text.to_owned(), |text, commit| text.replace(commit, "COMMIT"))
}

#[test]
fn a_forecast_in_every_form_that_people_read() {
    let forecast = situations::forecast();
    snapshot("forecast.text", &plain(&forecast::draw(&forecast, WIDE)));
    snapshot("forecast.markdown", &words("markdown", &forecast::markdown::draw(&forecast)));
    snapshot("forecast.html", &words("html", &forecast::page::draw(&forecast)));
}

#[test]
fn a_check_as_a_comment_and_as_a_page() {
    let findings = situations::guardrails().diagnostics;
    snapshot("check.markdown", &words("markdown", &markdown::draw_check(&findings, 12)));
    snapshot("check.html", &words("html", &page::draw_check(&findings, 12)));
}

#[test]
fn of_five_thousand_changes_every_form_shows_the_beginning_and_the_end() {
    for (form, text) in forms(&situations::thousands()) {
        let lines = words(form, &text).replace("},{", "},\n{");
        let lines: Vec<&str> = lines.lines().collect();
        let ends = if ["text", "markdown", "html"].contains(&form) { 24 } else { 4 };
        let shown = match lines.len() {
            all if all <= 2 * ends => lines.join("\n"),
            all => [&lines[..ends], &["(...)"], &lines[all - ends..]].concat().join("\n"),
        };
        assert!(shown.len() < 12_000, "{form}: {}", shown.len());
        snapshot(&format!("thousands.{form}"), &shown);
    }
}

#[test]
fn five_thousand_changes_fit_a_comment_and_what_is_left_out_is_counted() {
    let [_, (_, comment), (_, page), ..] = forms(&situations::thousands());
    assert!(comment.len() <= BUDGET, "{}", comment.len());
    assert!(comment.len() > BUDGET * 9 / 10, "{} of {BUDGET}: there was room", comment.len());
    assert!(comment.starts_with(MARKER), "{comment:.200}");
    let shown = |line: &str| comment.lines().filter(|text| text.starts_with(line)).count();
    let left_out: Vec<usize> = comment
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("> ").strip_prefix("… and ")?.strip_suffix(" more that this has no room for.")
        })
        .map(|number| number.replace(',', "").parse().unwrap())
        .collect();
    let shown = shown("> - `") + shown("**update**") + shown("| `");
    assert_eq!(shown + left_out.iter().sum::<usize>(), 5_000, "{shown} {left_out:?}");
    for name in ["old-0000", "old-0499", "policy-1999", "key-2499"] {
        assert!(page.contains(name), "the page leaves out {name}");
    }
}
