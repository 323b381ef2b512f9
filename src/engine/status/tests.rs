use super::*;
use crate::engine::fixture::{NOW, address, applied, at, documents, key, policy};

const DAILY: &str = "rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"";

fn look(documents: &Repository, recorded: &Recorded, filter: &StatusFilter) -> StatusReport {
    report(documents, recorded, filter, true, at(NOW)).unwrap()
}

/// Each key with how it stands.
fn standings(report: &StatusReport) -> Vec<(&str, Standing)> {
    report.keys.iter().map(|key| (key.key_name.as_str(), key.state)).collect()
}

fn fleet() -> (Repository, Recorded) {
    let text = [
        policy("daily", DAILY),
        policy("quarterly", "rotation_interval_days: 90"),
        policy("by hand", "rotation_trigger: manual"),
        key("a-overdue", "daily"),
        key("b-fresh", "daily"),
        key("c-slow", "quarterly"),
        key("d-manual", "by hand"),
    ]
    .concat();
    let documents = documents("", &text);
    let mut recorded = applied(&documents);
    let fresh = recorded.keys.get_mut(&address("acme/b-fresh")).unwrap();
    fresh.last_rotation_at = Some(at("2026-11-23T02:00:05Z"));
    fresh.last_slot = Some(at("2026-11-23T02:00:00Z"));
    (documents, recorded)
}

#[test]
fn every_key_stands_as_the_planner_sees_it() {
    let (documents, recorded) = fleet();
    let report = look(&documents, &recorded, &StatusFilter::default());
    let expected = [
        ("a-overdue", Standing::Overdue),
        ("b-fresh", Standing::Active),
        ("c-slow", Standing::Active),
        ("d-manual", Standing::Active),
    ];
    assert_eq!(standings(&report), expected);
    assert_eq!(report.summary, BTreeMap::from([(Standing::Active, 3), (Standing::Overdue, 1)]));
    assert_eq!((report.total, report.not_applied), (4, 0));
}

#[test]
fn the_next_rotation_is_computed_and_not_the_records_cache() {
    let (documents, mut recorded) = fleet();
    recorded.keys.get_mut(&address("acme/b-fresh")).unwrap().next_rotation_at = Some(at("2030-01-01T00:00:00Z"));
    let report = look(&documents, &recorded, &StatusFilter::default());
    let next: Vec<_> = report.keys.iter().map(|key| key.next_rotation_at).collect();
    // The latest slot that has passed; tomorrow's; the last midnight within 90 days; nothing but a person.
    let expected =
        [Some(at("2026-11-23T02:00:00Z")), Some(at("2026-11-24T02:00:00Z")), Some(at("2027-02-18T00:00:00Z")), None];
    assert_eq!(next, expected);
}

#[test]
fn edits_that_nobody_applied_change_nothing_but_the_count_of_new_keys() {
    let (documents_then, recorded) = fleet();
    let text =
        [policy("daily", "rotation_interval_days: 7"), key("a-overdue", "daily"), key("e-new", "daily")].concat();
    let now = look(&documents("", &text), &recorded, &StatusFilter::default());
    let then = look(&documents_then, &recorded, &StatusFilter::default());
    assert_eq!(now.keys, then.keys);
    assert_eq!((now.total, now.not_applied), (4, 1));
}

#[test]
fn a_suspended_policy_lets_its_due_keys_wait_without_a_next_rotation() {
    let documents =
        documents("", &[policy("daily", &format!("{DAILY}\nstatus: suspended")), key("k", "daily")].concat());
    let report = look(&documents, &applied(&documents), &StatusFilter::default());
    let key = &report.keys[0];
    assert_eq!((key.state, key.suspended, key.next_rotation_at), (Standing::Waiting, true, None));
    assert_eq!(key.reason.as_ref().unwrap().code, "suspended");
}

