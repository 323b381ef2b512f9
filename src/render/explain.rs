//! Why an object is as it is.

use std::fmt::Write as _;

use crate::engine::{Applied, Explained, Explanation, Field, FieldOrigin};
use crate::model::Timestamp;
use serde_json::Value;

use super::style::{self, paint};
use super::text::{columns, pad, safe, wrap};
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
    fields(&mut out, &explanation.fields, view);
    let is_due =
        !matches!(explanation.due.code.as_str(), "not_due" | "no_policy" | "no_keys" | "not_applied" | "unscheduled");
    let verdict = if is_due { paint(style::CHANGE, "yes") } else { "no".to_owned() };
    let _ = writeln!(out, "\n{} {verdict}: {}", paint(style::HEADING, "Due?"), safe(&explanation.due.message));
    upcoming(&mut out, explanation, as_of);
    if !explanation.keys.is_empty() {
        let _ = writeln!(out, "\n{}\n", paint(style::HEADING, "Its keys"));
        out += &status::keys(&explanation.keys, as_of, view);
    }
    versions(&mut out, explanation, as_of);
    rotations(&mut out, explanation);
    obstacles(&mut out, explanation, as_of);
    out
}

fn fields(out: &mut String, fields: &[Field], view: View) {
    let is_set = |field: &&Field| !field.value.is_null() || field.applied.is_some();
    let rows: Vec<(&Field, String)> = fields.iter().filter(is_set).map(|field| (field, value(field))).collect();
    let name_width = rows.iter().map(|(field, _)| columns(&field.name)).max().unwrap_or(0);
    // A long value pushes its own row only.
    let value_width = rows.iter().map(|(_, text)| columns(text)).filter(|width| *width <= 40).max().unwrap_or(0);
    for (field, text) in &rows {
        let origin = match (&field.place, field.origin) {
            (Some(place), _) => format!("{}:{}", safe(&place.file), place.line),
            (None, FieldOrigin::Document) => "the document".to_owned(),
            (None, FieldOrigin::Tenant) => "defaults of the tenant".to_owned(),
            (None, FieldOrigin::Config) => "defaults of keywheel.yaml".to_owned(),
            (None, FieldOrigin::Provider) => "of the key manager".to_owned(),
            (None, FieldOrigin::Default) => "default".to_owned(),
            (None, FieldOrigin::Record) => "as last applied".to_owned(),
        };
        let (name, text) = (pad(&field.name, name_width), pad(text, value_width));
        let _ = writeln!(out, "  {name}  {text}  {}", paint(style::DIM, &origin));
    }
    let unset: Vec<&str> = fields.iter().filter(|field| !is_set(field)).map(|field| field.name.as_str()).collect();
    if !unset.is_empty() {
        let text = format!("not set: {}", unset.join(", "));
        for line in wrap(&text, view.columns().saturating_sub(2)) {
            let _ = writeln!(out, "  {}", paint(style::DIM, &line));
        }
    }
}

fn value(field: &Field) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => safe(&text.replace('\n', " ")).into_owned(),
        Value::Null => "(not set)".to_owned(),
        other => safe(&other.to_string()).into_owned(),
    };
    match &field.applied {
        Some(applied) => format!("{} -> {}", text(applied), text(&field.value)),
        None => text(&field.value),
    }
}

fn versions(out: &mut String, explanation: &Explanation, as_of: Timestamp) {
    if explanation.versions.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}\n", paint(style::HEADING, "Its versions"));
    for version in &explanation.versions {
        let mut state = version.state.as_str().to_owned();
        if version.orphan {
            state += ", an orphan";
        }
        if let Some(at) = version.compromised_at {
            state += &format!(", compromised {}", time::relative(at, as_of));
        }
        let since = match (version.deactivated_at, version.activated_at, version.created_at) {
            (Some(at), ..) => format!("deactivated {}", time::instant_and_relative(at, as_of)),
            (None, Some(at), _) => format!("primary since {}", time::instant_and_relative(at, as_of)),
            (None, None, Some(at)) => format!("made {}", time::instant_and_relative(at, as_of)),
            (None, None, None) => String::new(),
        };
        let _ = writeln!(out, "  {:>3}  {state}  {}", version.number, paint(style::DIM, &since));
        let _ = writeln!(out, "       {}", safe(&version.provider_ref));
    }
}

fn rotations(out: &mut String, explanation: &Explanation) {
    if explanation.rotations.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}\n", paint(style::HEADING, "What happened to it"));
    for entry in &explanation.rotations {
        let took = entry.duration_ms.and_then(|took| u64::try_from(took).ok());
        let took = took.map(|took| format!(" in {}", time::took(took))).unwrap_or_default();
        let what = format!("{}: {}{took}", entry.workflow, entry.status);
        let _ =
            writeln!(out, "  {}  {what}  {}", time::instant(entry.started_at), paint(style::DIM, &safe(&entry.reason)));
        if let Some(error) = &entry.error {
            let _ = writeln!(out, "      {}", paint(style::ERROR, &safe(error)));
        }
    }
}

fn upcoming(out: &mut String, explanation: &Explanation, as_of: Timestamp) {
    let Some(zone) = explanation.timezone.as_ref().filter(|_| !explanation.upcoming.is_empty()) else { return };
    let is_utc = matches!(zone.as_str(), "UTC" | "Etc/UTC");
    let clocks = if is_utc { "UTC".to_owned() } else { format!("UTC, and local time in {}", safe(zone)) };
    let _ = writeln!(out, "\n{} ({clocks})\n", paint(style::HEADING, "Next rotations"));
    let zone_width = explanation.upcoming.iter().map(|next| columns(&next.zone)).max().unwrap_or(0);
    let several = explanation.upcoming.iter().any(|next| next.key_name != explanation.object.name);
    for next in &explanation.upcoming {
        let local = if is_utc { String::new() } else { format!("  {} {}", next.local, pad(&next.zone, zone_width)) };
        let away = time::relative(next.at, as_of);
        let (away, key) =
            if several { (pad(&away, 12), format!("  {}", next.key_name)) } else { (away, String::new()) };
        let _ = writeln!(out, "  {}{local}  {}{key}", time::instant(next.at), paint(style::DIM, &away));
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
