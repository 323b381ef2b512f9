//! What a person asks of one key, by hand: rotate it, roll it back, release it after that, park and resume it, forget it.
//! Each is a change of the key as it was applied, shown and done like any other.

use chrono::Duration;
use serde_json::{Map, Value};

use crate::model::{
    Address, EncryptionKey, KeyRecord, KeyState, ObjectRef, Phase, PolicyStatus, Recorded, RotationCause,
    RotationRecord, Timestamp, VersionRecord, VersionState, Workflow,
};
use crate::plan::{self, Action, Change, KeyTiming, Precondition, Reason};
use crate::provider::capabilities;
use crate::rotation::{Status, abandon};
use crate::schedule::{Hold, frozen_at};
use crate::store::{HistoryEntry, HistoryFilter, ReadState};

use super::load::load;
use super::planning::rotation_enabled;
use super::{Desired, EngineError, ErrorKind, Selection, Workspace, clock};

/// What is asked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A rotation now. Freezes and windows hold it as they hold any rotation; the minimum gap does not.
    Rotate {
        /// Why.
        reason: String,
    },
    /// A rotation now, because the primary is in the wrong hands, whatever holds or stops the key; the old version is marked.
    Compromised {
        /// Why.
        reason: String,
        /// The incident's name in another system.
        incident: String,
    },
    /// The version before becomes primary again, and the key is held.
    Rollback {
        /// Why.
        reason: String,
    },
    /// A key that was rolled back may rotate again.
    Release {
        /// Why.
        reason: String,
    },
    /// The key does not rotate until it is resumed.
    Park {
        /// Why.
        reason: String,
    },
    /// A parked key may rotate again.
    Resume {
        /// Why.
        reason: String,
    },
    /// The record drops the key, and its key manager is not asked. Its documents must have left already.
    Forget {
        /// Why.
        reason: String,
    },
    /// A disabled version decrypts again, and is kept from then on; its destruction is cancelled.
    Enable {
        /// The number of the version.
        version: u32,
        /// Why.
        reason: String,
    },
    /// The destruction of an orphan is scheduled: a version that a lost answer left behind, and that was never in use.
    Destroy {
        /// The number of the version.
        version: u32,
        /// Why.
        reason: String,
    },
    /// What a person knows of an old version, and keywheel cannot see, is recorded.
    Attest {
        /// The number of the version.
        version: u32,
        /// What is so.
        fact: Fact,
        /// How it is known.
        reason: String,
    },
}

/// What a person knows of an old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Nothing is encrypted under it any more.
    Rewrapped,
    /// Something still needs it: it is enabled again, and neither disabled nor destroyed.
    Needed,
}

impl Request {
    /// What it is called where somebody else waits for it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Rotate { .. } | Self::Compromised { .. } => "rotate",
            Self::Rollback { .. } => "rollback",
            Self::Release { .. } => "release",
            Self::Park { .. } => "park",
            Self::Resume { .. } => "resume",
            Self::Forget { .. } => "state forget",
            Self::Enable { .. } => "enable",
            Self::Destroy { .. } => "destroy",
            Self::Attest { .. } => "attest",
        }
    }
}

impl Fact {
    /// The field of the version that says since when.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Rewrapped => "rewrapped_at",
            Self::Needed => "needed_at",
        }
    }
}

