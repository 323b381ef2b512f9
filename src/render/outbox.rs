//! The outbox, as text.

use std::fmt::Write as _;

use crate::engine::{OutboxReport, SendReport, Undelivered};
use crate::model::{Delivery, Timestamp};

use super::style::{self, paint};
use super::text::{count, safe, thousands};
use super::{View, table, time};

/// Messages, the newest first, and below them why those are still there that no receiver took.
#[must_use]
pub fn list(report: &OutboxReport, view: View) -> String {
    if report.messages.is_empty() {
        return "No message matches.\n".to_owned();
    }
    let header = ["RECORDED", "WHAT", "OBJECT", "TO", "STATE"];
    let rows = report.messages.iter().map(|delivery| {
        vec![
            time::instant(delivery.message.at),
            delivery.message.kind.to_string(),
            delivery.message.object.to_string(),
            format!("{} ${{{}}}", delivery.channel, safe(&delivery.receiver)),
            state(delivery, report.as_of),
        ]
    });
    let mut out = table::draw(&header, rows, view);
    for delivery in report.messages.iter().filter(|delivery| view.full || delivery.sent_at.is_none()) {
        let mark = if delivery.sent_at.is_some() { " ".to_owned() } else { paint(style::WARNING, "!") };
        let _ = writeln!(out, "\n{mark} {}", safe(&delivery.message.text));
        if let Some(error) = &delivery.error {
            let _ = writeln!(out, "    {}, after {}", safe(error), count(delivery.attempt as usize, "attempt"));
        }
        if view.full {
            let id = format!("id {}, correlation_id {}", delivery.message.id, safe(&delivery.message.correlation_id));
            let _ = writeln!(out, "    {}", paint(style::DIM, &id));
        }
    }
    if report.truncated {
        let _ = writeln!(out, "{}", paint(style::DIM, "\nThere are more: raise --limit to see them."));
    }
    let _ = writeln!(out, "\n{}", undelivered(report.undelivered));
    out
}

fn state(delivery: &Delivery, as_of: Timestamp) -> String {
    match (delivery.sent_at, delivery.given_up_at, delivery.next_attempt_at) {
        (Some(at), ..) => format!("sent {}", time::relative(at, as_of)),
        (_, Some(at), _) => format!("given up {}", time::relative(at, as_of)),
        (_, _, Some(at)) if at > as_of => format!("waits, next attempt {}", time::relative(at, as_of)),
        _ => "waits".to_owned(),
    }
}

fn undelivered(counts: Undelivered) -> String {
    match counts {
        Undelivered { waiting: 0, given_up: 0 } => "Nothing waits.".to_owned(),
        Undelivered { waiting, given_up: 0 } => format!("Waiting: {}; the next apply sends them.", messages(waiting)),
        Undelivered { waiting, given_up } => format!(
            "Waiting: {}. Given up: {}; `keywheel outbox send --given-up` tries them again.",
            messages(waiting),
            messages(given_up)
        ),
    }
}

fn messages(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "message")
}

/// What became of the messages that were due.
#[must_use]
pub fn sent(report: &SendReport) -> String {
    let mut out = String::new();
    for failed in &report.failed {
        let _ = writeln!(out, "{} {}", paint(style::WARNING, "!"), safe(&failed.to_string()));
    }
    let _ = writeln!(out, "Sent: {}. {}", thousands(report.sent), undelivered(report.undelivered));
    out
}
