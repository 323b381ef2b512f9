//! The planner: one pass over each kind of object, in the order in which apply works.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::document::{Config, Located, Repository};
use crate::model::{
    Address, EncryptionKey, KeyRecord, KeyState, Name, ObjectKind, ObjectRef, Observation, PolicyRecord, PolicyStatus,
    Recorded, RotationPolicy, Timestamp, count, days,
};
use crate::schedule::{Decision, TZ_VERSION, Timing};

use super::compare::{FieldDiff, compare, fields};
use super::due::{KeyTiming, KeyUnder, Verdict, finish_held_back, held_back, instant, key_timing, verdict};
use super::guardrails;
use super::keys::{self, Extent};
use super::{Action, Change, Inputs, Plan, Precondition, Reason, Waiting, acting, approvals, digest, limits};

/// The plan under construction.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub changes: Vec<Change>,
    pub waiting: Vec<Waiting>,
    pub drift: Vec<super::Drift>,
    pub diagnostics: Vec<crate::diagnostic::Finding>,
}

/// Makes the plan.
#[must_use]
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut draft = Draft::default();
    let left_out = left_out(inputs);
    let refusal = limits::empty_source(inputs.desired, inputs.recorded);
    if refusal.is_none() {
        finish(inputs, &mut draft);
        documents(inputs, &left_out, &mut draft);
        let policies = policies(inputs, &left_out, &mut draft);
        keys::keys(inputs, &left_out, &policies, Extent::Everything, &mut draft);
        draft.diagnostics.extend(acting::not_yet(inputs.desired));
    }
    sort(&mut draft.changes);
    draft.diagnostics.extend(approvals::loosened(&draft.changes));
    let settings = approvals::settings(inputs.desired, inputs.recorded);
    let mut needs = approvals::needs(&draft.changes, settings);
    if inputs.unapproved_waits {
        approvals::withhold(&mut draft.changes, &needs, &mut draft.waiting);
        needs.clear();
    } else {
        draft.diagnostics.extend(approvals::findings(&needs, inputs.desired));
    }
    draft
        .waiting
        .sort_by_cached_key(|waiting| (waiting.starts_at.is_none(), waiting.starts_at, waiting.object.clone()));
    // The limits in force are those that were applied last, not those of the change that is judged.
    let limits = applied_config(inputs.recorded).map_or(inputs.desired.config.limits, |config| config.limits);
    let mut refusals: Vec<_> = refusal.into_iter().collect();
    refusals.extend(limits::refusals(
        &draft.changes,
        inputs.desired,
        &limits::existing(inputs.recorded),
        inputs.retired,
        &limits,
    ));
    let (broken, found) = guardrails::judge(inputs.desired, inputs.recorded, &draft.changes, inputs.now);
    refusals.extend(broken);
    draft.diagnostics.extend(found);
    let lineage = lineage(inputs.recorded);
    Plan {
        as_of: inputs.now,
        tz_version: TZ_VERSION.to_owned(),
        digest: digest(inputs.sources, lineage, &draft.changes),
        sources: inputs.sources.clone(),
        lineage,
        changes: draft.changes,
        waiting: draft.waiting,
        drift: draft.drift,
        refusals,
        needs,
        left_out,
        diagnostics: draft.diagnostics,
        not_applicable: None,
        base: None,
        consequences: Vec::new(),
    }
}

/// Brings changes into the order in which apply works. Stable, so that each pass's own order holds within an action.
pub(super) fn sort(changes: &mut [Change]) {
    changes
        .sort_by_cached_key(|change| (stage(change.action, change.object.kind), change.object.clone(), change.version));
}

/// The database that a plan is bound to. One to which nothing was ever applied is as good as none: what was reviewed
/// before there was a database holds for the one that apply has just made.
fn lineage(recorded: &Recorded) -> Option<Uuid> {
    recorded.lineage.filter(|_| recorded.last_applied.is_some() || !recorded.is_empty())
}

/// Rules, then policies, then keys, then work that the clock asks for.
fn stage(action: Action, kind: ObjectKind) -> (u8, ObjectKind) {
    let stage = match action {
        Action::Finish => 0,
        // Last, so that nothing is taken away before what replaces it is there.
        _ if action.retirement().is_some() => 4,
        Action::Rotate | Action::Rollback => 3,
        Action::Remove => 2,
        _ => 1,
    };
    (stage, kind)
}

/// `keywheel.yaml` as last applied.
#[must_use]
pub fn applied_config(recorded: &Recorded) -> Option<Config> {
    let record = recorded.documents.values().find(|record| record.object.kind == ObjectKind::Config)?;
    serde_json::from_value(record.spec.clone()).ok()
}

