//! What a key's past makes of its policy's slots.

use super::*;

const DAILY: &str = r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00"}"#;
const MONTHLY: &str = r#"{"rotation_interval_days": 30, "rotation_time_of_day": "02:00:00"}"#;
const QUARTERLY: &str = r#"{"rotation_interval_days": 90, "rotation_time_of_day": "02:00:00"}"#;

#[test]
fn a_daily_key_is_due_at_its_time_of_day_and_not_a_moment_before() {
    let (daily, history) = (timing(DAILY), rotated("2026-11-22T02:07:00Z", Some("2026-11-22T02:00:00Z")));
    assert_eq!(decide(&daily, &history, "2026-11-23T01:59:59.999Z"), not_due("2026-11-23T02:00:00Z"));
    assert_eq!(decide(&daily, &history, "2026-11-23T02:00:00Z"), due("2026-11-23T02:00:00Z"));
}

#[test]
fn a_late_run_does_not_move_the_slots_after_it() {
    let (monthly, history) = (timing(MONTHLY), rotated("2026-11-09T17:00:00Z", Some("2026-11-01T02:00:00Z")));
    assert_eq!(decide(&monthly, &history, "2026-11-10T00:00:00Z"), not_due("2026-12-01T02:00:00Z"));
}

#[test]
fn missed_slots_are_one_rotation_that_serves_the_latest() {
    let (daily, history) = (timing(DAILY), rotated("2026-11-20T02:00:00Z", Some("2026-11-20T02:00:00Z")));
    let decision = decide(&daily, &history, "2026-11-23T09:00:00Z");
    assert_eq!(decision, overdue("2026-11-23T02:00:00Z", "2026-11-21T02:00:00Z"));
    let after = rotated("2026-11-23T09:00:00Z", Some("2026-11-23T02:00:00Z"));
    assert_eq!(decide(&daily, &after, "2026-11-23T09:00:00Z"), not_due("2026-11-24T02:00:00Z"));
}

#[test]
fn a_key_that_missed_slots_serves_one_that_is_whole_intervals_after_the_last() {
    let (monthly, history) = (timing(MONTHLY), rotated("2026-01-01T02:00:00Z", Some("2026-01-01T02:00:00Z")));
    let decision = decide(&monthly, &history, "2026-04-15T00:00:00Z");
    assert_eq!(decision, overdue("2026-04-01T02:00:00Z", "2026-01-31T02:00:00Z"));
}

#[test]
fn after_a_rotation_by_hand_the_next_slot_is_the_latest_within_the_cryptoperiod() {
    let (monthly, history) = (timing(MONTHLY), rotated("2026-01-10T15:00:00Z", None));
    assert_eq!(decide(&monthly, &history, "2026-01-11T00:00:00Z"), not_due("2026-02-09T02:00:00Z"));
}

#[test]
fn a_rotation_by_hand_shortly_before_the_slot_of_a_daily_key_skips_that_slot() {
    let (daily, history) = (timing(DAILY), rotated("2026-01-10T23:50:00Z", None));
    assert_eq!(decide(&daily, &history, "2026-01-11T00:00:00Z"), not_due("2026-01-12T02:00:00Z"));
}

#[test]
fn a_rotation_by_hand_half_a_day_before_the_slot_of_a_daily_key_does_not() {
    let (daily, history) = (timing(DAILY), rotated("2026-01-10T14:00:00Z", None));
    assert_eq!(decide(&daily, &history, "2026-01-10T15:00:00Z"), not_due("2026-01-11T02:00:00Z"));
}

