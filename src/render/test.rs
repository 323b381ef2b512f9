//! What became of users' own cases: each with its name, and where one does not hold, what was expected beside what was
//! planned.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};

use crate::engine::{CaseReport, TestReport};
use crate::plan::Mismatch;

use super::View;
use super::findings;
use super::junit::escape;
use super::style::{self, paint};
use super::text::{count, one_line, safe};
use super::time;

/// For a terminal.
#[must_use]
pub fn draw(report: &TestReport, view: View) -> String {
    let mut out = String::new();
    let (mut file, mut test) = ("", "");
    for case in &report.cases {
        if case.place.file.as_ref() != file {
            let _ = writeln!(out, "{}{}", if file.is_empty() { "" } else { "\n" }, safe(&case.place.file));
            (file, test) = (&case.place.file, "");
        }
        if case.test != test {
            let _ = writeln!(out, "  {}", paint(style::HEADING, &one_line(&case.test)));
            test = &case.test;
        }
        draw_case(&mut out, case, view);
    }
    if !report.findings.is_empty() {
        let _ = write!(out, "\n{}", findings::draw(&report.findings, true, view.columns()));
    }
    let _ = writeln!(out, "\n{}", summary(report));
    out
}

fn draw_case(out: &mut String, case: &CaseReport, view: View) {
    let name = one_line(&case.name);
    if case.passed {
        let _ = writeln!(out, "    {}    {name}", paint(style::GOOD, "ok"));
        return;
    }
    let place = format!("{}:{}", case.place.file, case.place.line);
    let _ = writeln!(out, "    {}  {name}  {}", paint(style::ERROR, "FAIL"), paint(style::DIM, &safe(&place)));
    for mismatch in &case.mismatches {
        let head = format!("{} at {}: - expected, + planned", mismatch.list, time::instant(case.now));
        let _ = writeln!(out, "          {}", paint(style::DIM, &head));
        for (sign, line) in difference(mismatch) {
            let text = format!("{sign} {}", safe(&line));
            let style = match sign {
                '-' => style::REMOVE,
                '+' => style::ADD,
                _ => style::DIM,
            };
            let _ = writeln!(out, "          {}", paint(style, &text));
        }
    }
    if !case.findings.is_empty() {
        let drawn = findings::draw(&case.findings, true, view.columns());
        drawn.lines().for_each(|line| {
            let _ = writeln!(out, "          {line}");
        });
    }
}

/// `12 cases hold, 1 does not.`
fn summary(report: &TestReport) -> String {
    let errors = report.findings.iter().filter(|finding| finding.is_error()).count();
    let mut parts = vec![paint(style::GOOD, &format!("{} passed", count(report.passed, "case")))];
    if report.failed > 0 {
        parts.push(paint(style::ERROR, &format!("{} failed", report.failed)));
    }
    if errors > 0 {
        parts.push(paint(style::ERROR, &format!("{} in the tests themselves", count(errors, "mistake"))));
    }
    format!("{}.", parts.join(", "))
}

/// The lines of both sides, each with its sign.
fn difference(mismatch: &Mismatch) -> Vec<(char, String)> {
    let lines = |items: &[Map<String, Value>]| items.iter().map(|item| line(item) + "\n").collect::<String>();
    let (expected, planned) = (lines(&mismatch.expected), lines(&mismatch.planned));
    let signed = |change: similar::Change<&str>| {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        (sign, change.value().trim_end_matches('\n').to_owned())
    };
    TextDiff::from_lines(&expected, &planned).iter_all_changes().map(signed).collect()
}

/// `rotate key acme/cards, reason: overdue`.
fn line(item: &Map<String, Value>) -> String {
    const LEADING: [&str; 3] = ["action", "object", "code"];
    let has_action = item.contains_key("action");
    // Beside a code the object is one field of several.
    let leads = |name: &str| LEADING.contains(&name) && (has_action || name == "code");
    let leading = LEADING.iter().filter(|name| leads(name)).filter_map(|name| item.get(*name)?.as_str());
    let mut line = leading.collect::<Vec<_>>().join(" ");
    for (name, value) in item.iter().filter(|(name, _)| !leads(name)) {
        match value {
            Value::Object(fields) if name == "fields" => {
                for (name, value) in fields {
                    let _ = write!(line, ", {name}: {}", plain(value));
                }
            }
            value => {
                let _ = write!(line, ", {name}: {}", plain(value));
            }
        }
    }
    line
}

fn plain(value: &Value) -> String {
    // On one line, whatever a message holds.
    value.as_str().map_or_else(|| value.to_string(), |text| text.replace('\n', " "))
}

/// For CI systems that show test results: a suite for each test, a case for each case.
#[must_use]
pub fn junit(report: &TestReport) -> String {
    let errors: Vec<_> = report.findings.iter().filter(|finding| finding.is_error()).collect();
    let (tests, failures) = (report.cases.len() + errors.len(), report.failed + errors.len());
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"keywheel test\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">");
    for cases in report.cases.chunk_by(|a, b| a.test == b.test && a.place.file == b.place.file) {
        let Some(first) = cases.first() else { continue };
        let failures = cases.iter().filter(|case| !case.passed).count();
        let (name, count) = (escape(&first.test), cases.len());
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\">"
        );
        for case in cases {
            junit_case(&mut out, case);
        }
        out.push_str("  </testsuite>\n");
    }
    if !errors.is_empty() {
        let count = errors.len();
        let _ = writeln!(
            out,
            "  <testsuite name=\"mistakes in the tests\" tests=\"{count}\" failures=\"{count}\" errors=\"0\" skipped=\"0\">"
        );
        for finding in errors {
            let place = finding.place.as_ref().map(|place| format!("{}:{}: ", place.file, place.line));
            let message = escape(&format!("{}{}", place.unwrap_or_default(), finding.message));
            let code = escape(&finding.code);
            let _ = writeln!(
                out,
                "    <testcase classname=\"keywheel.test\" name=\"{code}\"><failure type=\"{code}\" message=\"{message}\">{message}</failure></testcase>"
            );
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn junit_case(out: &mut String, case: &CaseReport) {
    let (class, name) = (escape(&case.place.file), escape(&case.name));
    if case.passed {
        let _ = writeln!(out, "    <testcase classname=\"{class}\" name=\"{name}\"/>");
        return;
    }
    let mut text = format!("{}:{}\n", case.place.file, case.place.line);
    for mismatch in &case.mismatches {
        let _ = writeln!(text, "{}: - expected, + planned", mismatch.list);
        for (sign, line) in difference(mismatch) {
            let _ = writeln!(text, "{sign} {line}");
        }
    }
    for finding in &case.findings {
        let _ = writeln!(text, "{}: {}", finding.code, finding.message);
    }
    let lists: Vec<&str> = case.mismatches.iter().map(|mismatch| mismatch.list).collect();
    let message = if lists.is_empty() {
        "not run as it stands".to_owned()
    } else {
        format!("not as expected: {}", lists.join(", "))
    };
    let (message, text) = (escape(&message), escape(&text));
    let _ = writeln!(
        out,
        "    <testcase classname=\"{class}\" name=\"{name}\"><failure type=\"mismatch\" message=\"{message}\">{text}</failure></testcase>"
    );
}
