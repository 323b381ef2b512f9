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
