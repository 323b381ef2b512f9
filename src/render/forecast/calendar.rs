//! A forecast as iCalendar (RFC 5545), for the calendars of people. The same forecast gives the same bytes. An entry keeps its
//! identity while its policy and its slot stay (or, of what has no slot, its instant), however many keys it is of and whenever
//! it can start, so that a calendar that reads it again moves it rather than showing it twice.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use icalendar::{Calendar, Component as _, Event, EventLike as _, Property};

use crate::model::{Name, Timestamp};
use crate::plan::Forecast;
use crate::plan::forecast::Entry;

use super::super::text::{count, one_line};
use super::super::time;
use super::{notes, what, when, whose};

/// The calendar.
#[must_use]
pub fn draw(forecast: &Forecast) -> String {
    let mut calendar = Calendar::empty();
    calendar.append_property(Property::new("VERSION", "2.0"));
    calendar.append_property(Property::new("PRODID", "-//keywheel//forecast//EN"));
    calendar.append_property(Property::new("CALSCALE", "GREGORIAN"));
    calendar.append_property(Property::new("NAME", "Key rotations"));
    calendar.append_property(Property::new("X-WR-CALNAME", "Key rotations"));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &forecast.entries {
        let summary = format!("{}: {}", entry.tenant_id, what(entry));
        let mut description = vec![whose(entry)];
        description.extend(when(entry));
        let of = identity(entry);
        let number = seen.entry(of.clone()).or_default();
        calendar.push(event(forecast, entry.at, &format!("{of}/{number}"), &summary, &description.join("; ")));
        *number += 1;
    }
    // What a calendar does not show, it says.
    let mut missing = notes(forecast);
    if forecast.entries_left_out > 0 {
        missing.push(format!("{} beyond the last one shown are left out", count(forecast.entries_left_out, "entry")));
    }
    for note in missing {
        let at =
            forecast.entries.last().filter(|_| forecast.entries_left_out > 0).map_or(forecast.as_of, |last| last.at);
        calendar.push(event(forecast, at, &note, "The forecast of key rotations is not whole", &note));
    }
    calendar.to_string()
}

fn event(forecast: &Forecast, at: Timestamp, of: &str, summary: &str, description: &str) -> Event {
    let hash = digest(&SHA256, of.as_bytes());
    let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut event = Event::new();
    event
        .uid(&format!("{hex}@keywheel"))
        .timestamp(forecast.as_of)
        .starts(at)
        .summary(&one_line(summary))
        .description(&one_line(description))
        // Nobody is busy because of it.
        .append_property(Property::new("TRANSP", "TRANSPARENT"));
    event.done()
}

/// The same for the same slot of the same policy.
fn identity(entry: &Entry) -> String {
    let policy = entry.policy_name.as_ref().map_or("", Name::as_str);
    let Entry { action, tenant_id, if_unused, .. } = entry;
    format!("{}/{tenant_id}/{policy}/{}/{if_unused}", action.as_str(), time::instant(entry.slot.unwrap_or(entry.at)))
}
