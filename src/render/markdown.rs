//! Words and blocks of Markdown for a comment on GitHub or GitLab, out of which nothing breaks.
//!
//! What comes from a document or a provider is either [`inline`] text, a [`code`] span, a [`fence`], or text in HTML
//! ([`html`]). In none of them does it end its block, make a link, an image or an element, name a person (who would be
//! notified) or refer to an issue (which would show the reference to its readers).
//!
//! Must not know: what a comment is about.

use std::borrow::Cow;

use super::text::safe_lines;

/// The characters after which GitHub or GitLab look for a person, an issue, a merge request, a milestone, ...
const SIGILS: &str = "@#!~%$&^";

/// It has no width, and takes a reference apart.
const GAP: char = '\u{200b}';

/// The longest text of one value or message: what is longer is no sentence.
const LONGEST: usize = 1_000;

/// Running text on one line, at its beginning or within it.
#[must_use]
pub fn inline(text: &str) -> String {
    let text = apart(&clipped(text));
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut at_start = true;
    for c in text.trim().chars() {
        match c {
            '\n' => escaped.push(' '),
            // As entities, which no parser of Markdown takes for markup wherever they stand.
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '|' => escaped.push_str("&#124;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            // What makes a line an item of a list or a heading, or the line above it one.
            '#' | '+' | '-' | '=' | '.' | ')' if at_start => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
        at_start = at_start && c.is_ascii_digit();
    }
    escaped
}

/// Text in a block of HTML, where Markdown does not look.
#[must_use]
pub fn html(text: &str) -> String {
    let text = apart(&clipped(text)).replace('\n', " ");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A name or a value as code in a block of HTML.
#[must_use]
pub fn html_code(text: &str) -> String {
    let text = clipped(text).replace('\n', " ");
    format!("<code>{}</code>", text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

/// A name or a value as a span of code, outside of tables and of HTML. It is read as it is, but for line feeds.
#[must_use]
pub fn code(text: &str) -> String {
    let text = clipped(text).replace('\n', " ");
    if text.trim().is_empty() {
        return "` `".to_owned();
    }
    let fence = "`".repeat(longest_run(&text) + 1);
    // A space at each end is taken off again, and keeps a backtick there from becoming a part of the fence.
    let space = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// A block of code. `lines` hold no line feeds.
#[must_use]
pub fn fence(language: &str, lines: &[String]) -> String {
    let longest = lines.iter().map(|line| longest_run(line)).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let mut block = format!("{fence}{language}\n");
    for line in lines {
        block.push_str(line);
        block.push('\n');
    }
    block.push_str(&fence);
    block.push('\n');
    block
}

/// Something that is folded away until a reader wants it. `summary` is HTML, `body` is Markdown.
#[must_use]
pub fn folded(summary: &str, body: &str) -> String {
    // Within the element Markdown is read only after an empty line.
    format!("<details><summary>{summary}</summary>\n\n{}\n\n</details>\n", body.trim_end())
}

/// The text without control characters, and cut where it is too long to be read.
fn clipped(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        None => safe_lines(text),
        Some((end, _)) => Cow::Owned(format!("{} …", safe_lines(text.get(..end).unwrap_or_default()))),
    }
}

/// The text with a gap in whatever would be read as a reference or a link.
fn apart(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        out.push(c);
        let Some(next) = rest.peek() else { break };
        let refers = SIGILS.contains(c) && (next.is_alphanumeric() || matches!(next, '_' | '"' | '-'));
        let links =
            (c == ':' && *next == '/') || (c == '.' && ends_with(&out, "www.")) || (c == '-' && ends_with(&out, "gh-"));
        if refers || links {
            out.push(GAP);
        }
    }
    out
}

fn ends_with(text: &str, word: &str) -> bool {
    let start = text.len().saturating_sub(word.len());
    text.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

fn longest_run(text: &str) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}
