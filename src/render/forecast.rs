//! A forecast as text, and what its other forms share: the words, and the days of the heat-map.

pub mod calendar;
pub mod markdown;
pub mod page;
#[cfg(test)]
mod tests;
mod weeks;

use chrono::Datelike as _;

use crate::plan::forecast::{Entry, Idle};
use crate::plan::{Action, Forecast};

use self::weeks::{Cell, LEVELS, Weeks};
use super::style::{self, paint};
use super::text::{count, safe, thousands, wrap};
use super::{View, table, time};

/// So many entries stand in the table of a terminal.
const SHOWN: usize = 20;

/// So many weeks stand side by side.
const SIDE_BY_SIDE: usize = 53;

/// Up to so many weeks have two columns each.
const ROOMY: usize = 30;

/// What days look like without colours, from nothing to the most.
const SHADES: [char; LEVELS] = ['·', '░', '▒', '▓', '█'];

/// A day on which something stops decrypting.
const LOSS: char = '×';

/// Draws a forecast for a terminal.
#[must_use]
pub fn draw(forecast: &Forecast, view: View) -> String {
    let mut out = format!("{}\n", paint(style::HEADING, &headline(forecast)));
    for line in notes(forecast) {
        out += &format!("{} {}\n", paint(style::WARNING, "!"), safe(&line));
    }
    out += "\n";
    if forecast.totals.is_empty() {
        out += "Nothing comes.\n\n";
    } else {
        out += &heat_map(forecast);
        out += &format!("  {}\n", totals(forecast));
        if let Some(cost) = cost(forecast) {
            out += &format!("  {cost}\n");
        }
        out += "\n";
    }
    out += &problems(forecast, view);
    out += &entries(forecast, view);
    out += &idle(forecast, view);
    out
}

/// `90 days from 2026-11-24T02:30:00Z on: 3 keys`.
pub(super) fn headline(forecast: &Forecast) -> String {
    let days = usize::try_from((forecast.until - forecast.as_of).num_days()).unwrap_or_default();
    format!("{} from {} on: {}", count(days, "day"), time::instant(forecast.as_of), count(forecast.keys, "key"))
}

/// What is not as one might think.
pub(super) fn notes(forecast: &Forecast) -> Vec<String> {
    let mut notes = Vec::new();
    if !forecast.left_out.is_empty() {
        let tenants = forecast.left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        notes.push(format!("left out, since their documents have errors: {tenants}"));
    }
    if forecast.not_applied > 0 {
        let keys = count(forecast.not_applied, "key");
        notes.push(format!("{keys} not applied yet: reckoned as if made at the beginning"));
    }
    if forecast.cut {
        notes.push(format!(
            "it ends at {}, since more happens than it can hold: take fewer days, or one tenant",
            time::instant(forecast.until)
        ));
    }
    notes
}

/// `90 rotations, 12 versions disabled`.
pub(super) fn totals(forecast: &Forecast) -> String {
    let said = forecast.totals.iter().map(|(action, number)| happens(*action, *number));
    said.collect::<Vec<_>>().join(", ")
}

/// `12 versions disabled`.
pub(super) fn happens(action: Action, number: usize) -> String {
    match action {
        Action::Rotate => count(number, "rotation"),
        action => format!("{} {}", count(number, "version"), done(action)),
    }
}

/// What has become of versions.
const fn done(action: Action) -> &'static str {
    match action {
        Action::Disable => "disabled",
        Action::ScheduleDestruction => "scheduled for destruction",
        Action::CancelDestruction => "not to be destroyed any more",
        Action::Enable => "enabled",
        _ => "destroyed",
    }
}

/// What old versions cost more at the end.
pub(super) fn cost(forecast: &Forecast) -> Option<String> {
    let usd = forecast.usd_a_month?;
    let by_then = "a month at its end than at its beginning, at AWS's list prices";
    Some(match usd {
        0 => "old versions cost as much at its end as at its beginning, at AWS's list prices".to_owned(),
        more if more > 0 => format!("old versions cost {} USD more {by_then}", thousands(dollars(more))),
        less => format!("old versions cost {} USD less {by_then}", thousands(dollars(less))),
    })
}

