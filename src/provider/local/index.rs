//! What the records of a keystore say, taken together: keys, their versions, and which is primary. Nothing secret.
//!
//! [`Index::decide`] judges a change and gives the record that would make it; [`Index::apply`] takes a record in, whoever
//! wrote it. Only what `decide` allows passes `apply`.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::record::{Event, Marks, Record};
use super::seal::{CipherFailed, Material};
use super::version_ref::VersionRef;
use crate::model::{Name, Timestamp, VersionState};
use crate::provider::{ErrorKind, ProviderError};

/// All keys of a keystore.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Uuid, Key>,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// The tenant that owns it. No other tenant reaches it, whatever its documents name.
    pub(super) tenant_id: Name,
    /// Its versions; number `n` stands at `n - 1`.
    pub(super) versions: Vec<Version>,
    /// The number of the primary.
    pub(super) primary: Option<u32>,
}

/// One version.
#[derive(Debug)]
pub(super) struct Version {
    /// Its number.
    pub(super) number: u32,
    /// Its state; the primary alone is active.
    pub(super) state: VersionState,
    /// When it was made.
    pub(super) created_at: Timestamp,
    /// When its waiting period ends, while its destruction is scheduled.
    pub(super) destroy_at: Option<Timestamp>,
    /// keywheel's identity of the key.
    pub(super) key_id: Uuid,
    /// The rotation that made it.
    pub(super) rotation_id: Uuid,
    /// The state database that knows it.
    pub(super) lineage: Uuid,
}

/// A change that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The key, by its name in the keystore.
    pub(super) key: Uuid,
    /// Whose key it is.
    pub(super) tenant_id: Name,
    /// What is to happen.
    pub(super) action: Action,
}

/// What is to happen to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Make a version.
    Create {
        /// What it carries.
        marks: Marks,
        /// The highest number that the caller knows, or 0: the keystore must know it too.
        known: u32,
    },
    /// Make a version primary, if the primary is still `from` or the version itself.
    Promote {
        /// The primary that the caller found.
        from: Option<u32>,
        /// The version to become primary.
        number: u32,
    },
    /// Disable a version.
    Disable {
        /// The version.
        number: u32,
    },
    /// Enable a disabled version.
    Enable {
        /// The version.
        number: u32,
    },
    /// Schedule the destruction of a disabled version.
    ScheduleDestruction {
        /// The version.
        number: u32,
    },
    /// Cancel a scheduled destruction.
    CancelDestruction {
        /// The version.
        number: u32,
    },
    /// Destroy the material of a version whose waiting period has ended.
    Destroy {
        /// The version.
        number: u32,
    },
}

/// How long a destruction can still be cancelled: as long as AWS KMS gives by default.
pub(super) const WAITING_DAYS: u32 = 30;

impl Index {
    /// A tenant's key.
    pub(super) fn get(&self, key: Uuid, tenant_id: &Name) -> Option<&Key> {
        self.keys.get(&key).filter(|found| found.tenant_id == *tenant_id)
    }

