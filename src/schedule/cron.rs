//! Cron expressions: five fields with names, lists, ranges, steps, `L`, `#` and `W`, searched by the `croner` crate.
//!
//! They are searched on local time without a zone, so that [`super::slots`] alone decides what daylight saving does. Where
//! day of month and day of week are both given, a day that matches either one fires, as in every cron since Vixie's.
//!
//! What croner accepts beyond that (names in the wrong field, empty list items, `?`, `+`) is refused here before it sees
//! it: an expression that does not mean what its author thinks is worse than one that fails.

mod fields;

use chrono::{Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime};
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Weekday};

use super::{MAX_MINIMUM_GAP, TimingProblem};

/// How far a firing is looked for before a schedule counts as one that never fires. The rarest date that there is, a
/// 29th of February on a given day of the week, comes every 28 years, and after 40 where a year like 2100 lies between.
const HORIZON_DAYS: usize = 40 * 366;

/// Whatever comes every month or every week shows its longest distance within these, in a leap year or not.
const FOUR_YEARS: usize = 4 * 366;

/// A schedule that fires, and never twice within twelve hours by its own clock.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    cron: Box<Cron>,
    least_distance: Duration,
    /// Are there years whose firings are unlike those of the four before?
    is_irregular: bool,
}

impl Schedule {
    pub(super) fn new(text: &str) -> Result<Self, TimingProblem> {
        fields::check(text)?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| {
            problem(
                "policy/cron-syntax",
                format!("{text:?} is not a cron expression: {error}"),
                "write minute, hour, day of month, month, day of week: `0 2 * * SUN` is Sundays at 02:00",
            )
        })?;
        if !fires(&cron) {
            return Err(problem(
                "policy/cron-never-fires",
                format!("{text:?} never fires"),
                "name a date that exists: the 30th of February does not",
            ));
        }
        let least_distance = least_distance(&cron);
        if least_distance < MAX_MINIMUM_GAP {
            return Err(problem(
                "policy/cron-too-often",
                format!("{text:?} fires twice within {} hours", MAX_MINIMUM_GAP.num_hours()),
                "let it fire at most every 12 hours, as `0 2,14 * * *` does",
            ));
        }
        Ok(Self { cron: Box::new(cron), least_distance, is_irregular: fields::is_irregular(text) })
    }

    /// The first firing after a local time.
    pub(super) fn after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron.find_next_occurrence(&local, false).ok()
    }

    /// The last firing before a local time.
    pub(super) fn before(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron.find_previous_occurrence(&local, false).ok()
    }

    /// The least time between two firings, by the clock on the wall: a day of 23 hours makes no daily schedule too dense.
    pub(super) fn least_distance(&self) -> Duration {
        self.least_distance
    }

    /// The most days from one day that fires to the next.
    pub(super) fn longest_distance_days(&self) -> u32 {
        // So far that the rarest date comes twice.
        let horizon = if self.is_irregular { 2 * HORIZON_DAYS } else { FOUR_YEARS };
        let fires = days().take(horizon).filter(|day| fires_on(&self.cron, *day));
        let fires: Vec<NaiveDate> = fires.collect();
        let between = fires.iter().zip(fires.iter().skip(1)).map(|(one, next)| (*next - *one).num_days()).max();
        // What fires once is as good as never heard of again.
        between
            .and_then(|days| u32::try_from(days).ok())
            .or_else(|| u32::try_from(HORIZON_DAYS).ok())
            .unwrap_or(u32::MAX)
    }
}

pub(super) fn problem(code: &'static str, message: String, help: impl Into<String>) -> TimingProblem {
    TimingProblem { code, field: "rotation_schedule", message, help: help.into() }
}

fn fires(cron: &Cron) -> bool {
    times(cron).next().is_some() && days().take(HORIZON_DAYS).any(|day| fires_on(cron, day))
}

/// The least distance of any two firings; each day that fires has the same times.
fn least_distance(cron: &Cron) -> Duration {
    let day = Duration::days(1);
    // Of more than two times a day, two are closer than twelve hours: three show it.
    let times: Vec<NaiveTime> = times(cron).take(3).collect();
    let (Some(morning), Some(evening)) = (times.first(), times.last()) else { return day };
    let within = times.iter().zip(times.iter().skip(1)).map(|(one, next)| *next - *one).min().unwrap_or(day);
    let overnight = day - (*evening - *morning);
    // The search is only needed where the answer hangs on it: two times a day that are not half a day apart.
    let nights =
        || days().zip(days().skip(1)).take(HORIZON_DAYS).any(|(one, next)| fires_on(cron, one) && fires_on(cron, next));
    if overnight < within && nights() { overnight } else { within }
}

/// The times of day, in order.
fn times(cron: &Cron) -> impl Iterator<Item = NaiveTime> {
    let minutes = cron.pattern.minutes.values();
    cron.pattern.hours.values().into_iter().flat_map(move |hour| {
        let at = move |minute| NaiveTime::from_hms_opt(u32::from(hour), u32::from(minute), 0);
        minutes.clone().into_iter().filter_map(at)
    })
}

/// Days to look at; where they begin matters no more than that it is the same at each look.
fn days() -> impl Iterator<Item = NaiveDate> {
    NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default().iter_days()
}

fn fires_on(cron: &Cron, day: NaiveDate) -> bool {
    let weekday = Weekday::from_days_from_sunday(day.weekday().num_days_from_sunday());
    cron.pattern.month_match(day.month()).unwrap_or(false)
        && cron.pattern.day_match(day.year(), day.month(), day.day(), weekday).unwrap_or(false)
}
