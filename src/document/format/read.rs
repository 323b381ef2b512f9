//! Text to a tree that has its comments, each at the element that it belongs to.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use crate::document::tree::{self, MAX_DEPTH};

/// A document and the lines around it.
#[derive(Debug)]
pub(super) struct Document<'t> {
    /// What stands before its first element.
    pub header: Vec<Line>,
    pub root: Value<'t>,
    /// What stands after its last element.
    pub trailing: Vec<Line>,
}

/// A line without an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Blank,
    /// With its `#`.
    Comment(String),
}

/// A field of a mapping or an item of a sequence.
#[derive(Debug)]
pub(super) struct Element<'t> {
    /// The lines above it.
    pub above: Vec<Line>,
    /// The comment beside it.
    pub beside: Option<String>,
    /// A field has one, an item has none.
    pub key: Option<Scalar<'t>>,
    pub value: Value<'t>,
}

#[derive(Debug)]
pub(super) enum Value<'t> {
    Scalar(Scalar<'t>),
    Collection(Collection<'t>),
}

#[derive(Debug)]
pub(super) struct Collection<'t> {
    pub is_mapping: bool,
    /// Was it written in brackets?
    pub in_flow: bool,
    pub elements: Vec<Element<'t>>,
    /// The lines after its last element that are still its own.
    pub trailing: Vec<Line>,
}

#[derive(Debug)]
pub(super) struct Scalar<'t> {
    pub text: Cow<'t, str>,
    pub style: Style<'t>,
}

#[derive(Debug)]
pub(super) enum Style<'t> {
    Plain,
    Quoted,
    /// `|`
    Literal,
    /// `>`, with its indicators and its lines, without their common indentation.
    Folded {
        header: &'static str,
        lines: Vec<&'t str>,
    },
}

/// Reads a text, of which it is known that it is YAML without anchors, aliases and tags, and that its lines end with a
/// line feed. None where it cannot be read.
pub(super) fn read(text: &str) -> Option<Vec<Document<'_>>> {
    let (events, comments) = events(text)?;
    let mut reader = Reader {
        text,
        lines: text.split('\n').collect(),
        events: events.into_iter().peekable(),
        comments: comments.into(),
        line: 0,
        beside: Vec::new(),
        owner: None,
    };
    let mut documents = Vec::new();
    let mut header = Vec::new();
    while let Some((event, span)) = reader.events.next() {
        let Event::DocumentStart(is_explicit, _) = event else { continue };
        // What stands before the separator belongs to the document above it, if there is one.
        let mut before = reader.comments_before(offset(span.start));
        match documents.last_mut() {
            Some(Document { trailing, .. }) => trailing.append(&mut before),
            None => header.append(&mut before),
        }
        reader.owner = None;
        if is_explicit {
            reader.line = span.start.line();
        }
        let document = reader.document(std::mem::take(&mut header))?;
        if is_empty(&document.root) {
            // Nothing but its comments is left of it.
            header = document.header;
            header.extend(document.trailing);
        } else {
            documents.push(document);
        }
    }
    let mut rest = reader.comments_before(usize::MAX);
    header.append(&mut rest);
    if !header.is_empty() {
        match documents.last_mut() {
            Some(document) => document.trailing.append(&mut header),
            None => documents.push(Document {
                header,
                root: Value::Scalar(Scalar { text: Cow::Borrowed(""), style: Style::Plain }),
                trailing: Vec::new(),
            }),
        }
    }
    let mut beside = reader.beside.into_iter();
    for document in &mut documents {
        place(&mut document.root, &mut beside);
    }
    Some(documents)
}

/// The comments of a text, with their `#`.
pub(super) fn comments(text: &str) -> Option<Vec<String>> {
    events(text).map(|(_, comments)| comments.into_iter().map(|comment| comment.text).collect())
}

/// Is it nothing at all (and not a `null` that somebody wrote)?
pub(super) fn is_empty(root: &Value<'_>) -> bool {
    matches!(root, Value::Scalar(Scalar { text, style: Style::Plain }) if text.is_empty())
}

struct Comment {
    offset: usize,
    line: usize,
    column: usize,
    /// Is there nothing before it on its line?
    alone: bool,
    text: String,
}

type Events<'t> = Vec<(Event<'t>, Span)>;

/// The events of a text, and apart from them its comments in their order.
fn events(text: &str) -> Option<(Events<'_>, Vec<Comment>)> {
    let options = granit_parser::options! {
        max_buffered_comment_events: text.len(),
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let (mut events, mut comments) = (Vec::new(), Vec::new());
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.ok()?;
        let Event::Comment(content, _) = event else {
            events.push((event, span));
            continue;
        };
        let begin = offset(span.start);
        let before = text.get(..begin)?.rsplit('\n').next().unwrap_or("");
        comments.push(Comment {
            offset: begin,
            line: span.start.line(),
            column: span.start.col(),
            alone: before.trim().is_empty(),
            text: format!("#{}", content.trim_end()),
        });
    }
    comments.sort_by_key(|comment| comment.offset);
    Some((events, comments))
}

