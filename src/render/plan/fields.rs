//! The fields of one change: `rotation_interval_days  90 -> 30`.

use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};

use crate::document::Config;
use crate::model::{EncryptionKey, Freeze, Guardrail, ObjectKind, RotationPolicy, Tenant};
use crate::plan::Change;

use super::super::View;
use super::super::style::{self, paint};
use super::super::text::{columns, pad, safe, safe_lines, wrap};

/// The object's own address, which its heading has already.
const ADDRESS: &[&str] = &["tenant_id", "policy_name", "key_name", "name"];

/// The columns that stand before each row.
pub const INDENT: usize = 7;

/// The rows of a change, without indentation.
pub fn rows(change: &Change, view: View) -> Vec<String> {
    let empty = Map::new();
    let (before, after) = (change.before.as_ref().unwrap_or(&empty), change.after.as_ref().unwrap_or(&empty));
    match (&change.before, &change.after) {
        _ if view.full => unified(before, after).iter().flatten().map(Line::paint).collect(),
        (None | Some(_), None) => Vec::new(),
        (None, Some(_)) => values(&chosen(change.object.kind, after), view),
        (Some(_), Some(_)) => differences(before, after, view),
    }
}

/// The fields of a change as a diff of YAML, the lines of each: of something new those that somebody chose, of something that
/// leaves none.
pub fn diff(change: &Change) -> Vec<Vec<Line>> {
    let empty = Map::new();
    match (&change.before, &change.after) {
        (_, None) => Vec::new(),
        (None, Some(after)) => unified(&empty, &chosen(change.object.kind, after)),
        (Some(before), Some(after)) => unified(before, after),
    }
}

/// How many fields [`diff`] shows.
pub fn number(change: &Change) -> usize {
    match (&change.before, &change.after) {
        (_, None) => 0,
        (None, Some(after)) => chosen(change.object.kind, after).len(),
        (Some(before), Some(after)) => names(before, after).count(),
    }
}

/// A line of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// On which side it stands.
    pub sign: Sign,
    /// What it says, without a line feed.
    pub text: String,
}

/// The side of a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Before only.
    Removed,
    /// After only.
    Added,
    /// On both sides.
    Same,
}

impl Sign {
    /// As in a unified diff.
    pub const fn mark(self) -> char {
        match self {
            Self::Removed => '-',
            Self::Added => '+',
            Self::Same => ' ',
        }
    }
}

impl Line {
    fn paint(&self) -> String {
        let style = match self.sign {
            Sign::Removed => style::REMOVE,
            Sign::Added => style::ADD,
            Sign::Same => style::DIM,
        };
        paint(style, &format!("{} {}", self.sign.mark(), self.text))
    }
}

