use serde_json::{Value, json};

use super::*;
use crate::model::ObjectRef;

fn day(day: u32) -> Timestamp {
    format!("2026-03-{day:02}T12:00:00Z").parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn entry(kind: ObjectKind, own: &str, on: u32, before: Option<Value>, after: Option<Value>) -> AuditEntry {
    AuditEntry {
        at: day(on),
        actor: "ada@laptop".to_owned(),
        commit: Some(format!("commit-{on}")),
        correlation_id: format!("run-{on}"),
        action: "changed".to_owned(),
        object: ObjectRef { kind, tenant_id: Some(name("acme")), name: name(own) },
        before,
        after,
    }
}

fn policy(own: &str, on: u32, before: Value, after: Value) -> AuditEntry {
    let some = |value: Value| (!value.is_null()).then_some(value);
    entry(ObjectKind::RotationPolicy, own, on, some(before), some(after))
}

fn key(own: &str, on: u32, before: Value, after: Value) -> AuditEntry {
    AuditEntry {
        object: ObjectRef { kind: ObjectKind::EncryptionKey, ..policy(own, on, Value::Null, Value::Null).object },
        ..policy(own, on, before, after)
    }
}

const WHOLE: Span = Span { from: Timestamp::MIN_UTC, until: Timestamp::MAX_UTC };

/// What a policy said: `from-until interval`, a day of the month each.
fn said(policies: &Policies, own: &str) -> Vec<String> {
    let end = |at: Timestamp| {
        if at == Timestamp::MAX_UTC { "on".to_owned() } else { at.format("%-d").to_string() }
    };
    let told = |(span, policy): (Span, &RotationPolicy)| {
        let days = policy.rotation_interval_days.map_or_else(|| "none".to_owned(), |days| days.to_string());
        format!("{}-{} {days}", span.from.format("%-d"), end(span.until))
    };
    policies.during(&name(own), WHOLE).map(told).collect()
}

#[test]
fn a_policy_said_what_it_said_until_the_next_change() {
    let made = json!({ "policy_name": "P", "key_type": "phi_data", "rotation_interval_days": 90, "description": "x" });
    let entries = [
        policy("P", 1, Value::Null, made),
        policy("P", 4, json!({ "rotation_interval_days": 90 }), json!({ "rotation_interval_days": 30 })),
        policy(
            "P",
            6,
            json!({ "rotation_interval_days": 30, "rotation_schedule": null }),
            json!({ "rotation_interval_days": null, "rotation_schedule": "0 2 * * *" }),
        ),
        policy("P", 9, json!({ "policy_name": "P" }), Value::Null),
    ];
    let policies = Policies::of(&entries);
    assert_eq!(said(&policies, "P"), ["1-4 90", "4-6 30", "6-9 none"]);
    let last = policies.versions(&name("P")).last().unwrap();
    assert_eq!(last.policy.rotation_schedule.as_deref(), Some("0 2 * * *"));
    assert_eq!((last.policy.description.as_deref(), last.commit.as_deref()), (Some("x"), Some("commit-6")));
    let (own, within) = (name("P"), Span { from: day(5), until: day(7) });
    let within: Vec<_> = policies.during(&own, within).map(|(span, _)| (span.from, span.until)).collect();
    assert_eq!(within, [(day(5), day(6)), (day(6), day(7))]);
    assert_eq!(said(&policies, "Q"), [""; 0]);
}

#[test]
fn a_renamed_policy_goes_on_under_its_new_name_and_its_old_one_is_free() {
    let made = |days: u32| json!({ "key_type": "phi_data", "rotation_interval_days": days });
    let entries = [
        policy("P", 1, Value::Null, made(90)),
        policy("Q", 3, json!({ "policy_name": "P" }), json!({ "policy_name": "Q", "rotation_interval_days": 60 })),
        policy("P", 5, Value::Null, made(7)),
    ];
    let policies = Policies::of(&entries);
    assert_eq!(said(&policies, "P"), ["1-3 90", "5-on 7"]);
    assert_eq!(said(&policies, "Q"), ["3-on 60"]);
    let renamed = policies.versions(&name("Q")).next().unwrap();
    assert_eq!((renamed.policy.policy_name.as_str(), renamed.policy.key_type.as_str()), ("Q", "phi_data"));
}

/// The policies that a key had, as [`said`].
fn had(links: &Links, own: &str, life: Span, last: Option<&str>) -> Vec<String> {
    let names = links.names(&name(own), life);
    let had = links.policies(&names, last.map(name).as_ref()).into_iter();
    let within = had.filter_map(|(span, policy)| Some((span.and(life)?, policy)));
    within.map(|(span, policy)| format!("{}-{} {policy}", span.from.format("%-d"), span.until.format("%-d"))).collect()
}

#[test]
fn a_key_moves_between_policies_and_out_of_all() {
    let entries = [
        key("k", 1, Value::Null, json!({ "rotation_policy": "A" })),
        key("k", 3, json!({ "rotation_policy": "A" }), json!({ "rotation_policy": "B" })),
        key("k", 5, json!({ "rotation_policy": "B" }), json!({ "rotation_policy": null })),
        key("k", 8, json!({ "rotation_policy": null }), json!({ "rotation_policy": "A" })),
        key("other", 4, json!({ "rotation_policy": "A" }), json!({ "rotation_policy": "C" })),
    ];
    let links = Links::of(&entries);
    let life = Span { from: day(1), until: day(20) };
    assert_eq!(had(&links, "k", life, Some("A")), ["1-3 A", "3-5 B", "8-20 A"]);
}

#[test]
fn a_renamed_key_keeps_its_past_and_a_name_that_is_taken_again_brings_none() {
    let entries = [
        key("old", 1, Value::Null, json!({ "rotation_policy": "A" })),
        key("old", 2, json!({ "rotation_policy": "A" }), json!({ "rotation_policy": "B" })),
        key(
            "new",
            4,
            json!({ "key_name": "old", "rotation_policy": "B" }),
            json!({ "key_name": "new", "rotation_policy": "C" }),
        ),
        // Another key, later, of the first one's name.
        key("old", 6, Value::Null, json!({ "rotation_policy": "X" })),
        key("old", 7, json!({ "rotation_policy": "X" }), json!({ "rotation_policy": "Y" })),
    ];
    let links = Links::of(&entries);
    let first = Span { from: day(1), until: day(20) };
    assert_eq!(had(&links, "new", first, Some("C")), ["1-2 A", "2-4 B", "4-20 C"]);
    let names = links.names(&name("new"), first);
    assert!(names.at(&name("old"), day(3)) && names.at(&name("new"), day(4)), "{names:?}");
    assert!(!names.at(&name("old"), day(4)) && !names.at(&name("old"), day(7)), "{names:?}");
    let second = Span { from: day(6), until: day(20) };
    assert_eq!(had(&links, "old", second, Some("Y")), ["6-7 X", "7-20 Y"]);
    assert_eq!(links.names(&name("old"), second), Names(vec![(name("old"), second)]));
}
