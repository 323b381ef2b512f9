//! The state database: what was applied, which versions there are, the journal, the audit log.
//!
//! Two traits, as for the key managers: [`ReadState`] is all that a plan gets; [`State`] writes, and only under a
//! [`Lease`]. A [`Write`] is data; [`State::commit`] makes a batch of them durable in one transaction or not at all.
//!
//! A [`Location`] says where a database is. The SQL lives with its dialect ([`sqlite`], [`postgres`]); what a row's columns are
//! is the same for both.
//!
//! Must not know: git, key managers, what a rotation's steps mean.

mod audit;
mod backup;
mod batch;
#[cfg(test)]
pub(crate) mod conformance;
mod lease;
mod location;
#[cfg(test)]
pub(crate) mod memory;
pub mod postgres;
mod rows;
pub mod sqlite;
pub mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{
    Address, AppliedPlan, AuditEntry, Delivery, DocumentRecord, KeyRecord, Name, ObjectRef, PastRotation, Phase,
    PolicyRecord, Recorded, RotationCause, RotationRecord, StepRecord, Timestamp, UsageCounter, VersionRecord,
    Workflow,
};

pub use audit::{AuditCheck, AuditHead, AuditLink, BrokenLink};
pub use backup::{Migrated, back_up};
pub use lease::{Holder, Lease, LeaseRecord, LeaseScope};
pub use location::{Location, LocationError, PostgresUrl, is_below};
pub use tables::Table;

/// Opens a state database to read it; nothing is written, not even beside it.
///
/// # Errors
/// [`StoreError::Missing`] if there is none, and see [`StoreError`].
pub async fn open_read_only(location: &Location) -> Result<Box<dyn ReadState>, StoreError> {
    match location {
        Location::Sqlite(path) => Ok(Box::new(sqlite::open_read_only(path).await?)),
        Location::Postgres(url) => Ok(Box::new(postgres::open_read_only(url).await?)),
    }
}

/// Opens a state database to write it; makes or migrates it where that is needed. Before a migration, the database is copied
/// into a file in [`Location::folder`]; [`State::migrated`] names it.
///
/// # Errors
/// See [`StoreError`].
pub async fn open_or_create(location: &Location) -> Result<Arc<dyn State>, StoreError> {
    match location {
        Location::Sqlite(path) => Ok(Arc::new(sqlite::open_or_create(path).await?)),
        Location::Postgres(url) => Ok(Arc::new(postgres::open_or_create(url).await?)),
    }
}

/// The same, for work that may be interrupted: once `interrupt` is set, a database that is gone is hardly waited for any
/// more.
///
/// # Errors
/// See [`StoreError`].
pub async fn open_until(location: &Location, interrupt: &Arc<AtomicBool>) -> Result<Arc<dyn State>, StoreError> {
    match location {
        Location::Sqlite(_) => open_or_create(location).await,
        Location::Postgres(url) => Ok(Arc::new(postgres::open_until(url, interrupt.clone()).await?)),
    }
}

/// The reading half of the state database.
///
/// # Guarantees
/// Nothing is written, not even a side file.
#[async_trait]
pub trait ReadState: Send + Sync {
    /// Everything that a plan needs, read in one transaction. Both maps leave out tombstones.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn recorded(&self) -> Result<Recorded, StoreError>;

    /// A key by its identity, forgotten or not.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError>;

    /// The keys that were forgotten, the longest ago first, each with when.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn forgotten_keys(&self) -> Result<Vec<(KeyRecord, Timestamp)>, StoreError>;

    /// All versions of a key, the oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn versions(&self, key_id: Uuid) -> Result<Vec<VersionRecord>, StoreError>;

    /// All versions of all keys that are not forgotten, by key and number.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn all_versions(&self) -> Result<Vec<VersionRecord>, StoreError>;

    /// Old versions of keys that are not forgotten, whose retention has passed at `now` or that are disabled or pending
    /// destruction already, by key and number; and how many versions of each tenant are not destroyed. With `kept`, also
    /// those whose own terms keep them.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn old_versions(&self, now: Timestamp, kept: bool) -> Result<OldVersions, StoreError>;

    /// Versions of keys that are not forgotten, that are marked compromised and decrypt all the same, by key and number. What it
    /// costs goes with the marked ones, not with the fleet.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn compromised(&self) -> Result<Vec<VersionRecord>, StoreError>;

