//! What makes no sense in time, and what is said of it.

use super::*;

/// A schedule, its code, and what the message and the help must say.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("0 2 30 2 *", "policy/cron-never-fires", "never fires", "30th of February"),
    ("0 2 31 4,6,9,11 *", "policy/cron-never-fires", "never fires", "date that exists"),
    ("*/5 * * * *", "policy/cron-too-often", "within 12 hours", "`0 2,14 * * *`"),
    ("* 2 * * *", "policy/cron-too-often", "within 12 hours", "every 12 hours"),
    ("0 0,20 * * *", "policy/cron-too-often", "within 12 hours", "every 12 hours"),
    ("0 1,23 L,1 * *", "policy/cron-too-often", "within 12 hours", "every 12 hours"),
    ("0 0 2 * * *", "policy/cron-fields", "6 fields", "minute, hour, day of month, month, day of week"),
    ("0 2 * *", "policy/cron-fields", "4 fields", "`0 2 * * SUN`"),
    ("", "policy/cron-fields", "0 fields", "`0 2 * * SUN`"),
    ("@daily", "policy/cron-fields", "1 field,", "`0 0 * * *`"),
    ("@reboot", "policy/cron-fields", "1 field,", "`0 2 * * SUN`"),
    ("@every 1 day 2 x", "policy/cron-fields", "a schedule has five", "`0 2 * * SUN`"),
    ("60 2 * * *", "policy/cron-syntax", "\"60\" is no minute", "from 0 to 59"),
    ("0 25 * * *", "policy/cron-syntax", "\"25\" is no hour", "from 0 to 23"),
    ("0 2 0 * *", "policy/cron-syntax", "\"0\" is no day of month", "from 1 to 31"),
    ("0 2 MON * *", "policy/cron-syntax", "\"MON\" is no day of month", "`15W`"),
    ("0 2 * MON *", "policy/cron-syntax", "\"MON\" is no month", "`JAN`"),
    ("0 2 * 13 *", "policy/cron-syntax", "\"13\" is no month", "from 1 to 12"),
    ("0 2 * * JAN", "policy/cron-syntax", "\"JAN\" is no day of week", "`MON#1`"),
    ("0 2 * * MON#6", "policy/cron-syntax", "\"MON#6\" is no day of week", "`MON#1`"),
    ("0 2 * * L", "policy/cron-syntax", "\"L\" is no day of week", "`FRIL`"),
    ("0 2 * * FRI-MON", "policy/cron-syntax", "\"FRI-MON\" is no day of week", "`1-5`"),
    ("0 2 ? * MON", "policy/cron-syntax", "\"?\" is no day of month", "range"),
    ("0 2 1-7 * +MON", "policy/cron-syntax", "\"+MON\" is no day of week", "range"),
    ("0 2 1,,15 * *", "policy/cron-syntax", "\"\" is no day of month", "list"),
    ("0 2 L,LW * *", "policy/cron-syntax", "exclude each other", "keep one"),
    ("0 2/4 * * *", "policy/cron-syntax", "\"2/4\" is no hour", "`*/n`"),
    ("0 2 */0 * *", "policy/cron-syntax", "\"*/0\" is no day of month", "`*/n`"),
    ("0 2 +5 * *", "policy/cron-syntax", "\"+5\" is no day of month", "from 1 to 31"),
    ("０ 2 * * *", "policy/cron-syntax", "is no minute", "from 0 to 59"),
];

const ACCEPTED: &[&str] = &[
    "0 2 29 2 *",
    "0 2 * 2 SUN#5",
    "0 0,12 * * *",
    "0 1,23 1 * *",
    "0 2 * * MON#1",
    "0 2 L * *",
    "0 2 15W * *",
    "0 2 LW * *",
    "0 2 * * FRI#5",
    "0 2 * * FRIL",
    "0 2 * * sat-sun",
    "0 2 */10 jan-mar,12 *",
    "0 2 13 * FRI",
];

#[test]
fn a_schedule_without_sense_is_refused_with_the_mistake_and_the_fix() {
    for (text, code, message, help) in REFUSED {
        let problem = &Timing::new(&policy(&format!(r#"{{"rotation_schedule": "{text}"}}"#))).unwrap_err()[0];
        assert_eq!((problem.code, problem.field), (*code, "rotation_schedule"), "{text}");
        assert!(problem.message.contains(message), "{text}: {}", problem.message);
        assert!(problem.help.contains(help), "{text}: {}", problem.help);
    }
}

#[test]
fn a_schedule_with_sense_is_accepted_however_rare() {
    for text in ACCEPTED {
        timing(&format!(r#"{{"rotation_schedule": "{text}"}}"#));
    }
}

#[test]
fn daylight_saving_makes_no_schedule_too_dense() {
    for zone in chrono_tz::TZ_VARIANTS {
        let fields = format!(r#"{{"rotation_schedule": "30 2,14 * * *", "timezone": "{zone}"}}"#);
        assert!(Timing::new(&policy(&fields)).is_ok(), "{zone}");
    }
}

#[test]
fn an_unknown_zone_is_refused_with_the_nearest_name() {
    let refused = |zone: &str| {
        let fields = format!(r#"{{"rotation_interval_days": 1, "timezone": "{zone}"}}"#);
        Timing::new(&policy(&fields)).unwrap_err().remove(0)
    };
    assert_eq!(refused("Europe/Berln").help, "did you mean \"Europe/Berlin\"?");
    assert_eq!(refused("europe/berlin").help, "did you mean \"Europe/Berlin\"?");
    assert_eq!(refused("+02:00").help, "write a name such as \"Europe/Berlin\" or \"UTC\"");
    assert_eq!(refused("").code, "policy/unknown-timezone");
}

#[test]
fn a_window_that_ends_when_it_starts_is_refused() {
    let fields = r#"{"rotation_interval_days": 1, "rotation_windows": [{"start": "02:00:00", "end": "02:00:00"}]}"#;
    let problems = Timing::new(&policy(fields)).unwrap_err();
    assert_eq!((problems[0].code, problems[0].field), ("policy/window-empty", "rotation_windows"));
}

#[test]
fn all_problems_are_told_at_once() {
    let fields = r#"{"rotation_schedule": "x", "timezone": "x", "rotation_windows": [{"start": "02:00:00", "end": "02:00:00"}]}"#;
    assert_eq!(Timing::new(&policy(fields)).unwrap_err().len(), 3);
}

#[test]
fn a_freeze_without_sense_is_refused() {
    let codes = |freeze: &Freeze| check_freeze(freeze).iter().map(|problem| problem.code).collect::<Vec<_>>();
    let fine = freeze("f", "2026-12-20T00:00:00", "2027-01-05T00:00:00");
    assert_eq!(codes(&fine), Vec::<&str>::new());
    assert_eq!(codes(&Freeze { until: fine.from, ..fine.clone() }), ["freeze/ends-before-it-begins"]);
    assert_eq!(codes(&Freeze { timezone: "Mars".to_owned(), ..fine }), ["freeze/unknown-timezone"]);
}