/// The change that is asked for.
///
/// # Errors
/// There is no such key, what is asked is not possible as it stands, or something holds it (status 3).
pub(super) async fn change(
    desired: &Desired,
    state: &dyn ReadState,
    recorded: &Recorded,
    address: &Address,
    request: &Request,
) -> Result<Change, EngineError> {
    let record = recorded.keys.get(address).ok_or_else(|| unknown(recorded, address))?;
    let needs_rest = !matches!(request, Request::Park { .. } | Request::Resume { .. });
    let in_the_way = recorded.unfinished_of(record.id).filter(|unfinished| match request {
        Request::Forget { .. } => given_up(record, unfinished).is_none(),
        _ => needs_rest,
    });
    if let Some(unfinished) = in_the_way {
        let message = format!("the {} of {address} is unfinished ({})", unfinished.workflow, unfinished.phase);
        return Err(refused("manual/unfinished", message).help("`keywheel apply` goes on with it; then ask again"));
    }
    let starts = matches!(
        request,
        Request::Rotate { .. } | Request::Compromised { .. } | Request::Rollback { .. } | Request::Destroy { .. }
    );
    if starts && !rotation_enabled()? {
        let message = "KEY_ROTATION_ENABLED=false starts nothing anywhere, not even in an emergency".to_owned();
        let help = format!(
            "for this one command: `KEY_ROTATION_ENABLED=true keywheel {} {address} ...`; nothing else begins by that",
            request.word()
        );
        return Err(refused("manual/switched-off", message).help(help));
    }
    match request {
        Request::Rotate { reason } => {
            in_state(address, record, request, &[KeyState::Active])?;
            nothing_holds(desired, address, record)?;
            Ok(manual(address, record, Action::Rotate, RotationCause::Manual.as_str(), reason))
        }
        Request::Compromised { reason, incident } => {
            in_state(address, record, request, &[KeyState::Active, KeyState::Held, KeyState::Parked])?;
            let number = record.primary_version.as_ref().map_or(0, |version| version.number);
            let stays = match record.state {
                KeyState::Held => "; the key stays held until `release`",
                KeyState::Parked => "; the key stays parked until `resume`",
                _ => "",
            };
            let message = format!(
                "{reason} (incident {incident}); version {number} is marked compromised, and what it encrypted still \
                 decrypts with it: encrypt that anew{stays}"
            );
            let change = manual(address, record, Action::Rotate, RotationCause::Compromised.as_str(), &message);
            let incident = Map::from_iter([("incident".to_owned(), Value::from(incident.as_str()))]);
            Ok(Change { after: Some(incident), ..change })
        }
        Request::Rollback { reason } => {
            in_state(address, record, request, &[KeyState::Active, KeyState::Parked])?;
            let history = latest(state, record).await?;
            let versions = state.versions(record.id).await?;
            let previous = previous(address, record, history.as_ref(), &versions, clock::now())?;
            let refs = |reference: &str| Some(Map::from_iter([("primary".to_owned(), Value::from(reference))]));
            let change = manual(address, record, Action::Rollback, RotationCause::Manual.as_str(), reason);
            let before = change.precondition.primary.as_deref().and_then(refs);
            Ok(Change { before, after: refs(&previous.provider_ref), ..change })
        }
        Request::Release { reason } => {
            in_state(address, record, request, &[KeyState::Held])?;
            Ok(manual(address, record, Action::Release, "manual", reason))
        }
        Request::Park { reason } => {
            in_state(address, record, request, &[KeyState::Active])?;
            Ok(manual(address, record, Action::Park, "manual", reason))
        }
        Request::Resume { reason } => {
            in_state(address, record, request, &[KeyState::Parked])?;
            Ok(manual(address, record, Action::Resume, "manual", reason))
        }
        Request::Forget { reason } => Ok(manual(address, record, Action::Forget, "manual", reason)),
        Request::Enable { version, reason } => {
            let version = old_version(state, record, address, *version).await?;
            if !matches!(version.state, VersionState::Disabled | VersionState::PendingDestruction) || version.orphan {
                return Err(not_in_state(address, &version, "only a version that keywheel disabled is enabled again"));
            }
            Ok(of_version(address, record, Action::Enable, &version, VersionState::Deactivated, reason))
        }
        Request::Destroy { version, reason } => {
            let version = old_version(state, record, address, *version).await?;
            if version.state != VersionState::Disabled || !version.orphan {
                let help = "a version that was in use is destroyed by its policy alone: `old_key_disposition: destroy`";
                return Err(not_in_state(address, &version, help));
            }
            nothing_holds(desired, address, record)?;
            if desired.repository.config.limits.max_destructions == 0 {
                let message = "limits.max_destructions is 0: nothing is destroyed".to_owned();
                return Err(refused("limits/max-destructions", message).help("raise it in git, and apply that first"));
            }
            let to = VersionState::PendingDestruction;
            Ok(of_version(address, record, Action::ScheduleDestruction, &version, to, reason))
        }
        Request::Attest { version, fact, reason } => {
            let version = old_version(state, record, address, *version).await?;
            let mut change = of_version(address, record, Action::Attest, &version, version.state, reason);
            if let Some(after) = &mut change.after {
                after.insert(fact.field().to_owned(), Value::from("when it is applied"));
            }
            Ok(change)
        }
    }
}

