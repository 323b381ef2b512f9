//! WHEN: the next rotation, windows, freezes, spread, the minimum gap.
//!
//! A policy's *slots* are the instants at which its schedule asks for a rotation. [`Timing::decide`] holds them against a
//! key's history and says whether the key is due, not yet due, or due and held back, and from which instant on it can
//! start. [`Timing::upcoming`] asks the same function again and again, so that a preview never differs from what happens.
//!
//! The rules:
//!
//! - A local time means the first instant at which its zone's clocks show it or a later one ([`slots`]): a skipped time
//!   the end of the gap, a time that comes twice its first occurrence.
//! - By interval a key takes every n-th date's slot, counted from the slot that its last rotation served, however late
//!   that was. A rotation that served none (by hand, by usage, by an event) is followed by the latest slot of the
//!   cryptoperiod that it began, or, where that lies within the minimum gap, by the first slot after the gap. A served
//!   instant that is no slot any more, because the policy has changed, counts for its local date.
//! - By cron a key takes every firing. Cron runs on local time, and the first rule makes it instants.
//! - A key that was never rotated counts from the age of its version. If it was overdue when it was adopted, it waits for
//!   the first slot after that.
//! - A run serves the latest slot that has passed: missed slots are one rotation.
//! - A rotation starts where windows are open and no freeze holds, after its share of the spread and the minimum gap. The
//!   spread counts from the instant at which the first unserved slot could start, and so is the same at each look.
//!
//! Invariant: `starts_at` of an answer is the first instant from `now` on at which [`Timing::decide`] answers
//! [`Decision::Due`], as long as nothing but time changes.
//!
//! Pure: `now` is an argument, and every function is total. Must not know: a clock, what a rotation does, where a policy
//! came from. The tz database that is compiled in knows daylight saving until the end of the year 2099; later dates have
//! the offset that its zone has at the end of 2099.

mod cadence;
mod cron;
mod delays;
mod freeze;
mod openings;
mod slots;
#[cfg(test)]
mod tests;

use chrono::Duration;
use chrono_tz::Tz;

use self::cadence::{Cadence, Rule};
use self::openings::Openings;
use self::slots::{Slot, reckoned};
use crate::model::{Address, Freeze, RotationPolicy, RotationTrigger, RotationWindow, Timestamp};

pub use self::freeze::{check_freeze, freeze_applies, frozen_at};

/// The longest minimum gap between two rotations of one key: half the time between two slots, and never more than this.
pub const MAX_MINIMUM_GAP: Duration = Duration::hours(12);

/// The version of the IANA tz database that is compiled in.
pub const TZ_VERSION: &str = chrono_tz::IANA_TZDB_VERSION;

/// The longest interval, a hundred years; documents may not say more.
const MAX_INTERVAL_DAYS: u32 = 36_500;

/// What a policy says about time, parsed once.
#[derive(Debug, Clone)]
pub struct Timing {
    /// None: usage, events or a person make the key due.
    cadence: Option<Cadence>,
    timezone: Tz,
    windows: Vec<RotationWindow>,
    spread: Duration,
}

/// A field of a policy or freeze that makes no sense in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimingProblem {
    /// A stable code, such as `policy/unknown-timezone`.
    pub code: &'static str,
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// What is known of a key's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyHistory {
    /// Its last rotation here.
    pub last_rotation: Option<Served>,
    /// The age that the provider reports for the primary version.
    pub version_created_at: Option<Timestamp>,
    /// When it came under keywheel's care.
    pub managed_since: Option<Timestamp>,
}

/// A rotation that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// When.
    pub at: Timestamp,
    /// The slot that it served; none for a manual, usage or event rotation.
    pub slot: Option<Timestamp>,
}

/// Whether a key is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing in its policy ever makes it due by time.
    Unscheduled,
    /// Its next slot is still to come.
    NotDue {
        /// The slot.
        slot: Timestamp,
        /// When it can start, with spread, gap, windows and freezes; none if no window opens within two years.
        starts_at: Option<Timestamp>,
    },
    /// It may start now.
    Due {
        /// The slot that it serves: the latest that has passed.
        slot: Timestamp,
        /// The first slot that was missed, if more than one has passed since the last rotation.
        overdue_since: Option<Timestamp>,
    },
    /// Its slot has passed, and something holds it back.
    Waiting {
        /// The slot that it will serve, as of now.
        slot: Timestamp,
        /// What holds it back.
        hold: Hold,
        /// When it can start; none if no window opens within two years.
        starts_at: Option<Timestamp>,
    },
}

