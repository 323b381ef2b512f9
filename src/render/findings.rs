//! Findings for a terminal, in the manner of rustc, and as JSON.
//!
//! A finding carries its own source line, already without secrets, so that nothing is read again here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use schemars::JsonSchema;
use serde::Serialize;

use crate::diagnostic::{Finding, Place};
use crate::document;
use crate::engine::OUTPUT_VERSION;
use crate::model::Severity;

use super::text::{is_unsafe, safe};

/// Draws every finding, each as carefully as the first, and a line that sums them up. Empty where there is none.
///
/// `width` is the terminal's, in columns.
#[must_use]
pub fn draw(findings: &[Finding], color: bool, width: usize) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(width.max(40));
    let mut drawn = String::new();
    for finding in findings {
        let _ = writeln!(drawn, "{}", renderer.render(&groups(finding)));
        // Without a snippet the help has nothing to hang from.
        if let Some(help) = finding.help.as_ref().filter(|_| finding.place.is_none()) {
            let help = Group::with_title(Level::HELP.secondary_title(safe(help)));
            let _ = writeln!(drawn, "{}", renderer.render(&[help]));
        }
        drawn.push('\n');
    }
    let _ = writeln!(drawn, "{}", summary(findings));
    drawn
}

/// `3 errors and 1 warning in 2 files`.
#[must_use]
pub fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counted = |number: usize, word: &str| match number {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{number} {word}s")),
    };
    let kinds = [
        counted(count(Severity::Error), "error"),
        counted(count(Severity::Warning), "warning"),
        counted(count(Severity::Info), "note"),
    ];
    let kinds: Vec<String> = kinds.into_iter().flatten().collect();
    let files: BTreeSet<&str> =
        findings.iter().filter_map(|finding| finding.place.as_ref()).map(|place| place.file.as_ref()).collect();
    let kinds = match kinds.as_slice() {
        [] => return "no findings".to_owned(),
        [only] => only.clone(),
        [first, last] => format!("{first} and {last}"),
        [first, middle @ .., last] => format!("{first}, {} and {last}", middle.join(", ")),
    };
    match counted(files.len(), "file") {
        Some(files) => format!("{kinds} in {files}"),
        None => kinds,
    }
}

fn groups(finding: &Finding) -> Vec<Group<'_>> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::NOTE,
    };
    let mut group = Group::with_title(level.primary_title(safe(&finding.message)).id(safe(&finding.code)));
    if let Some(place) = &finding.place {
        group = with_source(group, place, finding.source_line.as_deref(), AnnotationKind::Primary);
    }
    if let Some(help) = finding.help.as_ref().filter(|_| finding.place.is_some()) {
        group = group.element(Level::HELP.message(safe(help)));
    }
    let mut groups = vec![group];
    if let Some(related) = &finding.related {
        let note = Group::with_title(Level::NOTE.secondary_title(safe(&related.message)));
        groups.push(with_source(note, &related.place, related.source_line.as_deref(), AnnotationKind::Primary));
    }
    groups
}

fn with_source<'f>(group: Group<'f>, place: &'f Place, line: Option<&'f str>, kind: AnnotationKind) -> Group<'f> {
    let (row, column) = (place.line as usize, place.column as usize);
    let origin = || Origin::path(safe(&place.file)).line(row).char_column(column);
    let Some(line) = line else { return group.element(origin()) };
    // One character for one, or the columns would be others.
    let line: String = line.chars().map(|c| if c != '\t' && is_unsafe(c) { '\u{fffd}' } else { c }).collect();
    let span = document::underline(place, &line);
    let snippet = Snippet::source(line).line_start(row).annotation(kind.span(span));
    if document::is_cut(place) {
        // The snippet would count its columns from where the line was cut.
        return group.element(origin()).element(snippet);
    }
    group.element(snippet.path(safe(&place.file)))
}

/// What a check found, as a program reads it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Report<'f> {
    /// The version of this document's form.
    pub format_version: &'static str,
    /// Is there no error?
    pub valid: bool,
    /// How many errors.
    pub error_count: usize,
    /// How many warnings.
    pub warning_count: usize,
    /// The findings, sorted by place.
    pub diagnostics: &'f [Finding],
}