/// A version that is not the primary.
async fn old_version(
    state: &dyn ReadState,
    record: &KeyRecord,
    address: &Address,
    number: u32,
) -> Result<VersionRecord, EngineError> {
    let versions = state.versions(record.id).await?;
    let Some(version) = versions.into_iter().find(|version| version.number == number) else {
        let message = format!("{address} has no version {number}");
        return Err(
            EngineError::new("version/unknown", message).help(format!("`keywheel explain {address}` lists them"))
        );
    };
    match version.state {
        VersionState::Active => {
            let message = format!("version {number} of {address} is the primary: it is in use");
            Err(refused("version/state", message).help("only old versions are enabled, destroyed or attested"))
        }
        VersionState::Destroyed => Err(not_in_state(address, &version, "nothing brings back what was destroyed")),
        _ => Ok(version),
    }
}

fn not_in_state(address: &Address, version: &VersionRecord, help: &str) -> EngineError {
    let orphan = if version.orphan { "an orphan, and " } else { "" };
    let message = format!("version {} of {address} is {orphan}{}", version.number, version.state);
    refused("version/state", message).help(help)
}

fn of_version(
    address: &Address,
    record: &KeyRecord,
    action: Action,
    version: &VersionRecord,
    to: VersionState,
    why: &str,
) -> Change {
    Change {
        version: Some(version.number),
        before: Some(plan::version_before(version)),
        after: Some(plan::version_after(version, to)),
        ..manual(address, record, action, "manual", why)
    }
}

/// The unfinished rotation of a key that kept failing, given up: it can never be finished once its provider key is gone.
/// None while the next apply may still finish it, or once the stable name may lead to the new version.
pub(super) fn given_up(record: &KeyRecord, unfinished: &RotationRecord) -> Option<RotationRecord> {
    let status = abandon(Status::of(unfinished)).ok().filter(|_| record.state == KeyState::Parked)?;
    Some(RotationRecord { phase: status.phase, open_step: status.open_step, ..unfinished.clone() })
}

/// Has a key left the documents? While it stands in one, the next apply would adopt or create it again.
///
/// # Errors
/// It has not, or that cannot be told from documents with errors.
pub(super) fn has_left(
    workspace: &Workspace,
    desired: &Desired,
    recorded: &Recorded,
    address: &Address,
) -> Result<(), EngineError> {
    left(desired, recorded, address, "the documents")?;
    if desired.dirty.is_empty() || desired.origin.is_none() {
        return Ok(());
    }
    // It counts what was committed: that is what the next apply of a CI job reads.
    let head = load(&Workspace { selection: Selection::Ref("HEAD".to_owned()), ..workspace.clone() })?;
    left(&head, recorded, address, "the committed documents")
}

fn left(desired: &Desired, recorded: &Recorded, address: &Address, whose: &str) -> Result<(), EngineError> {
    let repository = &desired.repository;
    if repository.failed || repository.failed_tenants.contains(&address.tenant_id) {
        let message =
            format!("{whose} of {} have errors: they do not say whether {address} has left", address.tenant_id);
        return Err(refused("forget/documents", message).help("`keywheel validate` shows them"));
    }
    let is_it = |other: &Address, key: &EncryptionKey| {
        // A rename that was applied already leads from another key.
        let renamed = other.tenant_id == address.tenant_id && key.previous_name.as_ref() == Some(&address.name);
        other == address || (renamed && !recorded.keys.contains_key(other))
    };
    let Some((_, key)) = repository.keys.iter().find(|(other, key)| is_it(other, &key.value)) else { return Ok(()) };
    let message = format!(
        "{address} stands in {whose} ({}:{}): the next apply would adopt or create it again",
        key.place.file, key.place.line
    );
    Err(refused("forget/documented", message)
        .help("remove its document in git first; an apply of that forgets it, too"))
}

fn manual(address: &Address, record: &KeyRecord, action: Action, code: &str, why: &str) -> Change {
    Change::new(ObjectRef::key(address), action, Reason::new(code, why), Precondition::of(record))
}

fn refused(code: &'static str, message: String) -> EngineError {
    EngineError::new(code, message).kind(ErrorKind::Refused)
}

fn unknown(recorded: &Recorded, address: &Address) -> EngineError {
    let known = recorded.keys.keys().filter(|key| key.tenant_id == address.tenant_id).take(5);
    let known = known.map(Address::to_string).collect::<Vec<_>>().join(", ");
    let help = if known.is_empty() {
        "`keywheel status` lists the keys".to_owned()
    } else {
        format!("its tenant has {known}")
    };
    EngineError::new("manual/unknown-key", format!("{address} is not a key that was applied")).help(help)
}

