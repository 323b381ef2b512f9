//! Local times that clocks skip or show twice.

use chrono::NaiveDateTime;
use chrono_tz::Tz;

use super::super::slots::resolve;
use super::{at, key, rotated, timing};

/// What a local time means, and why it is here.
const FAMOUS: &[(&str, &str, &str, &str)] = &[
    ("a skipped half past two is three o'clock", "Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:00:00Z"),
    (
        "the first skipped second is the end of the gap",
        "America/New_York",
        "2026-03-08T02:00:00",
        "2026-03-08T07:00:00Z",
    ),
    ("of half past two twice, the first", "Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
    ("the last second that comes twice", "America/New_York", "2026-11-01T01:59:59", "2026-11-01T05:59:59Z"),
    ("a gap of half an hour", "Australia/Lord_Howe", "2026-10-04T02:15:00", "2026-10-03T15:30:00Z"),
    ("a fold of half an hour", "Australia/Lord_Howe", "2026-04-05T01:45:00", "2026-04-04T14:45:00Z"),
    ("a gap of two hours", "Antarctica/Troll", "2026-03-29T02:00:00", "2026-03-29T01:00:00Z"),
    ("a fold of two hours", "Antarctica/Troll", "2026-10-25T01:30:00", "2026-10-24T23:30:00Z"),
    (
        "a fold of three hours, a minute after midnight",
        "Antarctica/Casey",
        "2020-10-04T01:00:00",
        "2020-10-03T16:01:00Z",
    ),
    ("a gap of three quarters of an hour and a bit", "Africa/Monrovia", "1972-01-07T00:30:00", "1972-01-07T00:44:30Z"),
    ("Samoa had no 30 December 2011", "Pacific/Apia", "2011-12-30T02:00:00", "2011-12-30T10:00:00Z"),
    ("Kwajalein had no 21 August 1993", "Pacific/Kwajalein", "1993-08-21T12:00:00", "1993-08-21T12:00:00Z"),
    ("Kiritimati had no 31 December 1994", "Pacific/Kiritimati", "1994-12-31T12:00:00", "1994-12-31T10:00:00Z"),
    ("the clocks go back when Ramadan begins", "Africa/Casablanca", "2026-02-15T02:30:00", "2026-02-15T01:30:00Z"),
    ("and forward when it ends", "Africa/Casablanca", "2026-03-22T02:30:00", "2026-03-22T02:00:00Z"),
    ("a day that begins at one o'clock", "America/Sao_Paulo", "2018-11-04T00:00:00", "2018-11-04T03:00:00Z"),
    ("a gap that ends on the next date", "America/Nuuk", "2026-03-28T23:30:00", "2026-03-29T01:00:00Z"),
    ("a date that comes, goes and comes again", "America/St_Johns", "2006-10-29T00:00:30", "2006-10-29T02:30:30Z"),
    ("North Korea joins the South's time", "Asia/Pyongyang", "2018-05-04T23:45:00", "2018-05-04T15:00:00Z"),
    ("standard time in summer, by law", "Europe/Dublin", "1971-10-31T02:30:00", "1971-10-31T01:30:00Z"),
    ("the last summer that the database knows", "Europe/Berlin", "2099-07-01T02:00:00", "2099-07-01T00:00:00Z"),
];

#[test]
fn a_local_time_means_the_first_instant_at_which_the_clocks_show_it_or_a_later_one() {
    for (why, zone, local, instant) in FAMOUS {
        let zone: Tz = zone.parse().unwrap();
        let local: NaiveDateTime = local.parse().unwrap();
        assert_eq!(resolve(local, zone), at(instant), "{why}: {local} in {zone}");
    }
}

#[test]
fn a_daily_key_rotates_once_for_every_date_across_a_gap_a_fold_and_a_missing_date() {
    for (zone, served, upcoming) in [
        (
            "Europe/Berlin",
            "2026-03-27T01:30:00Z",
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        (
            "Europe/Berlin",
            "2026-10-23T00:30:00Z",
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        // The date that Samoa skipped has its slot at the first instant of the next, whose own slot the minimum gap holds.
        (
            "Pacific/Apia",
            "2011-12-28T12:30:00Z",
            ["2011-12-29T12:30:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"],
        ),
    ] {
        let fields =
            format!(r#"{{"rotation_interval_days": 1, "rotation_time_of_day": "02:30:00", "timezone": "{zone}"}}"#);
        let instants = timing(&fields).upcoming(&key(), &rotated(served, Some(served)), &[], at(served), 3);
        assert_eq!(instants, upcoming.map(at), "{zone}");
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
