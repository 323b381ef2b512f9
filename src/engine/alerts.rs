//! Alerts of a record, with as much of the past as they need.

use crate::diagnostic::{Finding, Place};
use crate::document::Repository;
use crate::model::{ObjectKind, ObjectRef, Recorded, Timestamp};
use crate::plan::alerts::{AlertInputs, LOOKED_AT, Past, alerts, to_look_up};
use crate::store::ReadState;

use super::EngineError;

/// What a person should look at, as far as it concerns what is asked for, and is not said already.
pub(super) async fn found(
    documents: &Repository,
    recorded: &Recorded,
    state: Option<&dyn ReadState>,
    said: &[Finding],
    concerns: impl Fn(&ObjectRef) -> bool,
    now: Timestamp,
) -> Result<Vec<Finding>, EngineError> {
    let mut past = Past::new();
    let keys = to_look_up(documents, recorded, now);
    if let Some(state) = state.filter(|_| !keys.is_empty()) {
        for rotation in state.last_rotations(&keys, LOOKED_AT).await? {
            past.entry(rotation.key_id).or_default().push(rotation);
        }
    }
    let compromised = match state {
        Some(state) => state.compromised().await?,
        None => Vec::new(),
    };
    Ok(alerts(&AlertInputs { documents, recorded, past: &past, compromised: &compromised, said, now }, concerns))
}

/// The findings, each at the document of its object.
pub(super) fn placed(mut findings: Vec<Finding>, documents: &Repository) -> Vec<Finding> {
    for finding in &mut findings {
        finding.place = finding.object.as_ref().and_then(|object| place(documents, object));
    }
    findings
}

fn place(documents: &Repository, object: &ObjectRef) -> Option<Place> {
    let address = object.address();
    match object.kind {
        ObjectKind::EncryptionKey => documents.keys.get(&address?).map(|key| key.place.clone()),
        ObjectKind::RotationPolicy => documents.policies.get(&address?).map(|policy| policy.place.clone()),
        ObjectKind::Tenant => documents.tenants.get(&object.name).map(|tenant| tenant.place.clone()),
        _ => None,
    }
}
