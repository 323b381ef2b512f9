//! The fields of one change: `rotation_interval_days  90 -> 30`.

use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};

use crate::document::Config;
use crate::model::{EncryptionKey, Freeze, Guardrail, ObjectKind, RotationPolicy, Tenant};
use crate::plan::Change;

use super::super::View;
use super::super::style::{self, paint};
use super::super::text::{columns, cut, pad, safe};

/// The object's own address, which its heading has already.
const ADDRESS: &[&str] = &["tenant_id", "policy_name", "key_name", "name"];

/// The rows of a change, without indentation.
pub fn rows(change: &Change, view: View) -> Vec<String> {
    let empty = Map::new();
    let (before, after) = (change.before.as_ref().unwrap_or(&empty), change.after.as_ref().unwrap_or(&empty));
    match (&change.before, &change.after) {
        _ if view.full => unified(before, after),
        (None, None) | (Some(_), None) => Vec::new(),
        (None, Some(_)) => values(&chosen(change.object.kind, after), view),
        (Some(_), Some(_)) => differences(before, after, view),
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

/// `name  value`, aligned; below them lists and long texts line by line.
fn values(fields: &Map<String, Value>, view: View) -> Vec<String> {
    let width = column(fields.keys());
    let (mut rows, mut blocks) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        if let Some(text) = scalar(value) {
            rows.push(format!("{}  {}", pad(name, width), fit(&text, width, view)));
        } else {
            blocks.push(name.clone());
            blocks.extend(yaml(value).lines().map(|line| format!("  {line}")));
        }
    }
    rows.append(&mut blocks);
    rows
}

/// `name  old -> new`, aligned; lists and long texts line by line.
fn differences(before: &Map<String, Value>, after: &Map<String, Value>, view: View) -> Vec<String> {
    let width = column(before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))));
    let mut rows = Vec::new();
    for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
        let (old, new) = (before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
        if let (Some(old), Some(new)) = (scalar(old), scalar(new)) {
            let room = view.columns().saturating_sub(width + 15) / 2;
            let short =
                |text: &str| if view.width.is_some() { cut(text, room.max(12)).into_owned() } else { text.to_owned() };
            let (old, new) = (paint(style::REMOVE, &short(&old)), paint(style::ADD, &short(&new)));
            rows.push(format!("{}  {old} -> {new}", pad(name, width)));
        } else {
            rows.push(name.clone());
            rows.extend(line_by_line(&yaml(old), &yaml(new)).map(|line| format!("  {line}")));
        }
    }
    rows
}

/// Both sides as YAML, as a unified diff without its header.
fn unified(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let side = |fields: &Map<String, Value>| {
        // A field that a side does not set is null in a plan, and absent in a document.
        let set: Map<String, Value> = fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if set.is_empty() { String::new() } else { yaml(&Value::Object(set)) }
    };
    line_by_line(&side(before), &side(after)).collect()
}

fn line_by_line(old: &str, new: &str) -> impl Iterator<Item = String> + use<> {
    let diff = TextDiff::from_lines(old, new);
    let lines: Vec<String> = diff
        .iter_all_changes()
        .map(|change| {
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ("-", style::REMOVE),
                ChangeTag::Insert => ("+", style::ADD),
                ChangeTag::Equal => (" ", style::DIM),
            };
            paint(style, &format!("{sign} {}", change.value().trim_end_matches('\n')))
        })
        .collect();
    lines.into_iter()
}

/// A value as YAML; nothing for null.
fn yaml(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    let text = serde_yaml::to_string(value).unwrap_or_else(|_| value.to_string());
    let mut text = safe(&text).into_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
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

fn column<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| columns(name)).max().unwrap_or(0)
}

/// A value beside its name, cut to the terminal.
fn fit(text: &str, name_width: usize, view: View) -> String {
    match view.width {
        Some(_) => cut(text, view.columns().saturating_sub(name_width + 9).max(12)).into_owned(),
        None => text.to_owned(),
    }
}
