//! YAML text to a tree in which every node knows its place.
//!
//! Owns the limits against hostile text: nesting, aliases, tags, merge keys and keys that are not text are refused
//! here, so that nothing behind it has to think of them. A part that is refused becomes [`Data::Broken`], and the rest
//! of its document goes on.
//!
//! Must not know: what a document means.

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};

use super::MAX_FINDINGS;
use super::scalar::{self, Core};

/// The deepest nesting of a document. The schema's own deepest place is at 6; a key policy may add some.
pub(super) const MAX_DEPTH: usize = 64;

/// Where something begins in a text, and how far it goes on that line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// Its offset in bytes.
    pub start: u32,
    /// Its line, from 1.
    pub line: u32,
    /// Its column in characters, from 1.
    pub column: u32,
    /// Its characters on that line; 0 where it is not known, which means to the line's end.
    pub width: u32,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node<'t> {
    pub span: Span,
    pub data: Data<'t>,
}

/// A value, read by the rules of YAML 1.2's core schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data<'t> {
    /// A scalar, and the text that it was written as.
    Scalar {
        text: Cow<'t, str>,
        core: Core,
    },
    Sequence(Vec<Node<'t>>),
    Mapping(Vec<Entry<'t>>),
    /// Something that was refused; there is a problem about it already.
    Broken,
}

/// A field of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry<'t> {
    pub key: Cow<'t, str>,
    pub key_span: Span,
    pub value: Node<'t>,
}

/// Something that is wrong with the YAML itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: &'static str,
    pub span: Span,
    pub message: String,
    pub help: String,
    /// The other place that matters, and what stands there.
    pub related: Option<(Span, &'static str)>,
}

/// What a text holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stream<'t> {
    /// The documents that have content, as far as they could be read.
    pub documents: Vec<Node<'t>>,
    pub problems: Vec<Problem>,
}

/// Reads every document of a text. After a syntax error it goes on with the next document.
pub(super) fn parse(text: &str) -> Stream<'_> {
    let options = granit_parser::options! {
        emit_comments: false,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::default();
    while builder.stream.problems.len() < MAX_FINDINGS {
        match parser.next_event() {
            Some(Ok((event, span))) => builder.event(event, span),
            Some(Err(error)) => {
                builder.syntax_error(&error);
                match parser.proceed_next_document() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        builder.syntax_error(&error);
                        break;
                    }
                }
            }
            None => break,
        }
    }
    builder.stream
}

/// A collection that is still open.
enum Open<'t> {
    Sequence { span: Span, items: Vec<Node<'t>> },
    Mapping { span: Span, entries: Vec<Entry<'t>>, key: Option<(Key<'t>, Span)> },
}

enum Key<'t> {
    Text(Cow<'t, str>),
    /// A key that was refused: its value is dropped with it.
    Refused,
}

#[derive(Default)]
struct Builder<'t> {
    stream: Stream<'t>,
    open: Vec<Open<'t>>,
    too_deep: bool,
}

