//! The first pass: one file's bytes to documents that fit their schema.

use serde_json::{Map, Value};

use super::kind::Kind;
use super::scalar::shorten;
use super::text::Text;
use super::tree::{self, Data, Node, Problem, Span};
use super::validate::{self, suggest};
use super::{MAX_FINDINGS, SourceFile};
use crate::diagnostic::{Finding, Place};
use crate::model::{API_VERSION, Name, ObjectRef};

/// The largest document, in bytes.
pub(super) const MAX_DOCUMENT: usize = 1 << 20;

/// The largest file, in bytes; it bounds what a hostile repository makes a reader hold.
pub(super) const MAX_FILE: usize = 16 << 20;

/// What one file holds.
#[derive(Debug, Default)]
pub(super) struct ReadFile<'t> {
    pub documents: Vec<Document<'t>>,
    /// Every document whose kind and name can be told, those with errors too.
    pub outlines: Vec<Outline<'t>>,
    pub findings: Vec<Finding>,
    /// The documents of the file, those with errors too.
    pub count: usize,
    /// Is there something in the file of which not even kind and name can be told?
    pub unreadable: bool,
}

/// What a document is and what it is called, which can be told of one with errors too: so that its mistake does not
/// make others out of every document that names it.
#[derive(Debug)]
pub(super) struct Outline<'t> {
    pub object: ObjectRef,
    pub text: Text<'t>,
    /// Where its name stands.
    pub span: Span,
}

/// A document that fits its schema.
#[derive(Debug)]
pub(super) struct Document<'t> {
    pub text: Text<'t>,
    pub kind: Kind,
    /// The folder under `policies/` that it stands in, which is its tenant.
    pub folder: Option<Name>,
    /// What it is about, as a plan names it.
    pub object: Option<ObjectRef>,
    pub root: Node<'t>,
    /// Its fields, without `apiVersion` and `kind`.
    pub fields: Map<String, Value>,
}

impl Document<'_> {
    /// The place of its first line.
    pub(super) fn place(&self) -> Place {
        self.text.place(first_line(&self.root))
    }

    pub(super) fn first_line(&self) -> Span {
        first_line(&self.root)
    }
}

/// A document's first line, as far as it is the document's.
fn first_line(root: &Node<'_>) -> Span {
    Span { width: 0, ..root.span }
}

fn object(kind: Kind, root: &Node<'_>, folder: Option<&Name>) -> Option<ObjectRef> {
    let name = Name::new(root.get(kind.name_field()?)?.text()?).ok()?;
    let tenant_id = match kind {
        Kind::Guardrail | Kind::Freeze => None,
        Kind::Config | Kind::Tenant | Kind::RotationPolicy | Kind::EncryptionKey | Kind::Test => Some(folder?.clone()),
    };
    Some(ObjectRef { kind: kind.object()?, tenant_id, name })
}

/// Reads a file. `folder` is the tenant whose folder it stands in.
pub(super) fn read<'t>(file: &'t SourceFile, folder: Option<&Name>) -> ReadFile<'t> {
    let mut read = ReadFile::default();
    match decode(file) {
        Ok(text) => {
            let stream = tree::parse(text.text);
            read.findings.extend(stream.problems.into_iter().map(|problem| explain(&text, problem)));
            read.count = stream.documents.len();
            read.unreadable = read.findings.iter().any(|finding| finding.code == "yaml/syntax");
            for root in stream.documents {
                if read.findings.len() >= MAX_FINDINGS {
                    let finding =
                        Finding::error("file/too-many-findings", "there are more mistakes in this file than are shown")
                            .help("correct these first");
                    read.unreadable = true;
                    read.findings.push(text.at(finding, first_line(&root)));
                    break;
                }
                match kind(&text, &root) {
                    // Whatever is wrong with a test, its tenant's keys go on.
                    Ok(Kind::Test) => read.count -= 1,
                    Ok(kind) => document(&mut read, &text, kind, folder, root),
                    Err(findings) => {
                        read.unreadable = true;
                        read.findings.extend(findings);
                    }
                }
            }
        }
        Err(finding) => {
            read.unreadable = true;
            read.findings.push(*finding);
        }
    }
    for finding in &mut read.findings {
        finding.tenant_id = folder.cloned();
    }
    read
}

