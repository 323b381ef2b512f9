//! Reading one KMS key: what it is, its tags, its key policy.
//!
//! Invariant: nothing here changes anything, so every request may be repeated.

use std::collections::BTreeMap;

use aws_sdk_kms::types::{KeyMetadata, KeyState, KeyUsageType, MultiRegionConfiguration, MultiRegionKeyType};
use tokio::time::Instant;

use super::client::{Regional, Repeat};
use super::error::{Failure, NOT_AWS};
use super::operation::Operation;
use crate::model::Timestamp;
use crate::provider::ErrorKind;

/// A KMS key, as `DescribeKey` gives it, with the fields that AWS always sends.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub arn: String,
    pub metadata: KeyMetadata,
}

impl Described {
    /// Takes an answer apart.
    pub(super) fn new(operation: Operation, metadata: Option<KeyMetadata>) -> Result<Self, Failure> {
        let metadata = metadata.ok_or_else(|| Failure::incomplete(operation, "KeyMetadata"))?;
        let arn = metadata.arn.clone().ok_or_else(|| Failure::incomplete(operation, "the key's ARN"))?;
        Ok(Self { arn, metadata })
    }

    pub(super) fn created_at(&self) -> Option<Timestamp> {
        let at = self.metadata.creation_date?;
        Timestamp::from_timestamp(at.secs(), at.subsec_nanos())
    }

    pub(super) fn key_id(&self) -> &str {
        &self.metadata.key_id
    }

    pub(super) fn usage(&self) -> Option<&KeyUsageType> {
        self.metadata.key_usage.as_ref()
    }

    /// Can it be used now? `Updating` is a multi-region key whose primary region moves; it works meanwhile.
    pub(super) fn is_enabled(&self) -> bool {
        matches!(self.metadata.key_state, Some(KeyState::Enabled | KeyState::Updating))
    }

    pub(super) fn is_pending_deletion(&self) -> bool {
        matches!(self.metadata.key_state, Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion))
    }

    /// Is it a replica, whose primary key is in another region?
    pub(super) fn replica_of(&self) -> Option<&str> {
        let multi = self.metadata.multi_region_configuration.as_ref()?;
        if multi.multi_region_key_type != Some(MultiRegionKeyType::Replica) {
            return None;
        }
        multi.primary_key.as_ref().and_then(|primary| primary.region.as_deref())
    }

    /// The regions of its replicas, sorted; none for a key of a single region.
    pub(super) fn replica_regions(&self) -> Vec<&str> {
        let replicas = self.metadata.multi_region_configuration.iter().flat_map(MultiRegionConfiguration::replica_keys);
        let mut regions: Vec<&str> = replicas.filter_map(|replica| replica.region.as_deref()).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }
}

/// What an id, an ARN or an alias leads to.
pub(super) async fn describe(regional: &Regional, id: &str, repeat: Repeat) -> Result<Described, Failure> {
    let answer =
        regional.call(Operation::DescribeKey, repeat, || regional.kms.describe_key().key_id(id).send()).await?;
    Described::new(Operation::DescribeKey, answer.key_metadata)
}

/// What an id, an ARN or an alias leads to; none if there is no such thing.
pub(super) async fn describe_if_there(regional: &Regional, id: &str) -> Result<Option<Described>, Failure> {
    match describe(regional, id, Repeat::Safe).await {
        Ok(described) => Ok(Some(described)),
        Err(failure) if failure.kind() == ErrorKind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Waits until a change that was answered is to be seen. The answers to some requests have no content, so that a page of a
/// proxy passes for one; and AWS KMS is eventually consistent.
///
/// # Errors
/// [`ErrorKind::Unknown`] if it is not to be seen within the time of a call.
pub(super) async fn seen(
    regional: &Regional,
    operation: Operation,
    id: &str,
    is_so: impl Fn(&Described) -> bool,
) -> Result<(), Failure> {
    let deadline = Instant::now() + regional.patience;
    for attempt in 1.. {
        if is_so(&describe(regional, id, Repeat::Settling).await?) {
            break;
        }
        if !regional.pause(attempt, deadline).await {
            let message = format!("it was answered, and {id} is as before");
            return Err(Failure::new(ErrorKind::Unknown, operation, message).help(NOT_AWS));
        }
    }
    Ok(())
}

/// A key's tags.
pub(super) async fn tags(regional: &Regional, id: &str, repeat: Repeat) -> Result<BTreeMap<String, String>, Failure> {
    let mut tags = BTreeMap::new();
    let mut marker: Option<String> = None;
    loop {
        let answer = regional
            .call(Operation::ListResourceTags, repeat, || {
                regional.kms.list_resource_tags().key_id(id).set_marker(marker.clone()).send()
            })
            .await?;
        tags.extend(answer.tags().iter().map(|tag| (tag.tag_key.clone(), tag.tag_value.clone())));
        marker = next_page(Operation::ListResourceTags, answer.truncated, marker.as_deref(), answer.next_marker)?;
        if marker.is_none() {
            return Ok(tags);
        }
    }
}

/// A key's policy, as its JSON text. Every key has exactly one, named `default`.
pub(super) async fn policy(regional: &Regional, id: &str) -> Result<String, Failure> {
    let answer = regional
        .call(Operation::GetKeyPolicy, Repeat::Safe, || {
            regional.kms.get_key_policy().key_id(id).policy_name("default").send()
        })
        .await?;
    answer.policy.ok_or_else(|| Failure::incomplete(Operation::GetKeyPolicy, "the key policy"))
}

/// The marker of the next page, if there is one. A list that says it goes on and does not say where, or that leads back
/// to the same page, must not be taken for a whole one.
pub(super) fn next_page(
    operation: Operation,
    truncated: bool,
    this: Option<&str>,
    next: Option<String>,
) -> Result<Option<String>, Failure> {
    match next.filter(|marker| truncated && !marker.is_empty()) {
        None if truncated => Err(Failure::incomplete(operation, "the marker of the next page")),
        Some(next) if this == Some(next.as_str()) => {
            Err(Failure::incomplete(operation, "another page than the one before"))
        }
        next => Ok(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_does_not_say_where_it_goes_on_is_not_whole() {
        let page = |truncated, this: Option<&str>, next: Option<&str>| {
            next_page(Operation::ListKeys, truncated, this, next.map(str::to_owned))
        };
        assert_eq!(page(false, None, None).unwrap(), None);
        assert_eq!(page(false, Some("a"), Some("b")).unwrap(), None);
        assert_eq!(page(true, Some("a"), Some("b")).unwrap().as_deref(), Some("b"));
        assert_eq!(page(true, None, None).unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(page(true, Some("a"), Some("a")).unwrap_err().kind(), ErrorKind::Malformed);
    }
}