impl<'t> Builder<'t> {
    fn event(&mut self, event: Event<'t>, at: granit_parser::Span) {
        let span = Span::from(at);
        if let Some(tag) = event.tag() {
            let span = at.tag_span().map_or(span, Span::from);
            self.problem(
                "yaml/tag",
                span,
                format!("the tag `{}` is not allowed", tag.original()),
                "remove the tag; a value that is to stay text is quoted",
            );
        }
        match event {
            Event::DocumentStart(..) => {
                self.open.clear();
                self.too_deep = false;
            }
            Event::Scalar(text, style, ..) => {
                let core = if style == ScalarStyle::Plain { scalar::resolve(&text) } else { Core::Text };
                self.node(Node { span, data: Data::Scalar { text, core } });
            }
            Event::SequenceStart(..) => self.push(Open::Sequence { span, items: Vec::new() }, span),
            Event::MappingStart(..) => {
                self.push(Open::Mapping { span, entries: Vec::with_capacity(8), key: None }, span);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Anchor(_, name) => self.problem(
                "yaml/anchor",
                span,
                format!("the anchor `&{name}` is not allowed"),
                "remove it and write the value where it is meant; what many policies share goes into `defaults`",
            ),
            Event::Alias(_) | Event::UnresolvedAlias(_) => self.alias(span),
            _ => {}
        }
    }

    fn alias(&mut self, span: Span) {
        self.problem(
            "yaml/alias",
            span,
            "an alias is not allowed".to_owned(),
            "write the value itself, in quotes if it begins with `*`; what many policies share goes into `defaults`",
        );
        self.node(Node { span, data: Data::Broken });
    }

    fn push(&mut self, open: Open<'t>, span: Span) {
        if self.open.len() >= MAX_DEPTH && !self.too_deep {
            self.nesting(span);
        }
        self.open.push(open);
    }

    fn nesting(&mut self, span: Span) {
        self.too_deep = true;
        self.problem(
            "yaml/too-deep",
            span,
            format!("the document is nested deeper than {MAX_DEPTH} levels"),
            "no field of any document needs it: remove the nesting",
        );
    }

    fn close(&mut self, end: Span) {
        // A flow on one line is meant as a whole; a block begins with a span of no width.
        let whole = |span: Span| match span.width {
            0 => span,
            _ if span.line == end.line => Span { width: end.column + end.width - span.column, ..span },
            _ => Span { width: 0, ..span },
        };
        let node = match self.open.pop() {
            Some(Open::Sequence { span, items }) => Node { span: whole(span), data: Data::Sequence(items) },
            Some(Open::Mapping { span, entries, .. }) => {
                let entries = self.without_duplicates(entries);
                Node { span: whole(span), data: Data::Mapping(entries) }
            }
            None => return,
        };
        self.node(node);
    }

    /// Takes a finished node to where it belongs.
    fn node(&mut self, node: Node<'t>) {
        match self.open.last_mut() {
            None => {
                let empty = matches!(node.data, Data::Scalar { core: Core::Null, .. });
                if !empty && !self.too_deep {
                    self.stream.documents.push(node);
                }
            }
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match key.take() {
                Some((Key::Text(text), key_span)) => entries.push(Entry { key: text, key_span, value: node }),
                Some((Key::Refused, _)) => {}
                None => {
                    let span = node.span;
                    let read = self.key(node);
                    if let Some(Open::Mapping { key, .. }) = self.open.last_mut() {
                        *key = Some((read, span));
                    }
                }
            },
        }
    }

    fn key(&mut self, node: Node<'t>) -> Key<'t> {
        match node.data {
            Data::Scalar { text, core } if text == "<<" && core == Core::Text => {
                self.problem(
                    "yaml/merge-key",
                    node.span,
                    "a merge key is not allowed".to_owned(),
                    "write the fields themselves; what many policies share goes into `defaults`",
                );
                Key::Refused
            }
            Data::Scalar { core: Core::Null, .. } => {
                self.problem(
                    "yaml/key",
                    node.span,
                    "a key is empty".to_owned(),
                    "write the field's name before the colon",
                );
                Key::Refused
            }
            Data::Scalar { text, .. } => Key::Text(text),
            Data::Broken => Key::Refused,
            Data::Sequence(_) | Data::Mapping(_) => {
                self.problem(
                    "yaml/key",
                    node.span,
                    "a key is a list or a mapping".to_owned(),
                    "a key is one word: write the field's name",
                );
                Key::Refused
            }
        }
    }

    /// Keeps the first of each key, and says where the others stand.
    fn without_duplicates(&mut self, mut entries: Vec<Entry<'t>>) -> Vec<Entry<'t>> {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        let key = |index: &usize| entries.get(*index).map(|entry| entry.key.as_ref());
        order.sort_by(|a, b| key(a).cmp(&key(b)).then(a.cmp(b)));
        let mut repeated = Vec::new();
        let mut first = None;
        for index in order {
            let Some(entry) = entries.get(index) else { continue };
            match first {
                Some((name, span)) if name == entry.key.as_ref() => repeated.push((index, span)),
                _ => first = Some((entry.key.as_ref(), entry.key_span)),
            }
        }
        if repeated.is_empty() {
            return entries;
        }
        repeated.sort_unstable_by_key(|(index, _)| *index);
        for (index, first) in repeated.iter().take(MAX_FINDINGS) {
            let Some(entry) = entries.get(*index) else { continue };
            self.stream.problems.push(Problem {
                code: "yaml/duplicate-key",
                span: entry.key_span,
                message: format!("the key `{}` stands here twice", scalar::shorten(&entry.key)),
                help: "keep one of them".to_owned(),
                related: Some((*first, "the first is here")),
            });
        }
        let mut index = 0;
        let mut repeated = repeated.into_iter().map(|(index, _)| index).peekable();
        entries.retain(|_| {
            let keep = repeated.next_if_eq(&index).is_none();
            index += 1;
            keep
        });
        entries
    }

    fn syntax_error(&mut self, error: &ScanError) {
        self.open.clear();
        let mark = error.marker();
        let span = Span {
            start: narrow(mark.byte_offset().unwrap_or(0)),
            line: narrow(mark.line()).max(1),
            column: narrow(mark.col() + 1),
            width: 1,
        };
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            if !self.too_deep {
                self.nesting(span);
            }
            return;
        }
        let (message, help) = scalar::explain_syntax(error.kind());
        self.problem("yaml/syntax", span, message, help);
    }

    fn problem(&mut self, code: &'static str, span: Span, message: String, help: &str) {
        self.stream.problems.push(Problem { code, span, message, help: help.to_owned(), related: None });
    }
}

impl From<granit_parser::Span> for Span {
    fn from(span: granit_parser::Span) -> Self {
        let (start, end) = (span.start, span.end);
        let width = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 0 };
        Self {
            start: narrow(start.byte_offset().unwrap_or(0)),
            line: narrow(start.line()).max(1),
            column: narrow(start.col()).saturating_add(1),
            width: narrow(width),
        }
    }
}

/// A file has fewer than 2^32 bytes: larger ones are refused before they are parsed.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl<'t> Node<'t> {
    /// The value of a field, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A field, if this is a mapping that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry<'t>> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The fields of a mapping; none of anything else.
    pub(super) fn entries(&self) -> &[Entry<'t>] {
        match &self.data {
            Data::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; none of anything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.data {
            Data::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar as it was written (without its quotes).
    pub(super) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}
