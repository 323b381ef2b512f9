//! What keywheel tells people, and how far each telling of it has come.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::policy::words;
use super::{ObjectRef, Timestamp};

words! {
    /// What a message is about.
    MessageKind {
        /// A run could not finish a rotation or a rollback.
        RotationFailed = "rotation_failed",
        /// A run could not make a key.
        CreationFailed = "creation_failed",
        /// A run could not disable, enable or destroy an old version.
        RetirementFailed = "retirement_failed",
        /// Another change of a key failed, or is not possible: an edit, an adoption, a link.
        ChangeFailed = "change_failed",
        /// A key manager gave no usable answer about a tenant's keys, so that nothing is known of what is due there.
        ProviderUnreachable = "provider_unreachable",
        /// A change waits until owners have approved it.
        ApprovalNeeded = "approval_needed",
        /// A key waits for a person's `resume`: it kept failing, or a person stopped it.
        KeyParked = "key_parked",
        /// A key was rolled back, and waits for a person's `release`.
        KeyHeld = "key_held",
        /// A key missed a slot.
        KeyOverdue = "key_overdue",
        /// A person marked the primary version of a key as compromised, and rotates away from it.
        VersionCompromised = "version_compromised",
        /// A version was made twice; the second one is kept, and out of use.
        VersionOrphaned = "version_orphaned",
        /// An old version was disabled.
        VersionDisabled = "version_disabled",
        /// A provider was told to destroy an old version.
        VersionDestructionScheduled = "version_destruction_scheduled",
        /// An old version is gone.
        VersionDestroyed = "version_destroyed",
    }
}
words! {
    /// A way to a receiver.
    Channel {
        /// `webhook_url`: signed, for machines.
        Webhook = "webhook",
        /// `slack_webhook`: a line for people.
        Slack = "slack",
    }
}

/// One fact, told. It holds no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Made from the fact: whoever finds the same fact again makes the same message again, which is then not told twice.
    pub id: Uuid,
    /// What it is about.
    pub kind: MessageKind,
    /// Which object.
    pub object: ObjectRef,
    /// The fact, as one line for people.
    pub text: String,
    /// The fact, for machines.
    pub details: Map<String, Value>,
    /// When it was recorded.
    pub at: Timestamp,
    /// The apply that recorded it.
    pub correlation_id: String,
}

/// A row of `outbox`: one message on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// What is told.
    pub message: Message,
    /// By which way.
    pub channel: Channel,
    /// The environment variable that holds the receiver's address. The address itself may be a secret, and is kept nowhere.
    pub receiver: String,
    /// The environment variable that holds what signs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_with: Option<String>,
    /// How often it was tried.
    pub attempt: u32,
    /// When it is tried next, at the earliest; absent once it is sent or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the receiver took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// When it was given up: the receiver does not want it, or was tried often enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up_at: Option<Timestamp>,
}