#[test]
fn a_freeze_that_was_applied_counts_and_says_when_it_ends() {
    let freeze = "---\napiVersion: keywheel/v1\nkind: Freeze\nname: year end\nreason: closing\n\
                  from: \"2026-11-20T00:00:00\"\nuntil: \"2026-11-30T00:00:00\"\n=====\n";
    let text = [freeze.to_owned(), policy("daily", DAILY), key("k", "daily")].concat();
    let documents = documents("", &text);
    let mut recorded = applied(&documents);
    let before = look(&documents, &recorded, &StatusFilter::default());
    assert_eq!(before.keys[0].state, Standing::Overdue, "a freeze that is only written holds nothing");

    let name = Name::new("year end").unwrap();
    let object =
        crate::model::ObjectRef { kind: crate::model::ObjectKind::Freeze, tenant_id: None, name: name.clone() };
    let spec = serde_json::to_value(&documents.freezes[&name].value).unwrap();
    let record =
        crate::model::DocumentRecord { object: object.clone(), spec, revision: 1, last_modified_by: Origin::default() };
    recorded.documents.insert(object, record);
    let report = look(&documents, &recorded, &StatusFilter::default());
    let key = &report.keys[0];
    assert_eq!((key.state, key.next_rotation_at), (Standing::Waiting, Some(at("2026-11-30T00:00:00Z"))));
    assert!(key.reason.as_ref().unwrap().message.contains("year end"));
}

#[test]
fn held_parked_and_pending_say_why_and_come_before_what_the_clock_says() {
    for (state, standing) in
        [(KeyState::Held, Standing::Held), (KeyState::Parked, Standing::Parked), (KeyState::Pending, Standing::Pending)]
    {
        let (documents, mut recorded) = fleet();
        let record = recorded.keys.get_mut(&address("acme/a-overdue")).unwrap();
        record.state = state;
        record.state_reason = Some("access denied".to_owned());
        let report = look(&documents, &recorded, &StatusFilter { state: Some(standing), ..StatusFilter::default() });
        assert_eq!(standings(&report), [("a-overdue", standing)]);
        assert_eq!(report.keys[0].reason.as_ref().unwrap().message, "access denied");
        let waits_for_a_person = standing != Standing::Pending;
        assert_eq!(report.keys[0].next_rotation_at.is_none(), waits_for_a_person, "{standing}");
    }
}

#[test]
fn the_switch_turns_due_into_waiting() {
    let (documents, recorded) = fleet();
    let report = report(&documents, &recorded, &StatusFilter::default(), false, at(NOW)).unwrap();
    assert_eq!(report.keys[0].state, Standing::Waiting);
    assert_eq!(report.keys[0].reason.as_ref().unwrap().code, "switched_off");
}

#[test]
fn filters_narrow_and_orders_sort() {
    let (documents, recorded) = fleet();
    let daily =
        StatusFilter { policy: Some(Name::new("daily").unwrap()), order: StatusOrder::Last, ..StatusFilter::default() };
    let names = |report: &StatusReport| report.keys.iter().map(|key| key.key_name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&look(&documents, &recorded, &daily)), ["a-overdue", "b-fresh"], "never rotated comes first");
    let by_next = StatusFilter { order: StatusOrder::Next, ..StatusFilter::default() };
    assert_eq!(names(&look(&documents, &recorded, &by_next)), ["a-overdue", "b-fresh", "c-slow", "d-manual"]);
    let by_age = StatusFilter { order: StatusOrder::Age, ..StatusFilter::default() };
    let mut aged = recorded;
    let slow = aged.keys.get_mut(&address("acme/c-slow")).unwrap();
    slow.primary_version.as_mut().unwrap().provider_created_at = Some(at("2026-11-01T00:00:00Z"));
    let report = look(&documents, &aged, &by_age);
    assert_eq!(names(&report)[0], "c-slow");
    assert_eq!(report.keys[0].primary_version.as_ref().unwrap().age_days, 22);
}

#[test]
fn a_filter_with_a_slip_in_it_gets_the_name_that_was_meant() {
    let (documents, recorded) = fleet();
    let wrong = |filter: StatusFilter| report(&documents, &recorded, &filter, true, at(NOW)).unwrap_err();
    let tenant = wrong(StatusFilter { tenant_id: Some(Name::new("acmee").unwrap()), ..StatusFilter::default() });
    assert_eq!((tenant.code, tenant.help.as_deref()), ("names/unknown-tenant", Some("did you mean \"acme\"?")));
    let policy = wrong(StatusFilter { policy: Some(Name::new("dayly").unwrap()), ..StatusFilter::default() });
    assert_eq!((policy.code, policy.help.as_deref()), ("names/unknown-policy", Some("did you mean \"daily\"?")));
}
