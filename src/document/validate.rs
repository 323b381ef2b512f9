//! A document against its JSON schema: each error of the validator becomes a finding with a place and a way out.

use std::collections::HashSet;
use std::fmt::Write as _;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::LocationSegment;
use serde_json::{Map, Number, Value};

use super::MAX_FINDINGS;
use super::kind::Kind;
use super::redact;
use super::scalar::{Ambiguity, Core, shorten};
use super::schema::{self, Step};
use super::text::Text;
use super::tree::{Data, Node, Span};
use crate::diagnostic::Finding;
use crate::model::case;

/// The document as JSON, or what is wrong with it.
pub(super) fn validate(text: &Text<'_>, kind: Kind, root: &Node<'_>) -> Result<Map<String, Value>, Vec<Finding>> {
    let mut odd = false;
    let value = to_json(root, &mut odd);
    let compiled = schema::of(kind);
    let valid = compiled.validator.as_ref().is_some_and(|validator| validator.is_valid(&value));
    let mut context = Context { text, schema: &compiled.schema, root, findings: Vec::new(), refused: Vec::new() };
    if odd {
        context.scalars(root, &mut Vec::new());
    }
    match value {
        Value::Object(fields) if valid && context.refused.is_empty() => return Ok(fields),
        value => {
            let errors = compiled.validator.iter().flat_map(|validator| validator.iter_errors(&value));
            errors.take(MAX_FINDINGS).for_each(|error| context.schema_error(&error));
            if context.findings.is_empty() && context.refused.is_empty() {
                context.refuse(
                    "schema/value",
                    root.span,
                    "the document does not fit its schema".to_owned(),
                    "hold it against the schema for editors",
                );
            }
        }
    }
    Err(context.findings)
}

/// The tree as JSON. `odd` becomes true where there is something that JSON cannot say, or that needs another look.
pub(super) fn to_json(node: &Node<'_>, odd: &mut bool) -> Value {
    match &node.data {
        Data::Scalar { text, core } => {
            *odd |= matches!(core, Core::Ambiguous(_) | Core::Float(_));
            match core {
                Core::Null => Value::Null,
                Core::Boolean(value) => Value::Bool(*value),
                Core::Integer(number) => whole(*number).map_or_else(
                    || {
                        *odd = true;
                        Value::String(text.to_string())
                    },
                    Value::Number,
                ),
                Core::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
                Core::Text | Core::Ambiguous(_) => Value::String(text.to_string()),
            }
        }
        Data::Sequence(items) => Value::Array(items.iter().map(|item| to_json(item, odd)).collect()),
        Data::Mapping(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.to_string(), to_json(&entry.value, odd))).collect())
        }
        Data::Broken => {
            *odd = true;
            Value::Null
        }
    }
}

/// A whole number of a size that JSON's readers agree on.
fn whole(number: i128) -> Option<Number> {
    i64::try_from(number).map(Number::from).or_else(|_| u64::try_from(number).map(Number::from)).ok()
}

struct Context<'a, 't> {
    text: &'a Text<'t>,
    schema: &'a Value,
    root: &'a Node<'t>,
    findings: Vec<Finding>,
    /// The starts of values that were refused already: the schema has nothing to add about them.
    refused: Vec<u32>,
}

