//! Documents, applied plans and the audit log.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::samples::{any_audit_entry, at, audit, name, origin};
use super::write;
use crate::model::{AppliedPlan, AuditEntry, DocumentRecord, ObjectKind, ObjectRef};
use crate::store::{AuditFilter, State, Write};

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
    // The order is that in which they were begun, whatever the clocks of the machines say.
    write(state, &[Write::AppliedPlan(Box::new(plan("three", 0)))]).await;
    assert_eq!(state.recorded().await.unwrap().last_applied, Some(plan("three", 0)));
    write(state, &[Write::AppliedPlan(Box::new(plan("one", 3)))]).await;
    assert_eq!(state.recorded().await.unwrap().last_applied, Some(plan("one", 3)), "begun anew, it is the last one");
    write(state, &[Write::AppliedPlan(Box::new(plan("four", 3)))]).await;
    assert_eq!(state.recorded().await.unwrap().last_applied, Some(plan("four", 3)));
    // Those that something refused, the newest first.
    let as_usual = AppliedPlan { override_reason: None, ..plan("five", 9) };
    write(state, &[Write::AppliedPlan(Box::new(as_usual))]).await;
    let overridden = state.overridden().await.unwrap();
    let digests: Vec<&str> = overridden.iter().map(|plan| plan.digest.as_str()).collect();
    assert_eq!(digests, ["four", "one", "two", "three"]);
}

pub(crate) async fn each_tenant_has_an_audit_chain_of_its_own(state: &impl State) {
    let mut of_the_repository = audit("acme", "config.updated");
    of_the_repository.object.tenant_id = None;
    for _ in 0..2 {
        let entries = [audit("acme", "key.created"), audit("globex", "key.created"), audit("acme", "rotation.settled")];
        let entries = entries.into_iter().chain([of_the_repository.clone()]);
        let writes: Vec<_> = entries.map(|entry| Write::Audit(Box::new(entry))).collect();
        write(state, &writes).await;
    }
    let check = state.verify_audit().await.unwrap();
    assert_eq!((check.entries, check.broken), (8, None));
    let heads: Vec<_> = check.heads.iter().map(|head| (head.tenant_id.clone(), head.seq)).collect();
    assert_eq!(heads, [(None, 2), (Some(name("acme")), 4), (Some(name("globex")), 2)]);
}

pub(crate) async fn any_audit_entry_keeps_the_chain_whole(state: &impl State) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..50 {
        let entries = prop::collection::vec(any_audit_entry(), 0..5).new_tree(&mut runner).unwrap().current();
        let writes: Vec<_> = entries.into_iter().map(|entry| Write::Audit(Box::new(entry))).collect();
        write(state, &writes).await;
    }
    let check = state.verify_audit().await.unwrap();
    assert_eq!(check.broken, None);
    assert!(check.entries > 50);
}

pub(crate) async fn the_audit_log_is_filtered_and_read_in_pages(state: &impl State) {
    let entry = |tenant: &str, action: &str, seconds| AuditEntry { at: at(seconds), ..audit(tenant, action) };
    let mut of_the_repository = entry("acme", "config.updated", 4);
    of_the_repository.object.tenant_id = None;
    let entries = [
        entry("acme", "key.created", 1),
        entry("acme", "key.rotated", 2),
        entry("globex", "key.created", 3),
        of_the_repository,
    ];
    write(state, &entries.clone().map(|entry| Write::Audit(Box::new(entry)))).await;
    let seconds = |links: &[crate::store::AuditLink]| links.iter().map(|link| link.at.timestamp()).collect::<Vec<_>>();
    let all: Vec<i64> = entries.iter().rev().map(|entry| entry.at.timestamp()).collect();
    let found = state.audit(&AuditFilter::default()).await.unwrap();
    assert_eq!(seconds(&found), all, "the newest first");
    assert_eq!(found.first().map(|link| &link.action), Some(&entries[3].action));
    let acme = AuditFilter { tenant_id: Some(name("acme")), ..AuditFilter::default() };
    assert_eq!(seconds(&state.audit(&acme).await.unwrap()), [all[2], all[3]]);
    let between = AuditFilter {
        since: Some(entries[1].at),
        until: Some(entries[2].at),
        limit: Some(1),
        ..AuditFilter::default()
    };
    assert_eq!(seconds(&state.audit(&between).await.unwrap()), [all[1]]);

    let mut last: Option<(String, u64)> = None;
    let mut paged = Vec::new();
    loop {
        let after = last.as_ref().map(|(tenant, seq)| (tenant.as_str(), *seq));
        let page = state.audit_after(after, 1).await.unwrap();
        let Some(link) = page.into_iter().next() else { break };
        let tenant = link.object.tenant_id.as_ref().map_or("", |tenant| tenant.as_str()).to_owned();
        paged.push((tenant.clone(), link.seq));
        last = Some((tenant, link.seq));
    }
    let expected = [("", 1), ("acme", 1), ("acme", 2), ("globex", 1)];
    assert_eq!(paged, expected.map(|(tenant, seq)| (tenant.to_owned(), seq)));
}
