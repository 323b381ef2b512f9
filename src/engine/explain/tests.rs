//! Explanations of objects that were applied, edited, removed, and never applied.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::document::Kind;
use crate::engine::fixture::{NOW, address, applied, at, documents, key, policy};
use crate::model::KeyState;

const DAILY: &str = "rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"";

const FREEZE: &str = "---\napiVersion: keywheel/v1\nkind: Freeze\nname: Audit\nreason: the auditors are here\n\
                      from: \"2026-11-20T00:00:00\"\nuntil: \"2026-11-25T00:00:00\"\n=====\n";

/// One daily policy with further fields, and one key of it.
fn daily(fields: &str) -> Repository {
    documents("", &[policy("daily", &format!("{DAILY}\n{fields}")), key("backups", "daily")].concat())
}

fn view<'a>(wanted: &'a Repository, applied: &'a Repository, recorded: &'a Recorded) -> View<'a> {
    View { wanted, applied, recorded, has_errors: false, dirty: &[], switch: Ok(true), now: at(NOW) }
}

fn explained(wanted: &Repository, recorded: &Recorded, name: &str) -> Explanation {
    explained_at(wanted, recorded, name, NOW)
}

fn explained_at(wanted: &Repository, recorded: &Recorded, name: &str, now: &str) -> Explanation {
    let applied = planning::applied_repository(wanted, recorded);
    let view = View { now: at(now), ..view(wanted, &applied, recorded) };
    let address = address(name);
    view.key(&address).or_else(|| view.policy(&address)).unwrap()
}

fn rotated(recorded: &mut Recorded, name: &str, slot: Option<&str>, then: &str) {
    let record = recorded.keys.get_mut(&address(name)).unwrap();
    record.last_rotation_at = Some(at(then));
    record.last_slot = slot.map(at);
}

fn field<'f>(explanation: &'f Explanation, name: &str) -> &'f Field {
    explanation.fields.iter().find(|field| field.name == name).unwrap()
}

fn origins(explanation: &Explanation) -> BTreeMap<&str, FieldOrigin> {
    explanation.fields.iter().map(|field| (field.name.as_str(), field.origin)).collect()
}

fn obstacles(explanation: &Explanation) -> Vec<&str> {
    explanation.obstacles.iter().map(|obstacle| obstacle.reason.code.as_str()).collect()
}

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
    let days = field(&explanation, "rotation_interval_days");
    assert_eq!(days.place.as_ref().map(|place| &*place.file), Some("policies/acme/all.yaml"));
    assert_eq!(explanation.applied, Applied::NotYet);
}

#[test]
fn a_due_key_says_since_when_and_nothing_stops_it() {
    let wanted = documents("", &[policy("daily", DAILY), key("backups", "daily")].concat());
    let explanation = explained(&wanted, &applied(&wanted), "acme/backups");
    let due = &explanation.due;
    assert_eq!((due.is_due, due.reason.code.as_str(), explanation.applied), (true, "overdue", Applied::Yes));
    assert!(explanation.obstacles.is_empty(), "{:?}", explanation.obstacles);
    assert_eq!(explanation.upcoming.len(), 10);
}

#[test]
fn a_policy_adds_its_keys_up_and_names_those_that_are_not_applied_yet() {
    let zone = format!("{DAILY}\ntimezone: Asia/Tokyo");
    let keys = |names: &[&str]| names.iter().map(|name| key(name, "daily")).collect::<String>();
    let before = documents("", &[policy("daily", &zone), keys(&["a", "b"])].concat());
    let mut recorded = applied(&before);
    rotated(&mut recorded, "acme/b", Some("2026-11-22T17:00:00Z"), "2026-11-22T17:00:05Z");
    let after = documents("", &[policy("daily", &zone), keys(&["a", "b", "c"])].concat());
    let explanation = explained(&after, &recorded, "acme/daily");
    assert_eq!((explanation.due.is_due, explanation.due.reason.message.as_str()), (true, "of its 3 keys, 1 is due"));
    let names: Vec<&str> = explanation.keys.iter().map(|key| key.key_name.as_str()).collect();
    assert_eq!((names, explanation.new_keys), (vec!["a", "b"], vec!["c".parse().unwrap()]));
    let next: Vec<_> = explanation
        .upcoming
        .iter()
        .map(|next| (next.at, next.keys, next.key_name.as_ref().map(Name::as_str)))
        .take(2)
        .collect();
    assert_eq!(next, [(at(NOW), 1, Some("a")), (at("2026-11-23T17:00:00Z"), 1, Some("b"))]);
    let last = explanation.upcoming.last().unwrap();
    assert_eq!((last.keys, &last.key_name), (3, &None));
    assert_eq!(explanation.upcoming.len(), 10);
}

