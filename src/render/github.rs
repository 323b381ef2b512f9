//! Workflow commands of GitHub Actions: lines on standard output that become annotations of a pull request.
//!
//! GitHub's "Workflow commands for GitHub Actions" has the form; of a value `%`, carriage return and line feed are
//! escaped, and of a property `:` and `,` too.

use std::fmt::Write as _;

use anstream::adapter::strip_str;

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

/// Text for people as a job's log may show it. The runner obeys every line of a log that begins with `::`, blanks before it left
/// out, and `##[` anywhere in a line: what a document says must not be obeyed.
#[must_use]
pub fn inert(text: &str) -> String {
    let inert_line = |line: &str| {
        let line = line.replace("##[", "##\\[");
        let is_command = strip_str(&line).to_string().trim_start().starts_with("::");
        if is_command { line.replacen("::", "\\::", 1) } else { line }
    };
    // A carriage return ends a line for the runner, too; `safe` lets none through.
    text.split_inclusive('\n').map(inert_line).collect()
}

fn data(text: &str) -> String {
    safe(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::inert;

    #[test]
    fn no_line_of_a_log_is_a_command() {
        let log = "plan\n  ::add-mask::keywheel\nx ::error::y\n\u{3000}::stop-commands::z\nsee ##[error]this\n\u{1b}[31m::warning::w\u{1b}[0m";
        let shown = "plan\n  \\::add-mask::keywheel\nx ::error::y\n\u{3000}\\::stop-commands::z\nsee ##\\[error]this\n\u{1b}[31m\\::warning::w\u{1b}[0m";
        assert_eq!(inert(log), shown);
        assert_eq!(inert("A::B stays, and #[this]\n"), "A::B stays, and #[this]\n");
    }
}
