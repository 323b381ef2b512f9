//! Findings: what is wrong, where, and what to do. They are collected, never thrown, so that a reader sees all of them.
//!
//! Must not know: how a finding is drawn (that is `render`).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, ObjectRef, Severity};

/// A place in a file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The path in the repository, with `/`.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, in characters, from 1.
    pub column: u32,
    /// How many characters are meant; at least 1, and never past the end of the line.
    pub length: u32,
}

impl Place {
    /// The beginning of a file: what stands for it where no line of it is meant.
    #[must_use]
    pub fn beginning(file: Arc<str>) -> Self {
        Self { file, line: 1, column: 1, length: 1 }
    }
}

/// `FILE:LINE:COLUMN`, as terminals and editors follow it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, .. } = self;
        write!(f, "{file}:{line}:{column}")
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// A stable code such as `schema/unknown-field`; documented, and safe to filter by.
    pub code: Cow<'static, str>,
    /// Whether it stops the work.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where, if it stands somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The source line, without anything secret, so that a finding can be drawn without its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_line: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The other place that matters, with what stands there (the first of two duplicates).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
    /// The tenant whose mistake it is; none means that it concerns the whole repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Name>,
    /// The object that it is about, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
}

/// A second place of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Related {
    /// Where.
    pub place: Place,
    /// What stands there.
    pub message: String,
    /// The source line there.
    pub source_line: Option<String>,
}

impl Finding {
    /// An error without a place.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            severity: Severity::Error,
            message: message.into(),
            place: None,
            source_line: None,
            help: None,
            related: None,
            tenant_id: None,
            object: None,
        }
    }

    /// A warning without a place.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Something worth knowing, without a place.
    #[must_use]
    pub fn info(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Info, ..Self::error(code, message) }
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With where.
    #[must_use]
    pub fn at(mut self, place: Place, source_line: Option<String>) -> Self {
        self.place = Some(place);
        self.source_line = source_line;
        self
    }

    /// With whose it is.
    #[must_use]
    pub fn of(mut self, object: ObjectRef) -> Self {
        self.tenant_id.clone_from(&object.tenant_id);
        self.object = Some(object);
        self
    }

    /// Does it stop the work?
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Sorts findings as a reader goes through the files: by file, line and column, those without a place first.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| (&a.place, &a.code, &a.message).cmp(&(&b.place, &b.code, &b.message)));
}
