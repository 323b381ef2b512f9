//! Users' own cases: the plan of given documents and a given record at a given instant, held against what is expected.
//!
//! [`Situation::plan`] calls the planner that apply calls. The key managers are taken to hold what the record says, and
//! nothing else is known of them. [`mismatches`] compares; what a case does not name is not compared.
//!
//! Must not know: how a case is written, where its documents come from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::build::to_value;
use super::review::as_recorded;
use super::{Inputs, KeyAge, Plan, Retired, Sources, plan};
use crate::diagnostic::Finding;
use crate::document::{Capabilities, Loaded};
use crate::model::{
    Address, Expectation, KmsProvider, LastUse, Matching, ObjectRef, Observation, ObservedKey, ObservedVersion,
    Recorded, RecordedKey, Timestamp, VersionRecord, VersionState,
};

/// What one case is about.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What git desires.
    pub given: &'a Loaded,
    /// The documents that were applied last; none where nothing was.
    pub applied: Option<&'a Loaded>,
    /// The keys of the record, each once.
    pub keys: &'a BTreeMap<Address, &'a RecordedKey>,
    /// What each provider can do.
    pub capabilities: fn(KmsProvider) -> Capabilities,
    /// The instant.
    pub now: Timestamp,
}

impl Situation<'_> {
    /// The plan, with the findings of the documents in it.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let (recorded, retired, observed) = self.record();
        let mut plan = plan(&Inputs {
            desired: &self.given.repository,
            sources: &Sources::default(),
            recorded: &recorded,
            observed: &observed,
            retired: &retired,
            unreachable: &BTreeMap::new(),
            capabilities: self.capabilities,
            now: self.now,
            rotation_enabled: true,
            unapproved_waits: false,
        });
        if self.given.repository.failed {
            // Of documents that cannot be read nothing is planned.
            plan.changes.clear();
            plan.waiting.clear();
        }
        plan.diagnostics.splice(0..0, self.given.findings.iter().cloned());
        plan
    }

    /// The keys of the record that no document tells anything about: not their policy, not their key manager.
    #[must_use]
    pub fn unknown_keys(&self) -> Vec<&Address> {
        let known = |key: &&Address| self.applied.is_some_and(|applied| applied.repository.keys.contains_key(*key));
        self.keys.keys().filter(|key| !known(key)).collect()
    }

    fn record(&self) -> (Recorded, Retired, BTreeMap<Address, Observation>) {
        let (mut retired, mut observed) = (Retired::default(), BTreeMap::new());
        let Some(applied) = self.applied else { return (Recorded::default(), retired, observed) };
        let ages: BTreeMap<Address, KeyAge> = (self.keys.iter())
            .filter_map(|(address, key)| {
                let document = &applied.repository.keys.get(address)?.value;
                Some((address.clone(), self.age(key, document.kms_provider)))
            })
            .collect();
        let by_reference = ages.iter().map(|(address, age)| (address.clone(), age)).collect();
        let mut recorded = as_recorded(&applied.repository, &by_reference, self.now);
        recorded.keys.retain(|address, _| ages.contains_key(address));
        for (address, record) in &mut recorded.keys {
            let (Some(key), Some(age)) = (self.keys.get(address), ages.get(address)) else { continue };
            let old = old_versions(address, record.id, key);
            let mut versions = old.iter().map(|(version, _)| observed_version(version)).collect::<Vec<_>>();
            if let Some(primary) = &mut record.primary_version {
                recorded.usage.extend(key.usage_count.map(|used| (primary.id, used)));
                primary.provider_ref = format!("{address} version {}", primary.number);
                primary.state = VersionState::Active;
                versions.push(observed_version(primary));
            }
            let primary = record.primary_version.as_ref().map(|version| version.provider_ref.clone());
            let found = ObservedKey { named: primary.clone(), primary, versions, settings: BTreeMap::new() };
            observed.insert(address.clone(), Observation::Present(found));
            *retired.existing.entry(address.tenant_id.clone()).or_default() += old.len() + 1;
            for (version, last_used_at) in &old {
                let last_use = last_used_at.map(|at| LastUse { tracked_since: age.managed_since, at: Some(at) });
                retired.last_uses.insert(version.provider_ref.clone(), last_use);
            }
            if !old.is_empty() {
                retired.versions.insert(record.id, old.into_iter().map(|(version, _)| version).collect());
            }
        }
        (recorded, retired, observed)
    }

    fn age(&self, key: &RecordedKey, kms_provider: KmsProvider) -> KeyAge {
        let made = key.created_at.or(key.rotated_at);
        KeyAge {
            key_name: key.key.name.clone(),
            kms_provider,
            last_rotation_at: key.rotated_at,
            last_slot: None,
            managed_since: key.managed_since.or(made).unwrap_or(self.now),
            retained_versions: u32::try_from(key.old_versions.len()).unwrap_or(u32::MAX),
            rotation_policy: None,
            state: key.state,
            tenant_id: key.key.tenant_id.clone(),
            version_created_at: made.or(key.managed_since),
        }
    }
}

