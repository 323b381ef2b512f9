//! The planner.
use super::{Inputs, Plan};
/// Plans.
#[must_use]
pub fn plan(inputs: &Inputs<'_>) -> Plan { let _ = inputs; Plan{as_of: inputs.now, tz_version: String::new(), sources: inputs.sources.clone(), lineage: None, digest: String::new(), changes: vec![], waiting: vec![], drift: vec![], refusals: vec![], left_out: Default::default(), diagnostics: vec![], not_applicable: None} }
