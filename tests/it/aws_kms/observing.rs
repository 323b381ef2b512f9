//! What a plan sees of the keys in AWS.

use keywheel::model::Observation;
use keywheel::model::VersionState::{Active, Deactivated, Disabled, PendingDestruction};
use keywheel::provider::{KeyManager, Observe};
use serde_json::json;

use super::{REGION, aws, connect, handle, new_key, present, request, schedule_deletion};
use crate::conformance::rotate;
use crate::support::hostile::{Hostile, Reply};
use crate::support::moto::{self, Moto};
use crate::support::rerun;

#[test]
fn a_key_is_seen_with_its_settings_and_the_states_of_its_versions() {
    let name = "aws_kms::observing::a_key_is_seen_with_its_settings_and_the_states_of_its_versions";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let mut key = handle("seen", &json!({"description": "of patients", "tags": {"team": "platform"}}));
        let mut versions = Vec::new();
        for _ in 0..4 {
            versions.push(rotate(&manager, &mut key).await);
        }
        schedule_deletion(&own, &versions[0]).await;
        manager.disable(&key, &versions[1]).await.unwrap();

        let observed = present(&manager, &key).await;
        assert_eq!(observed.primary.as_ref(), versions.last());
        let states: Vec<_> = observed.versions.iter().map(|version| version.state).collect();
        assert_eq!(states, [PendingDestruction, Disabled, Deactivated, Active]);
        assert_eq!(
            serde_json::to_value(&observed.settings).unwrap(),
            json!({
                "description": "of patients", "key_spec": "SYMMETRIC_DEFAULT", "key_usage": "ENCRYPT_DECRYPT",
                "multi_region": "false", "tag:team": "platform",
            })
        );
    });
}

#[test]
fn a_key_is_named_by_id_arn_or_alias() {
    let name = "aws_kms::observing::a_key_is_named_by_id_arn_or_alias";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let made = own.create_key().send().await.unwrap().key_metadata.unwrap();
        let arn = made.arn.unwrap();
        own.create_alias().alias_name("alias/named").target_key_id(&made.key_id).send().await.unwrap();
        for id in [&made.key_id, &arn, "alias/named"] {
            let mut key = handle("named", &json!({"kms_key_id": id}));
            key.key_id = None;
            let observed = present(&manager, &key).await;
            assert_eq!((observed.named.as_ref(), observed.primary.as_ref()), (Some(&arn), Some(&arn)), "{id}");
            assert_eq!(observed.versions[0].state, Active);
        }
        let mut without_alias = handle("named", &json!({"kms_key_id": arn}));
        without_alias.key.kms_alias = None;
        assert_eq!(present(&manager, &without_alias).await.primary.as_ref(), Some(&arn));

        let nowhere = handle("nowhere", &json!({"kms_key_id": "1234abcd-12ab-34cd-56ef-1234567890ab"}));
        assert_eq!(manager.observe(&[nowhere]).await, [Observation::Missing]);
    });
}

#[test]
fn settings_that_somebody_changed_are_set_again_and_others_left_alone() {
    let name = "aws_kms::observing::settings_that_somebody_changed_are_set_again_and_others_left_alone";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let mut key = handle("drifted", &json!({"description": "of patients", "tags": {"team": "platform"}}));
        let version = rotate(&manager, &mut key).await;
        let tag = |name: &str, value: &str| {
            aws_sdk_kms::types::Tag::builder().tag_key(name).tag_value(value).build().unwrap()
        };
        own.update_key_description().key_id(&version).description("changed").send().await.unwrap();
        let changed = own.tag_resource().key_id(&version).tags(tag("team", "nobody")).tags(tag("cost", "42"));
        changed.send().await.unwrap();
        assert_eq!(present(&manager, &key).await.settings["tag:team"], "nobody");

        manager.update_settings(&key, Some(&key.key), &version).await.unwrap();
        let settings = present(&manager, &key).await.settings;
        assert_eq!(settings["description"], "of patients");
        assert_eq!(settings["tag:team"], "platform");
        assert_eq!(settings["tag:cost"], "42", "a tag that the document does not name is its owner's");
    });
}

