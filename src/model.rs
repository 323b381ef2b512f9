//! The nouns: what a policy, a key, a version and a rotation are.
//!
//! Everything here is plain data. The document types ([`RotationPolicy`], [`EncryptionKey`], [`Tenant`],
//! [`Guardrail`], [`Freeze`]) carry the names that YAML, the JSON schema, the database columns and the JSON output
//! share; the record types ([`PolicyRecord`], [`KeyRecord`], [`VersionRecord`], [`RotationRecord`]) are what the state
//! database says about them. [`Test`] is what users expect of them.
//!
//! Must not know: any clock, any randomness, git, a database, a key manager.

pub(crate) mod case;
mod count;
mod message;
mod name;
mod observed;
mod policy;
mod record;
mod rule;
mod secret;
mod tenant;

pub use case::{
    ACTIONS, Case, Expectation, ExpectedChange, ExpectedFinding, ExpectedWait, Given, GivenRecord, Matching,
    RecordedKey, RecordedVersion, Test,
};
pub use count::{count, days, thousands, times};
pub use message::{Channel, Delivery, Message, MessageKind};
pub use name::{Address, Name, NameError, ObjectKind, ObjectRef};
pub use observed::{LastUse, Observation, ObservedKey, ObservedVersion};
pub(crate) use policy::words;
pub use policy::{
    Disposition, EncryptionKey, KmsProvider, NOT_INHERITED, NotificationSettings, PolicyDefaults, PolicyStatus,
    RotationEvent, RotationPolicy, RotationStrategy, RotationTrigger, RotationWindow, Severity, TimeOfDay, Waiver,
    Weekday,
};
pub use record::{
    AppliedPlan, AuditEntry, DocumentRecord, KeyRecord, KeyState, Origin, Outcome, PastRotation, Phase, PolicyRecord,
    Recorded, Retention, RotationCause, RotationRecord, Step, StepRecord, UsageCounter, VersionRecord, VersionState,
    Workflow,
};
pub use rule::{Freeze, Guardrail};
pub use secret::{Secret, serialize_redacted};
pub use tenant::{Owner, Tenant};

/// An instant, always in UTC. Stored and printed as RFC 3339 with a `Z`.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// The value of `apiVersion` in every document.
pub const API_VERSION: &str = "keywheel/v1";
