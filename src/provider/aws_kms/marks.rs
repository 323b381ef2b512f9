//! Finding the keys that carry keywheel's tags.
//!
//! There are two ways. The tagging API finds them in one go, but lags behind, is a permission of its own, and emulators
//! lack it. Listing every key and asking for its tags is the truth, as far as the caller may see it. Whether a version
//! was made is asked in both ways, since the answer decides whether another one is made.
//!
//! Invariant: a key that one answer names and another does not know is neither there nor absent. AWS KMS is eventually
//! consistent, and whoever takes such a key for absent makes its twin.

use std::collections::BTreeMap;

use aws_sdk_resourcegroupstagging::types::TagFilter;
use futures::stream::{self, StreamExt};
use uuid::Uuid;

use super::client::{Account, Regional, Repeat};
use super::error::Failure;
use super::lookup::{self, next_page};
use super::operation::Operation;
use crate::model::Name;
use crate::provider::{ErrorKind, Found, Owned, tag};

type Tags = BTreeMap<String, String>;

/// Every key with keywheel's marks.
pub(super) async fn owned(account: &Account) -> Result<Vec<Owned>, Failure> {
    let marked = if let Some(marked) = tagged(account, tag::LINEAGE, None).await {
        marked
    } else {
        list(account, |tags| tags.contains_key(tag::LINEAGE)).await?.whole()?
    };
    let id = |tags: &Tags, name: &str| tags.get(name).and_then(|text| Uuid::parse_str(text).ok());
    let owned = marked.into_iter().map(|(arn, tags)| Owned {
        provider_ref: arn,
        lineage: id(&tags, tag::LINEAGE),
        key_id: id(&tags, tag::KEY_ID),
        tenant_id: tags.get(tag::TENANT_ID).and_then(|tenant| Name::new(tenant).ok()),
    });
    Ok(owned.collect())
}

/// The keys that a rotation made, the oldest first. One that waits for its deletion is none of them.
pub(super) async fn made_by(account: &Account, rotation_id: Uuid) -> Result<Vec<Found>, Failure> {
    let wanted = rotation_id.to_string();
    let listed = list(account, |tags| tags.get(tag::ROTATION_ID) == Some(&wanted)).await?;
    let mut marked = match tagged(account, tag::ROTATION_ID, Some(&wanted)).await {
        Some(mut marked) => {
            marked.extend(listed.marked);
            marked
        }
        // What the caller may not see could be the very key.
        None => listed.whole()?,
    };
    let home = account.home();
    let mut found = Vec::new();
    while let Some((arn, _)) = marked.pop_first() {
        let described = lookup::describe(&home, &arn, Repeat::Settling).await;
        let key = described.map_err(|failure| contradicted(&arn, failure))?;
        found.extend(Some(key).filter(|key| !key.is_pending_deletion()));
    }
    found.sort_by_cached_key(|key| (key.created_at(), key.arn.clone()));
    Ok(found.into_iter().map(|key| Found { created_at: key.created_at(), provider_ref: key.arn }).collect())
}

/// What the tagging API says; none where there is no asking it.
async fn tagged(account: &Account, name: &str, value: Option<&str>) -> Option<BTreeMap<String, Tags>> {
    if account.emulated {
        return None;
    }
    match ask_tagging(account, name, value).await {
        Ok(marked) => Some(marked),
        Err(failure) => {
            tracing::debug!("the tagging API is no help: {}", failure.error);
            None
        }
    }
}

async fn ask_tagging(account: &Account, name: &str, value: Option<&str>) -> Result<BTreeMap<String, Tags>, Failure> {
    let (client, home) = (account.tagging(), account.home());
    let filter = TagFilter::builder().key(name).set_values(value.map(|value| vec![value.to_owned()])).build();
    let mut marked = BTreeMap::new();
    let mut token: Option<String> = None;
    loop {
        let answer = home
            .call(Operation::GetResources, Repeat::Safe, || {
                let request = client.get_resources().resource_type_filters("kms:key").tag_filters(filter.clone());
                request.set_pagination_token(token.clone()).send()
            })
            .await?;
        for mapping in answer.resource_tag_mapping_list() {
            let arn = mapping.resource_arn().ok_or_else(|| Failure::incomplete(Operation::GetResources, "an ARN"))?;
            let tags = mapping.tags().iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect();
            marked.insert(arn.to_owned(), tags);
        }
        let next = answer.pagination_token.filter(|token| !token.is_empty());
        token = next_page(Operation::GetResources, next.is_some(), token.as_deref(), next)?;
        if token.is_none() {
            return Ok(marked);
        }
    }
}

/// The keys that were found by looking at each, and the first that could not be looked at.
struct Listed {
    marked: BTreeMap<String, Tags>,
    hidden: Option<Failure>,
}

impl Listed {
    fn whole(self) -> Result<BTreeMap<String, Tags>, Failure> {
        match self.hidden {
            None => Ok(self.marked),
            Some(failure) => Err(failure.help(
                "allow tag:GetResources to the caller, or kms:ListResourceTags in the key policy of every key of the account",
            )),
        }
    }
}

async fn list(account: &Account, wanted: impl Fn(&Tags) -> bool) -> Result<Listed, Failure> {
    let home = account.home();
    let arns = every_key(&home).await?;
    let mut answers = stream::iter(arns)
        .map(|arn| {
            let home = &home;
            async move { (lookup::tags(home, &arn, Repeat::Settling).await, arn) }
        })
        .buffer_unordered(account.max_concurrent);
    let mut listed = Listed { marked: BTreeMap::new(), hidden: None };
    while let Some((answer, arn)) = answers.next().await {
        match answer {
            Ok(tags) if wanted(&tags) => {
                listed.marked.insert(arn, tags);
            }
            Ok(_) => {}
            Err(failure) if failure.kind() == ErrorKind::Denied => {
                listed.hidden.get_or_insert(failure);
            }
            Err(failure) => return Err(contradicted(&arn, failure)),
        }
    }
    Ok(listed)
}

/// That a key is not found which was named a moment ago means nothing: it is too new, or was deleted just now.
fn contradicted(arn: &str, mut failure: Failure) -> Failure {
    if failure.kind() != ErrorKind::NotFound {
        return failure;
    }
    failure.error.kind = ErrorKind::Unknown;
    failure.error.message = format!("{arn} is listed, and yet not found: {}", failure.error.message);
    failure.help("AWS KMS may take minutes to know a new key everywhere, or to forget a deleted one: try again then")
}

async fn every_key(home: &Regional) -> Result<Vec<String>, Failure> {
    let mut arns = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let answer = home
            .call(Operation::ListKeys, Repeat::Safe, || {
                // The most that AWS gives in one page.
                home.kms.list_keys().limit(1000).set_marker(marker.clone()).send()
            })
            .await?;
        for key in answer.keys() {
            let arn = key.key_arn().ok_or_else(|| Failure::incomplete(Operation::ListKeys, "a key's ARN"))?;
            arns.push(arn.to_owned());
        }
        marker = next_page(Operation::ListKeys, answer.truncated, marker.as_deref(), answer.next_marker)?;
        if marker.is_none() {
            return Ok(arns);
        }
    }
}
