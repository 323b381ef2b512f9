//! The end of a version, in every region that has it: disabled, scheduled for deletion, gone; and the way back.
//!
//! In AWS KMS decryption ends when a deletion is *scheduled*. `ScheduleKeyDeletion` and `CancelKeyDeletion` fail the
//! second time: what is so already is read first. A multi-region primary key waits for its replicas, so that those are
//! scheduled before it.

use std::sync::Arc;

use aws_sdk_kms::primitives::DateTime;
use chrono::Duration;

use super::alias;
use super::client::{Account, Regional, Repeat};
use super::error::Failure;
use super::lookup::{self, Described};
use super::operation::Operation;
use crate::model::{LastUse, Timestamp};
use crate::provider::ErrorKind;

/// The longest that `ScheduleKeyDeletion` takes, and its default.
pub(super) const WAITING_DAYS: u32 = 30;

/// Disables a key that the alias does not lead to.
pub(super) async fn disable(account: &Account, alias: Option<&str>, version: &str) -> Result<(), Failure> {
    let described = lookup::describe(&account.home(), version, Repeat::Safe).await?;
    let places = places(account, &described);
    out_of_use(&places, alias, &described, Operation::DisableKey).await?;
    for place in &places {
        let send = || place.kms.disable_key().key_id(described.key_id()).send();
        place.call(Operation::DisableKey, Repeat::Safe, send).await?;
        lookup::seen(place, Operation::DisableKey, described.key_id(), |key| !key.is_enabled()).await?;
    }
    Ok(())
}

/// Enables a disabled key.
pub(super) async fn enable(account: &Account, version: &str) -> Result<(), Failure> {
    let described = lookup::describe(&account.home(), version, Repeat::Safe).await?;
    for place in places(account, &described).iter().rev() {
        let send = || place.kms.enable_key().key_id(described.key_id()).send();
        place.call(Operation::EnableKey, Repeat::Safe, send).await?;
        lookup::seen(place, Operation::EnableKey, described.key_id(), Described::is_enabled).await?;
    }
    Ok(())
}

/// Schedules the deletion of a disabled key, and gives its date.
pub(super) async fn schedule(account: &Account, alias: Option<&str>, version: &str) -> Result<Timestamp, Failure> {
    let operation = Operation::ScheduleKeyDeletion;
    let home = account.home();
    let described = lookup::describe(&home, version, Repeat::Safe).await?;
    let places = places(account, &described);
    out_of_use(&places, alias, &described, operation).await?;
    for place in &places {
        let found = lookup::describe(place, described.key_id(), Repeat::Safe).await?;
        if found.is_pending_deletion() {
            continue;
        }
        if found.is_enabled() {
            let message =
                format!("{version} is enabled in {}: only a disabled key is scheduled for deletion", place.region);
            return Err(Failure::new(ErrorKind::Refused, operation, message));
        }
        let send = || {
            let request = place.kms.schedule_key_deletion().key_id(described.key_id());
            request.pending_window_in_days(WAITING_DAYS.cast_signed()).send()
        };
        let called = place.call(operation, Repeat::Safe, send).await;
        settled(place, described.key_id(), called, Described::is_pending_deletion).await?;
    }
    let primary = lookup::describe(&home, version, Repeat::Safe).await?;
    if let Some(date) = primary.metadata.deletion_date.as_ref().and_then(instant) {
        return Ok(date);
    }
    // A primary's own waiting period begins when the last of its replicas is gone.
    let mut latest = None;
    for place in &places {
        let replica = lookup::describe_if_there(place, described.key_id()).await?;
        latest = latest.max(replica.and_then(|replica| replica.metadata.deletion_date.as_ref().and_then(instant)));
    }
    let date = latest.and_then(|date| date.checked_add_signed(Duration::days(WAITING_DAYS.into())));
    date.ok_or_else(|| Failure::incomplete(operation, "DeletionDate"))
}

/// Cancels the deletion of a key, which is disabled then.
pub(super) async fn cancel(account: &Account, version: &str) -> Result<(), Failure> {
    let described = lookup::describe(&account.home(), version, Repeat::Safe).await?;
    // The primary first: a replica without it could not be used.
    for place in places(account, &described).iter().rev() {
        if !lookup::describe(place, described.key_id(), Repeat::Safe).await?.is_pending_deletion() {
            continue;
        }
        let send = || place.kms.cancel_key_deletion().key_id(described.key_id()).send();
        let called = place.call(Operation::CancelKeyDeletion, Repeat::Safe, send).await;
        let is_kept = |key: &Described| !key.is_pending_deletion();
        settled(place, described.key_id(), called, is_kept).await?;
        lookup::seen(place, Operation::CancelKeyDeletion, described.key_id(), is_kept).await?;
    }
    Ok(())
}

/// A call that fails on a key that is as it was to be: its first answer was lost, and AWS KMS refuses to do it twice.
async fn settled<T>(
    place: &Regional,
    id: &str,
    called: Result<T, Failure>,
    is_so: impl Fn(&Described) -> bool,
) -> Result<(), Failure> {
    match called {
        Ok(_) => Ok(()),
        Err(failure) => match lookup::describe(place, id, Repeat::Safe).await {
            Ok(found) if is_so(&found) => Ok(()),
            _ => Err(failure),
        },
    }
}

/// Makes sure that a key is gone.
pub(super) async fn is_gone(account: &Account, version: &str) -> Result<(), Failure> {
    let operation = Operation::DescribeKey;
    let Some(described) = lookup::describe_if_there(&account.home(), version).await? else { return Ok(()) };
    if !described.is_pending_deletion() {
        let message = format!("{version} is not scheduled for deletion any more: somebody cancelled it");
        return Err(Failure::new(ErrorKind::Conflict, operation, message));
    }
    let message = format!("AWS KMS has not deleted {version} yet");
    Err(Failure::new(ErrorKind::Refused, operation, message)
        .help("it does so within a day after the date; apply later"))
}

/// When a key was last used. An endpoint that does not know the operation knows nothing.
pub(super) async fn last_use(home: &Regional, version: &str) -> Result<Option<LastUse>, Failure> {
    let operation = Operation::GetKeyLastUsage;
    let answer = home.call(operation, Repeat::Safe, || home.kms.get_key_last_usage().key_id(version).send()).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) if failure.kind() == ErrorKind::Refused => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let Some(tracked_since) = answer.tracking_start_date().and_then(instant) else { return Ok(None) };
    let used = answer.key_last_usage().and_then(|usage| usage.timestamp());
    Ok(Some(LastUse { tracked_since, at: used.and_then(instant) }))
}

/// The regions that have the key: replicas first, the key's own region last.
fn places(account: &Account, key: &Described) -> Vec<Arc<Regional>> {
    let mut places: Vec<_> = key.replica_regions().into_iter().map(|name| account.region(name)).collect();
    places.push(account.home());
    places
}

/// No alias of the document leads to it, in any region.
async fn out_of_use(
    places: &[Arc<Regional>],
    alias: Option<&str>,
    key: &Described,
    operation: Operation,
) -> Result<(), Failure> {
    for place in places {
        if let Some(alias) = alias
            && let Some(primary) = alias::target(place, alias).await?
            && primary.key_id() == key.key_id()
        {
            let message = format!("{alias} leads to {} in {}: it is in use", key.arn, place.region);
            return Err(Failure::new(ErrorKind::Refused, operation, message));
        }
    }
    Ok(())
}

fn instant(at: &DateTime) -> Option<Timestamp> {
    Timestamp::from_timestamp(at.secs(), at.subsec_nanos())
}