#[test]
fn coming_rotations_have_local_time_and_what_the_zone_is_called_then() {
    let wanted = daily("timezone: Europe/Berlin");
    let mut recorded = applied(&wanted);
    rotated(&mut recorded, "acme/backups", Some("2027-03-26T01:00:00Z"), "2027-03-26T01:00:03Z");
    let explanation = explained_at(&wanted, &recorded, "acme/backups", "2027-03-26T12:00:00Z");
    let told: Vec<_> =
        explanation.upcoming.iter().map(|it| (it.at, it.local.as_str(), it.zone.as_str())).take(3).collect();
    assert_eq!(
        told,
        [
            (at("2027-03-27T01:00:00Z"), "2027-03-27T02:00:00+01:00", "CET"),
            (at("2027-03-28T01:00:00Z"), "2027-03-28T03:00:00+02:00", "CEST"),
            (at("2027-03-29T00:00:00Z"), "2027-03-29T02:00:00+02:00", "CEST"),
        ]
    );
    assert_eq!((explanation.upcoming.len(), explanation.upcoming_once), (10, None));
}

#[test]
fn a_key_says_what_its_schedule_counts_from() {
    let wanted = daily("");
    let mut recorded = applied(&wanted);
    let from = |recorded: &Recorded| explained(&wanted, recorded, "acme/backups").due.counted_from.unwrap();
    assert_eq!(from(&recorded), "2026-11-20T12:00:00Z, when its primary version was made");
    rotated(&mut recorded, "acme/backups", Some("2026-11-23T02:00:00Z"), "2026-11-23T02:00:03Z");
    assert_eq!(from(&recorded), "the slot of 2026-11-23T02:00:00Z, which its last rotation served");
    rotated(&mut recorded, "acme/backups", None, "2026-11-23T05:00:00Z");
    assert_eq!(from(&recorded), "its last rotation at 2026-11-23T05:00:00Z, which served no slot");
}

#[test]
fn everything_that_would_stop_a_rotation_is_named() {
    let text = [FREEZE, &policy("daily", &format!("{DAILY}\nstatus: suspended")), &key("backups", "daily")].concat();
    let wanted = documents("", &text);
    let mut recorded = applied(&wanted);
    let record = recorded.keys.get_mut(&address("acme/backups")).unwrap();
    record.state = KeyState::Parked;
    record.state_reason = Some("AccessDenied, five times".to_owned());
    let explanation = explained(&wanted, &recorded, "acme/backups");
    assert_eq!(obstacles(&explanation), ["suspended", "freeze", "parked"]);
    let [_, freeze, parked] = explanation.obstacles.as_slice() else { panic!() };
    assert_eq!(freeze.reason.message, "the freeze \"Audit\" holds: the auditors are here");
    assert_eq!(freeze.until, Some(at("2026-11-25T00:00:00Z")));
    assert!(parked.reason.message.ends_with(": AccessDenied, five times"));
    assert_eq!(obstacles(&explained(&wanted, &recorded, "acme/daily")), ["suspended", "freeze"]);
}

#[test]
fn a_key_that_failed_is_stopped_until_it_is_tried_again() {
    let wanted = daily("");
    let mut recorded = applied(&wanted);
    let record = recorded.keys.get_mut(&address("acme/backups")).unwrap();
    (record.failures, record.retry_at) = (3, Some(at("2026-11-23T12:10:00Z")));
    let explanation = explained(&wanted, &recorded, "acme/backups");
    assert_eq!(obstacles(&explanation), ["retry_later"]);
    assert_eq!(explanation.obstacles[0].until, Some(at("2026-11-23T12:10:00Z")));
}