fn left_out(inputs: &Inputs<'_>) -> BTreeMap<Name, String> {
    let mut left_out: BTreeMap<Name, String> = inputs
        .desired
        .failed_tenants
        .iter()
        .map(|name| (name.clone(), "its documents have errors".to_owned()))
        .collect();
    for (name, why) in inputs.unreachable {
        left_out.entry(name.clone()).or_insert_with(|| why.clone());
    }
    left_out
}

fn finish(inputs: &Inputs<'_>, draft: &mut Draft) {
    let keys: BTreeMap<Uuid, &KeyRecord> = inputs.recorded.keys.values().map(|key| (key.id, key)).collect();
    for rotation in &inputs.recorded.unfinished {
        let held_back = keys
            .get(&rotation.key_id)
            .and_then(|key| finish_held_back(inputs.desired, inputs.recorded, rotation, key, inputs.now));
        if let Some((reason, starts_at)) = held_back {
            wait(draft, &rotation.address, Action::Finish, reason, starts_at);
            continue;
        }
        let reason = match &rotation.error {
            Some(error) => format!(
                "its {} is {} since {}: {error}",
                rotation.workflow.noun(),
                rotation.phase,
                instant(rotation.started_at)
            ),
            None => format!("its {} was interrupted when it was {}", rotation.workflow.noun(), rotation.phase),
        };
        let precondition =
            Precondition { revision: 0, primary: rotation.from_ref.clone(), rotation_id: Some(rotation.id) };
        let (object, reason) = (ObjectRef::key(&rotation.address), Reason::new("interrupted", reason));
        draft.changes.push(Change::new(object, Action::Finish, reason, precondition));
    }
}

/// Tenants, guardrails, freezes and `keywheel.yaml`: whole documents without a workflow.
pub(super) fn documents(inputs: &Inputs<'_>, left_out: &BTreeMap<Name, String>, draft: &mut Draft) {
    let desired = inputs.desired;
    let mut wanted: BTreeMap<ObjectRef, Value> = BTreeMap::new();
    let mut want = |kind, tenant_id: Option<&Name>, name: &Name, spec: Value| {
        wanted.insert(ObjectRef { kind, tenant_id: tenant_id.cloned(), name: name.clone() }, spec);
    };
    want(ObjectKind::Config, None, &ObjectRef::config().name, to_value(&desired.config));
    for (name, guardrail) in &desired.guardrails {
        want(ObjectKind::Guardrail, None, name, to_value(&guardrail.value));
    }
    for (name, freeze) in &desired.freezes {
        want(ObjectKind::Freeze, None, name, to_value(&freeze.value));
    }
    for (name, tenant) in &desired.tenants {
        want(ObjectKind::Tenant, Some(name), name, to_value(&tenant.value));
    }
    let is_left_out = |object: &ObjectRef| object.tenant_id.as_ref().is_some_and(|name| left_out.contains_key(name));
    for (object, spec) in &wanted {
        if is_left_out(object) {
            continue;
        }
        match inputs.recorded.documents.get(object) {
            None => {
                draft.changes.push(created(
                    object.clone(),
                    spec,
                    Reason::new("new", format!("{} is new", object.kind)),
                ));
            }
            Some(record) if record.spec == *spec => {}
            Some(record) => {
                let diff = compare(&record.spec, spec);
                if !diff.is_empty() {
                    let message = format!("{} changed", names(&diff));
                    draft.changes.push(updated(
                        object.clone(),
                        Action::Update,
                        diff,
                        record.revision,
                        Reason::new("edited", message),
                    ));
                }
            }
        }
    }
    for (object, record) in &inputs.recorded.documents {
        if !wanted.contains_key(object) && !is_left_out(object) {
            draft.changes.push(removed(
                object.clone(),
                Action::Remove,
                &record.spec,
                record.revision,
                "its document is gone",
            ));
        }
    }
}

/// The record that a desired policy continues: its own, or that of the name that it had before.
#[must_use]
pub fn continued_policy<'a>(
    desired: &Repository,
    recorded: &'a Recorded,
    address: &Address,
    policy: &RotationPolicy,
) -> Option<(&'a Address, &'a PolicyRecord)> {
    recorded.policies.get_key_value(address).or_else(|| {
        let earlier = Address::new(address.tenant_id.clone(), policy.previous_name.clone()?);
        if desired.policies.contains_key(&earlier) { None } else { recorded.policies.get_key_value(&earlier) }
    })
}

/// Each desired policy with the record that it continues, if there is one.
pub(super) type Paired<'a> = BTreeMap<&'a Address, &'a PolicyRecord>;

