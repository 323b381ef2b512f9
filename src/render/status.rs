//! Keys and rotations as tables.

use crate::diagnostic::Finding;
use crate::engine::{HistoryReport, Overridden, PendingDestruction, Standing, StatusEntry, StatusReport};
use crate::model::{Phase, Severity, Timestamp};

use super::style::{self, paint};
use super::text::{count, fitted, safe, thousands, wrap};
use super::{View, table, time};

/// What stands for nothing.
const NONE: &str = "-";

/// Draws the status of keys.
#[must_use]
pub fn draw(report: &StatusReport, view: View) -> String {
    let mut text = match (report.keys.is_empty(), report.total) {
        (true, 0) => {
            let yet = match &report.no_database_at {
                Some(place) => format!("No key was applied yet, and there is no state database at {}", safe(place)),
                None => "No key was applied yet".to_owned(),
            };
            format!("{}\n", fitted(&format!("{yet}: `keywheel plan` shows what an apply would do."), view, 0))
        }
        (true, _) => "No key matches.\n".to_owned(),
        (false, _) => list(&report.keys, report.as_of, view, true),
    };
    text += &findings(&report.findings, view);
    for PendingDestruction { destroy_at, tenant_id, key_name, version } in &report.pending_destructions {
        let at = time::instant_and_relative(*destroy_at, report.as_of);
        let said = format!(
            "version {version} of {tenant_id}/{key_name} will be destroyed on {at}: `keywheel enable` cancels it"
        );
        let lines = wrap(&said, view.columns().saturating_sub(2)).join("\n  ");
        text += &format!("{} {lines}\n", paint(style::WARNING, "!"));
    }
    if !report.rotation_enabled {
        text += &format!("{} KEY_ROTATION_ENABLED=false: nothing starts\n", paint(style::WARNING, "!"));
    }
    if report.not_applied > 0 && report.total > 0 {
        let new = count(report.not_applied, "key");
        text += &paint(style::DIM, &format!("{new} of the documents not applied yet: `keywheel plan` shows them\n"));
    }
    if report.undelivered.given_up > 0 {
        let given_up = count(usize::try_from(report.undelivered.given_up).unwrap_or(usize::MAX), "message");
        let mark = paint(style::WARNING, "!");
        text += &format!("{mark} {given_up} given up: `keywheel outbox list --undelivered` says why\n");
    }
    text += &format!("\n{}\n", summary(report));
    text
}

/// `3 keys: 2 active, 1 due; as of 2026-11-23T05:20:00Z`.
fn summary(report: &StatusReport) -> String {
    let standings: Vec<String> =
        report.summary.iter().map(|(standing, number)| format!("{} {standing}", thousands(*number))).collect();
    let shown = count(report.keys.len(), "key");
    let of = if report.keys.len() < report.total { format!(" of {}", thousands(report.total)) } else { String::new() };
    let standings = if standings.is_empty() { String::new() } else { format!(": {}", standings.join(", ")) };
    format!("{shown}{of}{standings}; as of {}", time::instant(report.as_of))
}

/// What a person should look at, a few lines each.
fn findings(findings: &[Finding], view: View) -> String {
    let columns = view.columns().saturating_sub(2);
    let mut text = String::new();
    for finding in findings {
        let mark = if finding.severity == Severity::Info { paint(style::DIM, "-") } else { paint(style::WARNING, "!") };
        let lines = wrap(&format!("{} [{}]", safe(&finding.message), finding.code), columns);
        text += &format!("{mark} {}\n", lines.join("\n  "));
        if let Some(help) = finding.help.as_ref().filter(|_| view.full) {
            text += &format!("  {}\n", paint(style::DIM, &format!("help: {}", safe(help))));
        }
    }
    text
}

/// A table of keys.
#[must_use]
pub fn keys(keys: &[StatusEntry], as_of: Timestamp, view: View) -> String {
    list(keys, as_of, view, false)
}

