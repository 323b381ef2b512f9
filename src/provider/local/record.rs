//! One record of the keystore: a change of one key, as bytes.
//!
//! ```text
//! kind (1) | key (16) | version (4, big-endian) | time (8, microseconds since 1970, big-endian)
//! ```
//!
//! then, for a scheduled destruction, the end of its waiting period `time (8)`;
//! and for a created version `key id (16) | rotation id (16) | lineage (16) | material (32) | tenant (the rest)`.

use chrono::DateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::seal::{KEY_LEN, Material};
use super::version_ref::VersionRef;
use crate::model::{Name, Timestamp};

/// One change of one key.
#[derive(Debug)]
pub(super) struct Record {
    /// The version that it is about.
    pub(super) version: VersionRef,
    /// When it was made.
    pub(super) at: Timestamp,
    /// What happened to the version.
    pub(super) event: Event,
}

/// What happened to a version.
#[derive(Debug)]
pub(super) enum Event {
    /// It was made.
    Created(Marks, Material),
    /// It became primary.
    Promoted,
    /// It was disabled.
    Disabled,
    /// It was enabled again.
    Enabled,
    /// Its destruction was scheduled, for an instant.
    DestructionScheduled(Timestamp),
    /// Its destruction was cancelled: it is disabled.
    DestructionCancelled,
    /// It was made, and its material has been destroyed since: what [`Event::Created`] becomes.
    Erased(Marks),
    /// Its material was destroyed.
    Destroyed,
}

/// The marks that a version carries from its creation on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    /// keywheel's identity of the key.
    pub(super) key_id: Uuid,
    /// The rotation that made it.
    pub(super) rotation_id: Uuid,
    /// The state database that knows it.
    pub(super) lineage: Uuid,
    /// The tenant that owns the key.
    pub(super) tenant_id: Name,
}

/// The bytes are not a record that this keywheel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

const CREATED: u8 = 1;
const PROMOTED: u8 = 2;
const DISABLED: u8 = 3;
const ENABLED: u8 = 4;
const DESTRUCTION_SCHEDULED: u8 = 5;
const DESTRUCTION_CANCELLED: u8 = 6;
const ERASED: u8 = 7;
const DESTROYED: u8 = 8;

/// The longest record, in bytes. A frame that claims to be longer is damaged.
pub(super) const MAX_LEN: usize = 1 + 16 + 4 + 8 + 3 * 16 + KEY_LEN + Name::MAX;

impl Record {
    /// The same record, as it is once the version's material is destroyed.
    pub(super) fn without_material(self) -> Self {
        let event = match self.event {
            Event::Created(marks, _) => Event::Erased(marks),
            other => other,
        };
        Self { event, ..self }
    }

