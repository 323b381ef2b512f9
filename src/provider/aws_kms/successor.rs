//! Making a version that can stand in for the one before it: its key, and all that applications rely on.
//!
//! `CreateKey` takes spec, usage, key policy, description and tags; grants and replicas are copied afterwards, each under
//! a name or in a place that tells a second run that the first one did it. Invariant: `CreateKey` is sent at most once.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_kms::types::{GrantListEntry, KeyManagerType, KeySpec, KeyUsageType, OriginType, Tag};
use tokio::time::Instant;

use super::client::{Account, Regional, Repeat};
use super::error::Failure;
use super::lookup::{self, Described, next_page};
use super::operation::Operation;
use crate::provider::{CreateVersion, ErrorKind, tag};

/// What `CreateKey` is told.
#[derive(Debug, Default)]
struct Wanted {
    spec: Option<KeySpec>,
    usage: Option<KeyUsageType>,
    policy: Option<String>,
    description: Option<String>,
    tags: BTreeMap<String, String>,
    multi_region: bool,
}

/// Makes a key, and sends `CreateKey` at most once.
///
/// # Errors
/// Only an error of `CreateKey` itself leaves it open whether there is a key now.
pub(super) async fn create(account: &Account, request: &CreateVersion) -> Result<Described, Failure> {
    let home = account.home();
    let wanted = match &request.predecessor {
        Some(predecessor) => like(&home, predecessor, request).await.map_err(nothing_made)?,
        None => as_written(request)?,
    };
    let tags = to_tags(&wanted.tags)?;
    let answer = home
        .call(Operation::CreateKey, Repeat::Never, || {
            let create = home.kms.create_key().set_key_spec(wanted.spec.clone()).set_key_usage(wanted.usage.clone());
            let create = create.set_policy(wanted.policy.clone()).set_description(wanted.description.clone());
            create.set_tags(Some(tags.clone())).multi_region(wanted.multi_region).send()
        })
        .await?;
    Described::new(Operation::CreateKey, answer.key_metadata).map_err(|mut failure| {
        failure.error.kind = ErrorKind::Unknown;
        failure
    })
}

/// Reading the predecessor came to nothing, before anything was made.
fn nothing_made(mut failure: Failure) -> Failure {
    if failure.error.is_unknown() {
        failure.error.kind = ErrorKind::Unreachable;
    }
    failure
}

/// The first version, from the document.
fn as_written(request: &CreateVersion) -> Result<Wanted, Failure> {
    let key = &request.key.key;
    let policy = key.key_policy.as_ref().map(serde_json::to_string).transpose();
    let policy = policy.map_err(|error| Failure::new(ErrorKind::Refused, Operation::CreateKey, error.to_string()))?;
    Ok(Wanted {
        spec: Some(key.key_spec.as_deref().unwrap_or("SYMMETRIC_DEFAULT").into()),
        usage: Some(key.key_usage.as_deref().unwrap_or("ENCRYPT_DECRYPT").into()),
        policy,
        description: key.description.clone(),
        tags: with_marks(key.tags.clone(), request),
        multi_region: key.multi_region,
    })
}

/// A successor: what its predecessor is, and what the document says since.
async fn like(home: &Regional, predecessor: &str, request: &CreateVersion) -> Result<Wanted, Failure> {
    let old = lookup::describe(home, predecessor, Repeat::Safe).await?;
    can_be_succeeded(home, &old)?;
    let policy = lookup::policy(home, predecessor).await?;
    if policy.contains(old.key_id()) {
        return Err(Failure::new(
            ErrorKind::Refused,
            Operation::GetKeyPolicy,
            format!("the key policy of {predecessor} names that very key, so that its copy would not fit a successor"),
        )
        .help("write \"Resource\": \"*\" there: in a key policy it means the key that the policy belongs to"));
    }
    let mut tags = lookup::tags(home, predecessor, Repeat::Safe).await?;
    tags.extend(request.key.key.tags.clone());
    let description = request.key.key.description.clone().or_else(|| old.metadata.description.clone());
    Ok(Wanted {
        spec: old.metadata.key_spec.clone(),
        usage: old.metadata.key_usage.clone(),
        policy: Some(policy),
        description,
        tags: with_marks(tags, request),
        multi_region: old.metadata.multi_region == Some(true),
    })
}