#[test]
fn what_left_the_document_is_taken_away_unless_somebody_changed_it() {
    let name = "aws_kms::observing::what_left_the_document_is_taken_away_unless_somebody_changed_it";
    moto::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let tags = json!({"team": "platform", "cost": "42", "stage": "live"});
        let mut key = handle("edited", &json!({"description": "of patients", "tags": tags}));
        let version = rotate(&manager, &mut key).await;
        let theirs = aws_sdk_kms::types::Tag::builder().tag_key("cost").tag_value("43").build().unwrap();
        own.tag_resource().key_id(&version).tags(theirs).send().await.unwrap();

        let former = key.key.clone();
        key.key.description = None;
        key.key.tags = [("stage".to_owned(), "test".to_owned())].into();
        for _ in 0..2 {
            manager.update_settings(&key, Some(&former), &version).await.unwrap();
            let mut settings = present(&manager, &key).await.settings;
            settings.retain(|name, _| name == "description" || name.starts_with("tag:"));
            let settings = serde_json::to_value(settings).unwrap();
            assert_eq!(settings, json!({"description": "", "tag:cost": "43", "tag:stage": "test"}));
        }
    });
}

#[test]
fn a_recorded_key_is_asked_for_once_whatever_it_was_adopted_as() {
    let name = "aws_kms::observing::a_recorded_key_is_asked_for_once_whatever_it_was_adopted_as";
    moto::test(name, |endpoint| async move {
        let proxy = Hostile::start(move |_| Reply::Forward(endpoint.clone()));
        let manager = connect(proxy.endpoint()).await;
        let mut key = new_key("adopted");
        let adopted = rotate(&manager, &mut key).await;
        key.key.kms_key_id = Some(adopted.clone());
        let successor = rotate(&manager, &mut key).await;
        key.versions = vec![successor.clone()];
        let before = proxy.requests().len();
        assert_eq!(present(&manager, &key).await.primary, Some(successor));
        let requests = proxy.requests().split_off(before);
        let operations: Vec<_> = requests.iter().map(|request| request.operation.as_str()).collect();
        assert_eq!(operations, ["DescribeKey"]);

        let unrecorded = handle("adopted", &json!({"kms_key_id": adopted}));
        assert_eq!(present(&manager, &unrecorded).await.named, Some(adopted));
    });
}

#[test]
fn a_version_in_use_is_not_disabled() {
    let name = "aws_kms::observing::a_version_in_use_is_not_disabled";
    moto::test(name, |endpoint| async move {
        let manager = connect(&endpoint).await;
        let mut key = new_key("in-use");
        let version = rotate(&manager, &mut key).await;
        let error = manager.disable(&key, &version).await.unwrap_err();
        assert!(error.message.contains("in use"), "{error:?}");
        assert_eq!(present(&manager, &key).await.versions[0].state, Active);
    });
}

#[test]
fn marked_keys_are_found_by_the_tagging_api_and_by_looking_at_each() {
    let name = "aws_kms::observing::marked_keys_are_found_by_the_tagging_api_and_by_looking_at_each";
    if rerun::is_child(name) {
        return rerun::block_on(async {
            let endpoint = std::env::var("KEYWHEEL_TEST_ENDPOINT").unwrap();
            let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
            own.create_key().send().await.unwrap();
            let key = new_key("marked");
            let wanted = request(&key);
            let made = manager.create_version(&wanted).await.unwrap();
            let owned = manager.owned().await.unwrap();
            assert_eq!(owned.len(), 1, "a key without marks is not ours");
            assert_eq!((&owned[0].provider_ref, owned[0].key_id), (&made.provider_ref, key.key_id));
            assert_eq!(owned[0].lineage, Some(wanted.lineage));
            assert_eq!(manager.find_created(&wanted).await, Ok(vec![made]));
        });
    }
    let by_tagging = |with: bool| {
        let moto = Moto::start();
        let upstream = moto.endpoint().to_owned();
        let proxy = Hostile::start(move |_| Reply::Forward(upstream.clone()));
        let mut variables = vec![
            ("KEYWHEEL_TEST_ENDPOINT", proxy.endpoint()),
            ("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        if with {
            variables.push(("AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API", proxy.endpoint()));
        }
        rerun::with_variables(name, &variables);
        proxy.count("GetResources") > 0
    };
    assert!(by_tagging(true));
    assert!(!by_tagging(false), "an emulator's tagging API is not trusted unless somebody names it");
}
