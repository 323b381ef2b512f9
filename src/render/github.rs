//! Workflow commands of GitHub Actions: lines on standard output that become annotations of a pull request.
//!
//! GitHub's "Workflow commands for GitHub Actions" has the form; of a value `%`, carriage return and line feed are
//! escaped, and of a property `:` and `,` too.

use std::fmt::Write as _;

use crate::model::Severity;

use super::notices::Notice;
use super::text::safe;

/// One command a notice.
#[must_use]
pub fn draw(notices: &[Notice<'_>]) -> String {
    let mut out = String::new();
    for notice in notices {
        let command = match notice.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let mut properties = Vec::new();
        if let Some(place) = notice.place {
            let end = place.column.saturating_add(place.length);
            properties.push(format!("file={}", property(&place.file)));
            properties.push(format!("line={0},endLine={0},col={1},endColumn={end}", place.line, place.column));
        }
        properties.push(format!("title={}", property(notice.code)));
        let message = match &notice.help {
            Some(help) => format!("{}\nhelp: {help}", notice.message),
            None => notice.message.clone(),
        };
        let _ = writeln!(out, "::{command} {}::{}", properties.join(","), data(&message));
    }
    out
}

fn data(text: &str) -> String {
    safe(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