/// Can `CreateKey` make another of its kind?
fn can_be_succeeded(home: &Regional, old: &Described) -> Result<(), Failure> {
    let refuse = |why: String, help: &str| {
        Err(Failure::new(ErrorKind::Refused, Operation::CreateKey, format!("{} {why}", old.arn)).help(help))
    };
    if old.metadata.key_manager == Some(KeyManagerType::Aws) {
        return refuse(
            "is managed by AWS".to_owned(),
            "AWS rotates such keys itself; use a customer managed key for what keywheel is to rotate",
        );
    }
    if let Some(primary) = old.replica_of() {
        return refuse(
            format!("is a replica in {}; its primary key is in {primary}", home.region),
            "write the region of the primary key as `kms_region`: a rotation moves every replica with it",
        );
    }
    match &old.metadata.origin {
        None | Some(OriginType::AwsKms) => Ok(()),
        Some(OriginType::External) => refuse(
            "has imported key material".to_owned(),
            "only its owner can import new material: make the successor by hand, and adopt it",
        ),
        Some(other) => refuse(
            format!("is in a custom key store ({})", other.as_str()),
            "keywheel makes keys in AWS KMS itself only: make the successor by hand, and adopt it",
        ),
    }
}

/// Tags that a key of ours takes: AWS's own cannot be given, and keywheel's are those of this rotation.
fn with_marks(mut tags: BTreeMap<String, String>, request: &CreateVersion) -> BTreeMap<String, String> {
    tags.retain(|name, _| !is_reserved(name));
    tags.insert(tag::ROTATION_ID.to_owned(), request.rotation_id.to_string());
    tags.insert(tag::TENANT_ID.to_owned(), request.key.address.tenant_id.to_string());
    tags.insert(tag::LINEAGE.to_owned(), request.lineage.to_string());
    if let Some(key_id) = request.key.key_id {
        tags.insert(tag::KEY_ID.to_owned(), key_id.to_string());
    }
    tags
}

/// Does a tag belong to AWS, or to keywheel?
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("aws:") || name.starts_with("keywheel:")
}

/// Tags as the SDK wants them.
pub(super) fn to_tags(tags: &BTreeMap<String, String>) -> Result<Vec<Tag>, Failure> {
    let tags = tags.iter().map(|(name, value)| Tag::builder().tag_key(name).tag_value(value).build());
    let tags: Result<_, _> = tags.collect();
    tags.map_err(|error| Failure::new(ErrorKind::Refused, Operation::TagResource, error.to_string()))
}

/// Gives `new` what `CreateKey` cannot: the replicas and the grants of `old`. Doing it again adds nothing.
pub(super) async fn take_over(account: &Account, old: &Described, new: &Described) -> Result<(), Failure> {
    let home = account.home();
    let there: BTreeSet<&str> = new.replica_regions().into_iter().collect();
    let marks = lookup::tags(&home, &new.arn, Repeat::Settling).await?;
    for region in old.replica_regions() {
        if !there.contains(region) {
            replicate(&home, &account.region(region), old, new, &marks).await?;
        }
    }
    for region in old.replica_regions() {
        let regional = account.region(region);
        wait_until_enabled(&regional, new).await?;
        copy_grants(&regional, old, new).await?;
    }
    copy_grants(&home, old, new).await
}

/// A replica has a key policy, a description and tags of its own.
async fn replicate(
    home: &Regional,
    there: &Regional,
    old: &Described,
    new: &Described,
    marks: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let replica = lookup::describe(there, old.key_id(), Repeat::Safe).await?;
    let policy = lookup::policy(there, old.key_id()).await?;
    let mut tags = lookup::tags(there, old.key_id(), Repeat::Safe).await?;
    tags.retain(|name, _| !is_reserved(name));
    tags.extend(marks.iter().filter(|(name, _)| name.starts_with("keywheel:")).map(|(n, v)| (n.clone(), v.clone())));
    let tags = to_tags(&tags)?;
    let send = || {
        let request = home.kms.replicate_key().key_id(new.key_id()).replica_region(&there.region);
        let request = request.policy(&policy).set_description(replica.metadata.description.clone());
        request.set_tags(Some(tags.clone())).send()
    };
    match home.call(Operation::ReplicateKey, Repeat::Settling, send).await {
        // An attempt before has made it.
        Err(failure) if failure.kind() == ErrorKind::Conflict => Ok(()),
        answer => answer.map(drop),
    }
}

