//! Documents, applied plans and the audit log.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::samples::{any_audit_entry, at, audit, name, origin};
use super::{lease, write};
use crate::model::{AppliedPlan, DocumentRecord, ObjectKind, ObjectRef};
use crate::store::{State, Write};

fn document(kind: ObjectKind, tenant: Option<&str>, text: &str, revision: u64) -> DocumentRecord {
    DocumentRecord {
        object: ObjectRef { kind, tenant_id: tenant.map(name), name: name(text) },
        spec: json!({"revision": revision, "list": [1, {"x": null}]}),
        revision,
        last_modified_by: origin(),
    }
}

pub(crate) async fn documents_are_replaced_and_removed(state: &impl State) {
    let tenant = document(ObjectKind::Tenant, Some("acme"), "acme", 1);
    let freeze = document(ObjectKind::Freeze, None, "Year-end", 1);
    let newer = document(ObjectKind::Freeze, None, "Year-end", 2);
    // The same name is another object where its kind or its tenant is another.
    let namesake = document(ObjectKind::Guardrail, None, "Year-end", 1);
    let of_a_tenant = document(ObjectKind::Freeze, Some("acme"), "Year-end", 1);
    let writes: Vec<_> = [&tenant, &freeze, &namesake, &of_a_tenant, &newer]
        .map(|document| Write::Document(Box::new(document.clone())))
        .into_iter()
        .chain([Write::RemoveDocument(tenant.object.clone())])
        .collect();
    write(state, &writes).await;
    let recorded = state.recorded().await.unwrap();
    let mut expected = [newer, namesake, of_a_tenant];
    expected.sort_by(|a, b| a.object.cmp(&b.object));
    assert_eq!(recorded.documents.into_values().collect::<Vec<_>>(), expected);
}

pub(crate) async fn applied_plans_are_found_by_digest_and_the_last_one_is_known(state: &impl State) {
    let plan = |digest: &str, seconds| AppliedPlan {
        digest: digest.to_owned(),
        origin: origin(),
        correlation_id: "run-1".to_owned(),
        started_at: at(seconds),
        finished_at: None,
        override_reason: Some("an outage".to_owned()),
    };
    let finished = AppliedPlan { finished_at: Some(at(9)), ..plan("one", 1) };
    write(state, &[plan("one", 1), plan("two", 2), finished.clone()].map(|plan| Write::AppliedPlan(Box::new(plan))))
        .await;
    assert_eq!(state.applied_plan("one").await.unwrap(), Some(finished));
    assert_eq!(state.applied_plan("none").await.unwrap(), None);
    assert_eq!(state.recorded().await.unwrap().last_applied, Some(plan("two", 2)));
}

pub(crate) async fn each_tenant_has_an_audit_chain_of_its_own(state: &impl State) {
    let mut of_the_repository = audit("acme", "config.updated");
    of_the_repository.object.tenant_id = None;
    let lease = lease(state).await;
    for _ in 0..2 {
        let entries = [audit("acme", "key.created"), audit("globex", "key.created"), audit("acme", "rotation.settled")];
        let entries = entries.into_iter().chain([of_the_repository.clone()]);
        let writes: Vec<_> = entries.map(|entry| Write::Audit(Box::new(entry))).collect();
        state.commit(&lease, &writes).await.unwrap();
    }
    let check = state.verify_audit().await.unwrap();
    assert_eq!((check.entries, check.broken), (8, None));
    let heads: Vec<_> = check.heads.iter().map(|head| (head.tenant_id.clone(), head.seq)).collect();
    assert_eq!(heads, [(None, 2), (Some(name("acme")), 4), (Some(name("globex")), 2)]);
}

pub(crate) async fn any_audit_entry_keeps_the_chain_whole(state: &impl State) {
    let mut runner = TestRunner::deterministic();
    let lease = lease(state).await;
    for _ in 0..50 {
        let entries = prop::collection::vec(any_audit_entry(), 0..5).new_tree(&mut runner).unwrap().current();
        let writes: Vec<_> = entries.into_iter().map(|entry| Write::Audit(Box::new(entry))).collect();
        state.commit(&lease, &writes).await.unwrap();
    }
    let check = state.verify_audit().await.unwrap();
    assert_eq!(check.broken, None);
    assert!(check.entries > 50);
}
