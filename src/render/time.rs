//! Instants and spans as people read them. Always in UTC, always relative to a given instant.

use chrono::Duration;

use crate::model::Timestamp;

/// An instant: `2026-11-23T02:00:00Z`, which every option that takes an instant reads too.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How far `at` is from `now`: `in 3 days`, `5 minutes ago`, `now`.
#[must_use]
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let away = at - now;
    if away.abs() < Duration::seconds(1) {
        "now".to_owned()
    } else if away > Duration::zero() {
        format!("in {}", span(away))
    } else {
        format!("{} ago", span(-away))
    }
}

/// An instant with how far it is: `2026-11-23T02:00:00Z (in 3 days)`.
#[must_use]
pub fn instant_and_relative(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", instant(at), relative(at, now))
}

/// A span in its largest unit: `3 days`, `1 hour`.
#[must_use]
pub fn span(span: Duration) -> String {
    let (count, unit) = match (span.num_days(), span.num_hours(), span.num_minutes()) {
        (days @ 1.., _, _) => (days, "day"),
        (_, hours @ 1.., _) => (hours, "hour"),
        (_, _, minutes @ 1..) => (minutes, "minute"),
        _ => (span.num_seconds(), "second"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

/// How long something took: `120 ms`, `2.3 s`, `4 min 10 s`.
#[must_use]
pub fn took(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_largest_unit() {
        assert_eq!(span(Duration::hours(49)), "2 days");
        assert_eq!(span(Duration::minutes(60)), "1 hour");
        assert_eq!(span(Duration::seconds(59)), "59 seconds");
    }

    #[test]
    fn an_instant_is_before_after_or_now() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(relative(now + Duration::days(3), now), "in 3 days");
        assert_eq!(relative(now - Duration::minutes(1), now), "1 minute ago");
        assert_eq!(relative(now, now), "now");
    }

    #[test]
    fn durations_keep_the_digits_that_matter() {
        assert_eq!([took(7), took(2_345), took(250_000)], ["7 ms", "2.3 s", "4 min 10 s"]);
    }
}
