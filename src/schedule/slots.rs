//! From local times to instants: one rule for gaps, folds and missing dates.
//!
//! A local time means the first instant at which the zone's clocks show it *or a later one*. So a time that comes twice
//! means its first occurrence, a time that is skipped the first instant after the gap, and a date that its zone skips as
//! a whole the first instant of the next date. It also follows that a later local time never means an earlier instant.

use chrono::{DateTime, Duration, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use crate::model::Timestamp;

/// A point of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The local time that the schedule names, whether or not the clocks ever show it.
    pub nominal: NaiveDateTime,
    /// The instant that it means.
    pub at: Timestamp,
}

impl Slot {
    pub(super) fn new(nominal: NaiveDateTime, zone: Tz) -> Self {
        Self { nominal, at: resolve(nominal, zone) }
    }
}

/// The most by which clocks were ever set back or forward since 1970, and a bit: Samoa skipped a whole day.
pub(super) const LARGEST_JUMP: Duration = Duration::hours(25);

/// The smallest step of time, for what is strictly before or after an instant.
pub(super) const MOMENT: Duration = Duration::nanoseconds(1);

/// The instant that a local time means.
pub(super) fn resolve(local: NaiveDateTime, zone: Tz) -> Timestamp {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) => at.to_utc(),
        MappedLocalTime::Ambiguous(one, other) => one.min(other).to_utc(),
        MappedLocalTime::None => {
            GapInfo::new(&local, &zone).and_then(|gap| gap.end).map_or(local.and_utc(), |end| end.to_utc())
        }
    }
}

/// What the zone's clocks show at an instant.
pub(super) fn local(at: Timestamp, zone: Tz) -> NaiveDateTime {
    let utc = at.naive_utc();
    utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix()).unwrap_or(utc)
}

/// A date so many days later; the last date that there is where it would be past that.
pub(super) fn later(date: NaiveDate, days: u64) -> NaiveDate {
    date.checked_add_days(chrono::Days::new(days)).unwrap_or(NaiveDate::MAX)
}

/// An instant within the years that are reckoned with, 1 to 4900: what is outside of them is no real date, and within
/// them no sum of an instant and an interval leaves the calendar.
pub(super) fn reckoned(at: Timestamp) -> Timestamp {
    const fn instant(seconds: i64) -> Timestamp {
        match DateTime::<Utc>::from_timestamp(seconds, 0) {
            Some(at) => at,
            None => DateTime::UNIX_EPOCH,
        }
    }
    const FIRST: Timestamp = instant(-62_135_596_800);
    const LAST: Timestamp = instant(92_461_910_400);
    at.clamp(FIRST, LAST)
}
