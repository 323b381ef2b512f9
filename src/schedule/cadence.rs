//! How a policy's slots follow one another, by interval or by cron.
//!
//! Every answer is arithmetic on dates or a few steps of the cron search, however long the time between: a plan decides a
//! hundred thousand keys.

use chrono::{Duration, NaiveDate, NaiveTime};
use chrono_tz::Tz;

use super::cron::Schedule;
use super::slots::{LARGEST_JUMP, MOMENT, Slot, later, local};
use super::{MAX_MINIMUM_GAP, Served};
use crate::model::Timestamp;

/// The slots of a policy.
#[derive(Debug, Clone)]
pub(super) struct Cadence {
    pub rule: Rule,
    pub zone: Tz,
}

/// What makes a local time a slot.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    /// Each date has a slot; a key takes one every so many days.
    Interval { days: u32, time: NaiveTime },
    /// Each firing is a slot, and a key takes them all.
    Cron(Schedule),
}

impl Cadence {
    /// The least time between two rotations of a key: half the time between two slots, and at most twelve hours. Half, so
    /// that a late rotation neither holds up the next slot nor pushes all later ones along.
    pub(super) fn minimum_gap(&self) -> Duration {
        let between = match &self.rule {
            Rule::Interval { days, .. } => Duration::days(i64::from(*days)),
            Rule::Cron(schedule) => schedule.least_distance(),
        };
        (between / 2).min(MAX_MINIMUM_GAP)
    }

    /// The first slot that a key has to serve after a rotation.
    pub(super) fn after_rotation(&self, rotation: Served) -> Option<Slot> {
        match (&self.rule, rotation.slot) {
            (Rule::Interval { days, time }, Some(served)) => {
                let date = self.date_of(served, *time);
                Some(self.on(later(date, u64::from(*days)), *time))
            }
            (Rule::Cron(_), Some(served)) => self.after(served),
            (Rule::Interval { days, time }, None) => {
                // The latest slot of the cryptoperiod that began with the rotation, if that is not right upon it.
                let latest = self.latest_of_all(rotation.at + Duration::days(i64::from(*days)), *time);
                if latest.at >= rotation.at + self.minimum_gap() { Some(latest) } else { self.after_gap(rotation.at) }
            }
            (Rule::Cron(_), None) => self.after_gap(rotation.at),
        }
    }

    /// The first slot after an instant, of any date.
    pub(super) fn after(&self, at: Timestamp) -> Option<Slot> {
        match &self.rule {
            Rule::Interval { time, .. } => {
                let mut date = local(at, self.zone).date();
                // Today's is past, or the clocks were set back over it.
                for _ in 0..4 {
                    let slot = self.on(date, *time);
                    if slot.at > at {
                        return Some(slot);
                    }
                    date = later(date, 1);
                }
                None
            }
            Rule::Cron(schedule) => {
                let mut firing = local(at, self.zone);
                // What the clocks were set back over has fired already: hours, and firings are half a day apart.
                for _ in 0..5 {
                    firing = schedule.after(firing)?;
                    let slot = Slot::new(firing, self.zone);
                    if slot.at > at {
                        return Some(slot);
                    }
                }
                None
            }
        }
    }

    /// The slot that a key takes after one that it takes.
    pub(super) fn next(&self, slot: Slot) -> Option<Slot> {
        match &self.rule {
            Rule::Interval { days, time } => Some(self.on(later(slot.nominal.date(), u64::from(*days)), *time)),
            Rule::Cron(schedule) => Some(Slot::new(schedule.after(slot.nominal)?, self.zone)),
        }
    }

    /// Of a key's slots from `first` on, the latest at or before `now`; `first` if there is none.
    pub(super) fn latest(&self, first: Slot, now: Timestamp) -> Slot {
        // Clocks that were set back have shown a later time than they do.
        let latest_shown = local(now, self.zone) + LARGEST_JUMP;
        match &self.rule {
            Rule::Interval { days, time } => {
                let passed = (latest_shown.date() - first.nominal.date()).num_days();
                let steps = u64::try_from(passed).unwrap_or(0) / u64::from(*days);
                (steps.saturating_sub(3)..=steps)
                    .rev()
                    .map(|step| self.on(later(first.nominal.date(), step * u64::from(*days)), *time))
                    .find(|slot| slot.at <= now)
                    .unwrap_or(first)
            }
            Rule::Cron(schedule) => {
                let mut firing = latest_shown;
                for _ in 0..8 {
                    let Some(before) = schedule.before(firing).filter(|before| *before > first.nominal) else { break };
                    let slot = Slot::new(before, self.zone);
                    if slot.at <= now {
                        return slot;
                    }
                    firing = before;
                }
                first
            }
        }
    }

    /// The first slot at which the minimum gap since a rotation has passed.
    fn after_gap(&self, rotated_at: Timestamp) -> Option<Slot> {
        self.after(rotated_at + self.minimum_gap() - MOMENT)
    }

    /// The latest slot of any date at or before an instant.
    fn latest_of_all(&self, at: Timestamp, time: NaiveTime) -> Slot {
        let mut slot = self.on((local(at, self.zone) + LARGEST_JUMP).date(), time);
        while slot.at > at {
            let Some(date) = slot.nominal.date().pred_opt() else { break };
            slot = self.on(date, time);
        }
        slot
    }

    /// The date whose slot an instant is: its own, or the one before where that one's slot was moved past midnight. An
    /// instant that is no slot, because the policy's time has changed since, counts for its own date.
    fn date_of(&self, at: Timestamp, time: NaiveTime) -> NaiveDate {
        let own = local(at, self.zone).date();
        let moved = own.pred_opt().filter(|before| self.on(own, time).at != at && self.on(*before, time).at == at);
        moved.unwrap_or(own)
    }

    fn on(&self, date: NaiveDate, time: NaiveTime) -> Slot {
        Slot::new(date.and_time(time), self.zone)
    }
}
