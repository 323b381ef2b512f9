//! Why an object is as it is.

use std::fmt::Write as _;

use anstyle::Style;
use chrono::{DateTime, Timelike};
use serde_json::Value;

use crate::engine::{Applied, Explained, Explanation, Field, FieldOrigin, Upcoming, Version};
use crate::model::{ObjectKind, Timestamp};

use super::style::{self, paint};
use super::text::{columns, count, pad, safe, wrap};
use super::{View, status, time};

/// Of long lists this many are shown, unless everything is asked for.
const SHOWN: usize = 50;

/// Values of this many columns stand in a column where lines may be of any length; a longer one pushes its row only.
const WIDE: usize = 40;

/// Values have at least this many columns, however narrow the terminal is.
const NARROW: usize = 16;

/// Draws the explanation of each object.
#[must_use]
pub fn draw(explained: &Explained, view: View) -> String {
    let page = Page { view, as_of: explained.as_of };
    let parts: Vec<String> = explained.objects.iter().map(|object| one(object, page)).collect();
    parts.join("\n")
}

/// What every part of the text is laid out by.
#[derive(Clone, Copy)]
struct Page {
    view: View,
    as_of: Timestamp,
}

impl Page {
    /// How many of a long list are shown.
    fn shown(self, all: usize) -> usize {
        if self.view.full { all } else { all.min(SHOWN) }
    }
}

fn one(explanation: &Explanation, page: Page) -> String {
    let mut out = String::new();
    title(&mut out, explanation);
    fields(&mut out, &explanation.fields, page);
    due(&mut out, explanation, page);
    upcoming(&mut out, explanation, page);
    keys(&mut out, explanation, page);
    versions(&mut out, explanation, page);
    rotations(&mut out, explanation, page);
    obstacles(&mut out, explanation, page);
    out
}

fn title(out: &mut String, explanation: &Explanation) {
    let applied = match explanation.applied {
        Applied::Yes => "as applied",
        Applied::NotYet => "not applied yet",
        Applied::Edited => "edited since it was applied: was -> will be",
        Applied::Gone => "its document is gone",
        Applied::Errors => "as last applied: documents have errors",
    };
    let title = format!("{} {}", explanation.object.kind, explanation.object);
    let _ = writeln!(out, "{}  {}", paint(style::HEADING, &title), paint(style::DIM, applied));
    if let Some(place) = &explanation.place {
        let _ = writeln!(out, "{}", paint(style::DIM, &format!("{}:{}", safe(&place.file), place.line)));
    }
    out.push('\n');
}

fn heading(out: &mut String, text: &str, rest: &str) {
    let _ = writeln!(out, "\n{}{rest}\n", paint(style::HEADING, text));
}

/// A text behind a mark, wrapped to the right of it.
fn behind(out: &mut String, page: Page, mark: &str, width: usize, text: &str, style: Style) {
    let room = page.view.columns().saturating_sub(width);
    for (index, line) in wrap(text, room).iter().enumerate() {
        let mark = if index == 0 { mark.to_owned() } else { " ".repeat(width) };
        let _ = writeln!(out, "{mark}{}", paint(style, line));
    }
}

fn fields(out: &mut String, fields: &[Field], page: Page) {
    let is_set = |field: &&Field| !field.value.is_null() || field.applied.is_some();
    let rows: Vec<(&Field, String, String)> =
        fields.iter().filter(is_set).map(|field| (field, value(field), origin(field))).collect();
    let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
    let names = widest(&mut rows.iter().map(|(field, ..)| columns(&field.name)));
    let origins = widest(&mut rows.iter().map(|(.., origin)| columns(origin)));
    let room = page.view.width.map(|_| page.view.columns().saturating_sub(names + origins + 6).max(NARROW));
    let rows: Vec<(&Field, Vec<String>, String)> = rows
        .into_iter()
        .map(|(field, text, origin)| match room {
            Some(room) if !text.is_empty() => (field, wrap(&text, room), origin),
            _ => (field, vec![text], origin),
        })
        .collect();
    let lines = rows.iter().flat_map(|(_, lines, _)| lines).map(|line| columns(line));
    let values = widest(&mut lines.filter(|width| *width <= room.unwrap_or(WIDE)));
    for (field, lines, origin) in &rows {
        for (index, line) in lines.iter().enumerate() {
            let (name, origin) = if index == 0 { (field.name.as_str(), origin.as_str()) } else { ("", "") };
            let gap = " ".repeat(if origin.is_empty() { 0 } else { values.saturating_sub(columns(line)) + 2 });
            let line = if field.applied.is_some() { paint(style::CHANGE, line) } else { line.clone() };
            let origin = if origin.is_empty() { String::new() } else { paint(style::DIM, origin) };
            let _ = writeln!(out, "  {}  {line}{gap}{origin}", pad(name, names));
        }
    }
    let unset: Vec<&str> = fields.iter().filter(|field| !is_set(field)).map(|field| field.name.as_str()).collect();
    if !unset.is_empty() {
        behind(out, page, "  ", 2, &format!("not set: {}", unset.join(", ")), style::DIM);
    }
}