/// The old versions of a key, each with its last use.
fn old_versions(address: &Address, key_id: Uuid, key: &RecordedKey) -> Vec<(VersionRecord, Option<Timestamp>)> {
    let record = |(number, old): (u32, &crate::model::RecordedVersion)| {
        let name = format!("{address} version {number}");
        let version = VersionRecord {
            state: old.state,
            deactivated_at: Some(old.deactivated_at),
            disabled_at: old.disabled_at,
            destroy_at: old.destroy_at,
            rewrapped_at: old.rewrapped_at,
            ..VersionRecord::new(Uuid::from_u128(u128::from(number)), key_id, number, name, old.deactivated_at)
        };
        (version, old.last_used_at)
    };
    (1..).zip(&key.old_versions).map(record).collect()
}

fn observed_version(version: &VersionRecord) -> ObservedVersion {
    ObservedVersion {
        provider_ref: version.provider_ref.clone(),
        state: version.state,
        created_at: version.provider_created_at,
    }
}

/// A list of a plan that is not as it was expected.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Mismatch {
    /// Which list: `changes`, `waiting`, `findings` or `refusals`.
    pub list: &'static str,
    /// What was expected in it, with the fields that the case names.
    pub expected: Vec<Map<String, Value>>,
    /// What is in it, in the order of what was expected: the fields that the case names, or of anything else those that
    /// tell it from others.
    pub planned: Vec<Map<String, Value>>,
}

/// Compares a plan with what a case expects of it. Empty where it holds.
#[must_use]
pub fn mismatches(expect: &Expectation, plan: &Plan) -> Vec<Mismatch> {
    let changes = plan.changes.iter().map(|change| {
        let mut fields = about(change.action.as_str(), &change.object, change.version, &change.reason);
        fields.insert("fields".to_owned(), Value::Object(change.after.clone().unwrap_or_default()));
        fields
    });
    let waiting = plan.waiting.iter().map(|waiting| {
        let mut fields = about(waiting.action.as_str(), &waiting.object, waiting.version, &waiting.reason);
        fields.extend(waiting.starts_at.map(|at| ("starts_at".to_owned(), to_value(&at))));
        fields
    });
    let findings = || plan.diagnostics.iter().map(found);
    let refusals = || plan.refusals.iter().map(|refusal| coded(&refusal.code));
    // What nobody spoke of must not be an error.
    let unexpected_findings =
        || plan.diagnostics.iter().filter(|finding| finding.is_error()).map(found).collect::<Vec<_>>();
    let matching = expect.matching;
    let refused = expect.refusals.as_ref().map(|codes| codes.iter().map(|code| coded(code)).collect());
    let compared = [
        expect.changes.as_ref().map(|list| compare("changes", named(list), &changes.collect::<Vec<_>>(), matching)),
        expect.waiting.as_ref().map(|list| compare("waiting", named(list), &waiting.collect::<Vec<_>>(), matching)),
        Some(match &expect.findings {
            Some(list) => compare("findings", named(list), &findings().collect::<Vec<_>>(), matching),
            None => compare("findings", Vec::new(), &unexpected_findings(), Matching::Exact),
        }),
        Some(match refused {
            Some(list) => compare("refusals", list, &refusals().collect::<Vec<_>>(), matching),
            None => compare("refusals", Vec::new(), &refusals().collect::<Vec<_>>(), Matching::Exact),
        }),
    ];
    compared.into_iter().flatten().flatten().collect()
}