/// A rotation to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// When it can start.
    pub at: Timestamp,
    /// The slot that it serves: the latest that has passed by then.
    pub slot: Timestamp,
    /// The first slot that is missed, if more than one has passed by then.
    pub overdue_since: Option<Timestamp>,
    /// What it waits for from its slot on, if it does.
    pub hold: Option<Hold>,
}

/// What holds a due key back, by weight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// It was adopted overdue: it waits for the policy's first slot after adoption.
    FirstSlotAfterAdoption,
    /// Its share of `rotation_spread_minutes`.
    Spread,
    /// The minimum gap since its last rotation.
    MinimumGap,
    /// No window is open.
    Window,
    /// A freeze, by name.
    Freeze(String),
}

/// The first slot that a key has still to serve.
struct Pending {
    first: Slot,
    /// The slot that it had missed already when it was adopted.
    missed_at_adoption: Option<Timestamp>,
}

impl Timing {
    /// Parses a policy's time fields.
    ///
    /// # Errors
    /// Every problem of them at once.
    pub fn new(policy: &RotationPolicy) -> Result<Self, Vec<TimingProblem>> {
        let mut problems = Vec::new();
        let timezone = parse_zone(&policy.timezone).unwrap_or_else(|problem| {
            problems.push(problem);
            Tz::UTC
        });
        let rule = match (policy.rotation_trigger, policy.rotation_interval_days, &policy.rotation_schedule) {
            (RotationTrigger::TimeBased, _, Some(text)) => {
                cron::Schedule::new(text).map_err(|problem| problems.push(problem)).ok().map(Rule::Cron)
            }
            (RotationTrigger::TimeBased, Some(days), None) => {
                let days = days.clamp(1, MAX_INTERVAL_DAYS);
                Some(Rule::Interval { days, time: policy.rotation_time_of_day.0 })
            }
            _ => None,
        };
        problems.extend(openings::check(&policy.rotation_windows));
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            cadence: rule.map(|rule| Cadence { rule, zone: timezone }),
            timezone,
            windows: policy.rotation_windows.clone(),
            spread: Duration::minutes(i64::from(policy.rotation_spread_minutes)),
        })
    }

    /// Is the key due at `now`?
    #[must_use]
    pub fn decide(&self, key: &Address, history: &KeyHistory, freezes: &[&Freeze], now: Timestamp) -> Decision {
        let (history, now) = (history.reckoned(), reckoned(now));
        let Some((cadence, pending)) =
            self.cadence.as_ref().and_then(|cadence| Some((cadence, cadence.pending(&history)?)))
        else {
            return Decision::Unscheduled;
        };
        let Pending { first, missed_at_adoption } = pending;
        let openings = self.openings(freezes);
        let spread_until = self.spread_until(cadence, key, first, &openings);
        let gap_until = history.last_rotation.map(|last| last.at + cadence.minimum_gap());
        let earliest = gap_until.map_or(spread_until, |gap| gap.max(spread_until));
        let starts_at = || openings.first(earliest.max(now));
        if now < first.at {
            return match missed_at_adoption {
                Some(_) => {
                    let hold = Hold::FirstSlotAfterAdoption;
                    Decision::Waiting { slot: first.at, hold, starts_at: starts_at() }
                }
                None => Decision::NotDue { slot: first.at, starts_at: starts_at() },
            };
        }
        let slot = cadence.latest(first, now).at;
        let hold = match openings.hold(now) {
            Some(hold) => Some(hold),
            None if now < spread_until => Some(Hold::Spread),
            None => gap_until.filter(|gap| now < *gap).map(|_| Hold::MinimumGap),
        };
        if let Some(hold) = hold {
            return Decision::Waiting { slot, hold, starts_at: starts_at() };
        }
        let missed = (slot > first.at).then_some(first.at);
        Decision::Due { slot, overdue_since: missed_at_adoption.or(missed) }
    }

    /// The first slot that the key missed: a later one has passed too, and no rotation has served either. Whatever holds
    /// the key back changes nothing about that.
    #[must_use]
    pub fn overdue_since(&self, history: &KeyHistory, now: Timestamp) -> Option<Timestamp> {
        let (history, now) = (history.reckoned(), reckoned(now));
        let cadence = self.cadence.as_ref()?;
        let Pending { first, missed_at_adoption } = cadence.pending(&history)?;
        let missed = now >= first.at && cadence.latest(first, now).at > first.at;
        missed_at_adoption.or(missed.then_some(first.at))
    }

    /// May something start (or be destroyed) at `now`? If not, what holds it back, and until when.
    ///
    /// # Errors
    /// The hold, and the first instant after `now` at which nothing holds it any more; none if that is more than two
    /// years away.
    pub fn open_at(&self, freezes: &[&Freeze], now: Timestamp) -> Result<(), (Hold, Option<Timestamp>)> {
        let (openings, now) = (self.openings(freezes), reckoned(now));
        openings.hold(now).map_or(Ok(()), |hold| Err((hold, openings.first(now))))
    }

    /// May a rotation start at `now` that no slot asks for, because a key was used too often? If not, what holds it back, and
    /// until when. A policy without slots keeps the largest minimum gap.
    ///
    /// # Errors
    /// As [`Timing::open_at`], and the minimum gap since the last rotation.
    pub fn free_at(
        &self,
        history: &KeyHistory,
        freezes: &[&Freeze],
        now: Timestamp,
    ) -> Result<(), (Hold, Option<Timestamp>)> {
        let (history, now) = (history.reckoned(), reckoned(now));
        let gap = self.cadence.as_ref().map_or(MAX_MINIMUM_GAP, Cadence::minimum_gap);
        let gap_until = history.last_rotation.map(|last| last.at + gap).filter(|until| now < *until);
        let openings = self.openings(freezes);
        let hold = openings.hold(now).or(gap_until.map(|_| Hold::MinimumGap));
        hold.map_or(Ok(()), |hold| Err((hold, openings.first(gap_until.unwrap_or(now)))))
    }

    /// The first slot that a key has still to serve, whatever holds it; none if nothing makes it due by time.
    #[must_use]
    pub fn first_due(&self, history: &KeyHistory) -> Option<Timestamp> {
        let pending = self.cadence.as_ref()?.pending(&history.reckoned())?;
        Some(pending.first.at)
    }

    /// The key's next rotation, if it happens when it can start; none if it can never start.
    #[must_use]
    pub fn next(&self, key: &Address, history: &KeyHistory, freezes: &[&Freeze], now: Timestamp) -> Option<Occurrence> {
        let decide = |at| self.decide(key, history, freezes, at);
        let (waits_from, at) = match decide(now) {
            Decision::Unscheduled => return None,
            Decision::Due { .. } => (None, reckoned(now)),
            Decision::Waiting { slot, starts_at, .. } | Decision::NotDue { slot, starts_at } => {
                (Some(slot), starts_at?)
            }
        };
        let Decision::Due { slot, overdue_since } = decide(at) else { return None };
        // It may wait for one thing after the other: the weightiest is why it is late.
        let looked_at = waits_from.into_iter().flat_map(|first| [first, slot, at - Duration::seconds(1)]);
        let holds = looked_at.filter(|instant| *instant < at).filter_map(|instant| match decide(instant) {
            Decision::Waiting { hold, .. } => Some(hold),
            _ => None,
        });
        Some(Occurrence { at, slot, overdue_since, hold: holds.max() })
    }

    /// The end of the opening that holds an instant, where it holds one.
    #[must_use]
    pub fn closes_at(&self, freezes: &[&Freeze], at: Timestamp) -> Option<Timestamp> {
        let (openings, at) = (self.openings(freezes), reckoned(at));
        openings.hold(at).is_none().then(|| openings.closes(at))
    }

    /// The next `count` instants at which the key would rotate if each rotation happened when it can start; fewer if it
    /// can then start no more.
    #[must_use]
    pub fn upcoming(
        &self,
        key: &Address,
        history: &KeyHistory,
        freezes: &[&Freeze],
        now: Timestamp,
        count: usize,
    ) -> Vec<Timestamp> {
        let (mut history, mut now) = (*history, now);
        let rotate = || {
            let next = self.next(key, &history, freezes, now)?;
            now = next.at;
            history.last_rotation = Some(Served { at: next.at, slot: Some(next.slot) });
            Some(next.at)
        };
        std::iter::from_fn(rotate).take(count).collect()
    }

    /// The most whole days, by the calendar, from one slot to the next; none where no schedule makes the key due. Of a
    /// schedule that fires more rarely than in 40 years, those.
    #[must_use]
    pub fn longest_interval_days(&self) -> Option<u32> {
        Some(match &self.cadence.as_ref()?.rule {
            Rule::Interval { days, .. } => *days,
            Rule::Cron(schedule) => schedule.longest_distance_days(),
        })
    }

    /// The zone of every local time of the policy.
    #[must_use]
    pub fn timezone(&self) -> Tz {
        self.timezone
    }

    fn openings<'a>(&'a self, freezes: &[&'a Freeze]) -> Openings<'a> {
        Openings::new(&self.windows, self.timezone, freezes)
    }

    /// When a slot can start as far as windows, freezes and the key's place in the spread go: in the opening that the slot
    /// finds first, before that closes and before the next slot. Shorter openings make the spread denser, not lopsided.
    fn spread_until(&self, cadence: &Cadence, key: &Address, slot: Slot, openings: &Openings<'_>) -> Timestamp {
        if self.spread.is_zero() {
            return slot.at;
        }
        // Closed for years on end: there is nothing to spread over.
        let Some(open) = openings.first(slot.at) else { return slot.at };
        let until_next = cadence.next(slot).map_or(self.spread, |next| next.at - slot.at);
        let span = self.spread.min(openings.closes(open) - open).min(until_next);
        let seconds = u64::try_from(span.num_seconds()).unwrap_or(0).max(1);
        let offset = fnv1a(&format!("{key}/{}", slot.at.timestamp())) % seconds;
        open + Duration::seconds(i64::try_from(offset).unwrap_or(0))
    }
}

