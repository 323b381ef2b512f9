use super::weeks::Weeks;
use super::*;
use crate::model::Timestamp;
use crate::plan::forecast::Day;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn forecast(days: &[(&str, usize)]) -> Forecast {
    Forecast {
        as_of: at("2026-11-25T12:00:00Z"),
        until: at("2026-12-09T12:00:00Z"),
        cut: false,
        left_out: Vec::new(),
        keys: 1,
        not_applied: 0,
        totals: [(Action::Rotate, days.iter().map(|(_, number)| number).sum())].into(),
        usd_a_month: None,
        calendar: days
            .iter()
            .map(|(date, number)| Day { date: date.parse().unwrap(), counts: [(Action::Rotate, *number)].into() })
            .collect(),
        entries: Vec::new(),
        entries_left_out: 0,
        problems: Vec::new(),
        idle: Vec::new(),
    }
}

#[test]
fn each_day_stands_in_its_week_and_those_outside_do_not() {
    let shown = draw(
        &forecast(&[("2026-11-26", 1), ("2026-11-30", 4), ("2026-12-09", 2)]),
        View { width: Some(80), full: false },
    );
    let shown = anstream::adapter::strip_str(&shown).to_string();
    let rows: Vec<&str> = shown.lines().skip(2).take(8).collect();
    let expected = [
        "         Dec",
        "  Mon    █ ·",
        "  Tue    · ·",
        "  Wed  · · ▒",
        "  Thu  ░ ·",
        "  Fri  · ·",
        "  Sat  · ·",
        "  Sun  · ·",
    ];
    assert_eq!(rows, expected, "{shown}");
    assert!(shown.contains("rotations a day:  · 0  ░ 1  ▒ 2  ▓ 3  █ 4"), "{shown}");
}

#[test]
fn shades_are_of_equal_steps_and_nothing_has_its_own() {
    let weeks = Weeks::of(&forecast(&[("2026-11-26", 1), ("2026-11-30", 100)]));
    let scale: Vec<String> = weeks.scale().into_iter().flatten().collect();
    assert_eq!(scale, ["0", "1-25", "26-50", "51-75", "76-100"]);
    let weeks = Weeks::of(&forecast(&[("2026-11-26", 1)]));
    assert_eq!(weeks.scale().into_iter().flatten().collect::<Vec<_>>(), ["0", "1"]);
}