/// The table, and below it what needs a person, unless findings tell of that.
fn list(keys: &[StatusEntry], as_of: Timestamp, view: View, is_told: bool) -> String {
    let header = ["KEY", "STATE", "VERSION", "AGE", "LAST ROTATION", "NEXT ROTATION", "POLICY"];
    let rows = keys.iter().map(|key| {
        let version = key.primary_version.as_ref();
        vec![
            name(key),
            state(key),
            version.map_or_else(|| NONE.to_owned(), |version| version.number.to_string()),
            version.map_or_else(|| NONE.to_owned(), |version| age(version.age_days)),
            key.last_rotation_at.map_or_else(|| NONE.to_owned(), |at| time::relative(at, as_of)),
            key.next_rotation_at.map_or_else(|| NONE.to_owned(), |at| time::relative(at, as_of)),
            policy(key),
        ]
    });
    let mut text = table::draw(&header, rows, view);
    for key in keys {
        if let Some(version) = key.primary_version.as_ref().filter(|_| view.full) {
            text += &format!("  {}  primary {}\n", name(key), safe(&version.provider_ref));
        }
        let needs_a_person = match key.state {
            Standing::Held | Standing::Parked => !is_told,
            state => state == Standing::Pending,
        };
        let worth_a_line = view.full || needs_a_person;
        if let Some(reason) = key.reason.as_ref().filter(|_| worth_a_line) {
            text += &format!("{} {}: {}\n", paint(style::WARNING, "!"), name(key), safe(&reason.message));
        }
        let error = key.unfinished.as_ref().and_then(|unfinished| unfinished.error.as_ref());
        if let Some(error) = error.filter(|_| view.full || !is_told) {
            text += &format!("{} {}: {}\n", paint(style::WARNING, "!"), name(key), safe(error));
        }
    }
    text
}

fn name(key: &StatusEntry) -> String {
    format!("{}/{}", key.tenant_id, key.key_name)
}

fn state(key: &StatusEntry) -> String {
    match &key.unfinished {
        Some(unfinished) => format!("{} ({}: {})", key.state, unfinished.workflow.noun(), unfinished.phase),
        None => key.state.to_string(),
    }
}

fn age(days: i64) -> String {
    match usize::try_from(days) {
        Ok(0) | Err(_) => "today".to_owned(),
        Ok(days) => count(days, "day"),
    }
}

fn policy(key: &StatusEntry) -> String {
    match &key.rotation_policy {
        Some(name) if key.suspended => format!("{name} (suspended)"),
        Some(name) => name.to_string(),
        None => NONE.to_owned(),
    }
}

/// Draws the history of rotations.
#[must_use]
pub fn history(report: &HistoryReport, view: View) -> String {
    if let Some(place) = &report.no_database_at {
        return format!("{}\n", fitted(&format!("There is no state database at {} yet.", safe(place)), view, 0));
    }
    if report.rotations.is_empty() {
        return "No rotation matches.\n".to_owned();
    }
    let header = ["STARTED", "KEY", "WHAT", "STATUS", "TOOK", "CAUSE", "CORRELATION ID"];
    let rows = report.rotations.iter().map(|entry| {
        let took = entry.duration_ms.and_then(|duration| u64::try_from(duration).ok());
        vec![
            time::instant(entry.started_at),
            format!("{}/{}", entry.tenant_id, entry.key_name),
            entry.workflow.noun().to_owned(),
            entry.status.to_string(),
            took.map_or_else(|| NONE.to_owned(), time::took),
            entry.cause.to_string(),
            safe(&entry.correlation_id).into_owned(),
        ]
    });
    let mut text = table::draw(&header, rows, view);
    if view.full || report.rotations.iter().any(|entry| entry.error.is_some()) {
        text.push('\n');
    }
    for entry in report.rotations.iter().filter(|entry| view.full || entry.error.is_some()) {
        let settled = entry.status == Phase::Settled;
        let mark = if settled { " ".to_owned() } else { paint(style::WARNING, "!") };
        let name = format!("{}/{}", entry.tenant_id, entry.key_name);
        let why = format!("{}  {name}: {}", time::instant(entry.started_at), safe(&entry.reason));
        text += &format!("{mark} {}\n", fitted(&why, view, 4));
        if view.full {
            let version = |version: &Option<String>| version.as_deref().map_or_else(|| NONE.into(), safe).into_owned();
            let versions = format!("{} -> {}", version(&entry.from_ref), version(&entry.to_ref));
            text += &format!("    {}\n", fitted(&versions, view, 4));
        }
        if let Some(error) = &entry.error {
            text += &format!("    {}\n", fitted(&format!("error: {}", safe(error)), view, 4));
        }
    }
    if !report.overrides.is_empty() {
        text.push('\n');
    }
    for Overridden { at, correlation_id, reason, .. } in &report.overrides {
        let what = format!("the apply {} was refused, and done all the same: {}", safe(correlation_id), safe(reason));
        text += &format!("{} {}  {what}\n", paint(style::WARNING, "!"), time::instant(*at));
    }
    if report.truncated {
        text += &paint(style::DIM, "\nThere are more: raise --limit to see them.\n");
    }
    text
}

#[cfg(test)]
mod tests;
