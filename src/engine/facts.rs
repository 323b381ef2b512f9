//! Facts about keys that are worth telling, each in words and with its identity.

use serde_json::{Value, json};

use crate::diagnostic::Finding;
use crate::model::{Address, KeyRecord, KeyState, MessageKind, Name, RotationRecord, VersionRecord, Workflow};
use crate::plan::{Action, Waiting, instant};
use crate::provider::ProviderPlace;

use super::clock;
use super::messages::Fact;
use super::workflow::Work;

/// How many keys are named where a fact is about many.
const NAMED: usize = 3;

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
            rotation.workflow.noun(),
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
        text: format!("the {} of {reference}, an old version of {address}, failed: {error}", rotation.workflow.noun()),
        details: json!({
            "rotation_id": rotation.id, "workflow": rotation.workflow, "provider_ref": reference, "error": error,
        }),
    }
}

/// A change of a key failed that has no workflow, or before its workflow had begun. Nothing of it is recorded and each run
/// tries it anew, so that it is told once a day.
pub(super) fn not_changed(address: &Address, action: Action, version: Option<u32>, error: &str) -> Fact {
    let kind = match action {
        Action::Create => MessageKind::CreationFailed,
        Action::Rotate | Action::Rollback | Action::Finish => MessageKind::RotationFailed,
        action if action.retirement().is_some() => MessageKind::RetirementFailed,
        _ => MessageKind::ChangeFailed,
    };
    let (what, done) = words(action, address, version);
    let version = version.map_or_else(String::new, |number| format!(" {number}"));
    let today = clock::now().date_naive();
    Fact {
        kind,
        // As that of a creation that fails later.
        identity: match action {
            Action::Create => format!("{address} {today}"),
            action => format!("{address} {}{version} {today}", action.as_str()),
        },
        text: format!("{what} could not be {done}: {error}"),
        details: json!({ "action": action, "error": error }),
    }
}

/// A key's document asks for what cannot be: to adopt a key that does not exist, say. It is told once a day.
pub(super) fn impossible(address: &Address, error: &Finding) -> Fact {
    Fact {
        kind: MessageKind::ChangeFailed,
        identity: format!("{address} {} {}", error.code, clock::now().date_naive()),
        text: format!("{address} cannot become what its document says: {}", error.message),
        details: json!({ "code": error.code, "error": error.message }),
    }
}

/// A key manager gave no usable answer about keys of a tenant. It is told once a day.
pub(super) fn unreachable(tenant_id: &Name, place: &ProviderPlace, keys: &[&Name], why: &str) -> Fact {
    let whose = match keys {
        [only] => format!("{tenant_id}/{only}"),
        several => {
            let some = several.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let more = if several.len() > NAMED { ", ..." } else { "" };
            format!("{} keys of tenant {tenant_id} ({some}{more})", several.len())
        }
    };
    let region = place.region.as_ref().map_or_else(String::new, |region| format!(" in {region}"));
    let (provider, count) = (place.provider, keys.len());
    Fact {
        kind: MessageKind::ProviderUnreachable,
        identity: format!("{tenant_id} {provider}{region} {}", clock::now().date_naive()),
        text: format!(
            "{provider}{region} gave no usable answer about {whose}, and nothing is known of what is due there: {why}"
        ),
        details: json!({ "kms_provider": provider, "kms_region": place.region, "keys": count, "error": why }),
    }
}

/// A change waits until owners have approved it.
pub(super) fn waits_for_approval(key: &KeyRecord, address: &Address, waiting: &Waiting) -> Fact {
    let primary = key.primary_version.as_ref().map(|version| version.number);
    let version = waiting.version.or(primary);
    let (what, done) = words(waiting.action, address, waiting.version);
    Fact {
        kind: MessageKind::ApprovalNeeded,
        identity: format!("{} {} {}", key.id, waiting.action.as_str(), version.unwrap_or_default()),
        text: format!("{what} waits to be {done}: {}", waiting.reason.message),
        details: json!({ "action": waiting.action, "version": version, "reason": waiting.reason.message }),
    }
}

/// What a change is about, and what it is once that is done.
fn words(action: Action, address: &Address, version: Option<u32>) -> (String, &'static str) {
    let it = version.map_or_else(|| address.to_string(), |number| format!("version {number} of {address}"));
    match action {
        Action::ScheduleDestruction => (format!("the destruction of {it}"), "scheduled"),
        Action::CancelDestruction => (format!("the destruction of {it}"), "cancelled"),
        Action::Finish => (format!("what an earlier run left of {it}"), "finished"),
        action => (it, action.done()),
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

/// A primary is in the wrong hands, and its key rotates away from it.
pub(super) fn compromised(
    address: &Address,
    version: &VersionRecord,
    rotation: &RotationRecord,
    incident: Option<&Value>,
) -> Fact {
    Fact {
        kind: MessageKind::VersionCompromised,
        identity: rotation.id.to_string(),
        text: format!("{address} rotates at once: {}", rotation.reason),
        details: json!({
            "provider_ref": version.provider_ref, "number": version.number, "compromised_at": version.compromised_at,
            "incident": incident, "reason": rotation.reason, "rotation_id": rotation.id,
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
