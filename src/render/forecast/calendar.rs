//! A forecast as iCalendar (RFC 5545), for the calendars of people. The same forecast gives the same bytes, and what stays
//! where it is keeps its identity, so that a calendar that reads it again shows nothing twice.

use aws_lc_rs::digest::{SHA256, digest};
use icalendar::{Calendar, Component as _, Event, EventLike as _, Property};

use crate::plan::Forecast;
use crate::plan::forecast::Entry;

use super::super::text::one_line;
use super::super::time;
use super::{what, when, whose};

/// The calendar.
#[must_use]
pub fn draw(forecast: &Forecast) -> String {
    let mut calendar = Calendar::empty();
    calendar.append_property(Property::new("VERSION", "2.0"));
    calendar.append_property(Property::new("PRODID", "-//keywheel//forecast//EN"));
    calendar.append_property(Property::new("CALSCALE", "GREGORIAN"));
    calendar.append_property(Property::new("NAME", "Key rotations"));
    calendar.append_property(Property::new("X-WR-CALNAME", "Key rotations"));
    for entry in &forecast.entries {
        let summary = format!("{} of {}", what(entry), entry.tenant_id);
        let mut description = vec![whose(entry)];
        description.extend(when(entry));
        let mut event = Event::new();
        event
            .uid(&identity(entry))
            .timestamp(forecast.as_of)
            .starts(entry.at)
            .summary(&one_line(&summary))
            .description(&one_line(&description.join("; ")))
            // Nobody is busy because of it.
            .append_property(Property::new("TRANSP", "TRANSPARENT"));
        calendar.push(event.done());
    }
    calendar.to_string()
}

/// The same for the same keys at the same instant.
fn identity(entry: &Entry) -> String {
    let of = format!("{}/{}/{}/{}", time::instant(entry.at), entry.action.as_str(), whose(entry), entry.count);
    let hash = digest(&SHA256, of.as_bytes());
    let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}@keywheel")
}
