//! From local times to instants: the one rule for gaps, folds and missing dates.

use chrono::{DateTime, Days, Duration, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::model::Timestamp;

/// The instant of a local time: its first occurrence where it comes twice; the first instant after the gap where it is
/// skipped (which for a date that does not exist is the first instant of the next).
pub(super) fn resolve(local: NaiveDateTime, zone: Tz) -> Timestamp {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) => at.with_timezone(&Utc),
        MappedLocalTime::Ambiguous(one, other) => one.min(other).with_timezone(&Utc),
        MappedLocalTime::None => end_of_gap(local, zone),
    }
}

/// The local time of an instant.
pub(super) fn local(at: Timestamp, zone: Tz) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

/// The slot of a date.
pub(super) fn slot(date: NaiveDate, time: NaiveTime, zone: Tz) -> Timestamp {
    resolve(date.and_time(time), zone)
}

/// The date whose slot an instant is: its own local date, or the one before where that one's slot was moved past
/// midnight by a gap. An instant that is no slot (the policy's time has changed) counts for its own date.
pub(super) fn date_of(at: Timestamp, time: NaiveTime, zone: Tz) -> NaiveDate {
    let own = local(at, zone).date();
    let moved = own.pred_opt().filter(|before| slot(own, time, zone) != at && slot(*before, time, zone) == at);
    moved.unwrap_or(own)
}

/// A date so many days later; the last date there is where it would be past that.
pub(super) fn later(date: NaiveDate, days: u64) -> NaiveDate {
    date.checked_add_days(Days::new(days)).unwrap_or(LAST)
}

/// The last date that is reckoned with: far enough for any plan, and away from where dates end.
const LAST: NaiveDate = match NaiveDate::from_ymd_opt(9000, 1, 1) {
    Some(date) => date,
    None => NaiveDate::MAX,
};

/// Offsets from UTC were and are less than 16 hours either way.
const LARGEST_OFFSET: Duration = Duration::hours(16);

/// Looks for the instant at which the local time jumps over `skipped`.
fn end_of_gap(skipped: NaiveDateTime, zone: Tz) -> Timestamp {
    let nominal = skipped.and_utc();
    let is_after = |at: &DateTime<Utc>| local(*at, zone) > skipped;
    let mut before = nominal.checked_sub_signed(LARGEST_OFFSET).unwrap_or(nominal);
    let end = nominal.checked_add_signed(LARGEST_OFFSET).unwrap_or(nominal);
    // A quarter of an hour at a time, then by halves: no zone has changed its offset twice within one.
    let mut after = before;
    while after < end && !is_after(&after) {
        before = after;
        after += Duration::minutes(15);
    }
    while after - before > Duration::seconds(1) {
        let middle = before + Duration::seconds((after - before).num_seconds() / 2);
        if is_after(&middle) {
            after = middle;
        } else {
            before = middle;
        }
    }
    after
}
