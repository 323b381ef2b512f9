//! `rotate`: a rotation that a person asks for, of a key as it was applied.

use crate::model::{Address, KeyState, ObjectRef, PolicyStatus, Recorded, RotationCause, Timestamp};
use crate::plan::{Action, Change, KeyTiming, Precondition, Reason};
use crate::schedule::{Hold, frozen_at};

use super::{Desired, EngineError, ErrorKind, clock};

/// The change that a person asks for. Freezes and windows hold it as they hold any rotation; the minimum gap does not.
///
/// # Errors
/// There is no such key, it cannot be rotated as it is, or something holds it (status 3).
pub(super) fn request(
    desired: &Desired,
    recorded: &Recorded,
    address: &Address,
    why: &str,
) -> Result<Change, EngineError> {
    let Some(record) = recorded.keys.get(address) else {
        let known = recorded.keys.keys().filter(|key| key.tenant_id == address.tenant_id).take(5);
        let known = known.map(Address::to_string).collect::<Vec<_>>().join(", ");
        let help = if known.is_empty() {
            "`keywheel status` lists the keys".to_owned()
        } else {
            format!("its tenant has {known}")
        };
        return Err(
            EngineError::new("rotate/unknown-key", format!("{address} is not a key that was applied")).help(help)
        );
    };
    let refused = |code, message: String| EngineError::new(code, message).kind(ErrorKind::Refused);
    if record.state != KeyState::Active || record.primary_version.is_none() {
        let message = format!("{address} is {}", record.state);
        return Err(refused("rotate/state", message).help("`keywheel explain` says why"));
    }
    let now = clock::now();
    let timings = KeyTiming::new(&desired.repository);
    let freezes = timings.freezes(address, &record.key.key_type);
    if let Some((freeze, until)) = frozen_at(&freezes, now) {
        let message = held(address, &Hold::Freeze(freeze.name.to_string()), Some(until));
        return Err(refused("rotate/held", message).help("wait until then, or change the freeze in git"));
    }
    if let Some(policy) = &record.key.rotation_policy {
        let policy = Address::new(address.tenant_id.clone(), policy.clone());
        if desired.repository.policies.get(&policy).is_some_and(|policy| policy.value.status == PolicyStatus::Suspended)
        {
            let message = format!("{policy} is suspended, and starts nothing");
            return Err(
                refused("rotate/suspended", message).help("set its status to active in git, and apply that first")
            );
        }
        if let Some(Err((hold, until))) = timings.of(&policy).map(|timing| timing.open_at(&freezes, now)) {
            return Err(refused("rotate/held", held(address, &hold, until))
                .help("wait until then, or change the window or freeze in git"));
        }
    }
    Ok(Change {
        object: ObjectRef::key(address),
        action: Action::Rotate,
        reason: Reason::new(RotationCause::Manual.as_str(), why),
        before: None,
        after: None,
        precondition: Precondition {
            revision: record.revision,
            primary: record.primary_version.as_ref().map(|version| version.provider_ref.clone()),
            rotation_id: None,
        },
    })
}

fn held(address: &Address, hold: &Hold, until: Option<Timestamp>) -> String {
    let until = until
        .map_or_else(|| "for the next two years".to_owned(), |at| format!("until {}", at.format("%Y-%m-%dT%H:%M:%SZ")));
    match hold {
        Hold::Freeze(name) => format!("{address} is frozen by {name:?} {until}"),
        _ => format!("{address} is outside its rotation_windows {until}"),
    }
}
