//! The one place where time is read and identities are made.

#![expect(clippy::disallowed_methods, reason = "this is where the clock and the generator of identities are wrapped")]

use uuid::Uuid;

use crate::model::Timestamp;

/// Now, in whole microseconds: what the state database keeps.
#[must_use]
pub fn now() -> Timestamp {
    let now = chrono::Utc::now();
    chrono::DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

/// A new identity, ordered by the time of its making.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}
