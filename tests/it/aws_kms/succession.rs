//! What a successor takes over, and what is refused.

use std::collections::BTreeMap;

use aws_sdk_kms::types::{GrantOperation, KeySpec, KeyUsageType, OriginType, Tag};
use keywheel::provider::{ErrorKind, KeyHandle, KeyManager, Observe, tag};
use serde_json::json;

use super::{REGION, aws, connect, handle, new_key, request};
use crate::conformance::rotate;
use crate::support::hostile::{Hostile, Reply, header};
use crate::support::moto;

const REPLICA: &str = "eu-west-1";
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"owner","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"kms:*","Resource":"*"}]}"#;

fn tag_of(name: &str, value: &str) -> Tag {
    Tag::builder().tag_key(name).tag_value(value).build().unwrap()
}

/// A key that somebody made by hand, with its alias, as keywheel adopts it.
async fn adopted(own: &aws_sdk_kms::Client, name: &str, made: aws_sdk_kms::types::KeyMetadata) -> KeyHandle {
    let arn = made.arn.unwrap();
    own.create_alias().alias_name(format!("alias/{name}")).target_key_id(&made.key_id).send().await.unwrap();
    let mut key = handle(name, &json!({"kms_key_id": arn}));
    key.versions.push(arn.clone());
    key.primary = Some(arn);
    key
}

async fn tags(own: &aws_sdk_kms::Client, id: &str) -> BTreeMap<String, String> {
    let tags = own.list_resource_tags().key_id(id).send().await.unwrap().tags.unwrap();
    tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect()
}

async fn grants(own: &aws_sdk_kms::Client, id: &str) -> Vec<String> {
    let grants = own.list_grants().key_id(id).send().await.unwrap().grants.unwrap_or_default();
    grants.into_iter().filter_map(|grant| grant.grantee_principal).collect()
}

#[test]
fn a_successor_takes_over_policy_tags_description_and_grants() {
    let name = "aws_kms::succession::a_successor_takes_over_policy_tags_description_and_grants";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let create = own.create_key().description("of patients").policy(POLICY);
        let made = create.tags(tag_of("team", "platform")).send().await.unwrap().key_metadata.unwrap();
        let mut key = adopted(&own, "patients", made).await;
        let old = key.primary.clone().unwrap();
        for grantee in ["arn:aws:iam::123456789012:role/app", "dynamodb.us-east-1.amazonaws.com"] {
            let grant = own.create_grant().key_id(&old).grantee_principal(grantee).operations(GrantOperation::Decrypt);
            grant.send().await.unwrap();
        }
        let before = own.encrypt().key_id("alias/patients").plaintext(b"x".as_slice().into()).send().await.unwrap();

        let new = rotate(&manager, &mut key).await;
        assert_ne!(new, old);
        let described = own.describe_key().key_id("alias/patients").send().await.unwrap().key_metadata.unwrap();
        assert_eq!(described.arn.as_deref(), Some(new.as_str()));
        assert_eq!(described.description.as_deref(), Some("of patients"));
        let policy = own.get_key_policy().key_id(&new).policy_name("default").send().await.unwrap().policy.unwrap();
        assert_eq!(policy, POLICY);
        let found = tags(&own, &new).await;
        assert_eq!(found["team"], "platform");
        assert_eq!(found[tag::TENANT_ID], "healthcare-org-123");
        assert_eq!(found[tag::KEY_ID], key.key_id.unwrap().to_string());
        assert!(found.contains_key(tag::ROTATION_ID) && found.contains_key(tag::LINEAGE));
        assert_eq!(grants(&own, &new).await, ["arn:aws:iam::123456789012:role/app"], "once, and none of a service");
        let after = own.decrypt().ciphertext_blob(before.ciphertext_blob.unwrap()).send().await.unwrap();
        assert_eq!(after.plaintext.unwrap().as_ref(), b"x");

        let third = rotate(&manager, &mut key).await;
        let marks = tags(&own, &third).await;
        assert_ne!(marks[tag::ROTATION_ID], found[tag::ROTATION_ID], "each version has its own rotation's mark");
        assert_eq!(grants(&own, &third).await.len(), 1);
    });
}