    /// The journal of a rotation, in its order.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn journal(&self, rotation_id: Uuid) -> Result<Vec<StepRecord>, StoreError>;

    /// Rotations that match, the newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError>;

    /// The last settled rotations of these keys, at most so many of each: by key, the newest first. What it costs goes with
    /// the keys that are asked for, not with the history.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn last_rotations(&self, keys: &[Uuid], each: u32) -> Result<Vec<PastRotation>, StoreError>;

    /// The plan with this digest, if it was applied or begun.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn applied_plan(&self, digest: &str) -> Result<Option<AppliedPlan>, StoreError>;

    /// The plans that were applied although something refused them, the newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn overridden(&self) -> Result<Vec<AppliedPlan>, StoreError>;

    /// Entries of the audit log that match, the newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditLink>, StoreError>;

    /// The next entries of the audit log in the order of its chains, after a link (none: from the beginning).
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn audit_after(&self, link: Option<(&str, u64)>, limit: u32) -> Result<Vec<AuditLink>, StoreError>;

    /// Every lease that somebody has, or had until it expired.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError>;

    /// Messages of the outbox that match, the newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>, StoreError>;

    /// How many messages no receiver has taken.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn undelivered(&self) -> Result<Undelivered, StoreError>;

    /// Checks every link of every tenant's audit chain, up to the first broken one.
    ///
    /// # Errors
    /// See [`StoreError`]; a broken link is a finding, not an error.
    async fn verify_audit(&self) -> Result<AuditCheck, StoreError>;

    /// Which database this is.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn identity(&self) -> Result<Identity, StoreError>;

    /// The next rows of a table in its order, after so many: each a JSON array, as [`tables`] says. None after the last.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn page(&self, table: &Table, after: u64) -> Result<Vec<String>, StoreError>;

    /// Copies everything that the database holds at one instant into the empty file `to`, which becomes an SQLite state
    /// database of the same schema and identity. Others may read meanwhile. [`back_up`] does the rest of a backup.
    ///
    /// # Errors
    /// See [`StoreError`]; what is in the file then is worth nothing.
    async fn back_up(&self, to: &Path) -> Result<(), StoreError>;

    /// What the database itself finds wrong with its file, its references, its constraints and its triggers.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn problems(&self) -> Result<Vec<String>, StoreError>;

    /// The time by the database's clock.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn now(&self) -> Result<Timestamp, StoreError>;
}

/// The writing half.
#[async_trait]
pub trait State: ReadState {
    /// Takes a lease on all of these scopes, or says who has one of them. Whoever had a lease on one of them that has
    /// expired loses it as a whole.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while somebody else has one.
    async fn acquire(&self, scopes: &BTreeSet<LeaseScope>, holder: &Holder, seconds: u32) -> Result<Lease, StoreError>;

    /// Prolongs a lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] once somebody else took it.
    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError>;

    /// Gives back all of a lease's scopes but these; its token stays. Nothing happens to a lost one.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn narrow(&self, lease: &Lease, scopes: &BTreeSet<LeaseScope>) -> Result<Lease, StoreError>;

    /// Gives a lease back. Giving back a lost one does nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Takes the lease with this token away from whoever has it, and says so in the audit log, in one transaction. Its
    /// holder writes nothing any more. Its scopes stay in the way, under another token, for as many seconds or until it
    /// would have expired: a call of its holder may still be on its way. Gives when they are free; none if nobody has it.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn break_lease(&self, token: i64, seconds: u32, entry: &AuditEntry) -> Result<Option<Timestamp>, StoreError>;

    /// Makes all writes durable, in their order, in one transaction that also checks the lease's fencing token.
    ///
    /// Instants are kept in whole microseconds, integers up to 2^63 - 1, and text without U+0000. A caller that stops waiting leaves a batch
    /// that was written whole or not at all, and a lease that has expired but that nobody took over still counts.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if somebody took one of its scopes, [`StoreError::Conflict`] about an object that it is
    /// not on; nothing is written then, nor after any other error.
    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError>;

    /// Takes messages whose time has come out of the outbox, to send them: the oldest of each receiver, then the second of
    /// each, and so on, so that many to one receiver are in nobody else's way. Until `until` nobody else gets them, and
    /// after that whoever asks: the one who has them may have died. Each counts as one attempt more.
    ///
    /// No lease is needed: a message is sent at least once, and by two senders only if the first one is that slow.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError>;

