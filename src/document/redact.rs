//! Keeping secrets out of what is shown of a text.
//!
//! Works on the raw text, so that it also holds where the text is not YAML at all. A character that is hidden becomes
//! `*`, one for one, so that columns stay true.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::diagnostic::Finding;

/// A part of a field's name that makes its value a secret.
const SECRET_NAMES: [&str; 4] = ["webhook", "secret", "token", "password"];

/// Longer ones are no names of fields.
const LONGEST_NAME: usize = 64;

/// Is this the name of a field whose value is a secret, or was it meant to be one?
pub(super) fn is_secret_name(name: &str) -> bool {
    if name.len() > LONGEST_NAME {
        return SECRET_NAMES.iter().any(|part| name.contains(part));
    }
    let name = name.to_ascii_lowercase();
    let is_meant = |part: &str| {
        let typos = if part.len() > 6 { 2 } else { 1 };
        name.split(['_', '-']).any(|word| strsim::damerau_levenshtein(word, part) <= typos)
    };
    // `secrets` of `keywheel.yaml` holds the names of variables.
    name != "secrets" && SECRET_NAMES.iter().any(|part| name.contains(part) || is_meant(part))
}

/// A line as it may be shown. `before` is the text before it, which tells whether it goes on with a secret.
pub(super) fn line<'l>(line: &'l str, before: &str) -> Cow<'l, str> {
    if continues_secret(line, before) {
        let shown = line.chars().map(|c| if c.is_whitespace() { c } else { '*' }).collect::<String>();
        return Cow::Owned(shown);
    }
    match hide_fields(line) {
        Some(hidden) => Cow::Owned(patterns(&hidden).into_owned()),
        None => patterns(line),
    }
}

/// Does the line belong to the value of a secret field that began on a line above (a block scalar, a list)?
fn continues_secret(line: &str, before: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let mut level = indent(line);
    for above in before.lines().rev().take(64) {
        let content = above.trim_start_matches([' ', '-']);
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if indent(above) < level {
            level = indent(above);
            let Some((name, value)) = content.split_once(':') else { continue };
            let value = value.trim();
            let opens = value.is_empty() || !value.starts_with("${");
            if is_secret_name(name) && opens && !name.contains(' ') {
                return true;
            }
        }
    }
    false
}

/// Hides the value of each secret field on a line: `name: value`, also in braces and as JSON.
fn hide_fields(line: &str) -> Option<String> {
    if !line.contains(':') {
        return None;
    }
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(colon) = rest.find(':') {
        let (name, value) = rest.split_at(colon + 1);
        shown.push_str(name);
        rest = value;
        let word = name.trim_end_matches([':', ' ', '"', '\'']);
        let word = word.rsplit([' ', '{', ',', '"', '\'', '?', '[']).next().unwrap_or(word);
        if !is_secret_name(word) || value.trim_start().starts_with('#') {
            continue;
        }
        let blank = value.len() - value.trim_start().len();
        let (space, value) = value.split_at(blank);
        shown.push_str(space);
        let length = value_length(value);
        let (secret, after) = value.split_at(length);
        if is_reference(secret.trim_matches(['"', '\''])) {
            shown.push_str(secret);
        } else {
            shown.extend(secret.chars().map(|_| '*'));
        }
        rest = after;
    }
    shown.push_str(rest);
    Some(shown)
}

/// The bytes of the value that a text begins with: to the closing quote, or to a comma, a brace, a comment or the end.
fn value_length(value: &str) -> usize {
    if value.starts_with(['[', '{']) {
        return value.len();
    }
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return value.get(1..).and_then(|rest| rest.find(quote)).map_or(value.len(), |end| end + 2);
    }
    if value.starts_with("${") {
        return value.find('}').map_or(value.len(), |end| end + 1);
    }
    [value.find(", "), value.find(" #")].into_iter().flatten().min().unwrap_or(value.len())
}

