//! The contract against LocalStack, where a disabled key is of no use and lists come in pages, as at AWS.

use std::collections::BTreeSet;

use aws_sdk_kms::types::GrantOperation;
use keywheel::provider::KeyManager;

use super::{REGION, aws, connect, new_key};
use crate::conformance::{self, Fixture, rotate};
use crate::support::localstack;

#[test]
fn it_keeps_the_contract_of_every_provider_with_key_states() {
    let name = "aws_kms::localstack::it_keeps_the_contract_of_every_provider_with_key_states";
    localstack::test(name, |endpoint| async move {
        let fixture = Fixture { new_key, kms_key_id: str::to_owned, enforces_states: true };
        conformance::suite(&connect(&endpoint).await, &fixture).await;
    });
}

#[test]
fn grants_that_fill_more_than_a_page_are_all_taken_over_once() {
    let name = "aws_kms::localstack::grants_that_fill_more_than_a_page_are_all_taken_over_once";
    localstack::test(name, |endpoint| async move {
        let (manager, own) = (connect(&endpoint).await, aws(&endpoint, REGION).await);
        let mut key = new_key("shared");
        let old = rotate(&manager, &mut key).await;
        let grantees: BTreeSet<String> =
            (0..120).map(|number| format!("arn:aws:iam::123456789012:role/app-{number:03}")).collect();
        for grantee in &grantees {
            let grant = own.create_grant().key_id(&old).grantee_principal(grantee);
            grant.operations(GrantOperation::Decrypt).send().await.unwrap();
        }
        let request = super::request(&key);
        let new = manager.create_version(&request).await.unwrap().provider_ref;
        manager.verify(&request, &new).await.unwrap();
        manager.verify(&request, &new).await.unwrap();

        let pages = own.list_grants().key_id(&new).into_paginator().send().try_collect().await.unwrap();
        assert!(pages.len() > 1, "the server gives pages");
        let copied: Vec<String> = pages
            .into_iter()
            .flat_map(|page| page.grants.unwrap())
            .map(|grant| grant.grantee_principal.unwrap())
            .collect();
        assert_eq!(copied.len(), grantees.len(), "doing it again adds nothing");
        assert_eq!(copied.into_iter().collect::<BTreeSet<_>>(), grantees);
    });
}
