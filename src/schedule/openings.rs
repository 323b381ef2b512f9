//! When something may start: windows open, freezes close, and a freeze wins.

use chrono::{Datelike, Duration, NaiveDate};
use chrono_tz::Tz;

use super::freeze::{self, Span};
use super::slots::{later, local, resolve};
use super::{Hold, TimingProblem};
use crate::model::{Freeze, RotationWindow, Timestamp, Weekday};

/// How far ahead an opening is looked for: two years.
const HORIZON: Duration = Duration::days(731);

/// How far windows that touch are followed as one: longer than any spread, and more than a week shows nothing new.
const LONGEST_WINDOW: Duration = Duration::days(8);

/// The windows of a policy and the freezes that concern a key. No window at all means always.
pub(super) struct Openings<'a> {
    windows: &'a [RotationWindow],
    zone: Tz,
    frozen: Vec<(&'a Freeze, Span)>,
}

impl<'a> Openings<'a> {
    pub(super) fn new(windows: &'a [RotationWindow], zone: Tz, freezes: &[&'a Freeze]) -> Self {
        Self { windows, zone, frozen: freezes.iter().map(|freeze| (*freeze, freeze::span(freeze))).collect() }
    }

    /// What closes an instant, if anything does.
    pub(super) fn hold(&self, at: Timestamp) -> Option<Hold> {
        if let Some((freeze, _)) = self.freeze(at) {
            return Some(Hold::Freeze(freeze.name.to_string()));
        }
        self.window(at).is_none().then_some(Hold::Window)
    }

    /// The first open instant from `at` on; none if that is more than two years away.
    pub(super) fn first(&self, at: Timestamp) -> Option<Timestamp> {
        let end = at + HORIZON;
        let mut candidate = at;
        // Each round ends a freeze or finds a window.
        while candidate <= end {
            if let Some((_, span)) = self.freeze(candidate) {
                candidate = span.until;
            } else if self.window(candidate).is_some() {
                return Some(candidate);
            } else {
                candidate = self.next_window(candidate, end)?;
            }
        }
        None
    }

    /// The end of the opening that holds an open instant: where its window closes or a freeze begins.
    pub(super) fn closes(&self, open: Timestamp) -> Timestamp {
        let window = self.window(open).map_or(open, |span| span.until);
        let freeze = self.frozen.iter().map(|(_, span)| span.from).filter(|from| *from > open).min();
        freeze.map_or(window, |from| from.min(window))
    }

    /// Of the freezes that hold an instant, the one that ends last.
    fn freeze(&self, at: Timestamp) -> Option<(&'a Freeze, Span)> {
        self.frozen.iter().copied().filter(|(_, span)| span.contains(at)).max_by_key(|(_, span)| span.until)
    }

    /// The window that holds an instant, together with those that follow it without a break.
    fn window(&self, at: Timestamp) -> Option<Span> {
        if self.windows.is_empty() {
            return Some(Span::ALWAYS);
        }
        let mut open = self.around(at)?;
        while open.until - at < LONGEST_WINDOW
            && let Some(next) = self.around(open.until)
        {
            open.until = next.until;
        }
        Some(open)
    }

    /// The single window that holds an instant, of several the one that closes last.
    fn around(&self, at: Timestamp) -> Option<Span> {
        let today = local(at, self.zone).date();
        // One that opened yesterday may last into today; and the clocks may have been set back over midnight.
        let dates = [today.pred_opt(), Some(today), today.succ_opt()];
        let spans = dates.into_iter().flatten().flat_map(|date| self.opening_on(date));
        spans.filter(|span| span.contains(at)).max_by_key(|span| span.until)
    }

    /// The first instant after `at`, which is in no window, at which one opens.
    fn next_window(&self, at: Timestamp, end: Timestamp) -> Option<Timestamp> {
        let mut date = local(at, self.zone).date();
        let last = later(local(end, self.zone).date(), 1);
        while date <= last {
            if let Some(from) = self.opening_on(date).map(|span| span.from).filter(|from| *from > at).min() {
                return Some(from);
            }
            date = later(date, 1);
        }
        None
    }

    /// The windows that open on a date. One that daylight saving swallows whole is none.
    fn opening_on(&self, date: NaiveDate) -> impl Iterator<Item = Span> {
        let weekday = weekday(date);
        let opens = move |window: &&RotationWindow| window.days.is_empty() || window.days.contains(&weekday);
        self.windows
            .iter()
            .filter(opens)
            .map(move |window| {
                let last = if window.end > window.start { date } else { later(date, 1) };
                Span {
                    from: resolve(date.and_time(window.start.0), self.zone),
                    until: resolve(last.and_time(window.end.0), self.zone),
                }
            })
            .filter(|span| span.from < span.until)
    }
}

/// Refuses a window whose length nobody can tell.
pub(super) fn check(windows: &[RotationWindow]) -> Option<TimingProblem> {
    let window = windows.iter().find(|window| window.start == window.end)?;
    Some(TimingProblem {
        code: "policy/window-empty",
        field: "rotation_windows",
        message: format!("a window from {} to {} is either empty or a whole day", window.start, window.end),
        help: "let it end at another time; to be open all day, leave `rotation_windows` out".to_owned(),
    })
}

fn weekday(date: NaiveDate) -> Weekday {
    match date.weekday() {
        chrono::Weekday::Mon => Weekday::Mon,
        chrono::Weekday::Tue => Weekday::Tue,
        chrono::Weekday::Wed => Weekday::Wed,
        chrono::Weekday::Thu => Weekday::Thu,
        chrono::Weekday::Fri => Weekday::Fri,
        chrono::Weekday::Sat => Weekday::Sat,
        chrono::Weekday::Sun => Weekday::Sun,
    }
}