fn due(out: &mut String, explanation: &Explanation, page: Page) {
    let due = &explanation.due;
    let verdict = if due.is_due { paint(style::CHANGE, "yes") } else { "no".to_owned() };
    let mark = format!("\n{} {verdict}: ", paint(style::HEADING, "Due?"));
    let width = if due.is_due { "Due? yes: ".len() } else { "Due? no: ".len() };
    behind(out, page, &mark, width, &safe(&due.reason.message), Style::new());
    if let Some(from) = &due.counted_from {
        behind(out, page, &" ".repeat(width), width, &format!("counted from {}", safe(from)), style::DIM);
    }
}

fn upcoming(out: &mut String, explanation: &Explanation, page: Page) {
    let upcoming = &explanation.upcoming;
    let Some(zone) = explanation.timezone.as_ref().filter(|_| !upcoming.is_empty()) else { return };
    let is_utc = matches!(zone.as_str(), "UTC" | "Etc/UTC");
    let clocks = if is_utc { "UTC".to_owned() } else { format!("UTC, and local time in {}", safe(zone)) };
    let once = explanation.upcoming_once.as_ref().map(|once| format!(", once {once}")).unwrap_or_default();
    heading(out, "Next rotations", &format!("{once} ({clocks})"));
    let rows: Vec<(String, String, String, String)> = upcoming
        .iter()
        .map(|next| {
            let local = if is_utc { String::new() } else { local(next) };
            let away = time::relative(next.at, page.as_of);
            (time::instant(next.at), local, away, whose(next, explanation))
        })
        .collect();
    let locals = rows.iter().map(|(_, local, ..)| columns(local)).max().unwrap_or(0);
    let aways = rows.iter().map(|(_, _, away, _)| columns(away)).max().unwrap_or(0);
    for (at, local, away, whose) in rows {
        let local = if is_utc { String::new() } else { format!("  {}", pad(&local, locals)) };
        let whose = if whose.is_empty() { whose } else { format!("{}{whose}", " ".repeat(aways - columns(&away) + 2)) };
        let _ = writeln!(out, "  {at}{local}  {}{whose}", paint(style::DIM, &away));
    }
}

fn keys(out: &mut String, explanation: &Explanation, page: Page) {
    let (keys, new) = (&explanation.keys, &explanation.new_keys);
    if !keys.is_empty() {
        let edited = if explanation.applied == Applied::Edited { " (by what was applied last)" } else { "" };
        heading(out, "Its keys", edited);
        let shown = page.shown(keys.len());
        *out += &status::keys(keys.get(..shown).unwrap_or(keys), page.as_of, page.view);
        if shown < keys.len() {
            behind(out, page, "", 0, &format!("and {} more: -v shows all", keys.len() - shown), style::DIM);
        }
    }
    if !new.is_empty() {
        let shown = page.shown(new.len());
        let names = new.iter().take(shown).map(crate::model::Name::as_str).collect::<Vec<_>>().join(", ");
        let more = if shown < new.len() { format!(" and {} more", new.len() - shown) } else { String::new() };
        heading(out, "Its keys that are not applied yet", "");
        behind(out, page, "  ", 2, &format!("{names}{more}"), Style::new());
    }
}