fn dollars(usd: i64) -> usize {
    usize::try_from(usd.unsigned_abs()).unwrap_or(usize::MAX)
}

/// What happens, in words: `rotate 9 keys`.
pub(super) fn what(entry: &Entry) -> String {
    let versions = count(entry.count, "version");
    match entry.action {
        Action::Rotate => format!("rotate {}", count(entry.count, "key")),
        Action::Disable => format!("disable {versions}{}", if entry.if_unused { ", if unused" } else { "" }),
        Action::ScheduleDestruction => format!("schedule the destruction of {versions}"),
        Action::CancelDestruction => format!("cancel the destruction of {versions}"),
        Action::Enable => format!("enable {versions}"),
        _ => format!("{versions} destroyed"),
    }
}

/// Whose keys: `acme/Nightly: patients, archive and 7 more`.
pub(super) fn whose(entry: &Entry) -> String {
    let policy = entry.policy_name.as_ref().map_or_else(String::new, |policy| format!("/{policy}"));
    let names = entry.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = match entry.key_count.saturating_sub(entry.keys.len()) {
        0 => String::new(),
        more => format!(" and {} more", thousands(more)),
    };
    format!("{}{policy}: {names}{more}", entry.tenant_id)
}

/// What is special about when it happens, and what it costs.
pub(super) fn when(entry: &Entry) -> Option<String> {
    let mut said = Vec::new();
    if let Some(held_by) = entry.held_by.as_ref().filter(|held_by| *held_by != "spread") {
        let slot = entry.slot.map_or_else(String::new, time::instant);
        let until =
            if entry.slot.is_some_and(|slot| slot < entry.at) { format!(" since {slot}") } else { String::new() };
        said.push(format!("waits for {}{until}", held_by.replace('_', " ")));
    }
    if let Some(missed) = entry.missed_since {
        said.push(format!("misses {}", time::instant(missed)));
    }
    match entry.usd_a_month {
        None | Some(0) => {}
        Some(usd) => {
            let sign = if usd > 0 { '+' } else { '-' };
            said.push(format!("{sign}{} USD a month", thousands(dollars(usd))));
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// Does something stop decrypting?
pub(super) const fn is_loss(action: Action) -> bool {
    matches!(action, Action::Disable | Action::ScheduleDestruction | Action::Destroy)
}

/// A column for each week, a row for each day of it, a shade for how many rotations there are.
fn heat_map(forecast: &Forecast) -> String {
    let weeks = Weeks::of(forecast);
    let wide = if weeks.columns.len() <= ROOMY { 2 } else { 1 };
    let mut out = String::new();
    for block in weeks.columns.chunks(SIDE_BY_SIDE) {
        out += &format!("       {}\n", paint(style::DIM, months(block, wide).trim_end()));
        for (row, name) in ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].iter().enumerate() {
            let gap = " ".repeat(wide - 1);
            let day = |week: &[Option<Cell>; 7]| {
                week.get(row).copied().flatten().map_or_else(|| " ".to_owned(), shade) + &gap
            };
            let cells: String = block.iter().map(day).collect();
            out += &format!("  {}  {}\n", paint(style::DIM, name), cells.trim_end());
        }
        out += "\n";
    }
    let scale: Vec<String> = weeks
        .scale()
        .into_iter()
        .zip(SHADES)
        .filter_map(|(range, shade)| Some(format!("{shade} {}", range?)))
        .collect();
    let loss = if weeks.has_loss() { format!("   {LOSS} something stops decrypting") } else { String::new() };
    out += &format!("  {}\n\n", paint(style::DIM, &format!("rotations a day:  {}{loss}", scale.join("  "))));
    out
}

/// The months' names, each over the week in which it begins.
fn months(block: &[[Option<Cell>; 7]], wide: usize) -> String {
    let mut months = String::new();
    let begins = |week: &[Option<Cell>; 7]| week.iter().flatten().copied().find(|cell| cell.date.day() == 1);
    // The month that has begun before has a name where there is room for it.
    let first = block.iter().position(|week| begins(week).is_some()).map_or(usize::MAX, |column| column * wide);
    for (column, week) in block.iter().enumerate() {
        let begun = week.iter().flatten().copied().next().filter(|_| column == 0 && first > 3);
        let Some(cell) = begins(week).or(begun) else { continue };
        if months.chars().count() <= column * wide {
            months = super::text::pad(&months, column * wide);
            let name = if cell.date.month() == 1 { "%b %Y " } else { "%b " };
            months += &cell.date.format(name).to_string();
        }
    }
    months
}

fn shade(cell: Cell) -> String {
    if cell.loses {
        return paint(style::REMOVE, &LOSS.to_string());
    }
    let shade = SHADES.get(cell.level).copied().unwrap_or('█').to_string();
    if cell.level == 0 { paint(style::DIM, &shade) } else { paint(style::ROTATE, &shade) }
}

fn problems(forecast: &Forecast, view: View) -> String {
    if forecast.problems.is_empty() {
        return String::new();
    }
    let mut out = format!("{}\n\n", paint(style::HEADING, "What will not go as it should"));
    for problem in &forecast.problems {
        let times = if problem.times > 1 { format!(" ({} times)", thousands(problem.times)) } else { String::new() };
        let mark = paint(style::WARNING, "!");
        for (index, line) in wrap(&safe(&format!("{}{times}", problem.message)), view.columns() - 4).iter().enumerate()
        {
            out += &format!("  {} {line}\n", if index == 0 { mark.as_str() } else { " " });
        }
        for (index, line) in wrap(&safe(&problem.help), view.columns() - 8).iter().enumerate() {
            let mark = if index == 0 { "= help:" } else { "       " };
            out += &format!("    {} {line}\n", paint(style::HELP, mark));
        }
    }
    out + "\n"
}

fn entries(forecast: &Forecast, view: View) -> String {
    if forecast.entries.is_empty() {
        return String::new();
    }
    let shown = if view.full { forecast.entries.len() } else { SHOWN };
    let rows = forecast.entries.iter().take(shown).map(|entry| {
        let whose = when(entry).map_or_else(|| whose(entry), |when| format!("{} ({when})", whose(entry)));
        vec![time::instant(entry.at), what(entry), safe(&whose).into_owned()]
    });
    let mut out = table::draw(&["WHEN", "WHAT", "WHOSE"], rows, view);
    let more = forecast.entries.len().saturating_sub(shown) + forecast.entries_left_out;
    if more > 0 {
        let how = if view.full { "--format json, html and ics have no more either" } else { "-v shows them" };
        out += &paint(style::DIM, &format!("… and {}: {how}\n", count(more, "entry")));
    }
    out + "\n"
}

fn idle(forecast: &Forecast, view: View) -> String {
    if forecast.idle.is_empty() {
        return String::new();
    }
    let mut out = format!("{}\n\n", paint(style::HEADING, "Nothing comes for"));
    for idle in &forecast.idle {
        for (index, line) in wrap(&safe(&of_idle(idle)), view.columns() - 4).iter().enumerate() {
            out += &format!("  {}{line}\n", if index == 0 { "" } else { "  " });
        }
    }
    out + "\n"
}

/// `3 keys: parked until resume (acme/patients and 2 more)`.
pub(super) fn of_idle(idle: &Idle) -> String {
    let more = match idle.count.saturating_sub(idle.keys.len()) {
        0 => String::new(),
        more => format!(" and {} more", thousands(more)),
    };
    format!("{}: {} ({}{more})", count(idle.count, "key"), idle.message, idle.keys.join(", "))
}
