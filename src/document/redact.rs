//! Keeping secrets out of what is shown of a text.
//!
//! Works on the raw text, so that it also holds where the text is not YAML at all. A character that is hidden becomes
//! `*`, one for one, so that columns stay true.

use std::borrow::Cow;

use crate::diagnostic::Finding;

/// A part of a field's name that makes its value a secret.
const SECRET_NAMES: [&str; 4] = ["webhook", "secret", "token", "password"];

/// Is this the name of a field whose value is a secret?
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `secrets` of `keywheel.yaml` holds the names of variables.
    name != "secrets" && SECRET_NAMES.iter().any(|part| name.contains(part))
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
    let lower = line.to_ascii_lowercase();
    if !SECRET_NAMES.iter().any(|name| lower.contains(name)) {
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
    if is_reference(value.split([' ', ',', '}']).next().map_or("", |_| value.split_inclusive('}').next().unwrap_or("")))
    {
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

/// The beginnings by which well-known secrets are recognised, wherever they stand, and how much of each stays.
const PATTERNS: [(&str, usize); 10] = [
    ("hooks.slack.com/", 16),
    ("xoxb-", 5),
    ("xoxp-", 5),
    ("xoxa-", 5),
    ("xoxr-", 5),
    ("xoxs-", 5),
    ("xoxe-", 5),
    ("xapp-", 5),
    ("AKIA", 4),
    ("ASIA", 4),
];

/// Hides what looks like a secret by itself: Slack's webhooks and tokens, AWS access key ids.
pub(super) fn patterns(text: &str) -> Cow<'_, str> {
    if !PATTERNS.iter().any(|(pattern, _)| text.contains(pattern)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, kept)) = PATTERNS.iter().filter_map(|(pattern, kept)| Some((rest.find(pattern)?, *kept))).min()
    {
        let (before, found) = rest.split_at(at + kept);
        shown.push_str(before);
        let end = found
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '}' | ')'))
            .unwrap_or(found.len());
        let (secret, after) = found.split_at(end);
        shown.extend(secret.chars().map(|_| '*'));
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}
