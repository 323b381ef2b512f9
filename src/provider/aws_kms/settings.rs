//! A key's description and tags: as a plan compares them, and as the document wants them.
//!
//! Invariant: nothing is changed or taken away that no document named. A tag that the document does not name is its owner's.

use std::collections::BTreeMap;

use super::client::{Regional, Repeat};
use super::error::Failure;
use super::lookup::{self, Described};
use super::operation::Operation;
use super::successor::{is_reserved, to_tags};
use crate::model::EncryptionKey;

type Tags = BTreeMap<String, String>;

/// The settings that a plan compares, in the document's names. Tags are a request and a permission of their own, and
/// asked for only where the document sets some.
pub(super) async fn observed(
    home: &Regional,
    key: &Described,
    tagged: bool,
) -> Result<BTreeMap<String, String>, Failure> {
    let metadata = &key.metadata;
    let tags = if tagged { lookup::tags(home, &key.arn, Repeat::Safe).await? } else { Tags::new() };
    let tags = tags.into_iter().filter(|(name, _)| !is_reserved(name));
    let mut settings: BTreeMap<String, String> = tags.map(|(name, value)| (format!("tag:{name}"), value)).collect();
    let description = metadata.description.clone().unwrap_or_default();
    settings.insert("description".to_owned(), description);
    settings.insert("multi_region".to_owned(), (metadata.multi_region == Some(true)).to_string());
    if let Some(spec) = &metadata.key_spec {
        settings.insert("key_spec".to_owned(), spec.as_str().to_owned());
    }
    if let Some(usage) = &metadata.key_usage {
        settings.insert("key_usage".to_owned(), usage.as_str().to_owned());
    }
    Ok(settings)
}

/// Makes the description and tags of `version` those of the document, and takes away what `former` set and the document
/// does not. Doing it again changes nothing.
pub(super) async fn restore(
    home: &Regional,
    document: &EncryptionKey,
    former: Option<&EncryptionKey>,
    version: &str,
) -> Result<(), Failure> {
    let key = lookup::describe(home, version, Repeat::Settling).await?;
    let there = key.metadata.description.as_deref().unwrap_or_default();
    if let Some(text) = description(there, document, former) {
        let send = || home.kms.update_key_description().key_id(&key.arn).description(text).send();
        home.call(Operation::UpdateKeyDescription, Repeat::Safe, send).await?;
    }
    let there = lookup::tags(home, &key.arn, Repeat::Settling).await?;
    // Taken away before others are added: a key can have 50.
    let dropped = dropped(&there, document, former);
    if !dropped.is_empty() {
        let send = || home.kms.untag_resource().key_id(&key.arn).set_tag_keys(Some(dropped.clone())).send();
        home.call(Operation::UntagResource, Repeat::Safe, send).await?;
    }
    let lacking = lacking(&there, document);
    if !lacking.is_empty() {
        let tags = to_tags(&lacking)?;
        let send = || home.kms.tag_resource().key_id(&key.arn).set_tags(Some(tags.clone())).send();
        home.call(Operation::TagResource, Repeat::Safe, send).await?;
    }
    Ok(())
}

/// The description to write, if it is not there already.
fn description<'a>(there: &str, document: &'a EncryptionKey, former: Option<&EncryptionKey>) -> Option<&'a str> {
    let was_given = former.and_then(|former| former.description.as_deref()) == Some(there);
    let wanted = document.description.as_deref().or_else(|| was_given.then_some(""));
    wanted.filter(|text| *text != there)
}

/// The tags that the former document set, the document does not, and nobody has changed since.
fn dropped(there: &Tags, document: &EncryptionKey, former: Option<&EncryptionKey>) -> Vec<String> {
    let given = former.into_iter().flat_map(|former| &former.tags);
    let dropped = given.filter(|(name, value)| {
        !is_reserved(name) && !document.tags.contains_key(*name) && there.get(*name) == Some(value)
    });
    dropped.map(|(name, _)| name.clone()).collect()
}

/// The document's tags that are not there as it says.
fn lacking(there: &Tags, document: &EncryptionKey) -> Tags {
    let mut lacking = document.tags.clone();
    lacking.retain(|name, value| !is_reserved(name) && there.get(name) != Some(value));
    lacking
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(fields: &Value) -> EncryptionKey {
        let mut document = json!({"tenant_id": "acme", "key_name": "patients", "key_type": "phi_data"});
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(document).unwrap()
    }

    fn tags(tags: &[(&str, &str)]) -> Tags {
        tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_tag_that_left_the_document_goes_unless_somebody_changed_it() {
        let former = document(&json!({"tags": {"team": "platform", "cost": "42", "stage": "live", "gone": "x"}}));
        let now = document(&json!({"tags": {"stage": "test"}}));
        let there = tags(&[("team", "platform"), ("cost", "43"), ("stage", "live"), ("owner", "somebody")]);
        assert_eq!(dropped(&there, &now, Some(&former)), ["team"]);
        assert_eq!(lacking(&there, &now), tags(&[("stage", "test")]));
        assert_eq!(dropped(&there, &now, None), [""; 0], "without a former document nothing is known to be ours");
    }

    #[test]
    fn a_description_that_left_the_document_goes_unless_somebody_changed_it() {
        let (described, silent) = (document(&json!({"description": "of patients"})), document(&json!({})));
        assert_eq!(description("of patients", &silent, Some(&described)), Some(""));
        assert_eq!(description("changed", &silent, Some(&described)), None);
        assert_eq!(description("of patients", &silent, None), None);
        assert_eq!(description("changed", &described, Some(&described)), Some("of patients"));
        assert_eq!(description("of patients", &described, None), None);
    }
}
