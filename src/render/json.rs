//! The versioned JSON documents that commands print.
//!
//! Each has `format_version`: a minor version adds fields, a major one may change them.

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::{Event, OUTPUT_VERSION, Report};
use crate::plan::PlanDocument;
use crate::schedule::TZ_VERSION;

/// The first line of a stream of JSON lines.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamVersion {
    /// Always `version`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The version of the stream's form.
    format_version: &'static str,
    /// The keywheel that writes it.
    keywheel_version: &'static str,
}

impl Default for StreamVersion {
    fn default() -> Self {
        Self { kind: "version", format_version: OUTPUT_VERSION, keywheel_version: env!("CARGO_PKG_VERSION") }
    }
}

/// The line of a stream that has the plan.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamPlan {
    /// Always `plan`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The plan that is applied.
    plan: PlanDocument,
}

impl StreamPlan {
    /// The line of `plan`.
    #[must_use]
    pub const fn new(plan: PlanDocument) -> Self {
        Self { kind: "plan", plan }
    }
}

/// The last line of a stream.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamReport<'r> {
    /// Always `report`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What was done.
    #[serde(flatten)]
    report: &'r Report,
}

impl<'r> StreamReport<'r> {
    /// The line of `report`.
    #[must_use]
    pub const fn new(report: &'r Report) -> Self {
        Self { kind: "report", report }
    }
}

/// The last line of a stream that ends in an error.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamError<'e> {
    /// Always `error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// A stable code.
    code: &'e str,
    /// What happened.
    message: &'e str,
    /// What to do.
    help: Option<&'e str>,
}

impl<'e> StreamError<'e> {
    /// The line of an error.
    #[must_use]
    pub const fn new(code: &'e str, message: &'e str, help: Option<&'e str>) -> Self {
        Self { kind: "error", code, message, help }
    }
}

/// One line of the stream of `apply --format json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum StreamLine<'l> {
    /// The first one.
    Version(StreamVersion),
    /// The plan that is applied.
    Plan(Box<StreamPlan>),
    /// Something that goes on.
    Event(Event),
    /// The last one of an apply that ran.
    Report(StreamReport<'l>),
    /// The last one of an apply that did not.
    Error(StreamError<'l>),
}

/// What `version` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionDocument {
    /// The version of this document's form.
    pub format_version: &'static str,
    /// The keywheel.
    pub version: &'static str,
    /// The version of a plan's form.
    pub plan_format_version: &'static str,
    /// The version of the IANA tz database that is compiled in.
    pub tz_version: &'static str,
}

impl Default for VersionDocument {
    fn default() -> Self {
        Self {
            format_version: OUTPUT_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            plan_format_version: crate::plan::FORMAT_VERSION,
            tz_version: TZ_VERSION,
        }
    }
}