/// A signing key: moto cannot decrypt with a multi-region key. moto's regions also share the aliases of such a key, so
/// that the requests say in which region an alias was moved.
#[test]
fn a_multi_region_key_moves_in_every_region() {
    let name = "aws_kms::succession::a_multi_region_key_moves_in_every_region";
    moto::test(name, |endpoint| async move {
        let upstream = endpoint.clone();
        let proxy = Hostile::start(move |_| Reply::Forward(upstream.clone()));
        let manager = connect(proxy.endpoint()).await;
        let (own, there) = (aws(&endpoint, REGION).await, aws(&endpoint, REPLICA).await);
        let create = own.create_key().multi_region(true).key_spec(KeySpec::EccNistP256);
        let made = create.key_usage(KeyUsageType::SignVerify).send().await.unwrap().key_metadata.unwrap();
        let replicate = own.replicate_key().key_id(&made.key_id).replica_region(REPLICA);
        replicate.description("there").send().await.unwrap();
        let mut key = adopted(&own, "everywhere", made).await;
        let old = key.primary.clone().unwrap();

        let new = rotate(&manager, &mut key).await;
        let id = new.rsplit('/').next().unwrap();
        assert!(id.starts_with("mrk-"), "{id}");
        for (client, region) in [(&own, REGION), (&there, REPLICA)] {
            let led = client.describe_key().key_id("alias/everywhere").send().await.unwrap().key_metadata.unwrap();
            assert_eq!(led.key_id, id, "{region}");
        }
        let requests = proxy.requests();
        let moved = requests.iter().find(|request| request.operation == "UpdateAlias").unwrap();
        let scope = header(&moved.head, "authorization").unwrap();
        assert!(scope.contains(&format!("/{REPLICA}/")), "the home region's alias moves last: {scope}");
        assert_eq!(proxy.count("ReplicateKey"), 1, "proving twice replicates once");

        manager.disable(&key, &old).await.unwrap();
        assert_eq!(proxy.count("DisableKey"), 2, "in each region");
    });
}

/// The answer to `UpdateAlias` has no content: any page with status 200 looks like one.
#[test]
fn a_page_of_a_proxy_is_no_move_of_the_name() {
    let name = "aws_kms::succession::a_page_of_a_proxy_is_no_move_of_the_name";
    moto::test(name, |endpoint| async move {
        let upstream = endpoint.clone();
        let proxy = Hostile::start(move |request| match request.operation.as_str() {
            "UpdateAlias" | "DisableKey" if request.earlier == 0 => Reply::page(200),
            _ => Reply::Forward(upstream.clone()),
        });
        let manager = connect(proxy.endpoint()).await;
        let own = aws(&endpoint, REGION).await;
        let made = own.create_key().send().await.unwrap().key_metadata.unwrap();
        let key = adopted(&own, "patients", made).await;
        let successor = own.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        let old = key.primary.clone().unwrap();

        let lost = manager.promote(&key, Some(&old), &successor).await.unwrap_err();
        assert!(lost.is_unknown() && lost.help.is_some(), "{lost:?}");
        assert_eq!(manager.primary(&key).await.unwrap(), Some(old.clone()));
        manager.promote(&key, Some(&old), &successor).await.unwrap();
        assert_eq!(manager.primary(&key).await.unwrap(), Some(successor));
        let lost = manager.disable(&key, &old).await.unwrap_err();
        assert!(lost.is_unknown(), "{lost:?}");
        manager.disable(&key, &old).await.unwrap();
    });
}

#[test]
fn a_name_moves_nowhere_while_a_region_is_not_ready() {
    let name = "aws_kms::succession::a_name_moves_nowhere_while_a_region_is_not_ready";
    moto::test(name, |endpoint| async move {
        let upstream = endpoint.clone();
        let proxy = Hostile::start(move |_| Reply::Forward(upstream.clone()));
        let manager = connect(proxy.endpoint()).await;
        let (own, there) = (aws(&endpoint, REGION).await, aws(&endpoint, REPLICA).await);
        let mut made = Vec::new();
        for _ in 0..2 {
            let create = own.create_key().multi_region(true).key_spec(KeySpec::EccNistP256);
            let key = create.key_usage(KeyUsageType::SignVerify).send().await.unwrap().key_metadata.unwrap();
            own.replicate_key().key_id(&key.key_id).replica_region(REPLICA).send().await.unwrap();
            made.push(key);
        }
        let successor = made.pop().unwrap();
        let key = adopted(&own, "everywhere", made.pop().unwrap()).await;
        there.disable_key().key_id(&successor.key_id).send().await.unwrap();

        let refusal = manager.promote(&key, key.primary.as_deref(), &successor.arn.unwrap()).await.unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::Refused);
        assert!(refusal.message.contains(REPLICA) && refusal.message.contains("Disabled"), "{refusal}");
        assert_eq!(proxy.count("UpdateAlias"), 0);
    });
}