fn in_state(address: &Address, record: &KeyRecord, request: &Request, wanted: &[KeyState]) -> Result<(), EngineError> {
    if wanted.contains(&record.state) && record.primary_version.is_some() {
        return Ok(());
    }
    let because = record.state_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let help = match record.state {
        KeyState::Held => "it was rolled back: `keywheel release` ends the hold",
        KeyState::Parked => "`keywheel resume` lets it rotate again",
        KeyState::Active if matches!(request, Request::Release { .. } | Request::Resume { .. }) => {
            "it is neither parked nor held: there is nothing to resume or to release"
        }
        _ => "`keywheel explain` says why",
    };
    Err(refused("manual/state", format!("{address} is {}{because}", record.state)).help(help))
}

/// Freezes, windows, and a suspended policy.
fn nothing_holds(desired: &Desired, address: &Address, record: &KeyRecord) -> Result<(), EngineError> {
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
    Ok(())
}

fn held(address: &Address, hold: &Hold, until: Option<Timestamp>) -> String {
    let until = until.map_or_else(|| "for the next two years".to_owned(), |at| format!("until {}", instant(at)));
    match hold {
        Hold::Freeze(name) => format!("{address} is frozen by {name:?} {until}"),
        _ => format!("{address} is outside its rotation_windows {until}"),
    }
}

/// The key's newest rotation that came to its end.
async fn latest(state: &dyn ReadState, record: &KeyRecord) -> Result<Option<HistoryEntry>, EngineError> {
    let filter = HistoryFilter {
        key: Some(record.address()),
        phase: Some(Phase::Settled),
        leads: true,
        limit: Some(1),
        ..Default::default()
    };
    Ok(state.history(&filter).await?.into_iter().next())
}

/// The version that a rollback makes primary again, while its policy's rollback period lasts.
fn previous<'a>(
    address: &Address,
    record: &KeyRecord,
    latest: Option<&HistoryEntry>,
    versions: &'a [VersionRecord],
    now: Timestamp,
) -> Result<&'a VersionRecord, EngineError> {
    let primary = record.primary_version.as_ref().map(|version| version.provider_ref.as_str());
    let rotation = match latest {
        Some(entry) if entry.workflow == Workflow::Rotate && entry.to_ref.as_deref() == primary => entry,
        Some(entry) if entry.workflow == Workflow::Rollback => {
            let message = format!("the latest rotation of {address} was rolled back already");
            return Err(refused("rollback/done", message).help("only the latest rotation can be rolled back"));
        }
        _ => {
            let message = format!("{address} has no rotation that could be rolled back");
            return Err(refused("rollback/nothing", message).help("`keywheel history` shows what happened to it"));
        }
    };
    if !capabilities(record.key.kms_provider).rollback {
        let message = format!("{} cannot make an older version primary again", record.key.kms_provider);
        return Err(refused("rollback/provider", message).help("rotate instead: `keywheel rotate`"));
    }
    let previous = versions.iter().find(|version| Some(&version.provider_ref) == rotation.from_ref.as_ref());
    let Some(previous) = previous.filter(|version| version.state == VersionState::Deactivated) else {
        let state = previous.map_or("not recorded", |version| version.state.as_str());
        let message = format!("the version before is {state}: nothing could be encrypted with it");
        return Err(refused("rollback/version", message).help("rotate instead: `keywheel rotate`"));
    };
    if previous.compromised_at.is_some() {
        let message = format!("version {} is marked compromised: it must not encrypt again", previous.number);
        return Err(refused("rollback/compromised", message).help("rotate instead: `keywheel rotate`"));
    }
    match rollback_closes_at(previous) {
        Some(closed_at) if now <= closed_at => Ok(previous),
        Some(closed_at) => {
            let message = format!("the rollback period of {address} closed at {}", instant(closed_at));
            Err(refused("rollback/closed", message).help("rotate instead: `keywheel rotate`"))
        }
        None => {
            let message = format!("the policy under which {address} was rotated allows no rollback (enable_rollback)");
            Err(refused("rollback/disabled", message).help("rotate instead: `keywheel rotate`"))
        }
    }
}

/// Until when a rotation may be rolled back that ended the use of this version; none if its policy allows no rollback.
pub(super) fn rollback_closes_at(version: &VersionRecord) -> Option<Timestamp> {
    let hours = version.retention.as_ref().map(|terms| terms.rollback_period_hours).filter(|hours| *hours > 0)?;
    version.deactivated_at?.checked_add_signed(Duration::try_hours(hours.into())?)
}

fn instant(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