impl<'t> Context<'_, 't> {
    /// Looks at every scalar that JSON cannot carry as its author meant it.
    fn scalars<'n>(&mut self, node: &'n Node<'t>, path: &mut Vec<Step<'n>>) {
        if self.refused.len() >= MAX_FINDINGS {
            return;
        }
        match &node.data {
            Data::Scalar { text, core } => self.scalar(node, text, *core, path),
            Data::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Index(index));
                    self.scalars(item, path);
                    path.pop();
                }
            }
            Data::Mapping(entries) => {
                for entry in entries {
                    path.push(Step::Field(&entry.key));
                    self.scalars(&entry.value, path);
                    path.pop();
                }
            }
            Data::Broken => self.refused.push(node.span.start),
        }
    }

    fn scalar(&mut self, node: &Node<'t>, text: &str, core: Core, path: &[Step<'_>]) {
        let schema = schema::at(self.schema, path);
        let expects = |name: &str| schema.is_some_and(|schema| types(schema).any(|kind| kind == name));
        match core {
            Core::Ambiguous(ambiguity) => {
                let (message, help) = explain(text, ambiguity, expects("boolean"), expects("integer"));
                self.refuse("yaml/ambiguous-scalar", node.span, message, &help);
            }
            Core::Float(number) if !number.is_finite() => {
                self.refuse(
                    "yaml/not-a-number",
                    node.span,
                    format!("`{text}` is not a number that a document can hold"),
                    "write a number, or quote it to make it text",
                );
            }
            Core::Float(number) if expects("integer") && number.fract() == 0.0 => {
                let help = if number.abs() < 1e15 {
                    format!("write `{number:.0}`")
                } else {
                    "write a smaller number".to_owned()
                };
                self.refuse("schema/type", node.span, format!("`{text}` is not a whole number"), &help);
            }
            Core::Integer(number) if whole(number).is_none() => {
                self.refuse(
                    "schema/out-of-range",
                    node.span,
                    format!("`{}` is too large", shorten(text)),
                    "write a smaller number, or quote it to make it text",
                );
            }
            _ => {}
        }
    }

    fn refuse(&mut self, code: &'static str, span: Span, message: String, help: &str) {
        self.refused.push(span.start);
        self.findings.push(self.text.at(Finding::error(code, message).help(help), span));
    }

    fn schema_error(&mut self, error: &ValidationError<'_>) {
        let segments: Vec<LocationSegment<'_>> = error.instance_path().iter().collect();
        let path: Vec<Step<'_>> = segments
            .iter()
            .map(|segment| match segment {
                LocationSegment::Property(name) => Step::Field(name),
                LocationSegment::Index(index) => Step::Index(*index),
            })
            .collect();
        let Some((node, span)) = find(self.root, &path) else { return };
        if self.refused.contains(&node.span.start) && !matches!(node.data, Data::Mapping(_) | Data::Sequence(_)) {
            return;
        }
        let schema = schema::at(self.schema, &path).unwrap_or(&Value::Null);
        let name = field_name(&path);
        let secret = redact::is_secret_name(name);
        let shown = if secret { "this value".to_owned() } else { describe(node) };
        let finding = match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                return self.unknown_fields(node, schema, unexpected);
            }
            ValidationErrorKind::Required { property } if is_misspelled(node, schema, property) => return,
            ValidationErrorKind::Required { property } => {
                return self.missing_field(span, schema, property.as_str().unwrap_or_default(), name);
            }
            ValidationErrorKind::Type { .. } => wrong_type(node, schema, name, &shown),
            ValidationErrorKind::Enum { .. } => wrong_word(node, schema, name, &shown),
            ValidationErrorKind::Constant { expected_value } => {
                Finding::error("schema/constant", format!("`{name}` cannot be {shown}"))
                    .help(format!("write `{}`", plain(expected_value)))
            }
            // That it is empty is said already.
            ValidationErrorKind::Pattern { .. } if node.text() == Some("") && schema.get("minLength").is_some() => {
                return;
            }
            ValidationErrorKind::Pattern { .. } | ValidationErrorKind::Format { .. } => {
                wrong_form(schema, name, &shown)
            }
            ValidationErrorKind::Minimum { .. }
            | ValidationErrorKind::Maximum { .. }
            | ValidationErrorKind::ExclusiveMinimum { .. }
            | ValidationErrorKind::ExclusiveMaximum { .. } => {
                Finding::error("schema/out-of-range", format!("{shown} is out of range for `{name}`"))
                    .help(format!("write a whole number {}", range(schema, "minimum", "maximum")))
            }
            ValidationErrorKind::MinLength { .. } | ValidationErrorKind::MaxLength { .. } => {
                let length = node.text().map_or(0, |text| text.chars().count());
                let message = if length == 0 {
                    format!("`{name}` is empty")
                } else {
                    format!("`{name}` has {length} characters")
                };
                Finding::error("schema/length", message)
                    .help(format!("write {} characters", range(schema, "minLength", "maxLength")))
            }
            ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MaxItems { .. } => {
                Finding::error("schema/length", format!("`{name}` has {} items", node.items().len()))
                    .help(format!("write {} items", range(schema, "minItems", "maxItems")))
            }
            _ => Finding::error("schema/value", format!("{shown} is not allowed for `{name}`"))
                .help("see the field in the documentation"),
        };
        self.findings.push(self.text.at(finding, span));
    }

    fn unknown_fields(&mut self, node: &Node<'t>, schema: &Value, unexpected: &[String]) {
        let known: Vec<&str> = properties(schema).map(|(name, _)| name.as_str()).collect();
        let missing: Vec<&str> = known.iter().copied().filter(|name| node.entry(name).is_none()).collect();
        let unexpected: HashSet<&str> = unexpected.iter().map(String::as_str).collect();
        let entries = node.entries().iter().filter(|entry| unexpected.contains(entry.key.as_ref()));
        for entry in entries.take(MAX_FINDINGS) {
            let key = shorten(&entry.key);
            let help = match suggest(&entry.key, known.iter().copied()) {
                Some(name) if !missing.contains(&name) => format!("`{name}` is here already: remove this field"),
                Some(name) => format!("did you mean `{name}`?"),
                None if known.is_empty() => {
                    "a key here is a name: 1 to 128 letters, digits, spaces and `._-`".to_owned()
                }
                None => format!("the fields here are {}", list(missing.iter().copied())),
            };
            let finding = Finding::error("schema/unknown-field", format!("unknown field `{key}`")).help(help);
            self.findings.push(self.text.at(finding, entry.key_span));
        }
    }

    fn missing_field(&mut self, span: Span, schema: &Value, field: &str, parent: &str) {
        let example = properties(schema)
            .find(|(name, _)| *name == field)
            .and_then(|(_, property)| property.get("examples")?.get(0));
        let example = example.map_or_else(|| format!("{field}: ..."), |example| format!("{field}: {}", plain(example)));
        let message = if parent.is_empty() {
            format!("the field `{field}` is missing")
        } else {
            format!("the field `{field}` is missing in `{parent}`")
        };
        let finding = Finding::error("schema/missing-field", message).help(format!("add `{example}`"));
        let whole_line = Span { width: 0, ..span };
        self.findings.push(self.text.at(finding, whole_line));
    }
}

