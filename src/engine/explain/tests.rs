//! Explanations of objects that were applied, edited, removed, and never applied.

use std::collections::BTreeMap;

use super::*;
use crate::engine::fixture::{NOW, address, applied, at, documents, key, policy};

fn explained(wanted: &Repository, recorded: &Recorded, name: &str) -> Explanation {
    let applied = planning::applied_repository(wanted, recorded);
    let view = View {
        wanted,
        applied: &applied,
        recorded,
        has_errors: false,
        dirty: &[],
        rotation_enabled: true,
        now: at(NOW),
    };
    let address = address(name);
    view.key(&address).or_else(|| view.policy(&address)).unwrap()
}

fn origins(explanation: &Explanation) -> BTreeMap<&str, FieldOrigin> {
    explanation.fields.iter().map(|field| (field.name.as_str(), field.origin)).collect()
}

fn obstacles(explanation: &Explanation) -> Vec<&str> {
    explanation.obstacles.iter().map(|obstacle| obstacle.reason.code.as_str()).collect()
}

const DAILY: &str = "rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"";

#[test]
fn each_field_names_who_set_it() {
    let tenant = "---\napiVersion: keywheel/v1\nkind: Tenant\ntenant_id: acme\ndefaults: {retain_old_keys_days: 60}\n";
    let wanted = documents("defaults: {timezone: Europe/Berlin}\n", &[tenant, &policy("daily", DAILY)].concat());
    let explanation = explained(&wanted, &Recorded::default(), "acme/daily");
    let origins = origins(&explanation);
    assert_eq!(origins["rotation_interval_days"], FieldOrigin::Document);
    assert_eq!(origins["retain_old_keys_days"], FieldOrigin::Tenant);
    assert_eq!(origins["timezone"], FieldOrigin::Config);
    assert_eq!(origins["rollback_period_hours"], FieldOrigin::Default);
    let days = explanation.fields.iter().find(|field| field.name == "rotation_interval_days").unwrap();
    assert_eq!(days.place.as_ref().map(|place| &*place.file), Some("policies/acme/all.yaml"));
    assert_eq!(explanation.applied, Applied::NotYet);
}

#[test]
fn a_due_key_says_since_when_and_nothing_stops_it() {
    let wanted = documents("", &[policy("daily", DAILY), key("backups", "daily")].concat());
    let explanation = explained(&wanted, &applied(&wanted), "acme/backups");
    assert_eq!((explanation.due.code.as_str(), explanation.applied), ("overdue", Applied::Yes));
    assert!(explanation.obstacles.is_empty(), "{:?}", explanation.obstacles);
    assert_eq!(explanation.upcoming.len(), UPCOMING);
}

#[test]
fn a_policy_tells_of_its_keys_and_their_next_rotations() {
    let wanted = documents(
        "",
        &[policy("daily", &format!("{DAILY}\ntimezone: Asia/Tokyo")), key("a", "daily"), key("b", "daily")].concat(),
    );
    let explanation = explained(&wanted, &applied(&wanted), "acme/daily");
    assert_eq!(explanation.due.message, "of its 2 keys, 2 are due");
    assert_eq!(explanation.keys.len(), 2);
    assert_eq!(explanation.upcoming.len(), UPCOMING);
    assert!(explanation.upcoming.is_sorted());
    // 02:00 in Tokyo is 17:00 of the day before in UTC.
    let last = explanation.upcoming.last().unwrap();
    assert!(last.local.ends_with("T02:00:00+09:00"), "{}", last.local);
    assert_eq!(last.at.format("%H:%M").to_string(), "17:00");
}

#[test]
fn everything_that_would_stop_a_rotation_is_named() {
    let freeze = "---\napiVersion: keywheel/v1\nkind: Freeze\nname: Audit\nreason: auditors\n\
                  from: \"2026-11-20T00:00:00\"\nuntil: \"2026-11-25T00:00:00\"\n=====\n";
    let wanted = documents(
        "",
        &[freeze, &policy("daily", &format!("{DAILY}\nstatus: suspended")), &key("backups", "daily")].concat(),
    );
    let mut recorded = applied(&wanted);
    let record = recorded.keys.get_mut(&address("acme/backups")).unwrap();
    record.state = KeyState::Parked;
    record.state_reason = Some("AccessDenied, five times".to_owned());
    let explanation = explained(&wanted, &recorded, "acme/backups");
    assert_eq!(obstacles(&explanation), ["suspended", "freeze", "parked"]);
    assert!(explanation.obstacles[2].reason.message.ends_with(": AccessDenied, five times"));
    assert_eq!(explanation.obstacles[1].until, Some(at("2026-11-25T00:00:00Z")));
    assert!(explanation.upcoming.is_empty());
}

#[test]
fn an_edited_and_a_removed_document_say_so() {
    let before = documents("", &[policy("daily", DAILY), key("backups", "daily")].concat());
    let recorded = applied(&before);
    let after = documents("", &policy("daily", "rotation_interval_days: 30"));
    let edited = explained(&after, &recorded, "acme/daily");
    assert_eq!(edited.applied, Applied::Edited);
    let gone = explained(&after, &recorded, "acme/backups");
    assert_eq!(gone.applied, Applied::Gone);
    assert!(origins(&gone).values().all(|origin| *origin == FieldOrigin::Record));
}

#[test]
fn an_edit_that_is_not_applied_stands_beside_what_was_applied() {
    let before = documents("", &[policy("daily", DAILY), key("backups", "daily")].concat());
    let weekly = DAILY.replace("days: 1", "days: 7");
    let after = documents("", &[policy("daily", &weekly), key("backups", "daily")].concat());
    let explanation = explained(&after, &applied(&before), "acme/daily");
    assert_eq!(explanation.applied, Applied::Edited);
    let edited: Vec<_> = explanation.fields.iter().filter(|field| field.applied.is_some()).collect();
    assert_eq!(edited.len(), 1, "{edited:?}");
    assert_eq!((edited[0].name.as_str(), &edited[0].value), ("rotation_interval_days", &Value::from(7)));
    assert_eq!(edited[0].applied, Some(Value::from(1)));
}

#[test]
fn every_field_is_told_the_unset_ones_too() {
    let wanted = documents("", &policy("daily", DAILY));
    let explanation = explained(&wanted, &applied(&wanted), "acme/daily");
    let names: Vec<&str> = explanation.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, Kind::RotationPolicy.fields());
    let field = |name: &str| explanation.fields.iter().find(|field| field.name == name).unwrap();
    assert_eq!(field("max_usage_count").value, Value::Null);
    // Nobody set it: it is the key manager's own way.
    assert_eq!(
        (&field("rotation_strategy").value, field("rotation_strategy").origin),
        (&"new_version".into(), FieldOrigin::Provider)
    );
}