type Item = Map<String, Value>;

/// Is what is expected (the first) what is there (the second)?
type Likeness<'f> = &'f dyn Fn(&Item, &Item) -> bool;

/// What the items of an expectation name.
fn named<T: Serialize>(list: &[T]) -> Vec<Item> {
    list.iter().filter_map(|item| to_value(item).as_object().cloned()).collect()
}

fn about(action: &str, object: &ObjectRef, version: Option<u32>, reason: &super::Reason) -> Item {
    let mut fields = Map::from_iter([
        ("action".to_owned(), Value::from(action)),
        ("object".to_owned(), Value::from(object_name(object))),
        ("reason".to_owned(), Value::from(reason.code.as_str())),
        ("message".to_owned(), Value::from(reason.message.as_str())),
    ]);
    fields.extend(version.map(|version| ("version".to_owned(), Value::from(version))));
    fields
}

fn found(finding: &Finding) -> Item {
    let mut fields = Map::from_iter([
        ("code".to_owned(), Value::from(finding.code.as_ref())),
        ("severity".to_owned(), to_value(&finding.severity)),
        ("message".to_owned(), Value::from(finding.message.as_str())),
    ]);
    fields.extend(finding.object.as_ref().map(|object| ("object".to_owned(), Value::from(object_name(object)))));
    fields
}

fn coded(code: &str) -> Item {
    Map::from_iter([("code".to_owned(), Value::from(code))])
}

fn object_name(object: &ObjectRef) -> String {
    format!("{} {object}", object.kind.word())
}

/// Finds each expected item in what there is, and says what is missing and what is too much.
fn compare(list: &'static str, expected: Vec<Item>, planned: &[Item], matching: Matching) -> Option<Mismatch> {
    let mut free: BTreeSet<usize> = (0..planned.len()).collect();
    let mut pairs: Vec<Option<usize>> = vec![None; expected.len()];
    // Those that fit first; then, so that a difference stands beside what it differs from, those about the same thing.
    let degrees: [Likeness<'_>; 3] = [
        &fits,
        &|wanted, there| ["action", "object", "code"].iter().all(|name| wanted.get(*name) == there.get(*name)),
        &|wanted, there| ["object", "code"].iter().all(|name| wanted.get(*name) == there.get(*name)),
    ];
    for is_pair in degrees {
        for (pair, wanted) in pairs.iter_mut().zip(&expected).filter(|(pair, _)| pair.is_none()) {
            *pair = free.iter().copied().find(|index| planned.get(*index).is_some_and(|there| is_pair(wanted, there)));
            pair.map(|index| free.remove(&index));
        }
    }
    let there = |index: &Option<usize>| index.and_then(|index| planned.get(index));
    let all_fit =
        expected.iter().zip(&pairs).all(|(wanted, pair)| there(pair).is_some_and(|there| fits(wanted, there)));
    // A part of nothing would say nothing.
    let is_whole = matching == Matching::Exact || expected.is_empty();
    if all_fit && (free.is_empty() || !is_whole) {
        return None;
    }
    let mut shown: Vec<Item> = Vec::new();
    for (wanted, pair) in expected.iter().zip(&pairs) {
        shown.extend(there(pair).map(|there| as_named(wanted, there)));
    }
    if is_whole {
        let tell_apart = ["action", "object", "version", "reason", "starts_at", "severity", "code"];
        // A finding is told by its message; the reason of a change has a code.
        let is_told = |name: &str| tell_apart.contains(&name) || (list == "findings" && name == "message");
        let brief = |item: &Item| item.clone().into_iter().filter(|(name, _)| is_told(name));
        shown.extend(free.iter().filter_map(|index| planned.get(*index)).map(|item| brief(item).collect()));
    }
    Some(Mismatch { list, expected, planned: shown })
}

/// Is everything that is expected there?
fn fits(wanted: &Item, there: &Item) -> bool {
    wanted.iter().all(|(name, value)| holds(name, value, there.get(name)))
}