    /// All keys, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Uuid, &Key)> {
        self.keys.iter().map(|(name, key)| (*name, key))
    }

    /// May the change be made as things are? Gives the number of the version that it makes or changes; none if there is
    /// nothing to do.
    pub(super) fn decide(&self, change: &Change, now: Timestamp) -> Result<Option<u32>, ProviderError> {
        let operation = change.action.operation();
        let refuse = |kind, message: String| ProviderError::new(kind, operation, message);
        let not_found =
            || refuse(ErrorKind::NotFound, format!("the keystore has no key {} of this tenant", change.key));
        let key = self.get(change.key, &change.tenant_id);
        if key.is_none() && self.keys.contains_key(&change.key) {
            return Err(not_found());
        }
        let version = |number: u32| {
            let missing = || refuse(ErrorKind::NotFound, format!("the key {} has no version {number}", change.key));
            let key = key.ok_or_else(not_found)?;
            key.version(number).map(|version| (key, version)).ok_or_else(missing)
        };
        match &change.action {
            // A new key has keywheel's identity; any other name is that of a key that should be here.
            Action::Create { marks, .. } if key.is_none() && marks.key_id != change.key => Err(not_found()),
            Action::Create { known, .. } => {
                let latest = key.map_or(0, Key::latest);
                if latest < *known {
                    // Its numbers would come again, with other material.
                    let message = format!("version {known} is recorded, and the keystore knows {latest} at most");
                    return Err(refuse(ErrorKind::Refused, message)
                        .help("this is an old copy of the keystore, or another one: put the newest one in its place"));
                }
                let full = || refuse(ErrorKind::Refused, "the key has as many versions as can be counted".to_owned());
                latest.checked_add(1).ok_or_else(full).map(Some)
            }
            Action::Promote { from, number } => {
                let (key, version) = version(*number)?;
                if key.primary == Some(*number) {
                    return Ok(None);
                }
                if key.primary != *from {
                    let show = |number: Option<u32>| number.map_or("none".to_owned(), |number| number.to_string());
                    return Err(refuse(
                        ErrorKind::Conflict,
                        format!("the primary version is {}, not {}", show(key.primary), show(*from)),
                    )
                    .help("somebody else promoted a version meanwhile; plan again"));
                }
                if !is_usable(version.state) {
                    return Err(refuse(ErrorKind::Refused, format!("version {number} is {}", version.state)));
                }
                Ok(Some(*number))
            }
            Action::Disable { number } => {
                let (_, version) = version(*number)?;
                match version.state {
                    VersionState::Disabled => Ok(None),
                    VersionState::Active => {
                        Err(refuse(ErrorKind::Refused, format!("version {number} is the primary version")))
                    }
                    state if is_usable(state) => Ok(Some(*number)),
                    state => Err(refuse(ErrorKind::Refused, format!("version {number} is {state}"))),
                }
            }
            Action::Enable { number } => match version(*number)?.1.state {
                VersionState::Disabled => Ok(Some(*number)),
                state if is_usable(state) => Ok(None),
                state => Err(refuse(ErrorKind::Refused, format!("version {number} is {state}"))),
            },
            Action::ScheduleDestruction { number } => match version(*number)?.1.state {
                VersionState::Disabled => Ok(Some(*number)),
                VersionState::PendingDestruction => Ok(None),
                state => Err(refuse(ErrorKind::Refused, format!("version {number} is {state}, and not disabled"))),
            },
            Action::CancelDestruction { number } => match version(*number)?.1.state {
                VersionState::PendingDestruction => Ok(Some(*number)),
                VersionState::Disabled => Ok(None),
                VersionState::Destroyed => {
                    Err(refuse(ErrorKind::NotFound, format!("version {number} is destroyed: nothing brings it back")))
                }
                state => Err(refuse(ErrorKind::Refused, format!("version {number} is {state}"))),
            },
            Action::Destroy { number } => match version(*number)?.1 {
                Version { state: VersionState::Destroyed, .. } => Ok(None),
                Version { destroy_at: Some(at), .. } if *at <= now => Ok(Some(*number)),
                Version { state, .. } => {
                    Err(refuse(ErrorKind::Refused, format!("version {number} is {state}, and not due to be destroyed")))
                }
            },
        }
    }

    /// Takes a record in, or says what is wrong with it.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), &'static str> {
        let VersionRef { key: name, number } = record.version;
        if let Event::Created(marks, _) | Event::Erased(marks) = &record.event {
            let key = self.keys.entry(name).or_insert_with(|| Key {
                tenant_id: marks.tenant_id.clone(),
                versions: Vec::with_capacity(1),
                primary: None,
            });
            if key.latest().checked_add(1) != Some(number) || key.tenant_id != marks.tenant_id {
                return Err("makes a version out of its order");
            }
            key.versions.push(Version {
                number,
                state: VersionState::PreActivation,
                created_at: record.at,
                destroy_at: None,
                key_id: marks.key_id,
                rotation_id: marks.rotation_id,
                lineage: marks.lineage,
            });
            return Ok(());
        }
        let key = self.keys.get_mut(&name).ok_or("is about a key that was not made")?;
        let before = key.primary;
        let version = key.version_mut(number).ok_or("is about a version that was not made")?;
        match (&record.event, version.state) {
            (Event::Promoted, VersionState::PreActivation | VersionState::Deactivated) => {
                version.state = VersionState::Active;
                key.primary = Some(number);
                if let Some(version) = before.and_then(|number| key.version_mut(number)) {
                    version.state = VersionState::Deactivated;
                }
                Ok(())
            }
            (Event::Disabled, VersionState::PreActivation | VersionState::Deactivated) => {
                version.state = VersionState::Disabled;
                Ok(())
            }
            (Event::Enabled, VersionState::Disabled) => {
                version.state = VersionState::Deactivated;
                Ok(())
            }
            (Event::DestructionScheduled(until), VersionState::Disabled) => {
                (version.state, version.destroy_at) = (VersionState::PendingDestruction, Some(*until));
                Ok(())
            }
            (Event::DestructionCancelled, VersionState::PendingDestruction) => {
                (version.state, version.destroy_at) = (VersionState::Disabled, None);
                Ok(())
            }
            (Event::Destroyed, VersionState::PendingDestruction) => {
                version.state = VersionState::Destroyed;
                Ok(())
            }
            _ => Err("does not follow from the version's state"),
        }
    }
}

impl Key {
    /// The version with this number.
    pub(super) fn version(&self, number: u32) -> Option<&Version> {
        self.versions.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    fn version_mut(&mut self, number: u32) -> Option<&mut Version> {
        self.versions.get_mut(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// The number of the newest version; 0 before the first.
    pub(super) fn latest(&self) -> u32 {
        self.versions.last().map_or(0, |version| version.number)
    }
}

/// Does a version in this state encrypt or decrypt?
pub(super) const fn is_usable(state: VersionState) -> bool {
    matches!(state, VersionState::PreActivation | VersionState::Active | VersionState::Deactivated)
}

impl Change {
    /// Does it take material away for good?
    pub(super) fn destroys(&self) -> bool {
        matches!(self.action, Action::Destroy { .. })
    }

    /// Does it make a version?
    pub(super) fn creates(&self) -> bool {
        matches!(self.action, Action::Create { .. })
    }
}

impl Action {
    /// The event that makes it true, with new material where it needs some.
    pub(super) fn event(&self, now: Timestamp) -> Result<Event, CipherFailed> {
        Ok(match self {
            Self::Create { marks, .. } => Event::Created(marks.clone(), Material::random()?),
            Self::Promote { .. } => Event::Promoted,
            Self::Disable { .. } => Event::Disabled,
            Self::Enable { .. } => Event::Enabled,
            Self::ScheduleDestruction { .. } => Event::DestructionScheduled(
                now.checked_add_signed(chrono::Duration::days(WAITING_DAYS.into())).unwrap_or(now),
            ),
            Self::CancelDestruction { .. } => Event::DestructionCancelled,
            Self::Destroy { .. } => Event::Destroyed,
        })
    }

    /// The operation of the contract that asks for it.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create_version",
            Self::Promote { .. } => "promote",
            Self::Disable { .. } => "disable",
            Self::Enable { .. } => "enable",
            Self::ScheduleDestruction { .. } => "schedule_destruction",
            Self::CancelDestruction { .. } => "cancel_destruction",
            Self::Destroy { .. } => "destroy",
        }
    }
}
