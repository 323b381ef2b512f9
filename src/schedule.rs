//! WHEN: the next rotation, windows, freezes, spread, the minimum gap.
//!
//! Pure: `now` is an argument. Must not know: a clock, what a rotation does, where a policy came from.

mod cron;
mod slots;
#[cfg(test)]
mod tests;
mod windows;

use chrono::{Duration, NaiveDate, NaiveTime};
use chrono_tz::Tz;

use crate::model::{Address, Freeze, RotationPolicy, RotationTrigger, RotationWindow, Timestamp};

/// The longest minimum gap between two rotations of one key: half the interval, and never more than this.
pub const MAX_MINIMUM_GAP: Duration = Duration::hours(12);

/// The version of the IANA tz database that is compiled in.
pub const TZ_VERSION: &str = chrono_tz::IANA_TZDB_VERSION;

/// What a policy says about time, parsed once.
#[derive(Debug, Clone)]
pub struct Timing {
    cadence: Cadence,
    time_of_day: NaiveTime,
    timezone: Tz,
    windows: Vec<RotationWindow>,
    spread: Duration,
}

/// How slots follow one another.
#[derive(Debug, Clone)]
enum Cadence {
    Interval {
        days: u32,
    },
    Cron(cron::Schedule),
    /// No schedule: usage, events or a person make the key due.
    None,
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

/// What holds a due key back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Its share of `rotation_spread_minutes`.
    Spread,
    /// The minimum gap since its last rotation.
    MinimumGap,
    /// No window is open.
    Window,
    /// A freeze, by name.
    Freeze(String),
    /// It was adopted overdue: it waits for the policy's first slot after adoption.
    FirstSlotAfterAdoption,
}

