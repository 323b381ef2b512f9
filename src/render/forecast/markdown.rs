//! A forecast as Markdown, for a wiki, an issue or a chat: what will not go as it should first, then weeks, then entries.

use std::collections::BTreeMap;

use chrono::{Datelike as _, Days, NaiveDate};

use crate::plan::{Action, Forecast};

use super::super::markdown::inline;
use super::super::text::{count, thousands};
use super::super::time;
use super::{cost, headline, is_loss, notes, of_idle, totals, what, when, whose};

/// So many entries have room.
const SHOWN: usize = 200;

/// The text.
#[must_use]
pub fn draw(forecast: &Forecast) -> String {
    let mut out = format!("## Key rotation forecast\n\n{}.\n\n", inline(&headline(forecast)));
    for note in notes(forecast) {
        out += &format!("> {}\n\n", inline(&note));
    }
    if forecast.totals.is_empty() {
        out += "Nothing comes.\n\n";
    } else {
        out += &format!("**{}**", inline(&totals(forecast)));
        out += &cost(forecast).map_or_else(|| ".\n\n".to_owned(), |cost| format!("; {}.\n\n", inline(&cost)));
    }
    if !forecast.problems.is_empty() {
        out += "### What will not go as it should\n\n";
        for problem in &forecast.problems {
            let times =
                if problem.times > 1 { format!(" ({} times)", thousands(problem.times)) } else { String::new() };
            out += &format!("- {}{times}. {}.\n", inline(&problem.message), inline(&problem.help));
        }
        out += "\n";
    }
    out += &weeks(forecast);
    if !forecast.entries.is_empty() {
        let all = forecast.entries.len() + forecast.entries_left_out;
        out += &format!(
            "<details><summary>{}</summary>\n\n| when | what | whose |\n| --- | --- | --- |\n",
            count(all, "entry")
        );
        for entry in forecast.entries.iter().take(SHOWN) {
            let whose = when(entry).map_or_else(|| whose(entry), |when| format!("{} ({when})", whose(entry)));
            out += &format!("| {} | {} | {} |\n", time::instant(entry.at), inline(&what(entry)), inline(&whose));
        }
        if all > SHOWN {
            out += &format!("\n… and {} more.\n", thousands(all - SHOWN));
        }
        out += "\n</details>\n\n";
    }
    for idle in &forecast.idle {
        out += &format!("- Nothing comes for {}.\n", inline(&of_idle(idle)));
    }
    format!("{}\n", out.trim_end())
}

/// A row for each week in which something happens.
fn weeks(forecast: &Forecast) -> String {
    let mut weeks: BTreeMap<NaiveDate, (usize, usize)> = BTreeMap::new();
    for day in &forecast.calendar {
        let monday = day.date.checked_sub_days(Days::new(day.date.weekday().num_days_from_monday().into()));
        let (rotations, losses) = weeks.entry(monday.unwrap_or(day.date)).or_default();
        for (action, number) in &day.counts {
            *rotations += if *action == Action::Rotate { *number } else { 0 };
            *losses += if is_loss(*action) { *number } else { 0 };
        }
    }
    if weeks.is_empty() {
        return String::new();
    }
    let mut out = "| week of | rotations | versions disabled or destroyed |\n| --- | ---: | ---: |\n".to_owned();
    for (monday, (rotations, losses)) in weeks {
        out += &format!("| {monday} | {} | {} |\n", thousands(rotations), thousands(losses));
    }
    out + "\n"
}
