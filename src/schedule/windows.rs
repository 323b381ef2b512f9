//! When something may start: windows open it, freezes close it, and a freeze wins.

use chrono::{Datelike, Duration, NaiveDate};
use chrono_tz::Tz;

use super::slots::{later, local, resolve};
use super::{Hold, TimingProblem};
use crate::model::{Freeze, RotationWindow, Timestamp, Weekday};

/// How far ahead an opening is looked for.
const HORIZON: Duration = Duration::days(731);

/// A span of time: from its first instant to the first that is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Span {
    fn contains(self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

pub(super) fn check(windows: &[RotationWindow]) -> Option<TimingProblem> {
    let empty = windows.iter().find(|window| window.start == window.end)?;
    Some(TimingProblem {
        code: "policy/window-empty",
        field: "rotation_windows",
        message: format!("a window from {} to {} is empty", empty.start, empty.end),
        help: "let it end later than it starts; for the whole day leave `rotation_windows` out".to_owned(),
    })
}

/// The span in which windows are open at an instant; everything where there are none. Overlapping windows count as one.
pub(super) fn open_span(windows: &[RotationWindow], zone: Tz, at: Timestamp) -> Option<Span> {
    if windows.is_empty() {
        return Some(Span { from: Timestamp::MIN_UTC, until: Timestamp::MAX_UTC });
    }
    let today = local(at, zone).date();
    let mut open = spans(windows, zone, today).find(|span| span.contains(at))?;
    // Windows that touch go on as one; a week of them is the most that a search needs.
    while let Some(next) = spans(windows, zone, local(open.until, zone).date())
        .find(|next| next.contains(open.until))
        .filter(|_| open.until - at < Duration::days(8))
    {
        open.until = next.until;
    }
    Some(open)
}

/// The first instant at or after `at` in a window.
pub(super) fn next_open(windows: &[RotationWindow], zone: Tz, at: Timestamp) -> Option<Timestamp> {
    if open_span(windows, zone, at).is_some() {
        return Some(at);
    }
    let today = local(at, zone).date();
    (0..=8).find_map(|days| {
        let date = later(today, days);
        spans(windows, zone, date).map(|span| span.from).filter(|from| *from >= at).min()
    })
}

/// The windows that open on a date, the day before it or the day after, none of them empty.
fn spans(windows: &[RotationWindow], zone: Tz, date: NaiveDate) -> impl Iterator<Item = Span> {
    let days = [date.pred_opt(), Some(date), date.succ_opt()];
    windows
        .iter()
        .flat_map(move |window| {
            days.into_iter().flatten().filter(|day| opens_on(window, *day)).map(move |day| {
                let last = if window.end > window.start { day } else { later(day, 1) };
                Span {
                    from: resolve(day.and_time(window.start.0), zone),
                    until: resolve(last.and_time(window.end.0), zone),
                }
            })
        })
        .filter(|span| span.from < span.until)
}

fn opens_on(window: &RotationWindow, date: NaiveDate) -> bool {
    let day = match date.weekday() {
        chrono::Weekday::Mon => Weekday::Mon,
        chrono::Weekday::Tue => Weekday::Tue,
        chrono::Weekday::Wed => Weekday::Wed,
        chrono::Weekday::Thu => Weekday::Thu,
        chrono::Weekday::Fri => Weekday::Fri,
        chrono::Weekday::Sat => Weekday::Sat,
        chrono::Weekday::Sun => Weekday::Sun,
    };
    window.days.is_empty() || window.days.contains(&day)
}

/// The span of a freeze; none if its zone is unknown, which was refused before.
pub(super) fn frozen(freeze: &Freeze) -> Option<Span> {
    let zone: Tz = freeze.timezone.parse().ok()?;
    Some(Span { from: resolve(freeze.from, zone), until: resolve(freeze.until, zone) })
}

/// What closes an instant, if anything does.
pub(super) fn hold(windows: &[RotationWindow], zone: Tz, freezes: &[&Freeze], at: Timestamp) -> Option<Hold> {
    let freeze = freezes.iter().find(|freeze| frozen(freeze).is_none_or(|span| span.contains(at)));
    if let Some(freeze) = freeze {
        return Some(Hold::Freeze(freeze.name.to_string()));
    }
    open_span(windows, zone, at).is_none().then_some(Hold::Window)
}

/// The first instant at or after `at` that a window opens and no freeze closes.
pub(super) fn next_allowed(
    windows: &[RotationWindow],
    zone: Tz,
    freezes: &[&Freeze],
    at: Timestamp,
) -> Option<Timestamp> {
    let end = at.checked_add_signed(HORIZON)?;
    let mut candidate = at;
    // Each round passes a freeze's end or a window's opening, so it ends well before the bound.
    while candidate <= end {
        let span = freezes.iter().filter_map(|freeze| frozen(freeze)).find(|span| span.contains(candidate));
        if let Some(span) = span {
            candidate = span.until;
            continue;
        }
        let open = next_open(windows, zone, candidate)?;
        if open == candidate {
            return Some(candidate);
        }
        candidate = open;
    }
    None
}