/// The findings as one versioned document.
#[must_use]
pub fn report(findings: &[Finding]) -> Report<'_> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let error_count = count(Severity::Error);
    Report {
        format_version: OUTPUT_VERSION,
        valid: error_count == 0,
        error_count,
        warning_count: count(Severity::Warning),
        diagnostics: findings,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::Related;

    fn place(line: u32, column: u32, length: u32) -> Place {
        Place { file: Arc::from("policies/acme/phi.yaml"), line, column, length }
    }

    #[test]
    fn a_finding_is_drawn_with_its_line_its_help_and_its_other_place() {
        let mut finding = Finding::error("yaml/duplicate-key", "the key `status` stands here twice")
            .help("keep one of them")
            .at(place(12, 1, 6), Some("status: active".to_owned()));
        finding.related = Some(Related {
            place: place(3, 1, 6),
            message: "the first is here".to_owned(),
            source_line: Some("status: suspended".to_owned()),
        });
        insta::assert_snapshot!(draw(&[finding], false, 100), @r"
        error[yaml/duplicate-key]: the key `status` stands here twice
          --> policies/acme/phi.yaml:12:1
           |
        12 | status: active
           | ^^^^^^
           |
           = help: keep one of them
        note: the first is here
          --> policies/acme/phi.yaml:3:1
           |
         3 | status: suspended
           | ^^^^^^

        1 error in 1 file
        ");
    }

    #[test]
    fn a_finding_without_a_place_is_a_line_and_its_help() {
        let finding = Finding::warning("config/none", "there is no `keywheel.yaml`").help("run `keywheel init`");
        insta::assert_snapshot!(draw(&[finding], false, 100), @r"
        warning[config/none]: there is no `keywheel.yaml`
        help: run `keywheel init`

        1 warning
        ");
    }

    #[test]
    fn the_tenth_finding_is_as_good_as_the_first() {
        let findings: Vec<Finding> = (1..=10)
            .map(|line| {
                Finding::error("schema/unknown-field", "unknown field `x`")
                    .at(place(line, 1, 1), Some("x: 1".to_owned()))
            })
            .collect();
        let drawn = draw(&findings, false, 100);
        assert_eq!(drawn.matches("error[schema/unknown-field]: unknown field `x`").count(), 10);
        assert!(drawn.contains("--> policies/acme/phi.yaml:10:1"), "{drawn}");
        assert!(drawn.ends_with("10 errors in 1 file\n"), "{drawn}");
    }

    #[test]
    fn the_column_of_a_cut_line_is_the_one_in_the_file() {
        let line = format!("{}{}x{}", document::CUT, " ".repeat(document::CUT_CONTEXT), " y".repeat(30));
        let finding = Finding::error("a/b", "c").at(place(7, 900, 1), Some(line));
        let drawn = draw(&[finding], false, 100);
        assert!(drawn.contains("--> policies/acme/phi.yaml:7:900"), "{drawn}");
    }

    #[test]
    fn a_place_past_the_end_of_its_line_still_draws() {
        let finding = Finding::error("yaml/syntax", "this is not YAML").at(place(1, 40, 7), Some("x: [1".to_owned()));
        assert!(draw(&[finding], false, 100).contains("x: [1"));
    }

    #[test]
    fn findings_are_counted_in_words() {
        let findings = [
            Finding::error("a/b", "c"),
            Finding::warning("a/b", "c"),
            Finding::warning("a/b", "c"),
            Finding::info("a/b", "c"),
        ];
        assert_eq!(summary(&findings), "1 error, 2 warnings and 1 note");
    }

    #[test]
    fn a_report_is_valid_where_nothing_is_an_error() {
        let findings = [Finding::warning("a/b", "c")];
        let json = serde_json::to_value(report(&findings)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "format_version": "1.0",
                "valid": true,
                "error_count": 0,
                "warning_count": 1,
                "diagnostics": [{"code": "a/b", "severity": "warning", "message": "c"}]
            })
        );
    }
}
