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
const SLOTS: usize = 64;

impl Timing {
    /// Where windows or freezes push a rotation past its interval: slots after `from` that cannot start before the next
    /// one is due. At most one problem for the windows and one for each freeze that has not ended at `from`; a freeze is
    /// only blamed for what windows alone would not do.
    #[must_use]
    pub fn delays(&self, freezes: &[&Freeze], from: Timestamp) -> Vec<TimingProblem> {
        let Some(cadence) = &self.cadence else { return Vec::new() };
        let from = reckoned(from);
        let windows_alone = self.openings(&[]);
        let all = self.openings(freezes);
        let mut problems = Vec::new();
        let fortnight = Span { from, until: from + FORTNIGHT };
        if let Some(late) = slots(cadence, fortnight).find_map(|slot| late(cadence, slot, &windows_alone)) {
            problems.push(TimingProblem {
                code: "policy/window-delays",
                field: "rotation_windows",
                message: late.message("no window is open"),
                help: "open a window at least once between two rotations, or rotate less often".to_owned(),
            });
        }
        for freeze in freezes {
            let span = freeze::span(freeze);
            let span = Span { from: from.max(reckoned(span.from) - BEFORE_A_FREEZE), until: reckoned(span.until) };
            let by_freeze = |slot| late(cadence, slot, &all).filter(|_| late(cadence, slot, &windows_alone).is_none());
            if let Some(late) = slots(cadence, span).find_map(by_freeze) {
                problems.push(TimingProblem {
                    code: "policy/freeze-delays",
                    field: match cadence.rule {
                        Rule::Interval { .. } => "rotation_interval_days",
                        Rule::Cron(_) => "rotation_schedule",
                    },
                    message: late.message(&format!("freeze {:?} holds it back", freeze.name.as_str())),
                    help: "rotate before the freeze with `keywheel rotate`, shorten the freeze, or leave this class of keys out of it"
                        .to_owned(),
                });
            }
        }
        problems
    }
}

/// A slot that starts only when the next one is due already.
struct Late {
    slot: Slot,
    next: Slot,
    starts_at: Option<Timestamp>,
}

impl Late {
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
