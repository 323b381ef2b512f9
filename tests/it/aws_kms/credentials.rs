//! Whose credentials, which region, which endpoint.

use std::collections::BTreeMap;

use keywheel::document::{AwsKmsAccount, AwsKmsConfig};
use keywheel::model::Name;
use keywheel::provider::aws_kms::AwsKms;
use keywheel::provider::{ErrorKind, KeyManager, Observe};

use super::{REGION, config, new_key, request};
use crate::support::hostile::{Hostile, Reply, header};
use crate::support::{moto, rerun};

async fn refusal(config: &AwsKmsConfig) -> keywheel::provider::ProviderError {
    AwsKms::connect(config, None, None).await.err().expect("it must not connect")
}

#[test]
fn without_credentials_it_says_so_at_once() {
    let name = "aws_kms::credentials::without_credentials_it_says_so_at_once";
    if !rerun::is_child(name) {
        return rerun::with_variables(name, &[]);
    }
    rerun::block_on(async {
        let error = refusal(&config("http://127.0.0.1:1")).await;
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.help.unwrap().contains("AWS_ACCESS_KEY_ID"));
    });
}

#[test]
fn without_a_region_it_says_where_to_write_one() {
    let name = "aws_kms::credentials::without_a_region_it_says_where_to_write_one";
    if !rerun::is_child(name) {
        return rerun::with_variables(name, &[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    }
    rerun::block_on(async {
        let error = refusal(&AwsKmsConfig::default()).await;
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.help.unwrap().contains("kms_region"));
    });
}

#[test]
fn a_profile_that_does_not_exist_is_refused() {
    let name = "aws_kms::credentials::a_profile_that_does_not_exist_is_refused";
    if !rerun::is_child(name) {
        return rerun::with_variables(name, &[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    }
    rerun::block_on(async {
        let config = AwsKmsConfig { profile: Some("clinic".to_owned()), ..config("http://127.0.0.1:1") };
        let error = refusal(&config).await;
        assert_eq!(error.kind, ErrorKind::Denied, "the credentials of the environment are not taken instead");
        assert!(error.message.contains("clinic"), "{error:?}");
    });
}

#[test]
fn the_standard_environment_decides_what_the_settings_do_not() {
    let name = "aws_kms::credentials::the_standard_environment_decides_what_the_settings_do_not";
    if !rerun::is_child(name) {
        let hostile = Hostile::start(|_| Reply::error(400, "NotFoundException"));
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIAOFTHEENVIRONMENT"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "eu-west-3"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_KMS", hostile.endpoint()),
        ];
        rerun::with_variables(name, &variables);
        let scope = header(&hostile.requests()[0].head, "authorization").unwrap().to_owned();
        assert!(scope.contains("Credential=AKIAOFTHEENVIRONMENT/") && scope.contains("/eu-west-3/kms/"), "{scope}");
        return;
    }
    rerun::block_on(async {
        let manager = AwsKms::connect(&AwsKmsConfig::default(), None, None).await.unwrap();
        assert_eq!(manager.primary(&new_key("patient-data")).await, Ok(None));
    });
}

#[test]
fn a_tenants_profile_comes_before_the_environment() {
    let name = "aws_kms::credentials::a_tenants_profile_comes_before_the_environment";
    if !rerun::is_child(name) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let profile = "[profile clinic]\naws_access_key_id = AKIAOFTHEPROFILE0000\naws_secret_access_key = secret\n";
        std::fs::write(&file, profile).unwrap();
        let hostile = Hostile::start(|_| Reply::error(400, "NotFoundException"));
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIAOFTHEENVIRONMENT"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_CONFIG_FILE", file.to_str().unwrap()),
            ("KEYWHEEL_TEST_ENDPOINT", hostile.endpoint()),
        ];
        rerun::with_variables(name, &variables);
        let requests = hostile.requests();
        let key_of = |at: usize| header(&requests[at].head, "authorization").unwrap().to_owned();
        assert!(key_of(0).contains("Credential=AKIAOFTHEPROFILE0000/"), "{}", key_of(0));
        assert!(key_of(1).contains("Credential=AKIAOFTHEENVIRONMENT/"), "{}", key_of(1));
        return;
    }
    rerun::block_on(async {
        let endpoint = std::env::var("KEYWHEEL_TEST_ENDPOINT").unwrap();
        let tenant = Name::new("clinic").unwrap();
        let account = AwsKmsAccount { profile: Some("clinic".to_owned()), ..AwsKmsAccount::default() };
        let config = AwsKmsConfig { tenants: BTreeMap::from([(tenant.clone(), account)]), ..config(&endpoint) };
        for tenant in [Some(&tenant), None] {
            let manager = AwsKms::connect(&config, tenant, None).await.unwrap();
            assert_eq!(manager.primary(&new_key("patient-data")).await, Ok(None));
        }
    });
}

#[test]
fn a_tenants_role_makes_its_keys_in_its_own_account() {
    let name = "aws_kms::credentials::a_tenants_role_makes_its_keys_in_its_own_account";
    moto::test(name, |endpoint| async move {
        let tenant = Name::new("clinic").unwrap();
        let account = AwsKmsAccount {
            role_arn: Some("arn:aws:iam::111122223333:role/keywheel".to_owned()),
            region: Some("eu-central-1".to_owned()),
            ..AwsKmsAccount::default()
        };
        let config = AwsKmsConfig { tenants: BTreeMap::from([(tenant.clone(), account)]), ..config(&endpoint) };
        let made_for = async |tenant: Option<&Name>| {
            let manager = AwsKms::connect(&config, tenant, None).await.unwrap();
            manager.create_version(&request(&new_key("patient-data"))).await.unwrap().provider_ref
        };
        let of_tenant = made_for(Some(&tenant)).await;
        assert!(of_tenant.starts_with("arn:aws:kms:eu-central-1:111122223333:key/"), "{of_tenant}");
        let common = made_for(None).await;
        assert!(common.starts_with(&format!("arn:aws:kms:{REGION}:123456789012:key/")), "{common}");
    });
}

#[test]
fn a_role_that_may_not_be_assumed_is_refused_with_the_way_out() {
    let name = "aws_kms::credentials::a_role_that_may_not_be_assumed_is_refused_with_the_way_out";
    if !rerun::is_child(name) {
        return rerun::with_variables(name, &[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    }
    rerun::block_on(async {
        let sts = Hostile::start(|_| {
            let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
            Reply::Answer(403, "text/xml", body.to_owned())
        });
        let role_arn = Some("arn:aws:iam::111122223333:role/keywheel".to_owned());
        let error = refusal(&AwsKmsConfig { role_arn, ..config(sts.endpoint()) }).await;
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.help.unwrap().contains("sts:AssumeRole"));
    });
}
