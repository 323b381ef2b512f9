//! Famous cases, and properties.

use chrono::{NaiveDate, NaiveTime, TimeZone};
use proptest::prelude::*;

use super::*;

fn policy(yaml: &str) -> RotationPolicy {
    let mut fields = serde_json::json!({"tenant_id": "t", "policy_name": "p", "key_type": "phi_data"});
    for (name, value) in serde_json::from_str::<serde_json::Value>(yaml).unwrap().as_object().unwrap() {
        fields[name] = value.clone();
    }
    serde_json::from_value(fields).unwrap()
}

fn timing(json: &str) -> Timing {
    Timing::new(&policy(json)).unwrap()
}

fn at(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn key() -> Address {
    "t/k".parse().unwrap()
}

fn rotated(at_text: &str, slot: Option<&str>) -> KeyHistory {
    KeyHistory { last_rotation: Some(Served { at: at(at_text), slot: slot.map(at) }), ..KeyHistory::default() }
}

fn decide(timing: &Timing, history: &KeyHistory, now: &str) -> Decision {
    timing.decide(&key(), history, &[], at(now))
}

#[test]
fn a_daily_key_is_due_at_its_time_of_day_and_not_a_second_before() {
    let daily = timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00"}"#);
    let history = rotated("2026-11-22T02:07:00Z", Some("2026-11-22T02:00:00Z"));
    let slot = at("2026-11-23T02:00:00Z");
    assert!(
        matches!(decide(&daily, &history, "2026-11-23T01:59:59Z"), Decision::NotDue { slot: next, .. } if next == slot)
    );
    let late = rotated("2026-11-22T02:00:00Z", Some("2026-11-22T02:00:00Z"));
    assert_eq!(decide(&daily, &late, "2026-11-23T02:00:00Z"), Decision::Due { slot, overdue_since: None });
}

#[test]
fn a_late_run_serves_the_latest_slot_and_missed_slots_become_one() {
    let daily = timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00"}"#);
    let history = rotated("2026-11-20T02:00:00Z", Some("2026-11-20T02:00:00Z"));
    let due = Decision::Due { slot: at("2026-11-23T02:00:00Z"), overdue_since: Some(at("2026-11-21T02:00:00Z")) };
    assert_eq!(decide(&daily, &history, "2026-11-23T09:00:00Z"), due);
}

#[test]
fn after_a_manual_rotation_the_next_slot_is_the_latest_within_the_interval() {
    let monthly = timing(r#"{"rotation_interval_days": 30, "rotation_time_of_day": "02:00:00"}"#);
    let history = rotated("2026-01-10T15:00:00Z", None);
    assert!(
        matches!(decide(&monthly, &history, "2026-01-11T00:00:00Z"), Decision::NotDue { slot, .. } if slot == at("2026-02-09T02:00:00Z"))
    );
}

#[test]
fn a_manual_rotation_just_before_the_slot_of_a_daily_key_skips_that_slot() {
    let daily = timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00"}"#);
    let history = rotated("2026-01-10T23:50:00Z", None);
    assert!(
        matches!(decide(&daily, &history, "2026-01-11T00:00:00Z"), Decision::NotDue { slot, .. } if slot == at("2026-01-12T02:00:00Z"))
    );
}

#[test]
fn an_adopted_overdue_key_waits_for_the_first_slot_since_its_adoption() {
    let quarterly = timing(r#"{"rotation_interval_days": 90, "rotation_time_of_day": "02:00:00"}"#);
    let history = KeyHistory {
        last_rotation: None,
        version_created_at: Some(at("2025-01-01T00:00:00Z")),
        managed_since: Some(at("2026-11-23T12:00:00Z")),
    };
    let slot = at("2026-11-24T02:00:00Z");
    assert!(
        matches!(decide(&quarterly, &history, "2026-11-23T13:00:00Z"), Decision::Waiting { slot: next, hold: Hold::FirstSlotAfterAdoption, .. } if next == slot)
    );
    assert!(
        matches!(decide(&quarterly, &history, "2026-11-24T02:00:00Z"), Decision::Due { slot: next, overdue_since: Some(_) } if next == slot)
    );
}

#[test]
fn a_time_that_daylight_saving_skips_becomes_the_first_instant_after_the_gap() {
    let berlin =
        timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:30:00", "timezone": "Europe/Berlin"}"#);
    let history = rotated("2026-03-28T01:30:00Z", Some("2026-03-28T01:30:00Z"));
    assert!(
        matches!(decide(&berlin, &history, "2026-03-28T12:00:00Z"), Decision::NotDue { slot, .. } if slot == at("2026-03-29T01:00:00Z"))
    );
}

#[test]
fn a_time_that_comes_twice_means_its_first_occurrence_by_interval_and_by_cron() {
    for json in [
        r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:30:00", "timezone": "Europe/Berlin"}"#,
        r#"{"rotation_schedule": "30 2 * * *", "timezone": "Europe/Berlin"}"#,
    ] {
        let berlin = timing(json);
        let history = rotated("2026-10-24T00:30:00Z", Some("2026-10-24T00:30:00Z"));
        let due = decide(&berlin, &history, "2026-10-25T12:00:00Z");
        assert_eq!(due, Decision::Due { slot: at("2026-10-25T00:30:00Z"), overdue_since: None }, "{json}");
    }
}

#[test]
fn a_date_that_does_not_exist_in_its_zone_moves_to_the_first_instant_of_the_next() {
    let apia =
        timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00", "timezone": "Pacific/Apia"}"#);
    let slots = apia.cadence.as_ref().unwrap();
    let mut slot = slots.after(at("2011-12-29T00:00:00Z")).unwrap();
    let mut dates = Vec::new();
    for _ in 0..4 {
        dates.push((slot.nominal.to_string(), slot.at.to_rfc3339()));
        slot = slots.next(slot).unwrap();
    }
    let expected = [
        ("2011-12-29 02:00:00", "2011-12-29T12:00:00+00:00"),
        ("2011-12-30 02:00:00", "2011-12-30T10:00:00+00:00"),
        ("2011-12-31 02:00:00", "2011-12-30T12:00:00+00:00"),
        ("2012-01-01 02:00:00", "2011-12-31T12:00:00+00:00"),
    ];
    assert_eq!(dates, expected.map(|(nominal, at)| (nominal.to_owned(), at.to_owned())));
}

#[test]
fn a_window_holds_a_due_key_until_it_opens() {
    let weekend = timing(
        r#"{"rotation_interval_days": 7, "rotation_time_of_day": "02:00:00",
            "rotation_windows": [{"days": ["sat"], "start": "22:00:00", "end": "04:00:00"}]}"#,
    );
    let history = rotated("2026-11-16T02:00:00Z", Some("2026-11-16T02:00:00Z"));
    let Decision::Waiting { hold, starts_at, .. } = decide(&weekend, &history, "2026-11-23T03:00:00Z") else {
        panic!()
    };
    assert_eq!((hold, starts_at), (Hold::Window, Some(at("2026-11-28T22:00:00Z"))));
    assert!(matches!(decide(&weekend, &history, "2026-11-29T03:59:59Z"), Decision::Due { .. }));
    assert!(matches!(decide(&weekend, &history, "2026-11-29T04:00:00Z"), Decision::Waiting { .. }));
}

#[test]
fn a_freeze_wins_over_a_window_and_names_itself() {
    let daily = timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00"}"#);
    let freeze: Freeze = serde_json::from_str(
        r#"{"name": "Year end", "reason": "audit", "from": "2026-12-20T00:00:00", "until": "2027-01-05T00:00:00"}"#,
    )
    .unwrap();
    let history = rotated("2026-12-19T02:00:00Z", Some("2026-12-19T02:00:00Z"));
    let decision = daily.decide(&key(), &history, &[&freeze], at("2026-12-24T12:00:00Z"));
    let Decision::Waiting { hold, starts_at, .. } = decision else { panic!("{decision:?}") };
    assert_eq!((hold, starts_at), (Hold::Freeze("Year end".to_owned()), Some(at("2027-01-05T00:00:00Z"))));
    assert_eq!(
        daily.delays(&[&freeze], at("2026-11-23T00:00:00Z")).len(),
        1,
        "sixteen days are longer than the interval"
    );
    let yearly = timing(r#"{"rotation_interval_days": 365}"#);
    assert_eq!(yearly.delays(&[&freeze], at("2026-11-23T00:00:00Z")), []);
}

#[test]
fn a_schedule_without_sense_is_refused_with_the_fix() {
    for (text, code) in [
        ("0 2 30 2 *", "policy/cron-never-fires"),
        ("*/5 * * * *", "policy/cron-too-often"),
        ("0 0,20 * * *", "policy/cron-too-often"),
        ("0 0 2 * * *", "policy/cron-fields"),
        ("@daily", "policy/cron-fields"),
        ("0 25 * * *", "policy/cron-syntax"),
    ] {
        let problems = Timing::new(&policy(&format!(r#"{{"rotation_schedule": "{text}"}}"#))).unwrap_err();
        assert_eq!(problems[0].code, code, "{text}");
    }
    for text in ["0 2 29 2 *", "0 0,12 * * *", "0 2 * * MON#1", "0 2 L * *", "0 2 15W * *", "0 2 * * FRI#5"] {
        timing(&format!(r#"{{"rotation_schedule": "{text}"}}"#));
    }
}

#[test]
fn an_unknown_zone_is_refused_with_the_nearest_name() {
    let problems = Timing::new(&policy(r#"{"rotation_interval_days": 1, "timezone": "Europe/Berln"}"#)).unwrap_err();
    assert_eq!(problems[0].help, "did you mean \"Europe/Berlin\"?");
}

#[test]
fn a_policy_without_a_schedule_makes_nothing_due() {
    assert_eq!(
        decide(&timing(r#"{"rotation_trigger": "manual"}"#), &KeyHistory::default(), "2026-01-01T00:00:00Z"),
        Decision::Unscheduled
    );
}

proptest! {
    #[test]
    fn every_date_of_every_zone_has_a_slot_that_is_later_than_the_one_before(
        zone in 0..chrono_tz::TZ_VARIANTS.len(), day in 0i64..48_000, second in 0u32..86_400,
    ) {
        let zone = chrono_tz::TZ_VARIANTS[zone];
        let time = NaiveTime::from_num_seconds_from_midnight_opt(second, 0).unwrap();
        let date = NaiveDate::from_ymd_opt(1970, 1, 2).unwrap() + Duration::days(day);
        let slot = Slot::new(date.and_time(time), zone);
        let next = Slot::new(slots::later(date, 1).and_time(time), zone);
        prop_assert!(slot.at <= next.at, "{zone} {date} {time}: {slot:?} {next:?}");
        let cadence = Cadence { rule: Rule::Interval { days: 1, time }, zone };
        let after = cadence.after_rotation(Served { at: slot.at, slot: Some(slot.at) }).unwrap();
        prop_assert!(after == next || slot.at == next.at, "{zone}: {slot:?} is followed by {next:?}, not {after:?}");
    }

    #[test]
    fn upcoming_rotations_follow_one_another_and_each_is_due_when_it_is_said_to_be(
        days in 1u32..400, minutes in 0u32..1_440, hour in 0u32..24, start in 0i64..1_500_000_000, windowed: bool,
    ) {
        let windows = if windowed { r#"[{"days": ["tue", "sat"], "start": "22:00", "end": "03:00"}]"# } else { "[]" };
        let timing = timing(&format!(
            r#"{{"rotation_interval_days": {days}, "rotation_time_of_day": "{hour:02}:00:00", "timezone": "America/New_York",
                "rotation_spread_minutes": {minutes}, "rotation_windows": {windows}}}"#
        ));
        let now = chrono::Utc.timestamp_opt(start, 0).unwrap();
        let history = KeyHistory { managed_since: Some(now), ..KeyHistory::default() };
        let upcoming = timing.upcoming(&key(), &history, &[], now, 6);
        prop_assert_eq!(upcoming.len(), 6);
        prop_assert!(upcoming.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", upcoming);
        for at in &upcoming {
            prop_assert!(timing.open_at(&[], *at).is_ok());
        }
    }
}
