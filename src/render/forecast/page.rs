//! A forecast as a page to read and to print.

use maud::{Markup, html};

use crate::plan::Forecast;

use super::super::text::{count, safe, thousands};
use super::super::{html, time};
use super::weeks::{Cell, Weeks};
use super::{cost, done, headline, is_loss, notes, of_idle, what, when, whose};

/// So many entries have room.
const SHOWN: usize = 2_000;

/// The page.
#[must_use]
pub fn draw(forecast: &Forecast) -> String {
    let title = "Key rotation forecast";
    let body = html! {
        h1 { (title) }
        p.lead { (headline(forecast)) }
        @for note in notes(forecast) { section.warning { p { (safe(&note)) } } }
        (problems(forecast))
        @if forecast.totals.is_empty() {
            section.good { h2 { "Nothing comes" } }
        } @else {
            ul.counts {
                @for (action, number) in &forecast.totals {
                    li.danger[is_loss(*action)] {
                        b { (thousands(*number)) }
                        span { (if is_loss(*action) { done(*action) } else { "rotations" }) }
                    }
                }
            }
            @if let Some(cost) = cost(forecast) { p.dim { (cost) } }
            (heat_map(forecast))
        }
        (entries(forecast))
        @if !forecast.idle.is_empty() {
            h2 { "Nothing comes for" }
            ul { @for idle in &forecast.idle { li { (safe(&of_idle(idle))) } } }
        }
    };
    html::page(title, &body)
}

fn problems(forecast: &Forecast) -> Markup {
    html! {
        @if !forecast.problems.is_empty() {
            section.warning {
                h2 { "What will not go as it should" }
                ul {
                    @for problem in &forecast.problems {
                        li {
                            (safe(&problem.message))
                            @if problem.times > 1 { " " span.chip.warning { (thousands(problem.times)) " times" } }
                            br;
                            span.dim { (safe(&problem.help)) }
                        }
                    }
                }
            }
        }
    }
}

/// A table with a column for each week; each day says in words what it is, for whoever does not see colours.
fn heat_map(forecast: &Forecast) -> Markup {
    let weeks = Weeks::of(forecast);
    let scale = weeks.scale();
    html! {
        div.wide {
            @for block in weeks.columns.chunks(super::SIDE_BY_SIDE) {
                table.heat {
                    caption { "Rotations a day, from " (first(block)) " on" }
                    @for (row, name) in ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].iter().enumerate() {
                        tr {
                            th scope="row" { (name) }
                            @for week in block { (cell(week.get(row).copied().flatten())) }
                        }
                    }
                }
            }
        }
        p.dim.legend {
            @for (level, range) in scale.iter().enumerate() {
                @if let Some(range) = range { span class=(format!("level{level}")) {} (range) " " }
            }
            @if weeks.has_loss() { span.loss {} "something stops decrypting" }
        }
    }
}

fn first(block: &[[Option<Cell>; 7]]) -> String {
    block.iter().flatten().flatten().next().map_or_else(String::new, |cell| cell.date.to_string())
}

fn cell(cell: Option<Cell>) -> Markup {
    let Some(Cell { date, rotations, level, loses }) = cell else { return html! { td {} } };
    let loss = if loses { "; something stops decrypting" } else { "" };
    let title = format!("{date}: {}{loss}", count(rotations, "rotation"));
    let class = if loses { format!("level{level} loss") } else { format!("level{level}") };
    html! { td class=(class) title=(title) {} }
}

fn entries(forecast: &Forecast) -> Markup {
    let all = forecast.entries.len() + forecast.entries_left_out;
    html! {
        @if all > 0 {
            h2 { "Calendar " small { (count(all, "entry")) } }
            div.wide {
                table {
                    thead { tr { th { "when" } th { "what" } th { "whose" } } }
                    tbody {
                        @for entry in forecast.entries.iter().take(SHOWN) {
                            tr {
                                td { time datetime=(time::instant(entry.at)) { (time::instant(entry.at)) } }
                                td { @if is_loss(entry.action) { span.chip.danger { (what(entry)) } } @else { (what(entry)) } }
                                td { (safe(&whose(entry))) @if let Some(when) = when(entry) { br; span.dim { (safe(&when)) } } }
                            }
                        }
                    }
                }
            }
            @if all > SHOWN { p.dim { "… and " (thousands(all - SHOWN)) " more." } }
        }
    }
}