#[test]
fn a_closed_window_says_when_it_opens() {
    let wanted = daily("rotation_windows: [{start: \"01:00:00\", end: \"05:00:00\"}]");
    let recorded = applied(&wanted);
    for name in ["acme/backups", "acme/daily"] {
        let explanation = explained(&wanted, &recorded, name);
        assert_eq!(obstacles(&explanation), ["window"]);
        assert_eq!(explanation.obstacles[0].until, Some(at("2026-11-24T01:00:00Z")));
        assert!(explanation.due.is_due, "due, though it cannot start");
    }
}

#[test]
fn a_late_rotation_leaves_a_gap_before_the_next_slot_is_served() {
    let wanted = daily("");
    let mut recorded = applied(&wanted);
    rotated(&mut recorded, "acme/backups", Some("2026-11-22T02:00:00Z"), "2026-11-22T20:00:00Z");
    let explanation = explained_at(&wanted, &recorded, "acme/backups", "2026-11-23T03:00:00Z");
    assert_eq!(obstacles(&explanation), ["minimum_gap"]);
    assert_eq!(explanation.obstacles[0].until, Some(at("2026-11-23T08:00:00Z")));
}

#[test]
fn what_a_person_has_to_do_first_stands_with_the_coming_rotations() {
    for (state, code, once) in [
        (KeyState::Held, "held", "it is released"),
        (KeyState::Parked, "parked", "it is resumed"),
        (KeyState::Pending, "pending", "its first version is ready"),
    ] {
        let wanted = daily("");
        let mut recorded = applied(&wanted);
        recorded.keys.get_mut(&address("acme/backups")).unwrap().state = state;
        let explanation = explained(&wanted, &recorded, "acme/backups");
        assert_eq!(obstacles(&explanation), [code]);
        assert_eq!(explanation.upcoming_once.as_deref(), Some(once));
        assert_eq!(explanation.upcoming.len(), 10);
    }
    let suspended = daily("status: suspended");
    let recorded = applied(&suspended);
    let once = |name: &str| explained(&suspended, &recorded, name).upcoming_once;
    assert_eq!(once("acme/backups").as_deref(), Some("its policy is active again"));
    assert_eq!(once("acme/daily").as_deref(), Some("its status is active again"));
}

#[test]
fn uncommitted_changes_are_named_because_apply_refuses_them() {
    let wanted = daily("");
    let recorded = applied(&wanted);
    let applied = planning::applied_repository(&wanted, &recorded);
    let message = |count: usize| {
        let dirty: Vec<String> = (0..count).map(|number| format!("policies/acme/{number}.yaml")).collect();
        let view = View { dirty: &dirty, ..view(&wanted, &applied, &recorded) };
        let [key, policy] =
            [view.key(&address("acme/backups")), view.policy(&address("acme/daily"))].map(Option::unwrap);
        assert_eq!(key.obstacles, policy.obstacles);
        key.obstacles.into_iter().map(|it| (it.reason.code, it.reason.message)).next()
    };
    assert_eq!(message(0), None);
    let (code, one) = message(1).unwrap();
    assert_eq!(code, "uncommitted");
    assert_eq!(one, "policies/acme/0.yaml is not committed: `keywheel apply` refuses that");
    assert!(message(5).unwrap().1.contains("policies/acme/2.yaml and 2 more are not committed"));
}

#[test]
fn the_switch_stops_everything_and_an_unreadable_one_says_so() {
    let wanted = daily("");
    let recorded = applied(&wanted);
    let applied = planning::applied_repository(&wanted, &recorded);
    let stopped = |switch| {
        let explanation = View { switch, ..view(&wanted, &applied, &recorded) }.key(&address("acme/backups")).unwrap();
        assert_eq!(obstacles(&explanation), ["switched_off"]);
        explanation.obstacles[0].reason.message.clone()
    };
    assert_eq!(stopped(Ok(false)), "KEY_ROTATION_ENABLED=false starts nothing");
    let unreadable = EngineError::new("settings/switch", "KEY_ROTATION_ENABLED=\"maybe\" is neither true nor false");
    assert!(stopped(Err(unreadable)).contains("maybe"));
}