/// The node at the end of a path, and the span that stands for it: a block is shown by its key.
pub(super) fn find<'n, 't>(root: &'n Node<'t>, path: &[Step<'_>]) -> Option<(&'n Node<'t>, Span)> {
    let mut node = root;
    let mut span = root.span;
    for step in path {
        match step {
            Step::Field(name) => {
                let entry = node.entry(name)?;
                node = &entry.value;
                span = if is_block(node) { entry.key_span } else { node.span };
            }
            Step::Name(name) => {
                let entry = node.entry(name)?;
                (node, span) = (&entry.value, entry.key_span);
            }
            Step::Index(index) => {
                node = node.items().get(*index)?;
                span = node.span;
            }
        }
    }
    Some((node, span))
}

/// Is there nothing of its own to underline: a value on the lines below its key, or no value at all?
pub(super) fn is_block(node: &Node<'_>) -> bool {
    match &node.data {
        Data::Sequence(_) | Data::Mapping(_) => node.span.width == 0,
        Data::Scalar { core, .. } => *core == Core::Null && node.span.width == 0,
        Data::Broken => false,
    }
}

/// Is a field that is missing there under a name that is almost its own? Then that is the mistake.
fn is_misspelled(node: &Node<'_>, schema: &Value, field: &Value) -> bool {
    let known = || properties(schema).map(|(name, _)| name.as_str());
    let strangers = node.entries().iter().filter(|entry| known().all(|name| name != entry.key)).take(MAX_FINDINGS);
    strangers.filter_map(|entry| suggest(&entry.key, known())).any(|name| field == name)
}

fn field_name<'p>(path: &[Step<'p>]) -> &'p str {
    path.iter().rev().find_map(|step| if let Step::Field(name) = step { Some(*name) } else { None }).unwrap_or("")
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let kinds = schema.get("type");
    let many = kinds.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    kinds.and_then(Value::as_str).into_iter().chain(many)
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn describe(node: &Node<'_>) -> String {
    match &node.data {
        Data::Scalar { core: Core::Null, .. } => "an empty value".to_owned(),
        Data::Scalar { text, .. } => format!("`{}`", shorten(text)),
        Data::Sequence(_) => "a list".to_owned(),
        Data::Mapping(_) => "a mapping".to_owned(),
        Data::Broken => "this value".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(
        || value.to_string(),
        |text| if matches!(super::scalar::resolve(text), Core::Text) { text.to_owned() } else { format!("\"{text}\"") },
    )
}

fn wrong_type(node: &Node<'_>, schema: &Value, name: &str, shown: &str) -> Finding {
    let expected = types(schema).find(|kind| *kind != "null").unwrap_or("value");
    let (article, help) = match (expected, &node.data) {
        ("string", Data::Scalar { core: Core::Null, .. }) => ("text", "write a value, or remove the field".to_owned()),
        ("string", Data::Scalar { text, .. }) => ("text", format!("quote it: `\"{}\"`", shorten(text))),
        ("string", _) => ("text", "write one value".to_owned()),
        ("integer", Data::Scalar { core: Core::Null, .. }) => {
            ("a whole number", "write a number, or remove the field".to_owned())
        }
        ("integer", Data::Scalar { text, core: Core::Text }) if text.parse::<i64>().is_ok() => {
            ("a whole number", "remove the quotes".to_owned())
        }
        ("integer", _) => ("a whole number", format!("write a whole number {}", range(schema, "minimum", "maximum"))),
        ("boolean", Data::Scalar { text, core: Core::Text }) if matches!(text.as_ref(), "true" | "false") => {
            ("true or false", "remove the quotes".to_owned())
        }
        ("boolean", _) => ("true or false", "write `true` or `false`".to_owned()),
        ("array", Data::Scalar { core: Core::Null, .. }) => {
            ("a list", "write `[]` for an empty list, or remove the field".to_owned())
        }
        ("array", Data::Scalar { text, .. }) => ("a list", format!("write a list: `{name}: [{}]`", shorten(text))),
        ("array", _) => ("a list", "write one item a line, each after `- `".to_owned()),
        ("object", Data::Scalar { core: Core::Null, .. }) => {
            ("a mapping", "write its fields on the lines below, two spaces further in, or remove it".to_owned())
        }
        ("object", _) => {
            ("a mapping", format!("write its fields on the lines below, two spaces further in{}", field_list(schema)))
        }
        _ => (expected, "see the field in the documentation".to_owned()),
    };
    let message = if name.is_empty() {
        format!("a document is {article}, this is {shown}")
    } else {
        format!("`{name}` takes {article}, not {shown}")
    };
    Finding::error("schema/type", message).help(if redact::is_secret_name(name) {
        "write `${NAME}`, the name of an environment variable".to_owned()
    } else {
        help
    })
}

fn field_list(schema: &Value) -> String {
    let names = list(properties(schema).map(|(name, _)| name.as_str()));
    if names.is_empty() { names } else { format!(": {names}") }
}

fn wrong_word(node: &Node<'_>, schema: &Value, name: &str, shown: &str) -> Finding {
    let options: Vec<&str> =
        schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut help = format!("write one of {}", list(options.iter().copied()));
    if let Some(word) = node.text().and_then(|text| suggest(text, options.iter().copied())) {
        help = format!("did you mean `{word}`? It is one of {}", list(options.iter().copied()));
    }
    Finding::error("schema/unknown-value", format!("`{name}` cannot be {shown}")).help(help)
}

fn wrong_form(schema: &Value, name: &str, shown: &str) -> Finding {
    let form = match schema.get("format").or_else(|| schema.get("pattern")).and_then(Value::as_str).unwrap_or_default()
    {
        "date" => "a date as `\"2026-12-31\"`",
        "date-time" => "an instant as `\"2026-12-31T02:00:00Z\"`",
        case::OBJECT => {
            "`key TENANT/NAME`, `policy TENANT/NAME`, `tenant NAME`, `guardrail NAME`, `freeze NAME` or `config keywheel.yaml`"
        }
        case::ADDRESS => "`TENANT/NAME`",
        schema::LOCAL_TIME => "a local time as `\"2026-12-31T00:00:00\"`",
        form if form.contains("[0-5][0-9]") => "a time of day as `\"02:00:00\"`, from 00:00:00 to 23:59:59",
        form if form.contains("ms|s|m|h") => "a duration as `5m`, `30s` or `500ms`",
        form if form.contains("A-Za-z0-9._-") => {
            "a name of letters, digits, spaces and `._-`, without a space at either end"
        }
        _ => "a value of the form that the documentation gives",
    };
    Finding::error("schema/form", format!("{shown} does not fit `{name}`")).help(format!("write {form}"))
}

fn range(schema: &Value, least: &str, most: &str) -> String {
    match (schema.get(least), schema.get(most)) {
        (Some(least), Some(most)) => format!("from {least} to {most}"),
        (Some(least), None) => format!("of {least} or more"),
        (None, Some(most)) => format!("of {most} or less"),
        (None, None) => String::new(),
    }
    .trim()
    .to_owned()
}

/// `a`, `b` and `c`.
pub(super) fn list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<&str> = words.collect();
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        let separator = if index == 0 {
            ""
        } else if index + 1 == words.len() {
            " and "
        } else {
            ", "
        };
        let _ = write!(text, "{separator}`{word}`");
    }
    text
}

