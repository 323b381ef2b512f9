//! Drift, three ways: what git says, what was recorded, what the key managers hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::Planned;
use crate::model::{EncryptionKey, Name, ObjectRef, Timestamp};
use crate::plan::{Action, Drift, Reason};

use super::style::{self, paint};
use super::text::{count, safe, wrap};
use super::{View, time};

/// What `drift` found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DriftDocument {
    /// The instant that it was made for.
    as_of: Timestamp,
    /// The commit that git's side was read from.
    commit: Option<String>,
    /// What differs.
    drift: Vec<DriftEntry>,
    /// Keys whose key manager gave no usable answer: nothing is known of them.
    unknown: Vec<Unknown>,
    /// Tenants that were left out, with the reason.
    left_out: BTreeMap<Name, String>,
}

/// One field that differs.
#[derive(Debug, Serialize, JsonSchema)]
struct DriftEntry {
    object: ObjectRef,
    field: String,
    /// What happened, and what keywheel does about it.
    reason: Reason,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<String>,
    /// What git says; null where the documents say nothing of it.
    desired: Option<String>,
    /// What the record says.
    recorded: Option<String>,
    /// What the key manager says.
    observed: Option<String>,
}

/// A key of which nothing is known.
#[derive(Debug, Serialize, JsonSchema)]
struct Unknown {
    object: ObjectRef,
    reason: Reason,
}

impl DriftDocument {
    /// Takes the drift out of a plan.
    #[must_use]
    pub fn new(planned: &Planned) -> Self {
        let plan = &planned.plan;
        let keys = &planned.desired.repository.keys;
        let desired = |drift: &Drift| {
            let key = keys.get(&drift.object.address()?)?;
            desired_field(&key.value, &drift.field)
        };
        let drift = plan
            .drift
            .iter()
            .map(|drift| DriftEntry {
                desired: desired(drift),
                object: drift.object.clone(),
                field: drift.field.clone(),
                reason: drift.reason.clone(),
                next_step: drift.next_step(),
                recorded: drift.recorded.clone(),
                observed: drift.observed.clone(),
            })
            .collect();
        let unknown = plan
            .unanswered()
            .filter(|waiting| waiting.action == Action::Rotate)
            .map(|waiting| Unknown { object: waiting.object.clone(), reason: waiting.reason.clone() })
            .collect();
        Self { as_of: plan.as_of, commit: plan.sources.commit.clone(), drift, unknown, left_out: plan.left_out.clone() }
    }

    /// Is everything as it was recorded?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drift.is_empty()
    }

    /// Is there something that could not be looked at?
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        !self.unknown.is_empty() || !self.left_out.is_empty()
    }
}

/// What a key's document says about a field of the provider's.
fn desired_field(key: &EncryptionKey, field: &str) -> Option<String> {
    match field {
        "description" => key.description.clone(),
        _ => key.tags.get(field.strip_prefix("tag:")?).cloned(),
    }
}

/// Draws it.
#[must_use]
pub fn draw(document: &DriftDocument, view: View) -> String {
    let mut out = String::new();
    for entry in &document.drift {
        let name = paint(style::HEADING, &entry.object.to_string());
        let _ = writeln!(out, "{}  {name}  {}", paint(style::WARNING, "!"), safe(&entry.field));
        for line in wrap(&safe(&entry.reason.message), view.columns().saturating_sub(3)) {
            let _ = writeln!(out, "   {}", paint(style::DIM, &line));
        }
        if let Some(next) = &entry.next_step {
            for line in wrap(&safe(&format!("next: {next}")), view.columns().saturating_sub(3)) {
                let _ = writeln!(out, "   {line}");
            }
        }
        for (side, value) in [("git", &entry.desired), ("recorded", &entry.recorded), ("observed", &entry.observed)] {
            let value = value.as_deref().map_or_else(|| "(none)".into(), safe);
            let _ = writeln!(out, "     {side:<8}  {value}");
        }
        out.push('\n');
    }
    for unknown in &document.unknown {
        let mark = paint(style::WARNING, "?");
        let _ = writeln!(out, "{mark}  {}: {}", unknown.object, safe(&unknown.reason.message));
    }
    for (tenant, why) in &document.left_out {
        let _ = writeln!(out, "{}  tenant {tenant} was left out: {}", paint(style::WARNING, "?"), safe(why));
    }
    if document.is_incomplete() {
        out.push('\n');
    }
    let as_of = time::instant(document.as_of);
    let _ = match document.drift.len() {
        0 if document.is_incomplete() => writeln!(out, "No drift among what could be looked at, as of {as_of}."),
        0 => writeln!(out, "{} Everything is as it was recorded, as of {as_of}.", paint(style::GOOD, "No drift.")),
        n => writeln!(out, "{} {}, as of {as_of}.", paint(style::WARNING, "Drift:"), count(n, "difference")),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(drift: Vec<DriftEntry>, unknown: Vec<Unknown>) -> DriftDocument {
        let as_of = "2026-11-23T05:20:00Z".parse().unwrap();
        DriftDocument { as_of, commit: None, drift, unknown, left_out: BTreeMap::new() }
    }

    fn key(name: &str) -> ObjectRef {
        ObjectRef::key(&format!("healthcare-org-123/{name}").parse().unwrap())
    }

    fn plain(document: &DriftDocument) -> String {
        anstream::adapter::strip_str(&draw(document, View { width: None, full: false })).to_string()
    }

    #[test]
    fn each_difference_shows_its_three_sides() {
        let entry = DriftEntry {
            object: key("patient-data"),
            field: "tag:team".to_owned(),
            reason: Reason::new("settings", "it was changed at the key manager, and is set again"),
            next_step: Some("`keywheel apply` sets it again".to_owned()),
            desired: Some("records".to_owned()),
            recorded: Some("records".to_owned()),
            observed: None,
        };
        insta::assert_snapshot!(plain(&document(vec![entry], Vec::new())), @r"
        !  healthcare-org-123/patient-data  tag:team
           it was changed at the key manager, and is set again
           next: `keywheel apply` sets it again
             git       records
             recorded  records
             observed  (none)

        Drift: 1 difference, as of 2026-11-23T05:20:00Z.
        ");
    }

    #[test]
    fn what_could_not_be_looked_at_is_not_called_free_of_drift() {
        let reason = Reason::new("provider_unknown", "the key manager gave no usable answer: timed out");
        let document = document(Vec::new(), vec![Unknown { object: key("billing"), reason }]);
        assert!(document.is_empty() && document.is_incomplete());
        insta::assert_snapshot!(plain(&document), @r"
        ?  healthcare-org-123/billing: the key manager gave no usable answer: timed out

        No drift among what could be looked at, as of 2026-11-23T05:20:00Z.
        ");
    }
}
