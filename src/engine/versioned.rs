//! What a use-case returns, as the JSON document that a command prints.

use schemars::JsonSchema;
use serde::Serialize;

/// The version of every such document: a minor version adds fields, a major one may change them.
pub const OUTPUT_VERSION: &str = "1.0";

/// A result with the version of its form.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Versioned<T> {
    /// The version of this document's form.
    pub format_version: &'static str,
    /// The result; its fields stand beside the version.
    #[serde(flatten)]
    pub result: T,
}

impl<T> Versioned<T> {
    /// The document of a result, or of a reference to one.
    #[must_use]
    pub const fn new(result: T) -> Self {
        Self { format_version: OUTPUT_VERSION, result }
    }
}