#[test]
fn documents_with_errors_leave_the_record_to_speak() {
    let wanted = daily("");
    let recorded = applied(&wanted);
    let applied = planning::applied_repository(&wanted, &recorded);
    let view = View { has_errors: true, ..view(&applied, &applied, &recorded) };
    let explanation = view.key(&address("acme/backups")).unwrap();
    assert_eq!((explanation.applied, &explanation.place), (Applied::Errors, &None));
    assert_eq!(obstacles(&explanation), ["documents"]);
    assert!(origins(&explanation).values().all(|origin| *origin == FieldOrigin::Record));
    assert_eq!(view.unknown(&address("acme/new")).code, "explain/documents");
}

#[test]
fn a_rename_continues_the_record_and_is_no_edit_of_anything_but_the_name() {
    let recorded = applied(&daily(""));
    let text = [
        policy("nightly", &format!("{DAILY}\nprevious_name: daily")),
        key("archives", "nightly") + "previous_name: backups\n",
    ]
    .concat();
    let renamed = documents("", &text);
    let edits = |name: &str| {
        let explanation = explained(&renamed, &recorded, name);
        assert_eq!(explanation.applied, Applied::Edited, "{name}");
        let edited = explanation.fields.into_iter().filter(|field| field.applied.is_some());
        edited.map(|field| field.name).collect::<Vec<_>>()
    };
    assert_eq!(edits("acme/nightly"), ["policy_name"]);
    assert_eq!(edits("acme/archives"), ["key_name", "rotation_policy"]);
    let keys = explained(&renamed, &recorded, "acme/nightly").keys;
    assert_eq!(keys.iter().map(|key| key.key_name.as_str()).collect::<Vec<_>>(), ["backups"]);
    // Once it was applied, the line may go, and nothing is planned for that.
    let done = documents("", &text.replace("previous_name: daily", "").replace("previous_name: backups\n", ""));
    for name in ["acme/nightly", "acme/archives"] {
        assert_eq!(explained(&done, &applied(&renamed), name).applied, Applied::Yes);
    }
}

#[test]
fn a_key_takes_its_region_from_the_settings_of_its_key_manager() {
    let config = "providers: {aws_kms: {region: eu-central-1}}\n";
    let text = [policy("daily", DAILY), key("backups", "daily")].concat();
    let text = text.replace("key_type:", "kms_provider: aws_kms\nkey_type:") + "kms_alias: alias/backups\n";
    let explanation = explained(&documents(config, &text), &Recorded::default(), "acme/backups");
    let region = field(&explanation, "kms_region");
    assert_eq!((region.value.as_str(), region.origin), (Some("eu-central-1"), FieldOrigin::Provider));
}

#[test]
fn what_only_a_person_rotates_is_said_as_that() {
    let text = [policy("by hand", "rotation_trigger: manual"), key("a", "by hand"), key("b", "nothing")].concat();
    let wanted = documents("", &text.replace("rotation_policy: nothing\n", ""));
    let recorded = applied(&wanted);
    for (name, code) in [("acme/a", "unscheduled"), ("acme/b", "no_policy")] {
        let explanation = explained(&wanted, &recorded, name);
        assert_eq!((explanation.due.is_due, explanation.due.reason.code.as_str()), (false, code));
        assert_eq!(explanation.upcoming, []);
    }
}

#[test]
fn what_is_not_applied_yet_rotates_as_if_it_were_applied_now() {
    let explanation = explained(&daily(""), &Recorded::default(), "acme/backups");
    assert_eq!((explanation.applied, explanation.due.reason.code.as_str()), (Applied::NotYet, "not_applied"));
    assert_eq!(obstacles(&explanation), ["not_applied"]);
    assert_eq!(explanation.upcoming_once.as_deref(), Some("it is applied, reckoned from now"));
    assert_eq!(explanation.upcoming[0].at, at("2026-11-24T02:00:00Z"));
    assert_eq!(obstacles(&explained(&daily(""), &Recorded::default(), "acme/daily")), ["not_applied"]);
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
    assert_eq!(obstacles(&gone), ["document_gone"]);
    assert_eq!(gone.upcoming_once.as_deref(), Some("its document is back"));
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
    assert_eq!(field(&explanation, "max_usage_count").value, Value::Null);
    // Nobody set it: it is the key manager's own way.
    assert_eq!(
        (&field(&explanation, "rotation_strategy").value, field(&explanation, "rotation_strategy").origin),
        (&"new_version".into(), FieldOrigin::Provider)
    );
}
