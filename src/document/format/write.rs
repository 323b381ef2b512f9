//! The tree with its comments to text.

use super::quote;
use super::read::{Collection, Document, Element, Line, Scalar, Style, Value, is_empty};
use crate::document::kind::Kind;

/// The longest line on which a collection stays in brackets.
const WIDTH: usize = 120;

/// The spaces of one level.
const STEP: usize = 2;

/// The comment by which editors find the schema; it is never moved from the top.
const EDITOR_LINE: &str = "# yaml-language-server:";

/// Writes documents in the canonical layout.
pub(super) fn write(documents: &[Document<'_>]) -> String {
    let mut out = String::new();
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            out.push_str("---\n");
        }
        lines(&mut out, &document.header, 0);
        match &document.root {
            root if is_empty(root) => {}
            Value::Collection(collection) if !collection.elements.is_empty() => {
                block(&mut out, collection, &order(document, collection), 0, false);
            }
            Value::Collection(collection) => {
                out.push_str(empty(collection));
                out.push('\n');
            }
            Value::Scalar(scalar) => {
                value_of_scalar(&mut out, scalar, None, 0);
            }
        }
        lines(&mut out, &document.trailing, 0);
    }
    out
}

/// The elements of a document in the order of its kind's fields, unless a comment makes it unclear what belongs together.
fn order<'d, 't>(document: &Document<'t>, root: &'d Collection<'t>) -> Vec<&'d Element<'t>> {
    let name = |element: &'d Element<'t>| element.key.as_ref().map_or("", |key| key.text.as_ref());
    let original: Vec<&Element<'_>> = root.elements.iter().collect();
    let kind = original.iter().find(|element| name(element) == "kind").and_then(|element| match &element.value {
        Value::Scalar(scalar) => scalar.text.parse::<Kind>().ok(),
        Value::Collection(_) => None,
    });
    let Some(kind) = kind.filter(|_| root.is_mapping) else { return original };
    let rank = |element: &&Element<'t>| {
        let name = element.key.as_ref().map_or("", |key| key.text.as_ref());
        let fields = ["apiVersion", "kind"].into_iter().chain(kind.fields().iter().copied());
        fields.into_iter().position(|field| field == name).unwrap_or(usize::MAX)
    };
    let mut sorted = original.clone();
    sorted.sort_by_key(rank);
    let same = |a: &[&Element<'_>], b: &[&Element<'_>]| a.iter().zip(b).all(|(a, b)| std::ptr::eq(*a, *b));
    if same(&original, &sorted) || is_unclear(document, root) {
        return original;
    }
    sorted
}

/// Is there a line between fields of which nobody can say which of them it belongs to? A comment directly above a field is
/// that field's; one with an empty line below it, at the end, or above the first field could be anybody's.
fn is_unclear(document: &Document<'_>, root: &Collection<'_>) -> bool {
    let is_comment = |line: &Line| matches!(line, Line::Comment(_));
    let header =
        document.header.iter().filter(|line| !matches!(line, Line::Comment(text) if text.starts_with(EDITOR_LINE)));
    let header_is_apart = document.header.last() == Some(&Line::Blank);
    let grouped = |element: &Element<'_>| element.above.contains(&Line::Blank);
    (header.clone().any(is_comment) && !header_is_apart)
        || !root.trailing.is_empty()
        || document.trailing.iter().any(is_comment)
        || root.elements.iter().any(grouped)
        || root.elements.first().is_some_and(|first| !first.above.is_empty())
}

fn lines(out: &mut String, lines: &[Line], indent: usize) {
    for line in lines {
        match line {
            // A blank line never stands first, and never twice.
            Line::Blank if out.is_empty() || out.ends_with("\n\n") || out.ends_with("\n---\n") => {}
            Line::Blank => out.push('\n'),
            Line::Comment(text) => {
                spaces(out, indent);
                out.push_str(text);
                out.push('\n');
            }
        }
    }
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

/// Writes a block. `inline` says that its first line has begun already, behind a dash.
fn block(out: &mut String, collection: &Collection<'_>, elements: &[&Element<'_>], indent: usize, inline: bool) {
    for (index, element) in elements.iter().enumerate() {
        if !(inline && index == 0) {
            lines(out, &element.above, indent);
            spaces(out, indent);
        }
        match &element.key {
            Some(key) => {
                out.push_str(&key_text(key, false));
                out.push(':');
            }
            None => out.push('-'),
        }
        value(out, element, indent);
    }
    lines(out, &collection.trailing, indent);
}

