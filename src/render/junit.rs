//! Test results in the XML that CI systems know from `JUnit`: a suite for each tenant, a case for each thing that was looked at.
//!
//! Errors and warnings fail their case. A note and a destruction do not: they are planned or harmless, and are told in
//! the case's output. What was found fault with nowhere has one case that passed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::diagnostic::Place;
use crate::model::{Name, Severity};
use crate::plan::Plan;

use super::notices::{Kind, Notice};
use super::text::safe_lines;

/// The suite of what concerns all tenants.
const REPOSITORY: &str = "repository";

/// The report; `plan` is what the notices are of, where they are not of documents alone.
#[must_use]
pub fn draw(notices: &[Notice<'_>], plan: Option<&Plan>) -> String {
    let mut suites: BTreeMap<Option<&Name>, Vec<&Notice<'_>>> = BTreeMap::from([(None, Vec::new())]);
    for tenant in plan.iter().flat_map(|plan| plan.tenants()) {
        suites.entry(Some(tenant)).or_default();
    }
    for notice in notices {
        suites.entry(notice.tenant).or_default().push(notice);
    }
    let tests: usize = suites.values().map(|notices| notices.len().max(1)).sum();
    let failures = notices.iter().filter(|notice| fails(notice)).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"keywheel\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">");
    for (tenant, notices) in suites {
        suite(&mut out, tenant.map_or(REPOSITORY, Name::as_str), &notices, plan);
    }
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, name: &str, notices: &[&Notice<'_>], plan: Option<&Plan>) {
    let failures = notices.iter().filter(|notice| fails(notice)).count();
    let tests = notices.len().max(1);
    let _ = write!(
        out,
        "  <testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\"",
        escape(name)
    );
    if let Some(plan) = plan {
        let _ = write!(out, " timestamp=\"{}\"", plan.as_of.format("%Y-%m-%dT%H:%M:%S"));
    }
    out.push_str(">\n");
    for notice in notices {
        case(out, name, notice);
    }
    if notices.is_empty() {
        let _ = writeln!(out, "    <testcase classname=\"keywheel.{}\" name=\"no findings\"/>", escape(name));
    }
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, suite: &str, notice: &Notice<'_>) {
    let mut name = notice.code.to_owned();
    if let Some(object) = notice.object {
        let _ = write!(name, " {object}");
    }
    let _ = write!(name, " {}", notice.place);
    let mut text = notice.message.clone();
    if let Some(help) = &notice.help {
        let _ = write!(text, "\nhelp: {help}");
    }
    let mut line = |place: &Place, line: &str| write!(text, "\n{}:{}: {line}", place.file, place.line);
    if let Some(source_line) = notice.source_line {
        let _ = line(notice.place, source_line);
    }
    if let Some(related) = notice.related {
        let _ = line(&related.place, &related.message);
        if let Some(source_line) = &related.source_line {
            let _ = line(&related.place, source_line);
        }
    }
    let _ = writeln!(out, "    <testcase classname=\"keywheel.{}\" name=\"{}\">", escape(suite), escape(&name));
    if fails(notice) {
        let (message, kind) = (escape(&notice.message), escape(notice.code));
        let _ = writeln!(out, "      <failure type=\"{kind}\" message=\"{message}\">{}</failure>", escape(&text));
    } else {
        let _ = writeln!(out, "      <system-out>{}</system-out>", escape(&text));
    }
    out.push_str("    </testcase>\n");
}

fn fails(notice: &Notice<'_>) -> bool {
    notice.severity != Severity::Info && notice.kind != Kind::Destruction
}

/// Text or an attribute's value. What XML 1.0 cannot hold in any form (section 2.2) is replaced.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in safe_lines(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // In an attribute a line feed of its own would be read as a space.
            '\n' => escaped.push_str("&#10;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
