//! WHAT a change in git does, before anybody applies it: two sets of documents compared, as if the earlier one were the
//! record.
//!
//! [`review`] gives a [`Plan`], so that whatever shows plans shows reviews. Its changes are found by the planner's own
//! passes; what only the record, a key manager or the clock can say (a rotation that is due, drift) is not in it. Beneath
//! the changes stand their consequences, as sure as what is known of the keys' ages allows.
//!
//! Must not know: git, a database, a key manager, how much of a repository was read for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::diagnostic::{self, Finding};
use crate::document::{Capabilities, Limits, Repository, without_secrets};
use crate::guardrail::{Rule, Subject};
use crate::model::{
    Address, DocumentRecord, KeyRecord, KeyState, KmsProvider, Name, ObjectKind, ObjectRef, Origin, PolicyRecord,
    Recorded, Timestamp, VersionRecord,
};
use crate::schedule::TZ_VERSION;

use super::build::{self, Draft};
use super::keys::{self, Extent};
use super::snapshot::{KeyAge, StateSnapshot};
use super::{
    Action, Base, Change, Inputs, Plan, Refusal, Retired, Sources, approvals, consequences, guardrails, limits,
};

/// Everything that a review depends on.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    /// The documents before, those of tenants with errors too.
    pub base: &'a Repository,
    /// The documents after, those of tenants with errors too.
    pub head: &'a Repository,
    /// What was found in the documents after, as far as it concerns the change.
    pub findings: &'a [Finding],
    /// The trees of the documents after.
    pub sources: &'a Sources,
    /// What they are compared with.
    pub compared_with: &'a Base,
    /// The keys' ages, where somebody has handed them in.
    pub ages: Option<&'a StateSnapshot>,
    /// What each provider can do.
    pub capabilities: fn(KmsProvider) -> Capabilities,
    /// The instant that it is made for.
    pub now: Timestamp,
}

/// Compares two sets of documents.
#[must_use]
pub fn review(review: &Review<'_>) -> Plan {
    let left_out = left_out(review.findings);
    let failed = review.findings.iter().any(|finding| finding.is_error() && finding.tenant_id.is_none());
    let ages: BTreeMap<Address, &KeyAge> =
        review.ages.into_iter().flat_map(|ages| &ages.keys).map(|age| (age.address(), age)).collect();
    let recorded = as_recorded(review.base, &ages, review.now);
    let (observed, unreachable, retired) = (BTreeMap::new(), BTreeMap::new(), Retired::default());
    let inputs = Inputs {
        desired: review.head,
        sources: review.sources,
        recorded: &recorded,
        observed: &observed,
        retired: &retired,
        unreachable: &unreachable,
        capabilities: review.capabilities,
        now: review.now,
        rotation_enabled: true,
        unapproved_waits: false,
    };
    let mut draft = Draft::default();
    // Of documents that cannot be read nothing is known: what they seem to take away may still be in them.
    if !failed {
        build::documents(&inputs, &left_out, &mut draft);
        let policies = build::policies(&inputs, &left_out, &mut draft);
        keys::keys(&inputs, &left_out, &policies, Extent::Documents, &mut draft);
    }
    build::sort(&mut draft.changes);
    for change in draft.changes.iter_mut().filter(|change| change.object.kind == ObjectKind::Config) {
        // The earlier one may be the very mistake that is put right.
        change.before.iter_mut().chain(&mut change.after).for_each(hide_secrets);
    }
    let outlook = consequences::of(review, &recorded, &draft.changes);
    let (broken, found) = guardrails::judge(review.head, &recorded, &draft.changes, review.now);
    let mut diagnostics = review.findings.to_vec();
    diagnostics.append(&mut draft.diagnostics);
    diagnostics.extend(found);
    diagnostics.extend(approvals::loosened(&draft.changes));
    diagnostics.extend(approvals::foreseen(review.base, &outlook, review.now));
    // Those that apply will judge it by. How many objects there are in all only a snapshot says.
    let existing = review.ages.map(|ages| existing(&recorded, ages));
    let allowed = match existing {
        Some(_) => review.base.config.limits,
        None => Limits { max_percent: 100, ..review.base.config.limits },
    };
    diagnostics.extend(not_judged(review, &draft.changes));
    diagnostic::sort(&mut diagnostics);
    let existing = existing.unwrap_or_default();
    Plan {
        as_of: review.now,
        tz_version: TZ_VERSION.to_owned(),
        digest: super::digest(review.sources, None, &draft.changes),
        sources: review.sources.clone(),
        lineage: None,
        refusals: limits::refusals(&draft.changes, review.head, &existing, &retired, &allowed)
            .into_iter()
            // The plan that an override names is made after the merge.
            .map(|refusal| Refusal { help: AFTER_THE_MERGE.to_owned(), ..refusal })
            .chain(broken)
            .collect(),
        needs: Vec::new(),
        changes: draft.changes,
        waiting: draft.waiting,
        drift: draft.drift,
        left_out,
        diagnostics,
        not_applicable: Some("with --base".to_owned()),
        base: Some(review.compared_with.clone()),
        consequences: outlook.said,
    }
}

/// What to do about a limit that a change goes over.
const AFTER_THE_MERGE: &str = "once this is merged, apply refuses it as a whole: make it in several changes; raise the limit in one \
                               that is applied before; or name the plan that apply shows then (--override-limits DIGEST --reason TEXT)";

