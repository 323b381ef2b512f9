//! A Code Quality report of GitLab: a JSON array that its merge requests show on the lines of the change.

use serde::Serialize;

use crate::model::Severity;

use super::notices::{Kind, Notice};
use super::text::safe;

#[derive(Debug, Serialize)]
struct Issue<'n> {
    description: String,
    check_name: &'n str,
    fingerprint: &'n str,
    severity: &'static str,
    location: Location<'n>,
}

#[derive(Debug, Serialize)]
struct Location<'n> {
    path: &'n str,
    lines: Lines,
}

#[derive(Debug, Serialize)]
struct Lines {
    begin: u32,
}

/// The report, on one line.
#[must_use]
pub fn draw(notices: &[Notice<'_>]) -> String {
    let issues: Vec<Issue<'_>> = notices.iter().map(issue).collect();
    // Plain data: it cannot fail.
    serde_json::to_string(&issues).unwrap_or_default() + "\n"
}

fn issue<'n>(notice: &'n Notice<'_>) -> Issue<'n> {
    let related = notice.related.map(|related| format!("{}: {}", related.message, related.place));
    let more: Vec<String> = notice.help.clone().into_iter().chain(related).collect();
    let description = match more.as_slice() {
        [] => notice.message.clone(),
        more => format!("{} ({})", notice.message, more.join("; ")),
    };
    Issue {
        description: safe(&description).replace('\n', " "),
        check_name: notice.code,
        fingerprint: &notice.fingerprint,
        severity: severity(notice),
        location: Location { path: &notice.place.file, lines: Lines { begin: notice.place.line } },
    }
}

/// Of GitLab's five words.
fn severity(notice: &Notice<'_>) -> &'static str {
    match (notice.kind, notice.severity) {
        (Kind::Refusal | Kind::LeftOut, _) => "blocker",
        (_, Severity::Error) => "critical",
        (Kind::Destruction, _) => "major",
        (_, Severity::Warning) => "minor",
        (_, Severity::Info) => "info",
    }
}