#[test]
fn keys_of_every_usage_are_made_and_proven() {
    let name = "aws_kms::succession::keys_of_every_usage_are_made_and_proven";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let kinds = [
            ("RSA_2048", "ENCRYPT_DECRYPT"),
            ("ECC_NIST_P256", "SIGN_VERIFY"),
            ("RSA_2048", "SIGN_VERIFY"),
            ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ];
        for (number, (spec, usage)) in kinds.into_iter().enumerate() {
            let mut key = handle(&format!("kind-{number}"), &json!({"key_spec": spec, "key_usage": usage}));
            rotate(&manager, &mut key).await;
            let successor = rotate(&manager, &mut key).await;
            let made = own.describe_key().key_id(&successor).send().await.unwrap().key_metadata.unwrap();
            assert_eq!(made.key_spec, Some(KeySpec::from(spec)));
            assert_eq!(made.key_usage, Some(KeyUsageType::from(usage)));
            let error = manager.encrypt(&key, b"x").await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Refused);
            assert!(error.message.contains(spec), "{error:?}");
        }
    });
}

#[test]
fn a_first_version_is_what_the_document_says() {
    let name = "aws_kms::succession::a_first_version_is_what_the_document_says";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let policy: serde_json::Value = serde_json::from_str(POLICY).unwrap();
        let mut key = handle(
            "first",
            &json!({
                "description": "of patients", "multi_region": true, "key_policy": policy, "tags": {"team": "platform"},
                "key_spec": "ECC_NIST_P256", "key_usage": "SIGN_VERIFY",
            }),
        );
        let version = rotate(&manager, &mut key).await;
        let made = own.describe_key().key_id(&version).send().await.unwrap().key_metadata.unwrap();
        assert_eq!((made.description.as_deref(), made.multi_region), (Some("of patients"), Some(true)));
        let found = own.get_key_policy().key_id(&version).policy_name("default").send().await.unwrap().policy.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&found).unwrap(), policy);
        assert_eq!(tags(&own, &version).await["team"], "platform");
    });
}

#[test]
fn what_cannot_be_succeeded_is_refused_before_anything_is_made() {
    let name = "aws_kms::succession::what_cannot_be_succeeded_is_refused_before_anything_is_made";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let made = own.create_key().origin(OriginType::External).send().await.unwrap().key_metadata.unwrap();
        let imported = adopted(&own, "imported", made).await;

        let made = own.create_key().send().await.unwrap().key_metadata.unwrap();
        let naming = POLICY.replace("\"*\"}]", &format!("\"{}\"}}]", made.arn.as_ref().unwrap()));
        own.put_key_policy().key_id(&made.key_id).policy_name("default").policy(naming).send().await.unwrap();
        let self_naming = adopted(&own, "self-naming", made).await;

        let keys = own.list_keys().send().await.unwrap().keys.unwrap().len();
        for (key, why) in [(imported, "imported"), (self_naming, "names that very key")] {
            let error = manager.create_version(&request(&key)).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Refused);
            assert!(error.message.contains(why), "{error:?}");
            assert!(error.help.is_some());
        }
        assert_eq!(own.list_keys().send().await.unwrap().keys.unwrap().len(), keys);
    });
}

#[test]
fn an_alias_that_somebody_moved_stays_where_it_is() {
    let name = "aws_kms::succession::an_alias_that_somebody_moved_stays_where_it_is";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let mut key = new_key("moved");
        let first = rotate(&manager, &mut key).await;
        let successor = manager.create_version(&request(&key)).await.unwrap().provider_ref;
        let foreign = own.create_key().send().await.unwrap().key_metadata.unwrap();
        own.update_alias().alias_name("alias/moved").target_key_id(&foreign.key_id).send().await.unwrap();

        let error = manager.promote(&key, Some(&first), &successor).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        let error = manager.promote(&key, None, &successor).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "a first version does not take an alias that exists");
        assert_eq!(manager.primary(&key).await, Ok(foreign.arn));
    });
}

#[test]
fn an_alias_moves_between_keys_of_one_kind_only() {
    let name = "aws_kms::succession::an_alias_moves_between_keys_of_one_kind_only";
    moto::test(name, |endpoint| async move {
        let manager = connect(&endpoint).await;
        let mut key = new_key("kind");
        let first = rotate(&manager, &mut key).await;
        let other = handle("kind", &json!({"key_spec": "HMAC_256", "key_usage": "GENERATE_VERIFY_MAC"}));
        let mac = manager.create_version(&request(&other)).await.unwrap().provider_ref;
        let error = manager.promote(&key, Some(&first), &mac).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains("HMAC_256"), "{error:?}");
        assert_eq!(manager.primary(&key).await, Ok(Some(first)));
    });
}
