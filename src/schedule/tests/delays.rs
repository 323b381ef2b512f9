//! Windows and freezes that push a rotation past the next one.

use super::*;

const DAILY: &str = r#"{"rotation_interval_days": 1, "rotation_time_of_day": "02:00:00"}"#;
const MIDNIGHTS_OF_NOVEMBER: &str = "2026-11-23T00:00:00Z";

fn delays(fields: &str, freezes: &[&Freeze]) -> Vec<(&'static str, String)> {
    let (timing, now) = (timing(fields), at(MIDNIGHTS_OF_NOVEMBER));
    let by_freezes = timing.freeze_delays(freezes, now).into_iter().map(|(_, problem)| problem);
    timing.window_delay(now).into_iter().chain(by_freezes).map(|problem| (problem.code, problem.message)).collect()
}

#[test]
fn a_freeze_that_is_longer_than_the_interval_is_named_with_the_instants() {
    let year_end = freeze("Year end", "2026-12-20T00:00:00", "2027-01-05T00:00:00");
    let message = "a rotation that is due at 2026-12-20T02:00:00Z can start at 2027-01-05T00:00:00Z, when the next one has \
                   been due since 2026-12-21T02:00:00Z: freeze \"Year end\" holds it back";
    assert_eq!(delays(DAILY, &[&year_end]), [("policy/freeze-delays", message.to_owned())]);
    assert_eq!(delays(r#"{"rotation_interval_days": 17}"#, &[&year_end]), []);
}

#[test]
fn a_freeze_over_the_only_window_of_a_week_delays_a_weekly_key() {
    let saturday = freeze("f", "2026-11-28T00:00:00", "2026-11-29T12:00:00");
    let weekly = |days: u32| {
        format!(
            r#"{{"rotation_interval_days": {days}, "rotation_time_of_day": "02:00:00",
                "rotation_windows": [{{"days": ["sat"], "start": "22:00:00", "end": "04:00:00"}}]}}"#
        )
    };
    assert_eq!(delays(&weekly(7), &[]), []);
    assert_eq!(delays(&weekly(7), &[&saturday])[0].0, "policy/freeze-delays");
    assert_eq!(delays(&weekly(14), &[&saturday]), []);
}

#[test]
fn freezes_that_follow_one_another_add_up() {
    let (one, two) = (
        freeze("one", "2026-12-20T00:00:00", "2027-01-01T00:00:00"),
        freeze("two", "2027-01-01T00:00:00", "2027-01-10T00:00:00"),
    );
    let biweekly = r#"{"rotation_interval_days": 14}"#;
    assert_eq!(delays(biweekly, &[&one]), []);
    assert_eq!(delays(biweekly, &[&two]), []);
    let found = delays(biweekly, &[&one, &two]);
    assert!(
        found[0].1.ends_with("freeze \"one\" holds it back") && found[1].1.ends_with("freeze \"two\" holds it back")
    );
}

#[test]
fn a_slot_of_the_first_of_two_freezes_is_the_second_one_s_doing_too() {
    let (one, two) = (
        freeze("one", "2026-12-01T00:00:00", "2026-12-20T00:00:00"),
        freeze("two", "2026-12-20T00:00:00", "2027-01-01T00:00:00"),
    );
    // Only slots of the first days of the first freeze wait for longer than that.
    let found = delays(r#"{"rotation_interval_days": 30}"#, &[&one, &two]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].1.starts_with("a rotation that is due at 2026-12-01T00:00:00Z can start at 2027-01-01T00:00:00Z"));
}

#[test]
fn a_freeze_that_no_rotation_waits_for_is_not_blamed_for_another_s_delay() {
    let long = freeze("long", "2026-12-01T00:00:00", "2026-12-20T00:00:00");
    for (from, until) in
        [("2026-12-23T00:00:00", "2026-12-24T00:00:00"), ("2026-11-27T00:00:00", "2026-11-28T00:00:00")]
    {
        let found = delays(r#"{"rotation_interval_days": 14}"#, &[&long, &freeze("short", from, until)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.contains("\"long\""));
    }
    // On a Wednesday no rotation that waits for its Saturday is held back.
    let saturdays = r#"{"rotation_interval_days": 8, "rotation_windows": [{"days": ["sat"], "start": "01:00:00", "end": "04:00:00"}]}"#;
    let (wednesday, saturday) = (
        freeze("wednesday", "2026-12-02T00:00:00", "2026-12-03T00:00:00"),
        freeze("saturday", "2026-12-05T00:00:00", "2026-12-06T00:00:00"),
    );
    let found = delays(saturdays, &[&wednesday, &saturday]);
    assert_eq!(found.iter().map(|(_, message)| message.contains("\"saturday\"")).collect::<Vec<_>>(), [true]);
}

#[test]
fn a_freeze_that_is_over_delays_nothing() {
    let now = "2026-11-23T00:00:00";
    assert_eq!(delays(DAILY, &[&freeze("f", "2026-10-01T00:00:00", now)]), []);
    // What is left of one that still holds is spoken of, with the slots that have been waiting since it began.
    let found = delays(DAILY, &[&freeze("f", "2026-10-01T00:00:00", "2026-11-23T00:00:01")]);
    assert!(found[0].1.contains("due at 2026-10-01T02:00:00Z"), "{found:?}");
}

#[test]
fn a_window_once_a_week_delays_a_daily_key_whatever_its_schedule_is_called() {
    for schedule in
        [r#""rotation_interval_days": 1, "rotation_time_of_day": "02:00:00""#, r#""rotation_schedule": "0 2 * * *""#]
    {
        let windows = r#""rotation_windows": [{"days": ["sat"], "start": "22:00:00", "end": "04:00:00"}]"#;
        let found = delays(&format!("{{{schedule}, {windows}}}"), &[]);
        assert_eq!(found.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["policy/window-delays"], "{schedule}");
    }
    let daily_window =
        r#"{"rotation_schedule": "0 2 * * *", "rotation_windows": [{"start": "22:00:00", "end": "01:00:00"}]}"#;
    assert_eq!(delays(daily_window, &[]), []);
}