/// The fields of something new that somebody chose: those that differ from the built-in default.
fn chosen(kind: ObjectKind, after: &Map<String, Value>) -> Map<String, Value> {
    let defaults = defaults(kind);
    after
        .iter()
        .filter(|(name, value)| !ADDRESS.contains(&name.as_str()) && defaults.get(*name) != Some(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A document of which only what must be said is said.
fn defaults(kind: ObjectKind) -> Map<String, Value> {
    fn complete<T: serde::Serialize + serde::de::DeserializeOwned>(document: Value) -> Value {
        serde_json::from_value::<T>(document)
            .ok()
            .and_then(|document| serde_json::to_value(document).ok())
            .unwrap_or_default()
    }
    let (tenant, text) = ("tenant", "");
    let complete = match kind {
        ObjectKind::Config => complete::<Config>(serde_json::json!({})),
        ObjectKind::Tenant => complete::<Tenant>(serde_json::json!({ "tenant_id": tenant })),
        ObjectKind::RotationPolicy => complete::<RotationPolicy>(
            serde_json::json!({ "tenant_id": tenant, "policy_name": tenant, "key_type": text }),
        ),
        ObjectKind::EncryptionKey => {
            complete::<EncryptionKey>(serde_json::json!({ "tenant_id": tenant, "key_name": tenant, "key_type": text }))
        }
        ObjectKind::Guardrail => {
            complete::<Guardrail>(serde_json::json!({ "name": tenant, "rule": text, "message": text }))
        }
        ObjectKind::Freeze => complete::<Freeze>(serde_json::json!({
            "name": tenant, "reason": text, "from": "1970-01-01T00:00:00", "until": "1970-01-01T00:00:00"
        })),
    };
    match complete {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// `name  value`, aligned; below them lists and long texts, line by line.
fn values(fields: &Map<String, Value>, view: View) -> Vec<String> {
    let width = column(fields.keys());
    let (mut rows, mut blocks) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        match scalar(value).filter(|text| fits(width + columns(text), view)) {
            Some(text) => rows.push(format!("{}  {text}", pad(&safe(name), width))),
            None => {
                blocks.extend(
                    std::iter::once(safe(name).into_owned()).chain(lines(value, view).map(|line| format!("  {line}"))),
                );
            }
        }
    }
    rows.append(&mut blocks);
    rows
}

/// `name  old -> new`, aligned; what does not fit beside its name stands below it, line by line.
fn differences(before: &Map<String, Value>, after: &Map<String, Value>, view: View) -> Vec<String> {
    let width = column(names(before, after));
    let (mut rows, mut blocks) = (Vec::new(), Vec::new());
    for name in names(before, after) {
        let (old, new) = (before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
        let both =
            scalar(old).zip(scalar(new)).filter(|(old, new)| fits(width + columns(old) + columns(new) + 4, view));
        if let Some((old, new)) = both {
            rows.push(format!(
                "{}  {} -> {}",
                pad(&safe(name), width),
                paint(style::REMOVE, &old),
                paint(style::ADD, &new)
            ));
        } else {
            let side = |value| lines(value, view).map(|line| line + "\n").collect::<String>();
            blocks.push(safe(name).into_owned());
            blocks.extend(line_by_line(&side(old), &side(new)).iter().map(|line| format!("  {}", line.paint())));
        }
    }
    rows.append(&mut blocks);
    rows
}

/// Both sides as YAML, as in a unified diff: the lines of each field.
fn unified(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Vec<Line>> {
    let side = |fields: &Map<String, Value>, name: &String| match fields.get(name) {
        // A field that a side does not set is null in a plan, and absent in a document.
        None | Some(Value::Null) => String::new(),
        Some(value) => yaml(&serde_json::json!({ name: value })),
    };
    names(before, after).map(|name| line_by_line(&side(before, name), &side(after, name))).collect()
}

/// The fields that change, each once: a version's change has others too, which say what it was planned for.
fn names<'a>(before: &'a Map<String, Value>, after: &'a Map<String, Value>) -> impl Iterator<Item = &'a String> {
    let all = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    all.filter(|name| before.get(*name) != after.get(*name))
}

fn line_by_line(old: &str, new: &str) -> Vec<Line> {
    let line = |change: similar::Change<&str>| {
        let sign = match change.tag() {
            ChangeTag::Delete => Sign::Removed,
            ChangeTag::Insert => Sign::Added,
            ChangeTag::Equal => Sign::Same,
        };
        Line { sign, text: change.value().trim_end_matches('\n').to_owned() }
    };
    TextDiff::from_lines(old, new).iter_all_changes().map(line).collect()
}

/// A value that fits on one line.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("(none)".to_owned()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(text) if text.is_empty() => Some("\"\"".to_owned()),
        Value::String(text) if !text.contains('\n') => Some(safe(text).into_owned()),
        Value::Array(values) if values.is_empty() => Some("[]".to_owned()),
        Value::Object(fields) if fields.is_empty() => Some("{}".to_owned()),
        Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value on lines of its own: a text wrapped, a list of words one a line, anything else as YAML. Nothing for null.
fn lines(value: &Value, view: View) -> impl Iterator<Item = String> + use<> {
    let words = |values: &[Value]| values.iter().map(scalar).collect::<Option<Vec<String>>>();
    let lines = match value {
        Value::Null => Vec::new(),
        Value::String(text) => wrap(&safe_lines(text), view.columns().saturating_sub(INDENT + 4)),
        Value::Array(values) => words(values).unwrap_or_else(|| yaml(value).lines().map(str::to_owned).collect()),
        _ => yaml(value).lines().map(str::to_owned).collect(),
    };
    lines.into_iter()
}

/// A value as YAML, with a line feed at its end.
fn yaml(value: &Value) -> String {
    let text = serde_yaml::to_string(value).unwrap_or_else(|_| value.to_string());
    format!("{}\n", safe_lines(text.trim_end()))
}

fn column<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| columns(&safe(name))).max().unwrap_or(0)
}

/// Do so many columns, two spaces and the indentation fit?
fn fits(taken: usize, view: View) -> bool {
    taken + 2 + INDENT <= view.columns()
}