/// The word that was probably meant.
pub(crate) fn suggest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // Comparing is quadratic in the length, and nobody means a word of that length.
    if word.len() > 128 {
        return None;
    }
    let folded = word.to_ascii_lowercase().replace(['-', ' '], "_");
    known
        .map(|candidate| {
            (strsim::jaro_winkler(&folded, &candidate.to_ascii_lowercase().replace(['-', ' '], "_")), candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.84)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn explain(text: &str, ambiguity: Ambiguity, boolean: bool, integer: bool) -> (String, String) {
    let text = shorten(text);
    let quoted = format!("quote it: `\"{text}\"`");
    match ambiguity {
        Ambiguity::Boolean(value) if boolean => {
            (format!("`{text}` is text in YAML 1.2, and {value} only in older YAML"), format!("write `{value}`"))
        }
        Ambiguity::Boolean(value) => (
            format!("`{text}` without quotes means {value} to some readers of YAML"),
            format!("{quoted}, or write `{value}`"),
        ),
        Ambiguity::Sexagesimal => {
            (format!("`{text}` without quotes is a number of base 60 to some readers of YAML"), quoted)
        }
        Ambiguity::Octal if integer => (
            format!("`{text}` is an octal number to some readers of YAML"),
            format!(
                "write it without the leading zero: `{}`",
                text.trim_start_matches(['+', '-']).trim_start_matches("0o").trim_start_matches('0')
            ),
        ),
        Ambiguity::Octal => (format!("`{text}` without quotes is an octal number to some readers of YAML"), quoted),
        Ambiguity::Number if integer => (
            format!("`{text}` is text in YAML 1.2, and a number only in older YAML"),
            format!("write the digits alone: `{}`", text.replace('_', "")),
        ),
        Ambiguity::Number => (format!("`{text}` without quotes is a number to some readers of YAML"), quoted),
        Ambiguity::Date => {
            (format!("`{text}` without quotes is a date to some readers of YAML, and text to others"), quoted)
        }
    }
}
