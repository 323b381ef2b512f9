//! Windows and freezes that keep a key from rotating before its next rotation is due: warnings at validation.

use chrono::Duration;

use super::freeze::{self, Span};
use super::openings::Openings;
use super::slots::{MOMENT, Slot, reckoned};
use super::{Cadence, Rule, Timing, TimingProblem};
use crate::model::{Freeze, Timestamp};

/// Windows come back every week: what holds a slot back for longer shows within two.
const FORTNIGHT: Duration = Duration::days(14);

/// A slot this long before a freeze has found a window already, if windows let it.
const BEFORE_A_FREEZE: Duration = Duration::days(8);

/// The slots that are looked at: more than a fortnight has, and for long freezes over sparse schedules enough.
const SLOTS: usize = 256;

impl Timing {
    /// Where windows push a rotation past its interval: slots after `from` that cannot start before the next one is due.
    #[must_use]
    pub fn window_delay(&self, from: Timestamp) -> Option<TimingProblem> {
        let cadence = self.cadence.as_ref()?;
        let windows = self.openings(&[]);
        let from = reckoned(from);
        let fortnight = Span { from, until: from + FORTNIGHT };
        let late = slots(cadence, fortnight).find_map(|slot| late(cadence, slot, &windows))?;
        Some(TimingProblem {
            code: "policy/window-delays",
            field: "rotation_windows",
            message: late.message("no window is open"),
            help: "open a window at least once between two rotations, or rotate less often".to_owned(),
        })
    }

    /// The same for freezes, those that are over at `now` left out: at most one problem for each. What several do only
    /// together each of them is blamed for, and none for what windows alone do already.
    #[must_use]
    pub fn freeze_delays<'f>(&self, freezes: &[&'f Freeze], now: Timestamp) -> Vec<(&'f Freeze, TimingProblem)> {
        let Some(cadence) = &self.cadence else { return Vec::new() };
        let (windows, all) = (self.openings(&[]), self.openings(freezes));
        let spans: Vec<Span> = freezes.iter().map(|freeze| reckoned_span(freeze)).collect();
        let mut problems = Vec::new();
        for (freeze, span) in freezes.iter().zip(&spans).filter(|(_, span)| span.until > reckoned(now)) {
            let asked = Span { from: waiting_from(*span, &spans), until: span.until };
            let held_back = |slot| {
                late(cadence, slot, &all)
                    .filter(|late| self::late(cadence, slot, &windows).is_none() && late.waits_for(*span, &windows))
            };
            let Some(late) = slots(cadence, asked).find_map(held_back) else { continue };
            let problem = TimingProblem {
                code: "policy/freeze-delays",
                field: match cadence.rule {
                    Rule::Interval { .. } => "rotation_interval_days",
                    Rule::Cron(_) => "rotation_schedule",
                },
                message: late.message(&format!("freeze {:?} holds it back", freeze.name.as_str())),
                help: "rotate before the freeze with `keywheel rotate`, shorten the freeze, or leave this class of keys out of it"
                    .to_owned(),
            };
            problems.push((*freeze, problem));
        }
        problems
    }
}

fn reckoned_span(freeze: &Freeze) -> Span {
    let span = freeze::span(freeze);
    Span { from: reckoned(span.from), until: reckoned(span.until) }
}

/// The first slot that may still be waiting when a freeze begins: what waits for windows before it, or for the freezes
/// before that.
fn waiting_from(span: Span, freezes: &[Span]) -> Timestamp {
    let mut from = span.from - BEFORE_A_FREEZE;
    // Each round finds a freeze that began earlier.
    while let Some(earlier) = freezes.iter().find(|it| it.until >= from && it.from - BEFORE_A_FREEZE < from) {
        from = earlier.from - BEFORE_A_FREEZE;
    }
    from
}

/// A slot that starts only when the next one is due already.
struct Late {
    slot: Slot,
    next: Slot,
    starts_at: Option<Timestamp>,
}

impl Late {
    /// Would it start in this span, if nothing but windows held it back until then?
    fn waits_for(&self, span: Span, windows: &Openings<'_>) -> bool {
        let until = self.starts_at.map_or(span.until, |at| at.min(span.until));
        windows.first(self.slot.at.max(span.from)).is_some_and(|open| open < until)
    }

    fn message(&self, why: &str) -> String {
        let instant = |at: Timestamp| at.format("%Y-%m-%dT%H:%M:%SZ");
        let start = match self.starts_at {
            Some(at) => format!("can start at {}", instant(at)),
            None => "cannot start within two years".to_owned(),
        };
        format!(
            "a rotation that is due at {} {start}, when the next one has been due since {}: {why}",
            instant(self.slot.at),
            instant(self.next.at)
        )
    }
}

fn late(cadence: &Cadence, slot: Slot, openings: &Openings<'_>) -> Option<Late> {
    let next = cadence.next(slot)?;
    let starts_at = openings.first(slot.at);
    starts_at.is_none_or(|at| at >= next.at).then_some(Late { slot, next, starts_at })
}

/// The slots of a span, of any date: keys of one policy rotate on different ones.
fn slots(cadence: &Cadence, span: Span) -> impl Iterator<Item = Slot> {
    std::iter::successors(cadence.after(span.from - MOMENT), |slot| cadence.after(slot.at))
        .take_while(move |slot| slot.at < span.until)
        .take(SLOTS)
}