fn offset(marker: granit_parser::Marker) -> usize {
    marker.byte_offset().unwrap_or(0)
}

struct Reader<'t> {
    text: &'t str,
    lines: Vec<&'t str>,
    events: Peekable<IntoIter<(Event<'t>, Span)>>,
    comments: VecDeque<Comment>,
    /// The last line on which something stood.
    line: usize,
    /// The comments beside each element, in the order in which the elements begin.
    beside: Vec<Vec<String>>,
    /// The element that a comment beside something would belong to now.
    owner: Option<usize>,
}

impl<'t> Reader<'t> {
    fn document(&mut self, mut header: Vec<Line>) -> Option<Document<'t>> {
        let (event, span) = self.events.next()?;
        header.append(&mut self.comments_before(offset(span.start)));
        if self.is_blank_before(span.start.line()) && !header.is_empty() {
            header.push(Line::Blank);
        }
        let root = self.value(event, span, -1)?;
        Some(Document { header, root, trailing: Vec::new() })
    }

    /// Takes the comments that stand before an offset: those on lines of their own as lines, the others to their element.
    fn comments_before(&mut self, end: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Some(comment) = self.comments.pop_front_if(|comment| comment.offset < end) {
            self.take(comment, &mut lines);
        }
        lines
    }

    fn take(&mut self, comment: Comment, lines: &mut Vec<Line>) {
        let owner = self.owner.filter(|_| !comment.alone).and_then(|owner| self.beside.get_mut(owner));
        if let Some(owner) = owner {
            owner.push(comment.text);
            return;
        }
        if self.is_blank_before(comment.line) {
            lines.push(Line::Blank);
        }
        self.line = comment.line;
        lines.push(Line::Comment(comment.text));
    }

    fn value(&mut self, event: Event<'t>, span: Span, parent: isize) -> Option<Value<'t>> {
        match event {
            Event::Scalar(text, style, ..) => Some(Value::Scalar(self.scalar(text, style, span))),
            Event::MappingStart(style, ..) => self.collection(true, style, span, parent),
            Event::SequenceStart(style, ..) => self.collection(false, style, span, parent),
            _ => None,
        }
    }

    fn collection(&mut self, is_mapping: bool, style: StructureStyle, span: Span, parent: isize) -> Option<Value<'t>> {
        let holder = self.owner;
        let in_flow = style == StructureStyle::Flow;
        let mut elements: Vec<Element<'t>> = Vec::new();
        let mut column = isize::try_from(span.start.col()).ok()?;
        loop {
            let (event, span) = self.events.next()?;
            if matches!(event, Event::MappingEnd | Event::SequenceEnd) {
                let trailing =
                    if in_flow { self.comments_before(offset(span.start)) } else { self.own_trailing(column, parent) };
                if in_flow {
                    // What stands beside the closing bracket belongs to what the brackets are the value of.
                    self.owner = holder;
                    self.line = span.start.line();
                }
                return Some(Value::Collection(Collection { is_mapping, in_flow, elements, trailing }));
            }
            if elements.is_empty() && !in_flow {
                column = if is_mapping { isize::try_from(span.start.col()).ok()? } else { self.dash(span) };
            }
            let element = self.element(is_mapping, event, span, column, elements.is_empty())?;
            elements.push(element);
        }
    }

    fn element(
        &mut self,
        is_mapping: bool,
        event: Event<'t>,
        span: Span,
        column: isize,
        is_first: bool,
    ) -> Option<Element<'t>> {
        let id = self.beside.len();
        self.beside.push(Vec::new());
        let mut above = Vec::new();
        while let Some(comment) = self.comments.pop_front_if(|comment| comment.offset < offset(span.start)) {
            if !is_mapping && self.is_beside_dash(&comment) {
                self.beside.get_mut(id)?.push(comment.text);
                self.line = comment.line;
            } else {
                self.take(comment, &mut above);
            }
        }
        if self.is_blank_before(span.start.line()) {
            above.push(Line::Blank);
        }
        if is_first {
            let blank = above.iter().take_while(|line| **line == Line::Blank).count();
            above.drain(..blank);
        }
        self.owner = Some(id);
        self.line = span.start.line();
        if !is_mapping {
            let value = self.value(event, span, column)?;
            return Some(Element { above, beside: None, key: None, value });
        }
        let Event::Scalar(text, style, ..) = event else { return None };
        let key = self.scalar(text, style, span);
        let (event, span) = self.events.next()?;
        // Lines between a key and a scalar below it go above the key; a collection takes them itself.
        if matches!(event, Event::Scalar(..)) {
            above.append(&mut self.comments_before(offset(span.start)));
        }
        let value = self.value(event, span, column)?;
        Some(Element { above, beside: None, key: Some(key), value })
    }

    /// Is there an empty line between the last line on which something stood and this one?
    fn is_blank_before(&self, line: usize) -> bool {
        let between = self.lines.get(self.line..line.saturating_sub(1)).unwrap_or_default();
        between.iter().any(|line| line.trim().is_empty())
    }

    /// The comments after a block's last element that stand as far in as the block does.
    fn own_trailing(&mut self, column: isize, parent: isize) -> Vec<Line> {
        let mut lines = Vec::new();
        let inside = |comment: &mut Comment| {
            let at = isize::try_from(comment.column).unwrap_or(isize::MAX);
            !comment.alone || (at >= column && at > parent)
        };
        let end = self.events.peek().map_or(usize::MAX, |(_, span)| offset(span.start));
        while let Some(comment) = self.comments.pop_front_if(|comment| comment.offset < end && inside(comment)) {
            self.take(comment, &mut lines);
        }
        lines
    }

    /// The column of the dash before a sequence's first item.
    fn dash(&self, item: Span) -> isize {
        let before = self.text.get(..offset(item.start)).unwrap_or("");
        let line_begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let at = before
            .rfind('-')
            .filter(|dash| *dash >= line_begin)
            .map(|dash| before.get(line_begin..dash).unwrap_or("").chars().count());
        at.and_then(|at| isize::try_from(at).ok()).unwrap_or_else(|| isize::try_from(item.start.col()).unwrap_or(0) - 2)
    }

    /// Does a comment stand beside the dash of an item that begins on a line below?
    fn is_beside_dash(&self, comment: &Comment) -> bool {
        let before = self.text.get(..comment.offset).and_then(|text| text.rsplit('\n').next()).unwrap_or("");
        !comment.alone && before.trim_end().ends_with('-') && before.chars().all(|c| c == '-' || c.is_whitespace())
    }

    fn scalar(&mut self, text: Cow<'t, str>, style: ScalarStyle, span: Span) -> Scalar<'t> {
        let raw = span.slice(self.text).unwrap_or("");
        // A block ends where the next token begins; the lines between are empty.
        self.line = span.start.line() + raw.trim_end().matches('\n').count();
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal => Style::Literal,
            ScalarStyle::Folded => self.folded(&text, span).unwrap_or(Style::Literal),
        };
        if matches!(style, Style::Literal | Style::Folded { .. }) && text.ends_with("\n\n") {
            // The empty lines after it are its own.
            self.line = span.end.line();
        }
        let empty = matches!(style, Style::Plain) && raw.is_empty();
        Scalar { text: if empty { Cow::Borrowed("") } else { text }, style }
    }

    /// The header and the lines of a folded scalar; none where they cannot be moved as they are.
    fn folded(&self, text: &str, span: Span) -> Option<Style<'t>> {
        let begin = offset(span.start);
        let line_begin = self.text.get(..begin)?.rfind('\n')? + 1;
        let before = self.text.get(..line_begin)?;
        let head = before.trim_end();
        let leading = before.get(head.len()..)?.matches('\n').count().checked_sub(1)?;
        let indent = begin - line_begin;
        let raw = self.text.get(line_begin..offset(span.end))?.trim_end();
        let moved = raw.split('\n').map(|line| line.get(indent..).unwrap_or(""));
        let (header, trailing) = match text.len() - text.trim_end_matches('\n').len() {
            0 => (">-", 0),
            1 => (">", 0),
            breaks => (">+", breaks - 1),
        };
        let lines: Vec<&str> =
            std::iter::repeat_n("", leading).chain(moved).chain(std::iter::repeat_n("", trailing)).collect();
        // Folding has more rules than lines show: what they give is asked of the reader.
        let alone = format!("{header}\n  {}\n", lines.join("\n  "));
        let stream = tree::parse(&alone);
        let same = stream.problems.is_empty() && stream.documents.first().and_then(tree::Node::text) == Some(text);
        same.then_some(Style::Folded { header, lines })
    }
}

/// Gives each element the comment beside it. A second one becomes a line above.
fn place(value: &mut Value<'_>, beside: &mut IntoIter<Vec<String>>) {
    let Value::Collection(collection) = value else { return };
    for element in &mut collection.elements {
        let mut comments = beside.next().unwrap_or_default();
        if !comments.is_empty() {
            element.beside = Some(comments.remove(0));
            element.above.extend(comments.into_iter().map(Line::Comment));
        }
        place(&mut element.value, beside);
        // An item begins on the line of its first element, so that what stands above that stands above the item.
        if let (None, Value::Collection(inner)) = (&element.key, &mut element.value)
            && let Some(first) = inner.elements.first_mut()
        {
            element.above.append(&mut first.above);
        }
    }
}