/// How many policies and keys each tenant has: of those that were read, and of those that the snapshot names. A policy
/// without keys in a file that was not read is not among them, so that a percentage may be judged too strictly, never
/// too kindly.
fn existing(recorded: &Recorded, ages: &StateSnapshot) -> BTreeMap<Name, usize> {
    let of_keys = ages.keys.iter().map(KeyAge::address).chain(recorded.keys.keys().cloned());
    let policy = |age: &KeyAge| Some(Address::new(age.tenant_id.clone(), age.rotation_policy.clone()?));
    let of_policies = ages.keys.iter().filter_map(policy).chain(recorded.policies.keys().cloned());
    let (keys, policies): (BTreeSet<Address>, BTreeSet<Address>) = (of_keys.collect(), of_policies.collect());
    let mut existing = BTreeMap::new();
    for address in keys.into_iter().chain(policies) {
        *existing.entry(address.tenant_id).or_default() += 1;
    }
    existing
}

/// What apply will judge and a review cannot.
fn not_judged(review: &Review<'_>, changes: &[Change]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let removes = changes.iter().any(|change| matches!(change.action, Action::Remove | Action::Forget));
    if removes && review.ages.is_none() {
        let message =
            "how many percent of all policies and keys are removed (limits.max_percent) is judged by apply, not here";
        let finding = Finding::info("review/not-judged", message).help("with --state it is judged here too");
        findings.push(finding.at(review.head.setting("limits.max_percent"), None));
    }
    for guardrail in review.head.guardrails.values() {
        // One of the documents that is no rule is an error of theirs.
        let Ok(rule) = Rule::new(&guardrail.value.rule) else { continue };
        let due = |field: &str| matches!(field, "rotations" | "destructions" | "changes" | "tenants");
        if let Some((_, field)) = rule.fields.iter().find(|(subject, field)| *subject == Subject::Plan && due(field)) {
            let message = format!(
                "the guardrail {:?} reads plan.{field}, and a review sees no rotations and no destructions: it is judged without \
                 them here, and with them by apply",
                guardrail.value.name.as_str()
            );
            let place = guardrail.fields.get("rule").unwrap_or(&guardrail.place).clone();
            findings.push(Finding::info("review/not-judged", message).at(place, None));
        }
    }
    findings
}

fn left_out(findings: &[Finding]) -> BTreeMap<Name, String> {
    let errors = findings.iter().filter(|finding| finding.is_error());
    let tenants = errors.filter_map(|finding| finding.tenant_id.clone());
    tenants.map(|name| (name, "its documents have errors".to_owned())).collect()
}

fn hide_secrets(fields: &mut Map<String, Value>) {
    fn hide(value: &mut Value) {
        match value {
            Value::String(text) if text.contains("password=") => "(redacted)".clone_into(text),
            Value::String(text) => *text = without_secrets(text).into_owned(),
            Value::Array(items) => items.iter_mut().for_each(hide),
            Value::Object(fields) => fields.values_mut().for_each(hide),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    fields.values_mut().for_each(hide);
}

/// Documents as the record of them would be, with the ages that are known.
pub(super) fn as_recorded(base: &Repository, ages: &BTreeMap<Address, &KeyAge>, now: Timestamp) -> Recorded {
    // Any identity will do that is the same at each look.
    let mut identities = (1..).map(Uuid::from_u128);
    let mut identity = || identities.next().unwrap_or_default();
    let mut recorded = Recorded::default();
    for (address, policy) in &base.policies {
        let record = PolicyRecord {
            id: identity(),
            policy: policy.value.clone(),
            last_rotation_at: None,
            next_rotation_at: None,
            created_by: Origin::default(),
            last_modified_by: Origin::default(),
            created_by_token_id: None,
            last_modified_by_token_id: None,
            correlation_id: String::new(),
            revision: 0,
            created_at: now,
            updated_at: now,
        };
        recorded.policies.insert(address.clone(), record);
    }
    for (address, key) in &base.keys {
        let age = ages.get(address);
        let id = identity();
        let policy = key.value.rotation_policy.clone().map(|name| Address::new(address.tenant_id.clone(), name));
        let record = KeyRecord {
            id,
            key: key.value.clone(),
            rotation_policy_id: policy.and_then(|policy| recorded.policies.get(&policy)).map(|policy| policy.id),
            state: age.map_or(KeyState::Active, |age| age.state),
            state_reason: None,
            // As if it were made now: of a key whose age is unknown, nothing is due.
            managed_since: age.map_or(now, |age| age.managed_since),
            adopted: key.value.kms_key_id.is_some(),
            primary_version: age.map(|age| VersionRecord {
                provider_created_at: age.version_created_at,
                ..VersionRecord::new(id, id, age.retained_versions.saturating_add(1), String::new(), age.managed_since)
            }),
            last_rotation_at: age.and_then(|age| age.last_rotation_at),
            last_slot: age.and_then(|age| age.last_slot),
            next_rotation_at: None,
            failures: 0,
            retry_at: None,
            created_by: Origin::default(),
            last_modified_by: Origin::default(),
            correlation_id: String::new(),
            revision: 0,
            created_at: now,
            updated_at: now,
        };
        recorded.keys.insert(address.clone(), record);
    }
    let mut keep = |kind, tenant_id: Option<&Name>, name: &Name, spec| {
        let object = ObjectRef { kind, tenant_id: tenant_id.cloned(), name: name.clone() };
        let record = DocumentRecord { object: object.clone(), spec, revision: 0, last_modified_by: Origin::default() };
        recorded.documents.insert(object, record);
    };
    keep(ObjectKind::Config, None, &ObjectRef::config().name, build::to_value(&base.config));
    for (name, tenant) in &base.tenants {
        keep(ObjectKind::Tenant, Some(name), name, build::to_value(&tenant.value));
    }
    for (name, guardrail) in &base.guardrails {
        keep(ObjectKind::Guardrail, None, name, build::to_value(&guardrail.value));
    }
    for (name, freeze) in &base.freezes {
        keep(ObjectKind::Freeze, None, name, build::to_value(&freeze.value));
    }
    recorded
}