    /// The record as bytes, wiped when dropped.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // The full capacity at once: growing would leave a copy of the material behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN));
        bytes.push(match &self.event {
            Event::Created(..) => CREATED,
            Event::Promoted => PROMOTED,
            Event::Disabled => DISABLED,
            Event::Enabled => ENABLED,
            Event::DestructionScheduled(_) => DESTRUCTION_SCHEDULED,
            Event::DestructionCancelled => DESTRUCTION_CANCELLED,
            Event::Erased(_) => ERASED,
            Event::Destroyed => DESTROYED,
        });
        bytes.extend_from_slice(self.version.key.as_bytes());
        bytes.extend_from_slice(&self.version.number.to_be_bytes());
        bytes.extend_from_slice(&self.at.timestamp_micros().to_be_bytes());
        if let Event::DestructionScheduled(until) = &self.event {
            bytes.extend_from_slice(&until.timestamp_micros().to_be_bytes());
        }
        if let Event::Created(marks, _) | Event::Erased(marks) = &self.event {
            bytes.extend_from_slice(marks.key_id.as_bytes());
            bytes.extend_from_slice(marks.rotation_id.as_bytes());
            bytes.extend_from_slice(marks.lineage.as_bytes());
            if let Event::Created(_, material) = &self.event {
                bytes.extend_from_slice(material.expose());
            }
            bytes.extend_from_slice(marks.tenant_id.as_str().as_bytes());
        }
        bytes
    }

    /// Reads what [`Record::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unknown> {
        let mut rest = Fields(bytes);
        let [kind] = rest.take()?;
        let version = VersionRef { key: Uuid::from_bytes(rest.take()?), number: u32::from_be_bytes(rest.take()?) };
        let at = rest.instant()?;
        let event = match kind {
            CREATED | ERASED => {
                let key_id = Uuid::from_bytes(rest.take()?);
                let rotation_id = Uuid::from_bytes(rest.take()?);
                let lineage = Uuid::from_bytes(rest.take()?);
                let material = if kind == CREATED { Some(Material::copy_of(rest.borrow()?)) } else { None };
                let tenant = std::str::from_utf8(rest.0).map_err(|_| Unknown)?;
                let tenant_id = Name::new(tenant).map_err(|_| Unknown)?;
                let marks = Marks { key_id, rotation_id, lineage, tenant_id };
                match material {
                    Some(material) => Event::Created(marks, material),
                    None => Event::Erased(marks),
                }
            }
            DESTRUCTION_SCHEDULED => {
                let until = rest.instant()?;
                if !rest.0.is_empty() {
                    return Err(Unknown);
                }
                Event::DestructionScheduled(until)
            }
            PROMOTED if rest.0.is_empty() => Event::Promoted,
            DISABLED if rest.0.is_empty() => Event::Disabled,
            ENABLED if rest.0.is_empty() => Event::Enabled,
            DESTRUCTION_CANCELLED if rest.0.is_empty() => Event::DestructionCancelled,
            DESTROYED if rest.0.is_empty() => Event::Destroyed,
            _ => return Err(Unknown),
        };
        Ok(Self { version, at, event })
    }
}

/// The bytes of a record that are not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn instant(&mut self) -> Result<Timestamp, Unknown> {
        DateTime::from_timestamp_micros(i64::from_be_bytes(self.take()?)).ok_or(Unknown)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unknown> {
        self.borrow().copied()
    }

    fn borrow<const N: usize>(&mut self) -> Result<&'a [u8; N], Unknown> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Unknown)?;
        self.0 = rest;
        Ok(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let version = VersionRef { key: Uuid::from_u128(1), number: 3 };
        let at = "2026-11-02T02:00:00.123456Z".parse().unwrap();
        let marks = Marks {
            key_id: Uuid::from_u128(2),
            rotation_id: Uuid::from_u128(3),
            lineage: Uuid::from_u128(4),
            tenant_id: Name::new("t".repeat(Name::MAX)).unwrap(),
        };
        let created = Event::Created(marks.clone(), Material::copy_of(&[9; KEY_LEN]));
        [
            created,
            Event::Erased(marks),
            Event::Promoted,
            Event::Disabled,
            Event::Enabled,
            Event::DestructionScheduled(at),
            Event::DestructionCancelled,
            Event::Destroyed,
        ]
        .map(|event| Record { version, at, event })
        .into()
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        for record in records() {
            let bytes = record.encode();
            assert!(bytes.len() <= MAX_LEN);
            let read = Record::decode(&bytes).unwrap();
            assert_eq!((read.version, read.at), (record.version, record.at));
            match (&read.event, &record.event) {
                (Event::Created(marks, material), Event::Created(before, kept)) => {
                    assert_eq!((marks, material.expose()), (before, kept.expose()));
                }
                (Event::Erased(marks), Event::Erased(before)) => assert_eq!(marks, before),
                (Event::DestructionScheduled(until), Event::DestructionScheduled(before)) => assert_eq!(until, before),
                (read, written) => assert_eq!(std::mem::discriminant(read), std::mem::discriminant(written)),
            }
        }
    }

    #[test]
    fn other_bytes_are_unknown() {
        assert_eq!(Record::decode(&[]).unwrap_err(), Unknown);
        assert_eq!(Record::decode(&[9; 29]).unwrap_err(), Unknown);
        for record in records().into_iter().skip(2) {
            let mut bytes = record.encode();
            bytes.push(0);
            assert_eq!(Record::decode(&bytes).unwrap_err(), Unknown);
        }
    }
}
