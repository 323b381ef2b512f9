//! Windows, freezes, spread and the minimum gap.

use super::*;

const SATURDAY_NIGHTS: &str = r#"{"rotation_interval_days": 7, "rotation_time_of_day": "02:00:00",
    "rotation_windows": [{"days": ["sat"], "start": "22:00:00", "end": "04:00:00"}]}"#;
const DAILY: &str = r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00"}"#;

#[test]
fn a_due_key_waits_for_its_window_which_ends_with_its_last_moment() {
    let weekend = timing(SATURDAY_NIGHTS);
    let (slot, history) = ("2026-11-23T02:00:00Z", rotated("2026-11-16T02:00:00Z", Some("2026-11-16T02:00:00Z")));
    let opens = "2026-11-28T22:00:00Z";
    assert_eq!(decide(&weekend, &history, "2026-11-23T03:00:00Z"), waiting(slot, Hold::Window, opens));
    assert_eq!(decide(&weekend, &history, opens), due(slot));
    assert_eq!(decide(&weekend, &history, "2026-11-29T03:59:59Z"), due(slot));
    let next = "2026-12-05T22:00:00Z";
    assert_eq!(decide(&weekend, &history, "2026-11-29T04:00:00Z"), waiting(slot, Hold::Window, next));
}

#[test]
fn a_window_that_daylight_saving_swallows_opens_a_week_later() {
    let berlin = timing(
        r#"{"rotation_interval_days": 7, "rotation_time_of_day": "02:00:00", "timezone": "Europe/Berlin",
            "rotation_windows": [{"days": ["sun"], "start": "02:10:00", "end": "02:50:00"}]}"#,
    );
    let opens = berlin.open_at(&[], at("2026-03-22T02:00:00Z"));
    assert_eq!(opens, Err((Hold::Window, Some(at("2026-04-05T00:10:00Z")))));
}

#[test]
fn windows_that_touch_are_one() {
    let night = timing(
        r#"{"rotation_interval_days": 1, "rotation_time_of_day": "23:00:00", "rotation_spread_minutes": 240,
            "rotation_windows": [{"start": "22:00:00", "end": "00:00:00"}, {"start": "00:00:00", "end": "03:00:00"}]}"#,
    );
    let starts = (0..200).map(|number| {
        let key = format!("t/k{number}").parse().unwrap();
        let history = rotated("2026-11-22T23:00:00Z", Some("2026-11-22T23:00:00Z"));
        night.upcoming(&key, &history, &[], at("2026-11-23T12:00:00Z"), 1)[0]
    });
    let (mut before, mut after) = (0, 0);
    for start in starts {
        assert!(start >= at("2026-11-23T23:00:00Z") && start < at("2026-11-24T03:00:00Z"), "{start}");
        if start < at("2026-11-24T00:00:00Z") { before += 1 } else { after += 1 }
    }
    assert!(before > 30 && after > 100, "{before} before midnight and {after} after it");
}

#[test]
fn a_freeze_wins_over_everything_else_and_names_itself() {
    let (daily, year_end) = (timing(DAILY), freeze("Year end", "2026-12-20T00:00:00", "2027-01-05T00:00:00"));
    let history = rotated("2026-12-19T02:00:00Z", Some("2026-12-19T02:00:00Z"));
    let on = |now| daily.decide(&key(), &history, &[&year_end], at(now));
    let hold = Hold::Freeze("Year end".to_owned());
    assert_eq!(on("2026-12-24T12:00:00Z"), waiting("2026-12-24T02:00:00Z", hold, "2027-01-05T00:00:00Z"));
    assert_eq!(on("2027-01-05T00:00:00Z"), overdue("2027-01-04T02:00:00Z", "2026-12-20T02:00:00Z"));
}

#[test]
fn of_two_freezes_the_one_that_ends_last_is_named() {
    let daily = timing(DAILY);
    let (short, long) = (
        freeze("short", "2026-12-20T00:00:00", "2026-12-24T00:00:00"),
        freeze("long", "2026-12-22T00:00:00", "2026-12-28T00:00:00"),
    );
    for freezes in [[&short, &long], [&long, &short]] {
        let open = daily.open_at(&freezes, at("2026-12-23T00:00:00Z"));
        assert_eq!(open, Err((Hold::Freeze("long".to_owned()), Some(at("2026-12-28T00:00:00Z")))));
        assert_eq!(frozen_at(&freezes, at("2026-12-23T00:00:00Z")), Some((&long, at("2026-12-28T00:00:00Z"))));
    }
}

#[test]
fn a_freeze_is_over_at_the_instant_of_its_end_in_its_own_zone() {
    let daily = timing(DAILY);
    let tokyo =
        Freeze { timezone: "Asia/Tokyo".to_owned(), ..freeze("f", "2026-12-20T00:00:00", "2026-12-21T00:00:00") };
    assert_eq!(daily.open_at(&[&tokyo], at("2026-12-19T14:59:59Z")), Ok(()));
    assert!(daily.open_at(&[&tokyo], at("2026-12-19T15:00:00Z")).is_err());
    assert_eq!(daily.open_at(&[&tokyo], at("2026-12-20T15:00:00Z")), Ok(()));
}

#[test]
fn a_freeze_whose_zone_nobody_knows_holds_for_ever() {
    let lost = Freeze { timezone: "Atlantis".to_owned(), ..freeze("f", "2026-12-20T00:00:00", "2026-12-21T00:00:00") };
    let open = timing(DAILY).open_at(&[&lost], at("2030-01-01T00:00:00Z"));
    assert_eq!(open, Err((Hold::Freeze("f".to_owned()), None)));
}

