//! Workflow commands of GitHub Actions: lines on standard output that become annotations of a pull request.
//!
//! GitHub's "Workflow commands for GitHub Actions" has the form; of a value `%`, carriage return and line feed are
//! escaped, and of a property `:` and `,` too.

use std::fmt::Write as _;

use anstream::adapter::strip_str;

use crate::diagnostic::{Place, Related};
use crate::model::Severity;

use super::notices::Notice;
use super::text::safe_lines;

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
        let Place { file, line, column, length } = notice.place;
        let end = column.saturating_add(*length);
        let (file, title) = (property(file), property(notice.code));
        let mut message = notice.message.clone();
        if let Some(help) = &notice.help {
            let _ = write!(message, "\nhelp: {help}");
        }
        if let Some(Related { place, message: what, .. }) = notice.related {
            let _ = write!(message, "\n{what}: {place}");
        }
        let _ = writeln!(
            out,
            "::{command} file={file},line={line},endLine={line},col={column},endColumn={end},title={title}::{}",
            data(&message)
        );
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
    // A carriage return ends a line for the runner, too; `safe_lines` lets none through.
    text.split_inclusive('\n').map(inert_line).collect()
}

fn data(text: &str) -> String {
    safe_lines(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
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
