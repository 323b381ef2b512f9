//! The one place where time is read and identities are made.

#![expect(clippy::disallowed_methods, reason = "this is where the clock and the generator of identities are wrapped")]

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::model::Timestamp;

#[cfg(test)]
use super::simulation::timeline;

/// Now, in whole microseconds: what the state database keeps.
#[must_use]
pub fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = timeline::now() {
        return now;
    }
    let now = chrono::Utc::now();
    chrono::DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

/// A new identity, ordered by the time of its making.
#[must_use]
pub fn new_id() -> Uuid {
    #[cfg(test)]
    if let Some(id) = timeline::new_id() {
        return id;
    }
    Uuid::now_v7()
}

/// An instant that only goes forward, to measure how long something took.
pub(super) fn instant() -> Instant {
    #[cfg(test)]
    if let Some(instant) = timeline::instant() {
        return instant;
    }
    Instant::now()
}

/// Lets some time pass.
pub(super) async fn sleep(duration: Duration) {
    #[cfg(test)]
    if let Some(awake) = timeline::sleep(duration) {
        let _ = awake.await;
        return;
    }
    tokio::time::sleep(duration).await;
}