    /// Writes down what became of messages, in one transaction. Each goes with the number of the attempt as which it was
    /// claimed; nothing happens to one that somebody else has claimed since.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing is written then.
    async fn conclude(&self, concluded: &[(u32, Delivery)]) -> Result<(), StoreError>;

    /// Lets every message that failed and waits for another attempt be tried from `now` on, and with `given_up` those that were given
    /// up, too. Gives their number.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn revive(&self, now: Timestamp, given_up: bool) -> Result<u64, StoreError>;

    /// Records how often a version was used, as one source counts it, and gives the sum of all sources. A total that is lower
    /// than the recorded one of its source changes nothing, so that reports may come twice, late and in any order; no lease
    /// is needed for the same reason.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is no such version; see [`StoreError`]. Nothing is written then.
    async fn report_usage(&self, counter: &UsageCounter) -> Result<u64, StoreError>;

    /// What opening it has changed, if its schema was an older one.
    fn migrated(&self) -> Option<&Migrated>;

    /// Takes over the identity of another database and every row of its tables, in one transaction. Nobody may write the
    /// other one meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is anything in this one; nothing is written then, nor after any other error.
    async fn copy_from(&self, lease: &Lease, source: &dyn ReadState) -> Result<(), StoreError>;
}

/// One change of the state database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Insert or replace a policy, by id.
    Policy(Box<PolicyRecord>),
    /// Tombstone a policy; its keys are unlinked (`ON DELETE SET NULL`).
    RemovePolicy {
        /// Which.
        id: Uuid,
        /// When.
        at: Timestamp,
    },
    /// Insert or replace a key, by id. `primary_version` is written as its id alone.
    Key(Box<KeyRecord>),
    /// Tombstone a key.
    ForgetKey {
        /// Which.
        id: Uuid,
        /// When.
        at: Timestamp,
    },
    /// Insert or replace a version, by id.
    Version(Box<VersionRecord>),
    /// Insert or replace a rotation, by id. A second unfinished rotation of one key is refused.
    Rotation(Box<RotationRecord>),
    /// Append to the journal.
    Step(StepRecord),
    /// Insert or replace a tenant, guardrail or freeze.
    Document(Box<DocumentRecord>),
    /// Remove a tenant, guardrail or freeze.
    RemoveDocument(ObjectRef),
    /// Append to the audit log, at the end of the tenant's chain.
    Audit(Box<AuditEntry>),
    /// Insert or replace an applied plan, by digest.
    AppliedPlan(Box<AppliedPlan>),
    /// Put a message into the outbox, for one receiver; nothing happens if it is there already.
    Outbox(Box<Delivery>),
}

/// What [`ReadState::old_versions`] finds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OldVersions {
    /// Versions whose time may have come.
    pub versions: Vec<VersionRecord>,
    /// How many versions of each tenant are not destroyed; empty where no time may have come.
    pub existing: BTreeMap<Name, usize>,
}

/// What makes a database this one and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A saved plan and the marks on keys name it.
    pub lineage: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Which entries [`ReadState::audit`] returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// In the chain of this tenant.
    pub tenant_id: Option<Name>,
    /// About a policy or key of this name.
    pub object: Option<Address>,
    /// At or after this.
    pub since: Option<Timestamp>,
    /// At or before this.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// Which messages [`ReadState::outbox`] returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxFilter {
    /// Of this tenant.
    pub tenant_id: Option<Name>,
    /// That no receiver has taken.
    pub undelivered: bool,
    /// At most so many.
    pub limit: Option<u32>,
}

/// How many messages no receiver has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Undelivered {
    /// They are tried again.
    pub waiting: u64,
    /// They were given up.
    pub given_up: u64,
}