fn is_reference(text: &str) -> bool {
    text.strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

/// Hides what looks like a secret in the words of a finding, which quote its document.
pub(super) fn finding(finding: &mut Finding) {
    let hide = |text: &mut String| {
        if let Cow::Owned(hidden) = patterns(text) {
            *text = hidden;
        }
    };
    hide(&mut finding.message);
    finding.help.as_mut().into_iter().for_each(hide);
}

/// Hides what looks like a secret by itself: Slack's webhooks and tokens, AWS access key ids, passwords in URLs.
///
/// One pass over the text: it may be a megabyte that somebody wrote to keep a reader busy.
#[must_use]
pub fn patterns(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match secret_at(rest) {
            Some(Range { start, end }) => {
                shown.push_str(text.get(copied..at + start).unwrap_or(""));
                shown.extend(rest.get(start..end).unwrap_or("").chars().map(|_| '*'));
                (at, copied) = (at + end, at + end);
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(text.get(copied..).unwrap_or(""));
    Cow::Owned(shown)
}

/// Is there something in a document's values that looks like a secret, and stands where none is declared?
pub(super) fn has_secrets(fields: &Map<String, Value>) -> bool {
    fn looks_secret(value: &Value) -> bool {
        match value {
            Value::String(text) => matches!(patterns(text), Cow::Owned(_)),
            Value::Array(items) => items.iter().any(looks_secret),
            Value::Object(fields) => has_secrets(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    fields.iter().any(|(name, value)| !is_declared(name) && looks_secret(value))
}

/// Hides it.
pub(super) fn values(fields: &mut Map<String, Value>) {
    fn hide(value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(hidden) = patterns(text) {
                    *text = hidden;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(hide),
            Value::Object(fields) => values(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    fields.iter_mut().filter(|(name, _)| !is_declared(name)).for_each(|(_, value)| hide(value));
}

/// Is the field declared secret? Its type keeps it from being shown, and is what it is sent with.
fn is_declared(name: &str) -> bool {
    ["slack_webhook", "webhook_url", "webhook_secret"].contains(&name)
}

/// The secret that a text begins with, without what tells its kind.
fn secret_at(text: &str) -> Option<Range<usize>> {
    let token = |begin: usize| {
        let rest = text.get(begin..)?;
        let end = rest.find(|c: char| c.is_whitespace() || "\"'`,})".contains(c)).unwrap_or(rest.len());
        (end > 0).then_some(begin..begin + end)
    };
    match text.as_bytes() {
        [b'h', b'o', b'o', b'k', ..] if text.starts_with("hooks.slack.com/") => token(16),
        [b'x', b'o', b'x', b'a' | b'b' | b'c' | b'e' | b'o' | b'p' | b'r' | b's', b'-', ..]
        | [b'x', b'a', b'p', b'p', b'-', ..] => token(5),
        [b'A', b'K' | b'S', b'I', b'A', rest @ ..] => {
            let length = rest.iter().take(64).take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let has_digit = rest.iter().take(length).any(u8::is_ascii_digit);
            (length >= 8 && has_digit).then_some(4..4 + length)
        }
        [b':', b'/', b'/', rest @ ..] => {
            // `://user:password@host`
            let end = rest.iter().take(512).position(|byte| b"/ \t\"'`@".contains(byte))?;
            let user = rest.iter().take(end).position(|byte| *byte == b':')? + 1;
            (rest.get(end) == Some(&b'@') && user < end).then_some(3 + user..3 + end)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_secrets_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            (
                "see https://hooks.slack.com/services/T0/B0/x, or ask",
                "see https://hooks.slack.com/****************, or ask",
            ),
            ("xoxb-12-ab and AKIA0123456789ABCDEF.", "xoxb-***** and AKIA****************."),
            ("postgres://keywheel:pass@db/x", "postgres://keywheel:****@db/x"),
        ] {
            assert_eq!(patterns(text), shown);
            assert_eq!(patterns(shown), shown);
        }
    }

    #[test]
    fn ordinary_words_are_not_taken_for_secrets() {
        for text in
            ["ASIA PACIFIC", "AKIA", "xox", "https://example.org:8080/a@b", "postgres://keywheel@db/x", "é: xoxo"]
        {
            assert!(matches!(patterns(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn the_value_of_a_secret_field_is_hidden_and_a_reference_is_not() {
        for (text, shown) in [
            ("slack_webhook: abc # note", "slack_webhook: *** # note"),
            ("{slack_webhook: abc, email: []}", "{slack_webhook: ***, email: []}"),
            ("slack_webhook: ${HOOK}", "slack_webhook: ${HOOK}"),
            ("{webhook_secret: \"${A}\", webhook_url: 'b, c'}", "{webhook_secret: \"${A}\", webhook_url: ******}"),
            ("secrets: {acme: [HOOK]}", "secrets: {acme: [HOOK]}"),
            ("api_token: [a, {b: c}]", "api_token: ***********"),
            ("{slack_webhok: abc, email: []}", "{slack_webhok: ***, email: []}"),
            ("wehbook-secrt: abc", "wehbook-secrt: ***"),
            ("description: a new token", "description: a new token"),
        ] {
            assert_eq!(line(text, ""), shown);
        }
    }

    #[test]
    fn the_lines_below_a_secret_field_are_hidden_too() {
        assert_eq!(line("    abc def", "a:\n  webhook_secret: |\n"), "    *** ***");
        assert_eq!(line("  email: x", "a:\n  webhook_secret: |\n    abc\n"), "  email: x");
    }

    #[test]
    fn what_looks_secret_is_hidden_in_every_value_but_those_of_declared_fields() {
        let fields = serde_json::json!({"tags": {"token": "xoxb-12-ab"}, "webhook_url": "https://hooks.slack.com/x"});
        let mut fields = fields.as_object().unwrap().clone();
        assert!(has_secrets(&fields));
        values(&mut fields);
        let hidden = serde_json::json!({"tags": {"token": "xoxb-*****"}, "webhook_url": "https://hooks.slack.com/x"});
        assert_eq!(Value::Object(fields), hidden);
    }
}