fn holds(name: &str, wanted: &Value, there: Option<&Value>) -> bool {
    match (name, wanted, there) {
        ("message", Value::String(part), Some(Value::String(whole))) => whole.contains(part),
        ("fields", Value::Object(part), Some(Value::Object(whole))) => {
            part.iter().all(|(name, value)| whole.get(name).unwrap_or(&Value::Null) == value)
        }
        (_, wanted, Some(there)) => wanted == there,
        (_, _, None) => false,
    }
}

/// What is there, in the fields that are expected. What holds is shown as it was expected, so that it is no difference.
fn as_named(wanted: &Item, there: &Item) -> Item {
    let shown = |(name, value): (&String, &Value)| {
        let found = there.get(name);
        let value = match (name.as_str(), value, found) {
            _ if holds(name, value, found) => value.clone(),
            ("fields", Value::Object(part), Some(Value::Object(whole))) => {
                let field = |name: &String| (name.clone(), whole.get(name).cloned().unwrap_or_default());
                Value::Object(part.keys().map(field).collect())
            }
            _ => found?.clone(),
        };
        Some((name.clone(), value))
    };
    wanted.iter().filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::ACTIONS;
    use crate::plan::Action;

    fn items(items: &Value) -> Vec<Item> {
        items.as_array().unwrap().iter().map(|item| item.as_object().unwrap().clone()).collect()
    }

    fn planned() -> Vec<Item> {
        items(&json!([
            {"action": "rotate", "object": "key a/one", "reason": "due", "message": "due since Monday"},
            {"action": "update", "object": "policy a/p", "reason": "edited", "message": "", "fields": {"days": 30, "x": 1}},
        ]))
    }

    #[test]
    fn a_case_can_name_every_action_of_a_plan() {
        assert_eq!(Action::ALL.iter().map(|action| action.as_str()).collect::<Vec<_>>(), ACTIONS);
    }

    #[test]
    fn what_is_named_must_be_there_in_any_order_and_what_is_not_named_may_be_anything() {
        let expected = items(&json!([
            {"action": "update", "object": "policy a/p", "fields": {"days": 30}},
            {"action": "rotate", "object": "key a/one", "message": "Monday"},
        ]));
        assert_eq!(compare("changes", expected, &planned(), Matching::Exact), None);
    }

    #[test]
    fn something_else_is_a_mismatch_unless_a_case_speaks_of_a_part() {
        let expected = || items(&json!([{"action": "rotate", "object": "key a/one"}]));
        assert_eq!(compare("changes", expected(), &planned(), Matching::Subset), None);
        let mismatch = compare("changes", expected(), &planned(), Matching::Exact).unwrap();
        let second = json!({"action": "update", "object": "policy a/p", "reason": "edited"});
        assert_eq!(json!(mismatch.planned), json!([{"action": "rotate", "object": "key a/one"}, second]));
    }

    #[test]
    fn an_empty_list_says_that_there_is_nothing() {
        assert!(compare("changes", Vec::new(), &planned(), Matching::Subset).is_some());
        assert!(compare("changes", Vec::new(), &[], Matching::Subset).is_none());
    }

    #[test]
    fn a_difference_stands_beside_what_it_differs_from_in_the_fields_that_were_named() {
        let expected = items(&json!([
            {"action": "rotate", "object": "key a/one", "reason": "overdue", "message": "since"},
            {"action": "update", "object": "policy a/p", "fields": {"days": 90, "y": null}},
        ]));
        let mismatch = compare("changes", expected, &planned(), Matching::Exact).unwrap();
        let shown = json!([
            {"action": "rotate", "object": "key a/one", "reason": "due", "message": "since"},
            {"action": "update", "object": "policy a/p", "fields": {"days": 30, "y": null}},
        ]);
        assert_eq!(json!(mismatch.planned), shown);
    }

    #[test]
    fn one_planned_item_answers_for_one_expected_item_only() {
        let expected =
            items(&json!([{"action": "rotate", "object": "key a/one"}, {"action": "rotate", "object": "key a/one"}]));
        let mismatch = compare("changes", expected, &planned(), Matching::Subset).unwrap();
        assert_eq!(mismatch.planned.len(), 1);
    }
}