/// Which rotations [`ReadState::history`] returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of this tenant.
    pub tenant_id: Option<Name>,
    /// Of this key.
    pub key: Option<Address>,
    /// In this phase.
    pub phase: Option<Phase>,
    /// Only those that lead the stable name somewhere, and not the ends of old versions.
    pub leads: bool,
    /// Begun at or after this.
    pub since: Option<Timestamp>,
    /// Of this apply.
    pub correlation_id: Option<String>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// One rotation, as the history shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct HistoryEntry {
    /// The rotation.
    pub rotation_id: Uuid,
    /// The key's identity, kept through renames.
    pub key_id: Uuid,
    /// The key's tenant.
    pub tenant_id: Name,
    /// The key's name when it was rotated.
    pub key_name: Name,
    /// Which workflow.
    pub workflow: Workflow,
    /// How far it has come.
    pub status: Phase,
    /// Why.
    pub cause: RotationCause,
    /// Why, in words.
    pub reason: String,
    /// The primary before.
    pub from_ref: Option<String>,
    /// The primary after.
    pub to_ref: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was settled or abandoned.
    pub rotated_at: Option<Timestamp>,
    /// From the beginning to the end, in milliseconds.
    pub duration_ms: Option<i64>,
    /// The error that it met last.
    pub error: Option<String>,
    /// The apply.
    pub correlation_id: String,
    /// The commit.
    pub commit: Option<String>,
}

impl From<RotationRecord> for HistoryEntry {
    fn from(rotation: RotationRecord) -> Self {
        let duration = rotation.finished_at.map(|finished_at| finished_at - rotation.started_at);
        Self {
            rotation_id: rotation.id,
            key_id: rotation.key_id,
            tenant_id: rotation.address.tenant_id,
            key_name: rotation.address.name,
            workflow: rotation.workflow,
            status: rotation.phase,
            cause: rotation.cause,
            reason: rotation.reason,
            from_ref: rotation.from_ref,
            to_ref: rotation.to_ref,
            started_at: rotation.started_at,
            rotated_at: rotation.finished_at,
            duration_ms: duration.map(|duration| duration.num_milliseconds()),
            error: rotation.error,
            correlation_id: rotation.correlation_id,
            commit: rotation.commit,
        }
    }
}

/// What can go wrong with the state database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no database.
    #[error("there is no state database at {location}")]
    Missing {
        /// Where it was looked for, without a password.
        location: String,
    },
    /// What was named is a folder.
    #[error("{location} is a folder, and no state database")]
    Folder {
        /// Which.
        location: String,
    },
    /// Its server cannot be reached, or refuses to serve.
    #[error("the state database {location} cannot be reached: {message}")]
    Unreachable {
        /// Where it was looked for, without a password.
        location: String,
        /// What the network or the server said.
        message: String,
    },
    /// The file is not one, or is damaged.
    #[error("the state database {location} is damaged: {message}")]
    Corrupt {
        /// Where it is.
        location: String,
        /// What the database said.
        message: String,
    },
    /// A newer keywheel wrote it.
    #[error("the state database {location} has schema {found}, and this keywheel knows schemas up to {known}")]
    Newer {
        /// Where it is.
        location: String,
        /// Its schema.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// It cannot be written.
    #[error("the state database {location} cannot be written: {message}")]
    ReadOnly {
        /// Where it is.
        location: String,
        /// What the system said.
        message: String,
    },
    /// Its disk is full.
    #[error("the disk of the state database {location} is full")]
    Full {
        /// Where it is.
        location: String,
    },
    /// Another process kept it locked for longer than a write takes.
    #[error("the state database {location} is in use by another process, which did not let go of it in time")]
    Busy {
        /// Where it is.
        location: String,
    },
    /// Somebody else holds the lease.
    #[error("{scope} is locked by {who} (process {pid}, {operation}) since {since}, until {until} at the latest")]
    Locked {
        /// What is locked.
        scope: LeaseScope,
        /// Who has it.
        who: String,
        /// Their process.
        pid: u32,
        /// What they do.
        operation: String,
        /// Since when.
        since: Timestamp,
        /// When it frees itself.
        until: Timestamp,
    },
    /// The lease is somebody else's by now.
    #[error("the lease {token} was lost to another worker")]
    LeaseLost {
        /// Its fencing token.
        token: i64,
    },
    /// A copy of it could not be written, and with it what needs one first: a migration.
    #[error("the backup {backup} was not written: {message}")]
    NoBackup {
        /// Where it was to be.
        backup: String,
        /// Why.
        message: String,
    },
    /// A write breaks a rule of the schema, such as a second unfinished rotation of a key.
    #[error("the state database refused a write: {message}")]
    Conflict {
        /// What it said.
        message: String,
    },
    /// Anything else.
    #[error("the state database {location} failed: {message}")]
    Other {
        /// Where it is.
        location: String,
        /// What it said.
        message: String,
    },
}