/// A problem of the YAML as a finding.
pub(super) fn explain(text: &Text<'_>, problem: Problem) -> Finding {
    let mut finding = text.at(Finding::error(problem.code, problem.message).help(problem.help), problem.span);
    finding.related = problem.related.map(|(span, message)| text.related(span, message));
    finding
}

/// The text of a file, if it is one that may be parsed.
pub(super) fn decode(file: &SourceFile) -> Result<Text<'_>, Box<Finding>> {
    let whole =
        |finding: Finding| Box::new(finding.at(Place { file: file.path.clone(), line: 1, column: 1, length: 1 }, None));
    if file.symlink {
        return Err(whole(
            Finding::error("file/symbolic-link", "symbolic links are not followed")
                .help("put the file itself here; what many tenants share goes into `defaults` of `keywheel.yaml`"),
        ));
    }
    if file.content.len() > MAX_FILE {
        return Err(whole(
            Finding::error(
                "file/too-large",
                format!("the file has {} bytes, more than {MAX_FILE}", file.content.len()),
            )
            .help("split it into several files"),
        ));
    }
    let text = match std::str::from_utf8(&file.content) {
        Ok(text) => Text { path: file.path.clone(), text },
        Err(error) => return Err(not_utf8(file, error.valid_up_to())),
    };
    if let Some((span, length)) = oversized(text.text) {
        let finding = Finding::error(
            "file/document-too-large",
            format!("the document has {length} bytes, more than {MAX_DOCUMENT}"),
        )
        .help("a document is one policy or key: split it with lines of `---`");
        return Err(Box::new(text.at(finding, span)));
    }
    Ok(text)
}

fn not_utf8(file: &SourceFile, valid: usize) -> Box<Finding> {
    let before = file.content.get(..valid).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let byte = file.content.get(valid).copied().unwrap_or_default();
    // Each of these ends a line, as it does for the reader of the YAML.
    let lines = before.replace("\r\n", "\n").replace('\r', "\n");
    let line = lines.matches('\n').count() + 1;
    let column = lines.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let place = Place { file: file.path.clone(), line: narrow(line), column: narrow(column), length: 1 };
    let text = Text { path: file.path.clone(), text: before };
    let line = text.line(Span { start: narrow(valid), line: place.line, column: place.column, width: 1 });
    let help = if file.content.starts_with(b"\xff\xfe") || file.content.starts_with(b"\xfe\xff") {
        "the file looks like UTF-16: save it as UTF-8"
    } else {
        "save the file as UTF-8"
    };
    let finding = Finding::error("file/not-utf-8", format!("the byte 0x{byte:02x} is not UTF-8")).help(help);
    // One character stands for the byte, so that the place is inside its line.
    Box::new(finding.at(place, line.map(|line| line + "\u{fffd}")))
}

/// The first document that is larger than a document may be, found by its separators alone.
///
/// A line that begins with `---` separates documents wherever it stands (YAML 1.2.2, section 9.1.2), so that no parser
/// is needed for it.
fn oversized(text: &str) -> Option<(Span, usize)> {
    if text.len() <= MAX_DOCUMENT {
        return None;
    }
    let (mut begin, mut begin_line, mut at) = (0, 1, 0);
    let check = |begin: usize, end: usize, line: u32| {
        let start = u32::try_from(begin).unwrap_or(u32::MAX);
        (end - begin > MAX_DOCUMENT).then_some((Span { start, line, column: 1, width: 0 }, end - begin))
    };
    for (line_number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        let separator = line.strip_prefix("---").is_some_and(|rest| rest.starts_with([' ', '\t', '\r', '\n']));
        if separator {
            if let Some(found) = check(begin, at, begin_line) {
                return Some(found);
            }
            (begin, begin_line) = (at, line_number);
        }
        at += line.len();
    }
    check(begin, at, begin_line)
}

