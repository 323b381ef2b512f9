//! A value that must never be printed, stored or sent.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A field that holds a secret: `${NAME}`, which names an environment variable, or (with a warning) the secret itself.
///
/// `Debug`, `Display` and `Serialize` show the reference, and `(redacted)` in place of a literal, so that a secret can
/// reach no output, log, plan or database by any of them.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Secret {
    /// `${NAME}`: read from the environment where it is used.
    Reference(String),
    /// The secret itself stands in the document.
    Literal(String),
}

/// What stands for a literal secret wherever it would be shown.
const REDACTED: &str = "(redacted)";

impl Secret {
    /// The name of the environment variable, if it is a reference.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Reference(name) => Some(name),
            Self::Literal(_) => None,
        }
    }

    /// Is the secret itself in the document? A text that was redacted before is not.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(text) if text != REDACTED)
    }

    /// The literal, for the one place that uses it. Never print it.
    #[must_use]
    pub fn expose_literal(&self) -> Option<&str> {
        match self {
            Self::Reference(_) => None,
            Self::Literal(text) => Some(text),
        }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        match name {
            Some(name) if is_variable_name(name) => Self::Reference(name.to_owned()),
            _ => Self::Literal(text),
        }
    }
}

/// The fields whose values are secrets, wherever they stand.
const SECRET_FIELDS: &[&str] = &["slack_webhook", "webhook_url", "webhook_secret"];

/// Serialises a map of policy fields that is kept as it was written, with its literal secrets redacted.
///
/// # Errors
/// The serialiser's.
pub fn serialize_redacted<S: serde::Serializer>(
    fields: &serde_json::Map<String, serde_json::Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = fields.clone();
    redact(&mut fields);
    fields.serialize(serializer)
}

fn redact(fields: &mut serde_json::Map<String, serde_json::Value>) {
    for (name, value) in fields {
        match value {
            serde_json::Value::String(text) if SECRET_FIELDS.contains(&name.as_str()) => {
                *text = Secret::from(std::mem::take(text)).to_string();
            }
            serde_json::Value::Object(inner) => redact(inner),
            _ => {}
        }
    }
}

/// POSIX's form of an environment variable's name.
fn is_variable_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(name) => write!(f, "${{{name}}}"),
            Self::Literal(_) => f.write_str(REDACTED),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "examples": ["${SLACK_WEBHOOK_URL}"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_in_a_map_of_defaults_is_redacted_and_a_reference_stays() {
        let map = serde_json::json!({"notification_settings": {"slack_webhook": "https://example.org/s3cr3t", "webhook_url": "${URL}"}});
        let redacted = serialize_redacted(map.as_object().unwrap(), serde_json::value::Serializer).unwrap();
        let expected =
            serde_json::json!({"notification_settings": {"slack_webhook": "(redacted)", "webhook_url": "${URL}"}});
        assert_eq!(redacted, expected);
    }
}