impl Cadence {
    /// The first slot that a key has still to serve; none if its history says nothing.
    fn pending(&self, history: &KeyHistory) -> Option<Pending> {
        if let Some(last) = history.last_rotation {
            return Some(Pending { first: self.after_rotation(last)?, missed_at_adoption: None });
        }
        let base = history.version_created_at.or(history.managed_since)?;
        let first = self.after_rotation(Served { at: base, slot: None })?;
        match (history.version_created_at, history.managed_since) {
            (Some(_), Some(adopted)) if first.at <= adopted => {
                Some(Pending { first: self.after(adopted)?, missed_at_adoption: Some(first.at) })
            }
            _ => Some(Pending { first, missed_at_adoption: None }),
        }
    }
}

impl KeyHistory {
    fn reckoned(&self) -> Self {
        Self {
            last_rotation: self
                .last_rotation
                .map(|last| Served { at: reckoned(last.at), slot: last.slot.map(reckoned) }),
            version_created_at: self.version_created_at.map(reckoned),
            managed_since: self.managed_since.map(reckoned),
        }
    }
}

/// FNV-1a, 64 bits: a spread needs no secrecy, only that it is the same for ever.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// An IANA zone by its name.
fn parse_zone(name: &str) -> Result<Tz, TimingProblem> {
    name.parse().map_err(|_| {
        let nearest = chrono_tz::TZ_VARIANTS
            .iter()
            .map(|zone| {
                (strsim::jaro_winkler(&name.to_ascii_lowercase(), &zone.name().to_ascii_lowercase()), zone.name())
            })
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness > 0.85);
        TimingProblem {
            code: "policy/unknown-timezone",
            field: "timezone",
            message: format!("{name:?} is not a time zone of the IANA database {TZ_VERSION}"),
            help: match nearest {
                Some((_, zone)) => format!("did you mean {zone:?}?"),
                None => "write a name such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
            },
        }
    })
}