/// Reads one document whose kind is known.
pub(super) fn document<'t>(
    read: &mut ReadFile<'t>,
    text: &Text<'t>,
    kind: Kind,
    folder: Option<&Name>,
    root: Node<'t>,
) {
    let object = object(kind, &root, folder);
    let name = kind.name_field().and_then(|field| root.get(field));
    match (&object, name) {
        (Some(object), Some(name)) => {
            read.outlines.push(Outline { object: object.clone(), text: text.clone(), span: name.span });
        }
        _ => read.unreadable |= kind != Kind::Config,
    }
    match validate::validate(text, kind, &root) {
        Ok(mut fields) => {
            fields.remove("apiVersion");
            fields.remove("kind");
            read.documents.push(Document { text: text.clone(), kind, folder: folder.cloned(), object, root, fields });
        }
        Err(mut findings) => {
            for finding in &mut findings {
                finding.object.clone_from(&object);
            }
            read.findings.append(&mut findings);
        }
    }
}

/// What a document says that it is. Without that, nothing else about it can be judged.
pub(super) fn kind(text: &Text<'_>, root: &Node<'_>) -> Result<Kind, Vec<Finding>> {
    let first_line = first_line(root);
    if !matches!(root.data, Data::Mapping(_)) {
        let finding = Finding::error("schema/type", "a document is a mapping of fields")
            .help(format!("begin it with `apiVersion: {API_VERSION}` and `kind: ...`"));
        return Err(if root.data == Data::Broken { Vec::new() } else { vec![text.at(finding, first_line)] });
    }
    let mut findings = Vec::new();
    match root.get("apiVersion") {
        Some(node) if node.text() == Some(API_VERSION) || node.data == Data::Broken => {}
        Some(node) => {
            let span = if validate::is_block(node) {
                root.entry("apiVersion").map_or(node.span, |entry| entry.key_span)
            } else {
                node.span
            };
            let finding =
                Finding::error("schema/api-version", "this version of keywheel does not know this `apiVersion`");
            findings.push(text.at(finding.help(format!("write `apiVersion: {API_VERSION}`")), span));
        }
        None => {
            let misspelled = misspelled(root, "apiVersion");
            let finding = Finding::error("schema/missing-field", "the field `apiVersion` is missing");
            let help = if misspelled.is_some() {
                format!("the field is called `apiVersion`: write `apiVersion: {API_VERSION}`")
            } else {
                format!("add `apiVersion: {API_VERSION}`")
            };
            findings.push(text.at(finding.help(help), misspelled.unwrap_or(first_line)));
        }
    }
    let names = || Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Config | Kind::Test)).map(Kind::as_str);
    let kind = root.entry("kind");
    let known = kind.and_then(|entry| entry.value.text()?.parse::<Kind>().ok());
    match kind {
        _ if known.is_some() => {}
        Some(entry) if entry.value.data == Data::Broken => {}
        Some(entry) => {
            let word = entry.value.text().unwrap_or_default();
            let help = suggest(word, Kind::ALL.into_iter().map(Kind::as_str)).map_or_else(
                || format!("write one of {}", validate::list(names())),
                |kind| format!("did you mean `{kind}`?"),
            );
            let span = if validate::is_block(&entry.value) { entry.key_span } else { entry.value.span };
            let finding = Finding::error("schema/unknown-kind", format!("there is no kind `{}`", shorten(word)));
            findings.push(text.at(finding.help(help), span));
        }
        None => {
            let finding = Finding::error("schema/missing-field", "the field `kind` is missing");
            let help = format!("add `kind: ...`, one of {}", validate::list(names()));
            findings.push(text.at(finding.help(help), misspelled(root, "kind").unwrap_or(first_line)));
        }
    }
    match known {
        Some(kind) if findings.is_empty() => Ok(kind),
        _ => Err(findings),
    }
}

/// The key of a field that was probably meant to be `name`.
fn misspelled(root: &Node<'_>, name: &str) -> Option<Span> {
    root.entries().iter().find(|entry| suggest(&entry.key, std::iter::once(name)).is_some()).map(|entry| entry.key_span)
}