pub(super) fn policies<'a>(inputs: &Inputs<'a>, left_out: &BTreeMap<Name, String>, draft: &mut Draft) -> Paired<'a> {
    let (desired, recorded) = (inputs.desired, inputs.recorded);
    let mut paired: Paired<'a> = BTreeMap::new();
    let mut continued: BTreeSet<&Address> = BTreeSet::new();
    for (address, policy) in &desired.policies {
        let record = continued_policy(desired, recorded, address, &policy.value);
        if let Some((before, record)) = record {
            paired.insert(address, record);
            continued.insert(before);
        }
    }
    let keys = KeysByPolicy::new(inputs);
    let timings = KeyTiming::new(desired);
    for (address, policy) in &desired.policies {
        if left_out.contains_key(&address.tenant_id) {
            continue;
        }
        match paired.get(address) {
            None => {
                let reason = Reason::new("new", format!("a new policy{}", keys.documents_of(address)));
                draft.changes.push(created(ObjectRef::policy(address), &policy.value, reason));
            }
            Some(record) if record.policy == policy.value => {}
            Some(record) => {
                let diff = compare(&record.policy, &policy.value);
                if !diff.is_empty() {
                    let (action, reason) = policy_change(inputs, &keys, &timings, address, policy, record, &diff);
                    draft.changes.push(updated(ObjectRef::policy(address), action, diff, record.revision, reason));
                }
            }
        }
    }
    for (address, record) in &recorded.policies {
        if !continued.contains(address) && !left_out.contains_key(&address.tenant_id) {
            let message = match keys.recorded_of(record).len() {
                0 => "its document is gone".to_owned(),
                1 => "its document is gone: 1 key is unlinked, nothing is destroyed".to_owned(),
                n => format!("its document is gone: {} are unlinked, nothing is destroyed", count(n, "key")),
            };
            draft.changes.push(removed(
                ObjectRef::policy(address),
                Action::Remove,
                &record.policy,
                record.revision,
                &message,
            ));
        }
    }
    paired
}

/// Keys by their policy, so that each policy's are at hand without looking at the whole fleet.
struct KeysByPolicy<'a> {
    documents: BTreeMap<(&'a Name, &'a Name), usize>,
    recorded: BTreeMap<Uuid, Vec<(&'a Address, &'a KeyRecord)>>,
}

impl<'a> KeysByPolicy<'a> {
    fn new(inputs: &Inputs<'a>) -> Self {
        let mut documents: BTreeMap<_, usize> = BTreeMap::new();
        for (key, document) in &inputs.desired.keys {
            if let Some(policy) = &document.value.rotation_policy {
                *documents.entry((&key.tenant_id, policy)).or_default() += 1;
            }
        }
        let mut recorded: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, record) in &inputs.recorded.keys {
            if let Some(policy) = record.rotation_policy_id {
                recorded.entry(policy).or_default().push((key, record));
            }
        }
        Self { documents, recorded }
    }

    fn recorded_of(&self, policy: &PolicyRecord) -> &[(&'a Address, &'a KeyRecord)] {
        self.recorded.get(&policy.id).map_or(&[], Vec::as_slice)
    }

    /// How many documents of keys name the policy, in words.
    fn documents_of(&self, policy: &Address) -> String {
        match self.documents.get(&(&policy.tenant_id, &policy.name)) {
            None => " without keys".to_owned(),
            Some(n) => format!(" for {}", count(*n, "key")),
        }
    }
}

fn policy_change(
    inputs: &Inputs<'_>,
    keys: &KeysByPolicy<'_>,
    timings: &KeyTiming<'_>,
    address: &Address,
    policy: &Located<RotationPolicy>,
    record: &PolicyRecord,
    diff: &FieldDiff,
) -> (Action, Reason) {
    let mut parts = Vec::new();
    let action = if diff.touches("policy_name") {
        parts.push(format!("renamed from {}", record.policy.policy_name));
        Action::Rename
    } else if diff.touches("status") && policy.value.status == PolicyStatus::Suspended {
        Action::Suspend
    } else if diff.touches("status") {
        Action::Reactivate
    } else {
        Action::Update
    };
    if diff.touches("status") {
        parts.push(match policy.value.status {
            PolicyStatus::Suspended => "suspended: starts nothing, finishes what has begun".to_owned(),
            PolicyStatus::Active => "active again: slots that passed meanwhile become one rotation".to_owned(),
        });
    }
    match (record.policy.rotation_interval_days, policy.value.rotation_interval_days) {
        (Some(before), Some(after)) if before != after => parts.push(format!("{before} to {}", days(after))),
        (Some(before), None) => parts.push(format!("no interval any more, which was {}", days(before))),
        (None, Some(after)) => parts.push(format!("an interval of {}", days(after))),
        _ => {}
    }
    let others = names(diff);
    if parts.is_empty() {
        parts.push(format!("{others} changed"));
    }
    let (due, delayed) = consequence(inputs.now, keys.recorded_of(record), timings, address, &policy.value, record);
    match due {
        0 => {}
        1 => parts.push("1 key becomes due now".to_owned()),
        n => parts.push(format!("{} become due now", count(n, "key"))),
    }
    if delayed > 0 {
        parts.push(format!("{delayed} of them cannot start yet"));
    }
    let code = if action == Action::Update { "edited" } else { action.as_str() };
    (action, Reason::new(code, parts.join("; ")))
}