fn key_text(key: &Scalar<'_>, in_flow: bool) -> String {
    match key.style {
        Style::Plain => quote::plain(&key.text, in_flow),
        _ => quote::string(&key.text, in_flow),
    }
}

/// Writes what comes after `key:` or `-`, with the line's end.
fn value(out: &mut String, element: &Element<'_>, indent: usize) {
    let collection = match &element.value {
        Value::Scalar(scalar) => {
            out.push(' ');
            return value_of_scalar(out, scalar, element.beside.as_deref(), indent);
        }
        Value::Collection(collection) => collection,
    };
    let used = out.chars().rev().take_while(|c| *c != '\n').count();
    if let Some(flow) =
        flow(&element.value).filter(|flow| collection.elements.is_empty() || used + 1 + flow.chars().count() <= WIDTH)
    {
        out.push(' ');
        out.push_str(&flow);
        return end(out, element.beside.as_deref());
    }
    let elements: Vec<&Element<'_>> = collection.elements.iter().collect();
    let first_is_bare = elements.first().is_some_and(|first| first.above.is_empty());
    if element.key.is_none() && element.beside.is_none() && first_is_bare {
        out.push(' ');
        return block(out, collection, &elements, indent + STEP, true);
    }
    end(out, element.beside.as_deref());
    block(out, collection, &elements, indent + STEP, false);
}

fn end(out: &mut String, beside: Option<&str>) {
    if let Some(comment) = beside {
        out.push(' ');
        out.push_str(comment);
    }
    out.push('\n');
}

/// A value in brackets, if it was in brackets and nothing in it needs lines of its own.
fn flow(value: &Value<'_>) -> Option<String> {
    let collection = match value {
        Value::Scalar(scalar) => {
            return Some(match scalar.style {
                Style::Plain => quote::plain(&scalar.text, true),
                _ => quote::string(&scalar.text, true),
            });
        }
        Value::Collection(collection) => collection,
    };
    if !collection.in_flow || !collection.trailing.is_empty() {
        return None;
    }
    if collection.elements.is_empty() {
        return Some(empty(collection).to_owned());
    }
    let mut parts = Vec::new();
    for element in &collection.elements {
        let has_comment = element.above.iter().any(|line| *line != Line::Blank) || element.beside.is_some();
        if has_comment {
            return None;
        }
        let value = flow(&element.value)?;
        parts.push(match &element.key {
            Some(key) => format!("{}: {value}", key_text(key, true)),
            None => value,
        });
    }
    let parts = parts.join(", ");
    Some(if collection.is_mapping { format!("{{{parts}}}") } else { format!("[{parts}]") })
}

fn empty(collection: &Collection<'_>) -> &'static str {
    if collection.is_mapping { "{}" } else { "[]" }
}

/// Writes a scalar, with the line's end.
fn value_of_scalar(out: &mut String, scalar: &Scalar<'_>, beside: Option<&str>, indent: usize) {
    let text = scalar.text.as_ref();
    match &scalar.style {
        Style::Plain => out.push_str(&quote::plain(text, false)),
        Style::Folded { header, lines } if is_block_text(text) => {
            out.push_str(header);
            end(out, beside);
            return block_lines(out, lines.iter().copied(), indent + STEP);
        }
        Style::Literal | Style::Folded { .. } if is_block_text(text) => {
            out.push_str(&literal_header(text));
            end(out, beside);
            let body = text.strip_suffix('\n').unwrap_or(text);
            return block_lines(out, body.split('\n'), indent + STEP);
        }
        Style::Quoted | Style::Literal | Style::Folded { .. } => out.push_str(&quote::string(text, false)),
    }
    end(out, beside);
}

/// Can a text stand as lines of its own, and not only in quotes?
fn is_block_text(text: &str) -> bool {
    !text.trim().is_empty()
        && !text.starts_with('\t')
        && text.chars().all(|c| c == '\n' || c == '\t' || quote::is_printable(c))
}

/// `|` with what a reader cannot see by itself: a first line that is indented, and the line breaks at the end.
fn literal_header(text: &str) -> String {
    let leading = text.lines().find(|line| !line.is_empty()).is_some_and(|line| line.starts_with(' '));
    let breaks = text.len() - text.trim_end_matches('\n').len();
    let chomping = match breaks {
        0 => "-",
        1 => "",
        _ => "+",
    };
    format!("|{}{chomping}", if leading { "2" } else { "" })
}

fn block_lines<'l>(out: &mut String, lines: impl Iterator<Item = &'l str>, indent: usize) {
    for line in lines {
        if !line.is_empty() {
            spaces(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}