#[test]
fn what_opens_in_more_than_two_years_has_no_start() {
    let long = freeze("f", "2026-01-01T00:00:00", "2030-01-01T00:00:00");
    let open = |now| timing(DAILY).open_at(&[&long], at(now)).unwrap_err().1;
    assert_eq!(open("2026-06-01T00:00:00Z"), None);
    assert_eq!(open("2029-06-01T00:00:00Z"), Some(at("2030-01-01T00:00:00Z")));
}

#[test]
fn a_run_that_was_very_late_holds_the_next_slot_until_the_minimum_gap_has_passed() {
    let (daily, history) = (timing(DAILY), rotated("2026-11-22T23:00:00Z", Some("2026-11-22T02:00:00Z")));
    let (slot, start) = ("2026-11-23T02:00:00Z", "2026-11-23T11:00:00Z");
    assert_eq!(decide(&daily, &history, "2026-11-23T05:00:00Z"), waiting(slot, Hold::MinimumGap, start));
    assert_eq!(decide(&daily, &history, start), due(slot));
}

#[test]
fn a_spread_key_starts_later_at_an_instant_of_its_own_that_never_changes() {
    let spread =
        timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00", "rotation_spread_minutes": 60}"#);
    let history = rotated("2026-11-22T02:00:00Z", Some("2026-11-22T02:00:00Z"));
    // Written down, so that another version of keywheel moves no key: FNV-1a of "t/k/1795399200" modulo 3600.
    let start = "2026-11-23T02:33:31Z";
    assert_eq!(
        decide(&spread, &history, "2026-11-22T12:00:00Z"),
        Decision::NotDue { slot: at("2026-11-23T02:00:00Z"), starts_at: Some(at(start)) }
    );
    let slot = "2026-11-23T02:00:00Z";
    assert_eq!(decide(&spread, &history, "2026-11-23T02:00:01Z"), waiting(slot, Hold::Spread, start));
    assert_eq!(decide(&spread, &history, start), due(slot));
}

#[test]
fn a_look_once_a_day_finds_a_spread_key_due_on_the_second_day() {
    let spread =
        timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00", "rotation_spread_minutes": 1440}"#);
    for number in 0..50 {
        let key: Address = format!("t/k{number}").parse().unwrap();
        let history = rotated("2026-11-22T02:00:00Z", Some("2026-11-22T02:00:00Z"));
        let second_look = spread.decide(&key, &history, &[], at("2026-11-24T02:10:00Z"));
        assert!(matches!(second_look, Decision::Due { .. }), "{key}");
    }
}

#[test]
fn keys_are_spread_evenly() {
    let spread =
        timing(r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00", "rotation_spread_minutes": 60}"#);
    let history = rotated("2026-11-22T02:00:00Z", Some("2026-11-22T02:00:00Z"));
    let mut minutes = [0_usize; 60];
    for number in 0..6_000 {
        let key = format!("tenant/key-{number}").parse().unwrap();
        let decision = spread.decide(&key, &history, &[], at("2026-11-22T12:00:00Z"));
        let Decision::NotDue { starts_at: Some(at), slot } = decision else { panic!("not due") };
        minutes[usize::try_from((at - slot).num_minutes()).unwrap()] += 1;
    }
    assert!(minutes.iter().all(|keys| (50..=150).contains(keys)), "a hundred keys a minute would be even: {minutes:?}");
}

#[test]
fn a_rotation_without_a_slot_waits_for_the_gap_then_for_a_window_and_never_for_spread() {
    let fields = r#"{"rotation_interval_days": 7, "rotation_time_of_day": "02:00:00", "rotation_spread_minutes": 600,
        "rotation_windows": [{"start": "20:00:00", "end": "06:00:00"}]}"#;
    let history = rotated("2026-11-23T02:00:00Z", Some("2026-11-23T02:00:00Z"));
    let free = |now| timing(fields).free_at(&history, &[], at(now));
    let opens = Some(at("2026-11-23T20:00:00Z"));
    assert_eq!(free("2026-11-23T03:00:00Z"), Err((Hold::MinimumGap, opens)));
    assert_eq!(free("2026-11-23T15:00:00Z"), Err((Hold::Window, opens)));
    assert_eq!(free("2026-11-23T20:00:00Z"), Ok(()));
    let year_end = freeze("Year end", "2026-11-23T00:00:00", "2026-11-25T00:00:00");
    let frozen = timing(fields).free_at(&history, &[&year_end], at("2026-11-23T20:00:00Z"));
    assert_eq!(frozen, Err((Hold::Freeze("Year end".to_owned()), Some(at("2026-11-25T00:00:00Z")))));
}

#[test]
fn a_policy_without_slots_keeps_twelve_hours_between_rotations() {
    let by_usage = timing(r#"{"rotation_trigger": "usage_based", "max_usage_count": 1000}"#);
    let history = rotated("2026-11-23T02:00:00Z", None);
    let free = |now| by_usage.free_at(&history, &[], at(now));
    assert_eq!(free("2026-11-23T13:59:59Z"), Err((Hold::MinimumGap, Some(at("2026-11-23T14:00:00Z")))));
    assert_eq!(free("2026-11-23T14:00:00Z"), Ok(()));
    assert_eq!(by_usage.free_at(&KeyHistory::default(), &[], at("2026-11-23T02:00:00Z")), Ok(()));
}
