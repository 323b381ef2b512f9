//! The text of one file: places in it, and its lines as they may be shown.

use std::ops::Range;
use std::sync::Arc;

use super::redact;
use super::tree::Span;
use crate::diagnostic::{Finding, Place, Related};

/// The most characters of a source line that a finding carries.
const LONGEST_LINE: usize = 200;

/// The longest line, in bytes, of which a part is shown at all: each finding on it reads all of it.
const MAX_LINE: usize = 64 << 10;

/// The characters that stay before the place where a line is cut at its beginning.
pub const CUT_CONTEXT: usize = 40;

/// What stands for the part of a line that was cut off.
pub const CUT: char = '…';

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Text<'t> {
    pub path: Arc<str>,
    pub text: &'t str,
}

impl Text<'_> {
    /// The place of a span; its length ends with its line.
    pub(super) fn place(&self, span: Span) -> Place {
        let length = if span.width == 0 {
            let rest = self.text.get(span.start as usize..).unwrap_or("");
            let line = rest.split(['\n', '\r']).next().unwrap_or("");
            u32::try_from(line.trim_end().chars().count()).unwrap_or(u32::MAX)
        } else {
            span.width
        };
        Place { file: Arc::clone(&self.path), line: span.line, column: span.column, length: length.max(1) }
    }

    /// The line that a span begins on, without anything secret and cut where it is long. None where it is so long that
    /// nobody wrote it by hand.
    ///
    /// A line whose beginning is cut off begins with [`CUT`], and has [`CUT_CONTEXT`] characters between that and the
    /// place.
    pub(super) fn line(&self, span: Span) -> Option<String> {
        let at = (span.start as usize).min(self.text.len());
        let before = self.text.get(..at).unwrap_or("");
        let begin = before.rfind(['\n', '\r']).map_or(0, |newline| newline + 1);
        let end =
            self.text.get(at..).and_then(|rest| rest.find(['\n', '\r'])).map_or(self.text.len(), |length| at + length);
        let line = self.text.get(begin..end).unwrap_or("");
        if line.len() > MAX_LINE {
            return None;
        }
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        let shown = redact::line(line, self.text.get(..begin).unwrap_or(""));
        Some(cut(&shown, span.column as usize - 1))
    }

    /// A finding with the place and the line of a span.
    pub(super) fn at(&self, finding: Finding, span: Span) -> Finding {
        finding.at(self.place(span), self.line(span))
    }

    /// The second place of a finding.
    pub(super) fn related(&self, span: Span, message: impl Into<String>) -> Related {
        Related { place: self.place(span), message: message.into(), source_line: self.line(span) }
    }
}

/// Was the beginning of the place's source line cut off?
#[must_use]
pub fn is_cut(place: &Place) -> bool {
    is_cut_at(place.column.max(1) as usize - 1)
}

fn is_cut_at(column: usize) -> bool {
    column + CUT_CONTEXT >= LONGEST_LINE
}

/// What of a source line a place means, in bytes of the line; at its end where the line is shorter.
#[must_use]
pub fn underline(place: &Place, line: &str) -> Range<usize> {
    let first = if is_cut(place) { 1 + CUT_CONTEXT } else { place.column.max(1) as usize - 1 };
    let byte = |character: usize| line.char_indices().nth(character).map_or(line.len(), |(at, _)| at);
    let start = byte(first);
    start..byte(first.saturating_add(place.length as usize)).max(start)
}

/// At most [`LONGEST_LINE`] characters of a line around the character number `column`, control characters other than tabs as spaces.
fn cut(line: &str, column: usize) -> String {
    let skipped = if is_cut_at(column) { column - CUT_CONTEXT } else { 0 };
    let mut shown = String::new();
    if skipped > 0 {
        shown.push(CUT);
    }
    let mut rest = line.chars().skip(skipped);
    shown.extend(rest.by_ref().take(LONGEST_LINE).map(|c| if c.is_control() && c != '\t' { ' ' } else { c }));
    if rest.next().is_some() {
        shown.push(CUT);
    }
    shown
}