/// The slots of a key since its last rotation.
enum Slots<'a> {
    /// Every so many days from a date on.
    Interval { first: NaiveDate, days: u32 },
    /// The firings from an instant on; with `inclusive` the instant itself counts.
    Cron { schedule: &'a cron::Schedule, first: Timestamp },
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
        let cadence = match (policy.rotation_trigger, policy.rotation_interval_days, &policy.rotation_schedule) {
            (RotationTrigger::TimeBased, _, Some(text)) => match cron::Schedule::new(text) {
                Ok(schedule) => Cadence::Cron(schedule),
                Err(problem) => {
                    problems.push(problem);
                    Cadence::None
                }
            },
            (RotationTrigger::TimeBased, Some(days), None) => Cadence::Interval { days: days.max(1) },
            _ => Cadence::None,
        };
        problems.extend(windows::check(&policy.rotation_windows));
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            cadence,
            time_of_day: policy.rotation_time_of_day.0,
            timezone,
            windows: policy.rotation_windows.clone(),
            spread: Duration::minutes(i64::from(policy.rotation_spread_minutes)),
        })
    }

    /// Is the key due at `now`?
    #[must_use]
    pub fn decide(&self, key: &Address, history: &KeyHistory, freezes: &[&Freeze], now: Timestamp) -> Decision {
        let Some(slots) = self.slots(history) else { return Decision::Unscheduled };
        let Some(first) = self.first(&slots) else { return Decision::Unscheduled };
        if first > now {
            let starts_at = self.start(key, history, freezes, first, true);
            // An overdue key that was adopted has missed its slot already.
            return match self.overdue_at_adoption(history) {
                Some(_) => Decision::Waiting { slot: first, hold: Hold::FirstSlotAfterAdoption, starts_at },
                None => Decision::NotDue { slot: first, starts_at },
            };
        }
        let slot = self.latest(&slots, now).unwrap_or(first);
        let missed = self.overdue_at_adoption(history).or((slot > first).then_some(first));
        // A key that has missed a slot is not spread any more: with rare looks it might never start.
        let earliest = self.earliest(key, history, slot, missed.is_none());
        let hold = match &earliest {
            Some((hold, at)) if *at > now => Some(hold.clone()),
            _ => windows::hold(&self.windows, self.timezone, freezes, now),
        };
        match hold {
            None => Decision::Due { slot, overdue_since: missed },
            Some(hold) => {
                let from = earliest.map_or(now, |(_, at)| at.max(now));
                let starts_at = windows::next_allowed(&self.windows, self.timezone, freezes, from);
                Decision::Waiting { slot, hold, starts_at }
            }
        }
    }

    /// May something start (or be destroyed) at `now`? If not, what holds it back, and until when.
    ///
    /// # Errors
    /// The hold, and the first instant after `now` at which nothing holds it any more.
    pub fn open_at(&self, freezes: &[&Freeze], now: Timestamp) -> Result<(), (Hold, Option<Timestamp>)> {
        match windows::hold(&self.windows, self.timezone, freezes, now) {
            None => Ok(()),
            Some(hold) => Err((hold, windows::next_allowed(&self.windows, self.timezone, freezes, now))),
        }
    }

    /// The next `count` instants at which the key would rotate if each rotation happened when it can start.
    #[must_use]
    pub fn upcoming(
        &self,
        key: &Address,
        history: &KeyHistory,
        freezes: &[&Freeze],
        now: Timestamp,
        count: usize,
    ) -> Vec<Timestamp> {
        let mut instants = Vec::with_capacity(count);
        let (mut history, mut now) = (*history, now);
        while instants.len() < count {
            let at = match self.decide(key, &history, freezes, now) {
                Decision::Due { .. } => now,
                Decision::NotDue { starts_at: Some(at), .. } | Decision::Waiting { starts_at: Some(at), .. }
                    if at > now =>
                {
                    at
                }
                _ => break,
            };
            let Decision::Due { slot, .. } = self.decide(key, &history, freezes, at) else {
                // Its slot moved on while it waited: look again from there.
                now = at;
                continue;
            };
            instants.push(at);
            history = KeyHistory { last_rotation: Some(Served { at, slot: Some(slot) }), ..history };
            now = at;
        }
        instants
    }

    /// The zone of every local time of the policy.
    #[must_use]
    pub fn timezone(&self) -> Tz {
        self.timezone
    }

    /// The slots that count for a key, given its past.
    fn slots(&self, history: &KeyHistory) -> Option<Slots<'_>> {
        if let (None, Some(managed_since)) =
            (history.last_rotation, self.overdue_at_adoption(history).and(history.managed_since))
        {
            return self.slots_from(managed_since + Duration::seconds(1));
        }
        self.slots_by_age(history)
    }

    /// The first slot by the version's age, if a key was adopted when that had passed.
    fn overdue_at_adoption(&self, history: &KeyHistory) -> Option<Timestamp> {
        let (None, Some(_), Some(managed_since)) =
            (history.last_rotation, history.version_created_at, history.managed_since)
        else {
            return None;
        };
        let first = self.first(&self.slots_by_age(history)?)?;
        (first <= managed_since).then_some(first)
    }

    fn slots_by_age(&self, history: &KeyHistory) -> Option<Slots<'_>> {
        let never_rotated = || Some(Served { at: history.version_created_at.or(history.managed_since)?, slot: None });
        let base = history.last_rotation.or_else(never_rotated)?;
        match (&self.cadence, base.slot) {
            (Cadence::None, _) => None,
            (Cadence::Interval { days }, Some(slot)) => {
                let date = slots::date_of(slot, self.time_of_day, self.timezone);
                Some(Slots::Interval { first: slots::later(date, u64::from(*days)), days: *days })
            }
            (Cadence::Interval { days }, None) => {
                // The latest slot within the cryptoperiod that begins with the version.
                let end = base.at.checked_add_signed(Duration::days(i64::from(*days)))?;
                let mut date = slots::local(end, self.timezone).date();
                while self.slot(date) > end {
                    date = date.pred_opt()?;
                }
                let gap_ends = base.at.checked_add_signed(self.minimum_gap())?;
                if self.slot(date) < gap_ends {
                    self.slots_from(gap_ends)
                } else {
                    Some(Slots::Interval { first: date, days: *days })
                }
            }
            (Cadence::Cron(schedule), Some(slot)) => {
                Some(Slots::Cron { schedule, first: schedule.next(slot, self.timezone)? })
            }
            (Cadence::Cron(_), None) => self.slots_from(base.at.checked_add_signed(self.minimum_gap())?),
        }
    }

    /// The slots from the first one at or after an instant on.
    fn slots_from(&self, at: Timestamp) -> Option<Slots<'_>> {
        match &self.cadence {
            Cadence::None => None,
            Cadence::Interval { days } => {
                let mut date = slots::local(at, self.timezone).date();
                date = date.pred_opt().unwrap_or(date);
                while self.slot(date) < at {
                    date = date.succ_opt()?;
                }
                Some(Slots::Interval { first: date, days: *days })
            }
            Cadence::Cron(schedule) => {
                let first = schedule.next(at.checked_sub_signed(Duration::seconds(1))?, self.timezone)?;
                Some(Slots::Cron { schedule, first })
            }
        }
    }

    fn slot(&self, date: NaiveDate) -> Timestamp {
        slots::slot(date, self.time_of_day, self.timezone)
    }

    fn first(&self, slots: &Slots<'_>) -> Option<Timestamp> {
        match slots {
            Slots::Interval { first, .. } => Some(self.slot(*first)),
            Slots::Cron { first, .. } => Some(*first),
        }
    }

    /// The latest slot that has passed, of those from the first on.
    fn latest(&self, slots: &Slots<'_>, now: Timestamp) -> Option<Timestamp> {
        match slots {
            Slots::Interval { first, days } => {
                let passed = (slots::local(now, self.timezone).date() - *first).num_days().max(0);
                let days = u64::from(*days);
                let steps = u64::try_from(passed).unwrap_or(0) / days;
                // A slot that a gap moved past midnight may be a day later than its date.
                (steps.saturating_sub(1)..=steps)
                    .rev()
                    .map(|step| self.slot(slots::later(*first, step * days)))
                    .find(|slot| *slot <= now)
            }
            Slots::Cron { schedule, first } => schedule.latest(now, self.timezone).filter(|slot| slot >= first),
        }
    }

    /// When a slot can start as far as windows, freezes, spread and gap go.
    fn start(
        &self,
        key: &Address,
        history: &KeyHistory,
        freezes: &[&Freeze],
        slot: Timestamp,
        spread: bool,
    ) -> Option<Timestamp> {
        let from = self.earliest(key, history, slot, spread).map_or(slot, |(_, at)| at.max(slot));
        windows::next_allowed(&self.windows, self.timezone, freezes, from)
    }

    /// What holds a slot back for a while after it, and until when: the later of the gap and the spread.
    fn earliest(
        &self,
        key: &Address,
        history: &KeyHistory,
        slot: Timestamp,
        spread: bool,
    ) -> Option<(Hold, Timestamp)> {
        let gap = history.last_rotation.and_then(|last| last.at.checked_add_signed(self.minimum_gap()));
        let gap = gap.map(|at| (Hold::MinimumGap, at));
        let spread = spread.then(|| self.spread(key, slot)).flatten().map(|at| (Hold::Spread, at));
        match (gap, spread) {
            (Some(gap), Some(spread)) => Some(if gap.1 > spread.1 { gap } else { spread }),
            (one, other) => one.or(other),
        }
    }

    /// Half the interval, and at most [`MAX_MINIMUM_GAP`].
    fn minimum_gap(&self) -> Duration {
        match self.cadence {
            Cadence::Interval { days } => (Duration::days(i64::from(days)) / 2).min(MAX_MINIMUM_GAP),
            Cadence::Cron(_) | Cadence::None => MAX_MINIMUM_GAP,
        }
    }

    /// A key's own place in the spread: the same at each look, and within the window that the slot opens in.
    fn spread(&self, key: &Address, slot: Timestamp) -> Option<Timestamp> {
        let open = windows::next_open(&self.windows, self.timezone, slot)?;
        let until = windows::open_span(&self.windows, self.timezone, open)?.until;
        let seconds = self.spread.min(until.signed_duration_since(open)).num_seconds();
        let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
        let offset = fnv1a(&format!("{key}/{}", slot.timestamp())) % seconds;
        open.checked_add_signed(Duration::seconds(i64::try_from(offset).ok()?))
    }

    /// Slots that windows or freezes push so far that the next one comes due before they can start.
    #[must_use]
    pub fn delays(&self, freezes: &[&Freeze]) -> Vec<TimingProblem> {
        let mut problems = Vec::new();
        if !self.windows.is_empty() {
            // Any fortnight shows what weekly windows do.
            let from = Timestamp::UNIX_EPOCH + Duration::days(20_000);
            problems.extend(self.delay(&[], from, from + Duration::days(14), "rotation_windows"));
        }
        for freeze in freezes {
            if let Some(span) = windows::frozen(freeze) {
                problems.extend(self.delay(&[freeze], span.from, span.until, "timezone").map(|problem| TimingProblem {
                    code: "policy/freeze-delays",
                    field: "rotation_interval_days",
                    message: format!("freeze {:?}: {}", freeze.name.as_str(), problem.message),
                    help: "rotate before the freeze with `keywheel rotate`, shorten the freeze, or exempt this class of keys".to_owned(),
                }));
            }
        }
        problems
    }

    /// The first slot in a span that cannot start before the next one.
    fn delay(
        &self,
        freezes: &[&Freeze],
        from: Timestamp,
        until: Timestamp,
        field: &'static str,
    ) -> Option<TimingProblem> {
        let mut slot = self.first(&self.slots_from(from)?)?;
        for _ in 0..16 {
            if slot >= until {
                return None;
            }
            let next = self.following(slot)?;
            let start = windows::next_allowed(&self.windows, self.timezone, freezes, slot);
            if start.is_none_or(|start| start >= next) {
                let when = start.map_or_else(
                    || "within two years".to_owned(),
                    |at| format!("before {}", at.format("%Y-%m-%dT%H:%M:%SZ")),
                );
                return Some(TimingProblem {
                    code: "policy/window-delays",
                    field,
                    message: format!(
                        "a rotation of {} cannot start {when}, when the next one is due already",
                        slot.format("%Y-%m-%dT%H:%M:%SZ")
                    ),
                    help: "open a window at least once an interval".to_owned(),
                });
            }
            slot = match self.cadence {
                // Keys of one policy have slots on different dates: every date counts.
                Cadence::Interval { .. } => {
                    self.slot(slots::later(slots::date_of(slot, self.time_of_day, self.timezone), 1))
                }
                _ => next,
            };
        }
        None
    }

    /// The slot after a slot.
    fn following(&self, slot: Timestamp) -> Option<Timestamp> {
        let served = KeyHistory { last_rotation: Some(Served { at: slot, slot: Some(slot) }), ..KeyHistory::default() };
        self.first(&self.slots(&served)?)
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

/// Checks a freeze: a known zone, an end after its beginning.
#[must_use]
pub fn check_freeze(freeze: &Freeze) -> Vec<TimingProblem> {
    let mut problems = Vec::new();
    if let Err(problem) = parse_zone(&freeze.timezone) {
        problems.push(TimingProblem { code: "freeze/unknown-timezone", ..problem });
    }
    if freeze.until <= freeze.from {
        problems.push(TimingProblem {
            code: "freeze/ends-before-it-begins",
            field: "until",
            message: format!("the freeze ends at {} and begins at {}", freeze.until, freeze.from),
            help: "let `until` be later than `from`".to_owned(),
        });
    }
    problems
}

/// The freeze that holds an instant, and when it ends.
#[must_use]
pub fn frozen_at<'a>(freezes: &[&'a Freeze], now: Timestamp) -> Option<(&'a Freeze, Timestamp)> {
    let in_force = |freeze: &'a Freeze| {
        windows::frozen(freeze).filter(|span| span.from <= now && now < span.until).map(|span| (freeze, span.until))
    };
    freezes.iter().find_map(|freeze| in_force(freeze))
}

/// Does a freeze concern a key of this tenant and class of data?
#[must_use]
pub fn freeze_applies(freeze: &Freeze, key: &Address, key_type: &str) -> bool {
    (freeze.tenants.is_empty() || freeze.tenants.contains(&key.tenant_id))
        && (freeze.key_types.is_empty() || freeze.key_types.iter().any(|class| class == key_type))
}