fn versions(out: &mut String, explanation: &Explanation, page: Page) {
    let versions = &explanation.versions;
    if versions.is_empty() {
        return;
    }
    heading(out, "Its versions", "");
    let shown = page.shown(versions.len());
    let numbers = versions.iter().map(|version| version.number.to_string().len()).max().unwrap_or(0);
    let state = |version: &Version| version.state.as_str().replace('_', " ");
    let states = versions.iter().map(|version| columns(&state(version))).max().unwrap_or(0);
    for version in versions.iter().take(shown) {
        let at = |what: &str, at: Timestamp| format!("{what} {}", time::instant_and_relative(at, page.as_of));
        let since = match (version.deactivated_at, version.activated_at, version.created_at) {
            (Some(then), ..) => at("deactivated", then),
            (None, Some(then), _) => at("primary since", then),
            (None, None, Some(then)) => at("made", then),
            (None, None, None) => String::new(),
        };
        let mut marks = Vec::new();
        if let Some(then) = version.disabled_at {
            marks.push(format!("{}: it decrypts nothing", at("disabled", then)));
        }
        if let Some(then) = version.destroy_at {
            marks.push(format!("{}: `keywheel enable` cancels it", at("will be destroyed on", then)));
        }
        if version.orphan {
            marks.push("an orphan: made, and never used".to_owned());
        }
        if let Some(then) = version.compromised_at {
            marks.push(at("compromised", then));
        }
        let (number, state) = (version.number, pad(&state(version), states));
        let line = format!("  {number:>numbers$}  {state}  {}", paint(style::DIM, &since));
        let _ = writeln!(out, "{}", line.trim_end());
        let indent = " ".repeat(numbers + 4);
        for mark in marks {
            behind(out, page, &indent, numbers + 4, &mark, style::WARNING);
        }
        let _ = writeln!(out, "{indent}{}", safe(&version.provider_ref));
    }
    if shown < versions.len() {
        let older = count(versions.len() - shown, "older version");
        behind(out, page, "  ", 2, &format!("and {older}: -v shows all"), style::DIM);
    }
}

fn rotations(out: &mut String, explanation: &Explanation, page: Page) {
    if explanation.rotations.is_empty() {
        return;
    }
    heading(out, "What happened to it", "");
    for entry in &explanation.rotations {
        let took = entry.duration_ms.and_then(|took| u64::try_from(took).ok());
        let took = took.map(|took| format!(" in {}", time::took(took))).unwrap_or_default();
        let started = time::instant(entry.started_at);
        let _ = writeln!(out, "  {started}  {}: {}{took}", entry.workflow.noun(), entry.status);
        behind(out, page, "      ", 6, &safe(&entry.reason), style::DIM);
        if let Some(error) = &entry.error {
            behind(out, page, "      ", 6, &safe(error), style::ERROR);
        }
    }
}

fn obstacles(out: &mut String, explanation: &Explanation, page: Page) {
    const QUESTION: &str = "What would stop a rotation now?";
    if explanation.obstacles.is_empty() {
        let nothing = paint(style::GOOD, "nothing");
        let _ = writeln!(out, "\n{} {nothing} that is on record", paint(style::HEADING, QUESTION));
        behind(out, page, "  ", 2, "no key manager was asked: `keywheel drift` asks", style::DIM);
        return;
    }
    heading(out, QUESTION, "");
    let mark = format!("  {} ", paint(style::WARNING, "!"));
    for obstacle in &explanation.obstacles {
        let until = match obstacle.until {
            Some(at) => format!(", until {}", time::instant_and_relative(at, page.as_of)),
            None => String::new(),
        };
        behind(out, page, &mark, 4, &format!("{}{until}", safe(&obstacle.reason.message)), Style::new());
        if let Some(help) = &obstacle.help {
            behind(out, page, "    ", 4, &safe(help), style::DIM);
        }
    }
}

/// A field's value; an edit that is not applied yet stands behind what was applied.
fn value(field: &Field) -> String {
    let text = |value: &Value| safe(&one_line(value).replace('\n', " ")).into_owned();
    match &field.applied {
        Some(applied) => format!("{} -> {}", text(applied), text(&field.value)),
        None => text(&field.value),
    }
}

/// A value as a document may have it, on one line.
fn one_line(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}: {}", one_line(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn origin(field: &Field) -> String {
    match (&field.place, field.origin) {
        (Some(place), FieldOrigin::Document) => format!("line {}", place.line),
        (_, FieldOrigin::Document) => "the document".to_owned(),
        (_, FieldOrigin::Tenant) => "defaults of the tenant".to_owned(),
        (_, FieldOrigin::Config) => "defaults of keywheel.yaml".to_owned(),
        (_, FieldOrigin::Provider) => "of the key manager".to_owned(),
        (_, FieldOrigin::Default) => "default".to_owned(),
        (_, FieldOrigin::Record) => "as last applied".to_owned(),
    }
}

/// `Sat 2026-03-28 02:00 CET`: the day of the week is what windows go by.
fn local(next: &Upcoming) -> String {
    let Ok(local) = DateTime::parse_from_rfc3339(&next.local) else { return format!("{} {}", next.local, next.zone) };
    let time = if local.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    format!("{} {}", local.format(&format!("%a %Y-%m-%d {time}")), safe(&next.zone))
}

/// Which keys of a policy rotate then.
fn whose(next: &Upcoming, explanation: &Explanation) -> String {
    match &next.key_name {
        _ if explanation.object.kind == ObjectKind::EncryptionKey => String::new(),
        Some(name) => name.to_string(),
        None => count(next.keys, "key"),
    }
}

#[cfg(test)]
mod tests;