#[test]
fn a_new_time_of_day_counts_from_the_date_that_was_served() {
    let evening = timing(r#"{"rotation_interval_days": 7, "rotation_time_of_day": "21:00:00"}"#);
    let history = rotated("2026-11-01T02:00:00Z", Some("2026-11-01T02:00:00Z"));
    assert_eq!(decide(&evening, &history, "2026-11-02T00:00:00Z"), not_due("2026-11-08T21:00:00Z"));
}

#[test]
fn a_slot_that_the_clocks_were_set_back_over_is_still_the_latest() {
    // At 00:01 the clocks showed 23:01 of the day before once more: at 23:15 the slot of midnight has passed.
    let monthly = timing(r#"{"rotation_interval_days": 30, "timezone": "America/St_Johns"}"#);
    let history = rotated("2010-10-08T02:45:00Z", None);
    assert_eq!(decide(&monthly, &history, "2010-10-09T00:00:00Z"), not_due("2010-11-07T02:30:00Z"));
}

#[test]
fn a_shorter_interval_counts_from_the_same_slot_and_may_be_due_at_once() {
    let (monthly, history) = (timing(MONTHLY), rotated("2026-09-01T02:00:00Z", Some("2026-09-01T02:00:00Z")));
    let decision = decide(&monthly, &history, "2026-11-02T00:00:00Z");
    assert_eq!(decision, overdue("2026-10-31T02:00:00Z", "2026-10-01T02:00:00Z"));
}

#[test]
fn a_year_of_days_after_a_29th_of_february_is_a_28th() {
    let yearly = timing(r#"{"rotation_interval_days": 365, "rotation_time_of_day": "02:00:00"}"#);
    let history = rotated("2024-02-29T02:00:00Z", Some("2024-02-29T02:00:00Z"));
    assert_eq!(decide(&yearly, &history, "2024-03-01T00:00:00Z"), not_due("2025-02-28T02:00:00Z"));
}

#[test]
fn a_key_that_never_rotated_counts_from_the_age_of_its_version() {
    let history = KeyHistory {
        version_created_at: Some(at("2026-10-01T12:00:00Z")),
        managed_since: Some(at("2026-11-23T12:00:00Z")),
        ..KeyHistory::default()
    };
    assert_eq!(decide(&timing(QUARTERLY), &history, "2026-11-24T00:00:00Z"), not_due("2026-12-30T02:00:00Z"));
}

#[test]
fn a_key_whose_version_has_no_known_age_counts_from_its_adoption() {
    let history = KeyHistory { managed_since: Some(at("2026-11-23T12:00:00Z")), ..KeyHistory::default() };
    assert_eq!(decide(&timing(QUARTERLY), &history, "2026-11-24T00:00:00Z"), not_due("2027-02-21T02:00:00Z"));
}

#[test]
fn an_overdue_key_waits_for_the_first_slot_after_its_adoption_and_says_so() {
    let (quarterly, first, missed) = (timing(QUARTERLY), "2026-11-24T02:00:00Z", "2025-04-01T02:00:00Z");
    let history = KeyHistory {
        version_created_at: Some(at("2025-01-01T12:00:00Z")),
        managed_since: Some(at("2026-11-23T12:00:00Z")),
        ..KeyHistory::default()
    };
    let hold = Hold::FirstSlotAfterAdoption;
    assert_eq!(decide(&quarterly, &history, "2026-11-23T12:00:00Z"), waiting(first, hold, first));
    assert_eq!(decide(&quarterly, &history, first), overdue(first, missed));
    assert_eq!(decide(&quarterly, &history, "2027-01-01T00:00:00Z"), overdue(first, missed));
}

#[test]
fn a_key_that_is_adopted_at_the_instant_of_a_slot_waits_for_the_next() {
    let history = KeyHistory {
        version_created_at: Some(at("2025-01-01T12:00:00Z")),
        managed_since: Some(at("2026-11-23T02:00:00Z")),
        ..KeyHistory::default()
    };
    let (next, hold) = ("2026-11-24T02:00:00Z", Hold::FirstSlotAfterAdoption);
    assert_eq!(decide(&timing(QUARTERLY), &history, "2026-11-23T02:00:00Z"), waiting(next, hold, next));
}

#[test]
fn a_key_whose_own_slot_is_the_instant_of_its_adoption_is_overdue() {
    let history = KeyHistory {
        version_created_at: Some(at("2026-08-25T02:00:00Z")),
        managed_since: Some(at("2026-11-23T02:00:00Z")),
        ..KeyHistory::default()
    };
    let (next, hold) = ("2026-11-24T02:00:00Z", Hold::FirstSlotAfterAdoption);
    assert_eq!(decide(&timing(QUARTERLY), &history, "2026-11-23T02:00:00Z"), waiting(next, hold, next));
}

#[test]
fn a_key_that_is_adopted_a_moment_before_a_slot_takes_it() {
    let history = KeyHistory {
        version_created_at: Some(at("2025-01-01T12:00:00Z")),
        managed_since: Some(at("2026-11-23T01:59:59.5Z")),
        ..KeyHistory::default()
    };
    let decision = decide(&timing(QUARTERLY), &history, "2026-11-23T02:00:00Z");
    assert_eq!(decision, overdue("2026-11-23T02:00:00Z", "2025-04-01T02:00:00Z"));
}

#[test]
fn a_late_run_by_cron_serves_the_latest_firing() {
    let sundays = timing(r#"{"rotation_schedule": "0 2 * * SUN"}"#);
    let history = rotated("2026-11-01T02:00:00Z", Some("2026-11-01T02:00:00Z"));
    let decision = decide(&sundays, &history, "2026-11-20T00:00:00Z");
    assert_eq!(decision, overdue("2026-11-15T02:00:00Z", "2026-11-08T02:00:00Z"));
}

#[test]
fn a_rotation_by_hand_within_the_minimum_gap_of_a_firing_skips_it() {
    let sundays = timing(r#"{"rotation_schedule": "0 2 * * SUN"}"#);
    let history = rotated("2026-11-07T20:00:00Z", None);
    assert_eq!(decide(&sundays, &history, "2026-11-07T21:00:00Z"), not_due("2026-11-15T02:00:00Z"));
}

#[test]
fn a_run_twice_a_day_that_is_a_minute_late_does_not_hold_up_the_next() {
    let twice = timing(r#"{"rotation_schedule": "0 0,12 * * *"}"#);
    let history = rotated("2026-11-07T00:01:00Z", Some("2026-11-07T00:00:00Z"));
    assert_eq!(decide(&twice, &history, "2026-11-07T12:00:00Z"), due("2026-11-07T12:00:00Z"));
}

#[test]
fn a_policy_without_a_schedule_makes_nothing_due() {
    let manual = timing(r#"{"rotation_trigger": "manual"}"#);
    let history = rotated("2026-01-01T00:00:00Z", None);
    assert_eq!(decide(&manual, &history, "2036-01-01T00:00:00Z"), Decision::Unscheduled);
    assert!(manual.upcoming(&key(), &history, &[], at("2036-01-01T00:00:00Z"), 3).is_empty());
}