/// A replica takes up to minutes to be made. What is not ready in the time of a call is asked for again later.
async fn wait_until_enabled(there: &Regional, new: &Described) -> Result<(), Failure> {
    let deadline = Instant::now() + there.patience;
    for attempt in 1.. {
        let replica = lookup::describe(there, new.key_id(), Repeat::Settling).await?;
        if replica.is_enabled() {
            break;
        }
        if !there.pause(attempt, deadline).await {
            let state = replica.metadata.key_state.as_ref().map_or("without a state", |state| state.as_str());
            let message = format!("the replica of {} in {} is still {state}", new.arn, there.region);
            return Err(Failure::new(ErrorKind::Unknown, Operation::ReplicateKey, message)
                .help("AWS may take minutes: the next apply goes on from here"));
        }
    }
    Ok(())
}

/// Gives every principal that may use `old` by a grant the same on `new`.
async fn copy_grants(regional: &Regional, old: &Described, new: &Described) -> Result<(), Failure> {
    let grants = grants(regional, old.key_id(), Repeat::Safe).await?;
    if grants.is_empty() {
        return Ok(());
    }
    let there = self::grants(regional, new.key_id(), Repeat::Settling).await?;
    let there: BTreeSet<String> = there.into_iter().filter_map(|grant| grant.name).collect();
    for grant in grants {
        let Some(name) = grant.grant_id.as_ref().map(|id| format!("keywheel-{id}")) else {
            return Err(Failure::incomplete(Operation::ListGrants, "a grant's id"));
        };
        if there.contains(&name) {
            continue;
        }
        if let Some(why) = not_to_copy(&grant) {
            tracing::warn!(
                key = old.arn,
                grant = name.trim_start_matches("keywheel-"),
                "a grant is not copied to the new key: {why}"
            );
            continue;
        }
        regional
            .call(Operation::CreateGrant, Repeat::Settling, || {
                let request = regional.kms.create_grant().key_id(new.key_id()).name(&name);
                let request = request.set_grantee_principal(grant.grantee_principal.clone());
                let request = request.set_retiring_principal(grant.retiring_principal.clone());
                request.set_operations(grant.operations.clone()).set_constraints(grant.constraints.clone()).send()
            })
            .await?;
    }
    Ok(())
}

/// Why a grant stays with the old key, if it does.
fn not_to_copy(grant: &GrantListEntry) -> Option<&'static str> {
    let service = |principal: &Option<String>| principal.as_ref().is_some_and(|name| name.ends_with("amazonaws.com"));
    let named = [&grant.grantee_principal, &grant.retiring_principal, &grant.issuing_account];
    if grant.grantee_service_principal.is_some()
        || grant.retiring_service_principal.is_some()
        || named.into_iter().any(service)
    {
        return Some(
            "an AWS service made it for a resource of its own, which goes on using the old key by its ARN: moving the \
             alias changes nothing there",
        );
    }
    if !grant.grantee_principal.as_ref().is_some_and(|principal| principal.starts_with("arn:")) {
        return Some("its grantee does not exist any more");
    }
    None
}

async fn grants(regional: &Regional, key_id: &str, repeat: Repeat) -> Result<Vec<GrantListEntry>, Failure> {
    let mut grants = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let answer = regional
            .call(Operation::ListGrants, repeat, || {
                regional.kms.list_grants().key_id(key_id).set_marker(marker.clone()).send()
            })
            .await?;
        grants.extend(answer.grants.unwrap_or_default());
        marker = next_page(Operation::ListGrants, answer.truncated, marker.as_deref(), answer.next_marker)?;
        if marker.is_none() {
            return Ok(grants);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(grantee: &str) -> GrantListEntry {
        GrantListEntry::builder().grantee_principal(grantee).build()
    }

    #[test]
    fn grants_of_services_and_of_deleted_principals_stay_with_the_old_key() {
        assert!(not_to_copy(&grant("arn:aws:iam::123456789012:role/app")).is_none());
        assert!(not_to_copy(&grant("dynamodb.us-east-1.amazonaws.com")).is_some());
        assert!(not_to_copy(&grant("AROAEXAMPLEID")).is_some());
        assert!(not_to_copy(&GrantListEntry::builder().build()).is_some());
        let retired_by_a_service = GrantListEntry::builder()
            .grantee_principal("arn:aws:iam::123456789012:role/app")
            .retiring_principal("dynamodb.us-east-1.amazonaws.com");
        assert!(not_to_copy(&retired_by_a_service.build()).is_some());
    }

    #[test]
    fn tags_of_aws_and_of_keywheel_are_reserved() {
        assert!(is_reserved("aws:cloudformation:stack-name"));
        assert!(is_reserved(tag::ROTATION_ID));
        assert!(!is_reserved("team"));
    }
}
