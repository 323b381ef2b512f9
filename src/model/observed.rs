//! What the key managers say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Timestamp, VersionState};

/// The answer of a provider about one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Observation {
    /// Nobody asked (`--refresh=false`), or the provider gave no usable answer: nothing may be concluded.
    Unknown {
        /// The provider's error, or that it was not asked.
        why: String,
    },
    /// The provider says that there is no such key.
    Missing,
    /// The provider has it.
    Present(ObservedKey),
}

/// A key as the provider holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedKey {
    /// The version that the stable name leads to, if it leads anywhere.
    pub primary: Option<String>,
    /// What the document's `kms_key_id` (an id, an ARN or an alias) leads to, as a provider ref.
    pub named: Option<String>,
    /// Every version of it that is known here, the oldest first.
    pub versions: Vec<ObservedVersion>,
    /// Settings that a plan compares: `key_spec`, `key_usage`, `description`, and so on, in the document's names.
    pub settings: BTreeMap<String, String>,
}

/// When a version was last used, as far as the provider knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUse {
    /// Since when it has kept count. What was before that instant is not known.
    pub tracked_since: Timestamp,
    /// The last use since then; none if there was none.
    pub at: Option<Timestamp>,
}

/// One version as the provider holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedVersion {
    /// What the provider calls it: an ARN, or `NAME:VERSION`.
    pub provider_ref: String,
    /// Its state there; the primary is `active`.
    pub state: VersionState,
    /// When its material was made.
    pub created_at: Option<Timestamp>,
}
