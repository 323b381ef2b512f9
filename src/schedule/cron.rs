//! Cron expressions: evaluated on local time without a zone, so that daylight saving follows the one rule of slots.

use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::slots::{local, resolve};
use super::{MAX_MINIMUM_GAP, TimingProblem};
use crate::model::Timestamp;

/// A schedule that does not fire within so many days never fires: eight years lie between two 29ths of February
/// around a year like 2100, and a fifth Friday of February is as rare as 28 years.
const HORIZON_DAYS: i64 = 366 * 40;

/// How many firings are looked at for two that are too close: more than a year of daily ones.
const CHECKED_FIRINGS: usize = 400;

/// A checked expression.
#[derive(Debug, Clone)]
pub(super) struct Schedule(Box<Cron>);

impl Schedule {
    pub(super) fn new(text: &str) -> Result<Self, TimingProblem> {
        let problem = |code, message: String, help: &str| TimingProblem {
            code,
            field: "rotation_schedule",
            message,
            help: help.to_owned(),
        };
        let fields = text.split_whitespace().count();
        if text.trim_start().starts_with('@') || fields != 5 {
            return Err(problem(
                "policy/cron-fields",
                format!("{text:?} has {fields} fields, and a schedule has five"),
                "write minute, hour, day of month, month, day of week: `0 2 * * SUN` is Sundays at 02:00",
            ));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| {
            problem(
                "policy/cron-syntax",
                format!("{text:?} is not a cron expression: {error}"),
                "write minute, hour, day of month, month, day of week: `0 2 * * SUN` is Sundays at 02:00",
            )
        })?;
        let schedule = Self(Box::new(cron));
        // Any instant serves, as long as it is the same at each look.
        let mut last = epoch();
        let Some(first) = schedule.after(last).filter(|first| *first - last < Duration::days(HORIZON_DAYS)) else {
            return Err(problem(
                "policy/cron-never-fires",
                format!("{text:?} never fires"),
                "name a date that exists: the 30th of February does not",
            ));
        };
        last = first;
        for _ in 0..CHECKED_FIRINGS {
            let Some(next) = schedule.after(last) else { break };
            if next - last < MAX_MINIMUM_GAP {
                return Err(problem(
                    "policy/cron-too-often",
                    format!(
                        "{text:?} fires at {last} and again at {next}: less than {} hours apart",
                        MAX_MINIMUM_GAP.num_hours()
                    ),
                    "let it fire at most every 12 hours: new versions that often wear out what uses the key",
                ));
            }
            last = next;
        }
        Ok(schedule)
    }

    /// The first firing after a local time.
    fn after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.0.find_next_occurrence(&local.and_utc(), false).ok().map(|at| at.naive_utc())
    }

    /// The first firing after an instant.
    pub(super) fn next(&self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        // Firings in a fold's second pass fired in its first; there are two of them at most.
        let mut firing = local(at, zone);
        for _ in 0..8 {
            firing = self.after(firing)?;
            let instant = resolve(firing, zone);
            if instant > at {
                return Some(instant);
            }
        }
        None
    }

    /// The latest firing at or before an instant.
    pub(super) fn latest(&self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        // From past the longest fold, back to the first that has happened.
        let mut firing = (local(at, zone) + Duration::hours(25)).and_utc();
        for _ in 0..8 {
            firing = self.0.find_previous_occurrence(&firing, false).ok()?;
            let instant = resolve(firing.naive_utc(), zone);
            if instant <= at {
                return Some(instant);
            }
        }
        None
    }
}

fn epoch() -> NaiveDateTime {
    Utc.with_ymd_and_hms(2000, 1, 1, 0, 0, 0).single().unwrap_or(DateTime::UNIX_EPOCH).naive_utc()
}

impl FromStr for Schedule {
    type Err = TimingProblem;
    fn from_str(text: &str) -> Result<Self, TimingProblem> {
        Self::new(text)
    }
}