/// How many keys of a policy become due by its change, and how many of those have to wait.
fn consequence(
    now: Timestamp,
    keys: &[(&Address, &KeyRecord)],
    timings: &KeyTiming<'_>,
    address: &Address,
    policy: &RotationPolicy,
    record: &PolicyRecord,
) -> (usize, usize) {
    if policy.status == PolicyStatus::Suspended {
        return (0, 0);
    }
    let active = record.policy.status == PolicyStatus::Active;
    let before = Timing::new(&record.policy).ok().filter(|_| active);
    let was_due = |key: &Address, record: &KeyRecord| {
        let decision = before.as_ref().map(|timing| timing.decide(key, &super::due::history(record), &[], now));
        matches!(decision, Some(Decision::Due { .. } | Decision::Waiting { .. }))
    };
    let (mut due, mut delayed) = (0, 0);
    for (key, record) in keys.iter().filter(|(_, record)| record.state == KeyState::Active) {
        let decision = key_timing(timings, address, key, &record.key, record, now);
        let waits = matches!(decision, Some(Decision::Waiting { .. }));
        if (waits || matches!(decision, Some(Decision::Due { .. }))) && !was_due(key, record) {
            due += 1;
            delayed += usize::from(waits);
        }
    }
    (due, delayed)
}

/// What the clock and the counts ask of a key that is in order.
pub(super) fn due_work(
    inputs: &Inputs<'_>,
    timings: &KeyTiming<'_>,
    key: &Address,
    document: &EncryptionKey,
    record: &KeyRecord,
    draft: &mut Draft,
) {
    let Some(policy_name) = &document.rotation_policy else { return };
    let address = Address::new(key.tenant_id.clone(), policy_name.clone());
    let Some(policy) = inputs.desired.policies.get(&address) else { return };
    let under = KeyUnder {
        policy_address: &address,
        policy: &policy.value,
        address: key,
        document,
        record,
        used: inputs.recorded.usage_of(record),
    };
    let (_, verdict) = verdict(timings, &under, inputs.now);
    let verdict = match (verdict, held_back(inputs.desired, inputs.recorded, record, inputs.now)) {
        (Verdict::Quiet, _) => return,
        (_, Some((reason, starts_at))) => Verdict::Wait { reason, starts_at },
        (Verdict::Rotate { .. }, _) if !inputs.rotation_enabled => Verdict::Wait {
            reason: Reason::new("switched_off", "due, and KEY_ROTATION_ENABLED=false starts nothing"),
            starts_at: None,
        },
        (verdict, _) => verdict,
    };
    match verdict {
        Verdict::Quiet => {}
        Verdict::Wait { reason, starts_at } => wait(draft, key, Action::Rotate, reason, starts_at),
        Verdict::Rotate { cause, reason } => {
            let reason = Reason::new(cause.as_str(), reason);
            draft.changes.push(Change::new(ObjectRef::key(key), Action::Rotate, reason, Precondition::of(record)));
        }
    }
}

pub(super) fn wait(draft: &mut Draft, key: &Address, action: Action, reason: Reason, starts_at: Option<Timestamp>) {
    draft.waiting.push(Waiting { object: ObjectRef::key(key), action, version: None, reason, starts_at });
}

/// Something new.
pub(super) fn created(object: ObjectRef, document: &impl Serialize, reason: Reason) -> Change {
    let change = Change::new(object, Action::Create, reason, Precondition::default());
    Change { after: Some(fields(document)), ..change }
}

/// Something that changes in some fields.
pub(super) fn updated(object: ObjectRef, action: Action, diff: FieldDiff, revision: u64, reason: Reason) -> Change {
    let change = Change::new(object, action, reason, Precondition { revision, ..Precondition::default() });
    Change { before: Some(diff.before), after: Some(diff.after), ..change }
}

/// Something that leaves.
pub(super) fn removed(
    object: ObjectRef,
    action: Action,
    document: &impl Serialize,
    revision: u64,
    why: &str,
) -> Change {
    let reason = Reason::new("document_gone", why);
    let change = Change::new(object, action, reason, Precondition { revision, ..Precondition::default() });
    Change { before: Some(fields(document)), ..change }
}

/// The changed fields, for a sentence.
pub(super) fn names(diff: &FieldDiff) -> String {
    diff.before.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

pub(super) fn to_value(document: &impl Serialize) -> Value {
    serde_json::to_value(document).unwrap_or_default()
}

/// The observation of a key, where it was asked about.
pub(super) fn observation<'a>(inputs: &Inputs<'a>, key: &Address) -> Option<&'a Observation> {
    inputs.observed.get(key)
}
