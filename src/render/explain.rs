//! Why an object is as it is.

use std::fmt::Write as _;

use crate::engine::{Applied, Explained, Explanation, Field, FieldOrigin};
use crate::model::Timestamp;
use serde_json::Value;

use super::style::{self, paint};
use super::text::{columns, pad, safe};
use super::{View, status, time};

/// Draws the explanation of each object.
#[must_use]
pub fn draw(explained: &Explained, view: View) -> String {
    let parts: Vec<String> = explained.objects.iter().map(|object| one(object, explained.as_of, view)).collect();
    parts.join("\n")
}

fn one(explanation: &Explanation, as_of: Timestamp, view: View) -> String {
    let mut out = String::new();
    let applied = match explanation.applied {
        Applied::Yes => "as applied",
        Applied::NotYet => "not applied yet",
        Applied::Edited => "edited since it was applied",
        Applied::Gone => "its document is gone; the next apply lets it go",
    };
    let title = format!("{} {}", explanation.object.kind, explanation.object);
    let _ = writeln!(out, "{}  {}\n", paint(style::HEADING, &title), paint(style::DIM, applied));
    fields(&mut out, &explanation.fields);
    let is_due =
        !matches!(explanation.due.code.as_str(), "not_due" | "no_policy" | "no_keys" | "not_applied" | "unscheduled");
    let verdict = if is_due { paint(style::CHANGE, "yes") } else { "no".to_owned() };
    let _ = writeln!(out, "\n{} {verdict}: {}", paint(style::HEADING, "Due?"), safe(&explanation.due.message));
    upcoming(&mut out, explanation, as_of);
    if !explanation.keys.is_empty() {
        let _ = writeln!(out, "\n{}\n", paint(style::HEADING, "Its keys"));
        out += &status::keys(&explanation.keys, as_of, view);
    }
    obstacles(&mut out, explanation, as_of);
    out
}

fn fields(out: &mut String, fields: &[Field]) {
    let name_width = fields.iter().map(|field| columns(&field.name)).max().unwrap_or(0);
    let rows: Vec<(&Field, String)> = fields.iter().map(|field| (field, value(&field.value))).collect();
    // A long value pushes its own row only.
    let value_width = rows.iter().map(|(_, text)| columns(text)).filter(|width| *width <= 40).max().unwrap_or(0);
    for (field, text) in rows {
        let origin = match (&field.place, field.origin) {
            (Some(place), _) => format!("{}:{}", safe(&place.file), place.line),
            (None, FieldOrigin::Document) => "the document".to_owned(),
            (None, FieldOrigin::Tenant) => "defaults of the tenant".to_owned(),
            (None, FieldOrigin::Config) => "defaults of keywheel.yaml".to_owned(),
            (None, FieldOrigin::Default) => "default".to_owned(),
            (None, FieldOrigin::Record) => "as last applied".to_owned(),
        };
        let (name, text) = (pad(&field.name, name_width), pad(&text, value_width));
        let _ = writeln!(out, "  {name}  {text}  {}", paint(style::DIM, &origin));
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::String(text) => safe(&text.replace('\n', " ")).into_owned(),
        other => safe(&other.to_string()).into_owned(),
    }
}

fn upcoming(out: &mut String, explanation: &Explanation, as_of: Timestamp) {
    let Some(zone) = explanation.timezone.as_ref().filter(|_| !explanation.upcoming.is_empty()) else { return };
    let is_utc = matches!(zone.as_str(), "UTC" | "Etc/UTC");
    let clocks = if is_utc { "UTC".to_owned() } else { format!("UTC, and local time in {}", safe(zone)) };
    let _ = writeln!(out, "\n{} ({clocks})\n", paint(style::HEADING, "Next rotations"));
    let several = explanation.upcoming.iter().any(|next| next.key_name != explanation.object.name);
    for next in &explanation.upcoming {
        let local = if is_utc { String::new() } else { format!("  {}", next.local) };
        let away = pad(&time::relative(next.at, as_of), 12);
        let key = if several { format!("  {}", next.key_name) } else { String::new() };
        let line = format!("  {}{local}  {}{key}", time::instant(next.at), paint(style::DIM, &away));
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn obstacles(out: &mut String, explanation: &Explanation, as_of: Timestamp) {
    let heading = paint(style::HEADING, "What would stop a rotation now?");
    if explanation.obstacles.is_empty() {
        let _ = writeln!(out, "\n{heading} nothing");
        return;
    }
    let _ = writeln!(out, "\n{heading}\n");
    for obstacle in &explanation.obstacles {
        let until = match obstacle.until {
            Some(at) => format!(", until {}", time::instant_and_relative(at, as_of)),
            None => String::new(),
        };
        let _ = writeln!(out, "  {} {}{until}", paint(style::WARNING, "!"), safe(&obstacle.reason.message));
    }
}
