//! How a scalar is written: plain where every reader understands it as it is meant, in double quotes otherwise.

use std::fmt::Write as _;

use crate::document::scalar::{self, Ambiguity, Core};

/// A scalar that was written without quotes.
pub(super) fn plain(text: &str, in_flow: bool) -> String {
    match scalar::resolve(text) {
        Core::Null => "null".to_owned(),
        Core::Boolean(value) => value.to_string(),
        // An octal number is a number to everybody, if not the same one: quotes would make it text.
        Core::Integer(_) | Core::Float(_) | Core::Ambiguous(Ambiguity::Octal) => text.to_owned(),
        Core::Text | Core::Ambiguous(_) => string(text, in_flow),
    }
}

/// A text.
pub(super) fn string(text: &str, in_flow: bool) -> String {
    if is_plain(text, in_flow) { text.to_owned() } else { double_quoted(text) }
}

/// May a text stand without quotes? Stricter than YAML 1.2.2, section 7.3.3, so that nobody has to know it by heart.
fn is_plain(text: &str, in_flow: bool) -> bool {
    let first_is_plain = text.starts_with(|c: char| !c.is_whitespace() && !"-?:,[]{}#&*!|>'\"%@`".contains(c));
    let flow = |c: char| in_flow && ",[]{}".contains(c);
    first_is_plain
        && !matches!(text, "=" | "<<")
        && !text.starts_with("...")
        && scalar::resolve(text) == Core::Text
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        // Only ` #` begins a comment, but who reads `MON#1` without quotes has to know that.
        && !text.contains('#')
        && text.chars().all(|c| is_printable(c) && !flow(c))
}

/// A character that a reader sees, and that no reader of YAML takes for a line break.
pub(super) fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_printable(c) => quoted.push(c),
            c => {
                let _ = match u32::from(c) {
                    code @ ..=0xff => write!(quoted, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(quoted, "\\u{code:04x}"),
                    code => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_reads_alike_stays_plain() {
        for text in [
            "UTC",
            "a b",
            "security@example.org",
            "arn:aws:kms:us-east-1:1:key/2",
            "${HOOK}",
            "../x",
            ".keywheel/state.db",
            "é",
        ] {
            assert_eq!(plain(text, false), text);
        }
    }

    #[test]
    fn what_readers_disagree_about_is_quoted() {
        for text in ["02:00:00", "no", "On", "1_000", "2026-01-31", "0b1"] {
            assert_eq!(plain(text, false), format!("\"{text}\""));
        }
    }

    #[test]
    fn what_is_not_text_stays_what_it_is() {
        for text in ["90", "-1", "1.5", "0x1F", "010", "true", "null"] {
            assert_eq!(plain(text, false), text);
        }
        assert_eq!(plain("~", false), "null");
        assert_eq!(plain("TRUE", false), "true");
    }

    #[test]
    fn text_that_looks_like_something_else_is_quoted() {
        for text in [
            "",
            " a",
            "a ",
            "90",
            "true",
            "null",
            "~",
            "a: b",
            "a #b",
            "- a",
            "#a",
            "*a",
            "a:",
            "[a",
            "@a",
            "2026-01-31",
            "...",
        ] {
            assert_eq!(string(text, false), format!("\"{text}\""));
        }
        assert_eq!(string("a\nb\"\\\t\u{1b}\u{2028}", false), r#""a\nb\"\\\t\x1b\u2028""#);
    }

    #[test]
    fn a_flow_needs_quotes_where_a_block_does_not() {
        assert_eq!(string("${HOOK}", true), "\"${HOOK}\"");
        assert_eq!(string("a,b", true), "\"a,b\"");
        assert_eq!(string("a,b", false), "a,b");
    }
}
