//! Text on a terminal: what may reach it, how wide it is, how it wraps.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use super::View;

pub use crate::model::{count, thousands};

/// The text on one line, without anything that moves a cursor, sets a colour or turns the order of letters: what came from a
/// person, a document or a provider must not draw over what keywheel says, nor begin a line as if keywheel said it.
#[must_use]
pub fn safe(text: &str) -> Cow<'_, str> {
    if text.contains('\n') { Cow::Owned(safe_lines(text).replace('\n', " ")) } else { safe_lines(text) }
}

/// The same for text that has lines of its own: its reader sees where each begins.
#[must_use]
pub fn safe_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// [`safe`] as a text of its own.
#[must_use]
pub fn one_line(text: &str) -> String {
    safe(text).into_owned()
}

/// Running text for a terminal: its lines but the first begin with so many spaces. Where lines may be of any length, it is one.
#[must_use]
pub fn fitted(text: &str, view: View, indent: usize) -> String {
    if view.width.is_none() {
        return text.to_owned();
    }
    wrap(text, view.columns().saturating_sub(indent)).join(&format!("\n{}", " ".repeat(indent)))
}

/// Control characters but the line feed, and those that set the direction of text.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A message as a sentence of its own: with a capital and a full stop.
#[must_use]
pub fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// How many columns a text without colours takes.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.width()
}

/// The text, filled up with spaces to `width` columns.
#[must_use]
pub fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(missing))
}

/// The text in lines of at most `width` columns, broken at spaces; a longer word stands on a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_draw_over_the_terminal_is_escaped() {
        assert_eq!(safe_lines("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\u{d}\nc");
        assert_eq!(safe("a\nSound: everything\u{1b}"), "a Sound: everything\\u{1b}");
        assert_eq!(safe("user\u{202e}txt"), "user\\u{202e}txt");
        assert!(matches!(safe("Grüße, 鍵"), Cow::Borrowed(_)));
    }

    #[test]
    fn wide_letters_count_twice() {
        assert_eq!(pad("鍵", 4), "鍵  ");
        assert_eq!(wrap("鍵鍵 鍵", 5), ["鍵鍵", "鍵"]);
    }

    #[test]
    fn lines_break_at_spaces_and_long_words_stay_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("arn:aws:kms:us-east-1 x", 8), ["arn:aws:kms:us-east-1", "x"]);
    }
}
