//! WHEN: the next rotation, windows, freezes, spread, the minimum gap.
//!
//! Pure: `now` is an argument. Must not know: a clock, what a rotation does, where a policy came from.

use chrono::{Duration, NaiveTime};
use chrono_tz::Tz;

use crate::model::{Address, Freeze, RotationPolicy, RotationWindow, Timestamp};

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
    spread_minutes: u32,
}

/// How slots follow one another.
#[derive(Debug, Clone)]
enum Cadence {
    Interval {
        days: u32,
    },
    Cron(Box<croner::Cron>),
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

impl Timing {
    /// Parses a policy's time fields.
    ///
    /// # Errors
    /// Every problem of them at once.
    pub fn new(policy: &RotationPolicy) -> Result<Self, Vec<TimingProblem>> {
        let _ = policy;
        Err(Vec::new())
    }

    /// Is the key due at `now`?
    #[must_use]
    pub fn decide(&self, key: &Address, history: &KeyHistory, freezes: &[&Freeze], now: Timestamp) -> Decision {
        let _ = (
            key,
            history,
            freezes,
            now,
            &self.cadence,
            self.time_of_day,
            self.timezone,
            &self.windows,
            self.spread_minutes,
        );
        Decision::Unscheduled
    }

    /// May something start (or be destroyed) at `now`? If not, what holds it back, and until when.
    ///
    /// # Errors
    /// The hold, and the first instant after `now` at which nothing holds it any more.
    pub fn open_at(&self, freezes: &[&Freeze], now: Timestamp) -> Result<(), (Hold, Option<Timestamp>)> {
        let _ = (freezes, now);
        Ok(())
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
        let _ = (key, history, freezes, now, count);
        Vec::new()
    }

    /// The zone of every local time of the policy.
    #[must_use]
    pub fn timezone(&self) -> Tz {
        self.timezone
    }
}

/// Checks a freeze: a known zone, an end after its beginning.
#[must_use]
pub fn check_freeze(freeze: &Freeze) -> Vec<TimingProblem> {
    let _ = freeze;
    Vec::new()
}

/// Does a freeze concern a key of this tenant and class of data?
#[must_use]
pub fn freeze_applies(freeze: &Freeze, key: &Address, key_type: &str) -> bool {
    (freeze.tenants.is_empty() || freeze.tenants.contains(&key.tenant_id))
        && (freeze.key_types.is_empty() || freeze.key_types.iter().any(|class| class == key_type))
}
