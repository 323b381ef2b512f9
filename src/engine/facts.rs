//! Facts about keys that are worth telling, each in words and with its identity.

use serde_json::json;

use crate::model::{KeyRecord, KeyState, MessageKind, VersionRecord, Workflow};
use crate::plan::instant;

use super::clock;
use super::messages::Fact;
use super::workflow::Work;

/// A run could not finish a rotation or a rollback.
pub(super) fn failed(work: &Work, error: &str) -> Fact {
    let (rotation, failures) = (&work.rotation, work.key.failures);
    let again = match (work.key.state, work.key.retry_at) {
        (KeyState::Parked, _) => "it is not tried again".to_owned(),
        (_, Some(at)) => format!("it is tried again from {} on", instant(at)),
        (_, None) => "the next apply tries it again".to_owned(),
    };
    Fact {
        kind: MessageKind::RotationFailed,
        identity: format!("{} {} {failures}", work.key.id, rotation.id),
        text: format!(
            "the {} of {} failed ({failures} in a row): {error}; {again}",
            rotation.workflow,
            work.key.address()
        ),
        details: json!({
            "rotation_id": rotation.id, "workflow": rotation.workflow, "phase": rotation.phase, "cause": rotation.cause,
            "failures": failures, "retry_at": work.key.retry_at, "error": error,
        }),
    }
}

/// A run could not make a key. Each run begins anew then, so that it is told once a day.
pub(super) fn not_created(work: &Work, error: &str) -> Fact {
    let address = work.key.address();
    Fact {
        kind: MessageKind::CreationFailed,
        identity: format!("{address} {}", clock::now().date_naive()),
        text: format!("{address} could not be created: {error}"),
        details: json!({ "rotation_id": work.rotation.id, "phase": work.rotation.phase, "error": error }),
    }
}

/// A run could not bring an old version into its next state. The next plan judges anew, so that it is told once a day.
pub(super) fn not_retired(work: &Work, error: &str) -> Fact {
    let (rotation, address) = (&work.rotation, work.key.address());
    let reference = work.version.as_ref().map(|version| version.provider_ref.as_str()).unwrap_or_default();
    Fact {
        kind: MessageKind::RetirementFailed,
        identity: format!("{} {reference} {} {}", work.key.id, rotation.workflow, clock::now().date_naive()),
        text: format!("the {} of {reference}, an old version of {address}, failed: {error}", rotation.workflow),
        details: json!({
            "rotation_id": rotation.id, "workflow": rotation.workflow, "provider_ref": reference, "error": error,
        }),
    }
}

/// A key does not rotate until a person resumes it.
pub(super) fn parked_key(key: &KeyRecord) -> Fact {
    let (address, reason) = (key.address(), key.state_reason.as_deref().unwrap_or("no reason is recorded"));
    Fact {
        kind: MessageKind::KeyParked,
        identity: format!("{} {}", key.id, key.updated_at.timestamp_micros()),
        text: format!("{address} is parked, and does not rotate until `keywheel resume`: {reason}"),
        details: json!({ "reason": reason, "since": key.updated_at, "failures": key.failures }),
    }
}

/// A key does not rotate until a person releases it.
pub(super) fn held(work: &Work) -> Fact {
    let (address, reason) = (work.key.address(), &work.rotation.reason);
    Fact {
        kind: MessageKind::KeyHeld,
        identity: format!("{} {}", work.key.id, work.rotation.id),
        text: format!("{address} was rolled back, and is held until `keywheel release`: {reason}"),
        details: json!({
            "reason": reason, "since": work.rotation.finished_at, "rotation_id": work.rotation.id,
            "primary": work.rotation.to_ref,
        }),
    }
}

/// A version was made twice.
pub(super) fn orphaned(work: &Work, provider_ref: &str) -> Fact {
    let address = work.key.address();
    Fact {
        kind: MessageKind::VersionOrphaned,
        identity: format!("{} {provider_ref}", work.key.id),
        text: format!(
            "a version of {address} was made twice: {provider_ref} is disabled and kept, and nothing uses it"
        ),
        details: json!({ "provider_ref": provider_ref, "rotation_id": work.rotation.id }),
    }
}

/// An old version came closer to its end; none for a step that gives it back.
pub(super) fn retired(work: &Work, version: &VersionRecord) -> Option<Fact> {
    let (address, reference) = (work.key.address(), &version.provider_ref);
    let (kind, what) = match work.rotation.workflow {
        Workflow::Disable => (MessageKind::VersionDisabled, "is disabled, and decrypts nothing".to_owned()),
        Workflow::ScheduleDestruction => {
            let at = version.destroy_at.map_or_else(String::new, |at| format!(" at {}", instant(at)));
            (MessageKind::VersionDestructionScheduled, format!("will be destroyed{at}, and decrypts nothing"))
        }
        Workflow::Destroy => (MessageKind::VersionDestroyed, "is destroyed".to_owned()),
        _ => return None,
    };
    Some(Fact {
        kind,
        identity: work.rotation.id.to_string(),
        text: format!("version {} of {address} {what}: {}", version.number, work.rotation.reason),
        details: json!({
            "rotation_id": work.rotation.id, "provider_ref": reference, "number": version.number, "state": version.state,
            "destroy_at": version.destroy_at, "reason": work.rotation.reason,
        }),
    })
}
