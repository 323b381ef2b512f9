//! What an apply did, as its last words.

use std::fmt::Write as _;

use crate::engine::{FailedChange, NotStarted, Report};
use crate::model::Address;

use super::plan::{symbol, verb};
use super::style::{self, paint};
use super::text::{columns, pad, safe, thousands, wrap};
use super::{View, findings, time};

/// Draws a report.
#[must_use]
pub fn draw(report: &Report, view: View) -> String {
    let mut out = String::new();
    if !report.warnings.is_empty() {
        out.push_str(&findings::draw(&report.warnings, true, view.columns()));
        out.push('\n');
    }
    failed(&mut out, &report.failed, view);
    untouched(&mut out, "Not started", &report.not_started);
    untouched(&mut out, "Stale: in the saved plan, and not possible any more", &report.stale);
    for (tenant, why) in &report.left_out {
        let _ = writeln!(out, "{} tenant {tenant} was left out: {}\n", paint(style::WARNING, "!"), safe(why));
    }
    policies(&mut out, report);
    if report.interrupted {
        let stopped = paint(style::WARNING, "Interrupted.");
        let _ = writeln!(out, "{stopped} What had begun is recorded; the next apply goes on from there.");
    }
    let _ = writeln!(out, "{}", summary(report));
    if report.done.values().any(|count| *count > 0) || !report.failed.is_empty() {
        let id = format!("correlation_id {}", report.correlation_id);
        let _ = writeln!(out, "{}", paint(style::DIM, &id));
    }
    out
}

/// `Applied: 3 created, 41 rotated (2.3 s).`
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut parts: Vec<String> = report
        .done
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(action, count)| format!("{} {}", thousands(*count), action.done()))
        .collect();
    if parts.is_empty() {
        parts.push("nothing changed".to_owned());
    }
    let failed = match report.failed.len() {
        0 => String::new(),
        n => format!(", {}", paint(style::ERROR, &format!("{} failed", thousands(n)))),
    };
    let refused = match report.errors.len() {
        0 => String::new(),
        n => format!(", {}", paint(style::ERROR, &format!("{} not possible (see above)", thousands(n)))),
    };
    let blocked = match report.blocked.len() {
        0 => String::new(),
        1 => format!(", {}", paint(style::ERROR, "1 key needs a person (see Drift)")),
        n => format!(", {}", paint(style::ERROR, &format!("{} keys need a person (see Drift)", thousands(n)))),
    };
    let unanswered = match report.unanswered.len() {
        0 => String::new(),
        1 => format!(", {}", paint(style::ERROR, "no answer about 1 key (see Waiting)")),
        n => format!(", {}", paint(style::ERROR, &format!("no answer about {} keys (see Waiting)", thousands(n)))),
    };
    let title = paint(if is_partial(report) { style::WARNING } else { style::GOOD }, "Applied:");
    format!("{title} {}{failed}{refused}{blocked}{unanswered} ({}).", parts.join(", "), time::took(report.duration_ms))
}

fn failed(out: &mut String, failed: &[FailedChange], view: View) {
    if failed.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}\n", paint(style::ERROR, &format!("Failed ({})", thousands(failed.len()))));
    for change in failed {
        let FailedChange { object, action, error, help, resumable, retry_at } = change;
        let _ = writeln!(out, "  {} {}", symbol(*action), paint(style::HEADING, &object.to_string()));
        let mut paragraph = |text: &str| {
            for line in wrap(&safe(text), view.columns().saturating_sub(6)) {
                let _ = writeln!(out, "      {line}");
            }
        };
        paragraph(&format!("could not {}: {error}", verb(*action)));
        if let Some(help) = help {
            paragraph(&format!("help: {help}"));
        }
        match (resumable, retry_at) {
            (_, Some(at)) => paragraph(&format!("the next apply can go on with it from {}", time::instant(*at))),
            (true, None) => paragraph("the next apply goes on with it"),
            (false, None) => {}
        }
        out.push('\n');
    }
}

fn untouched(out: &mut String, title: &str, changes: &[NotStarted]) {
    if changes.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}\n", paint(style::WARNING, &format!("{title} ({})", thousands(changes.len()))));
    for NotStarted { object, action, reason } in changes {
        let _ = writeln!(out, "  {} {object}: {}", symbol(*action), safe(&reason.message));
    }
    out.push('\n');
}

/// The original's result of each policy: its name, its status, how many keys it rotated and could not.
fn policies(out: &mut String, report: &Report) {
    if report.policies.is_empty() {
        return;
    }
    let name =
        |index: usize| report.policies.get(index).map(|policy| format!("{}/{}", policy.tenant_id, policy.policy_name));
    let names: Vec<String> = (0..report.policies.len()).filter_map(name).collect();
    let width = names.iter().map(|name| columns(name)).chain([11]).max().unwrap_or(0);
    let header = format!("{}  {:<8}  rotated_keys  failed_keys", pad("policy_name", width), "status");
    let _ = writeln!(out, "{}", paint(style::HEADING, &header));
    for (policy, name) in report.policies.iter().zip(&names) {
        let style = match policy.status {
            "success" => style::ADD,
            "partial" => style::CHANGE,
            _ => style::REMOVE,
        };
        let status = paint(style, &format!("{:<8}", policy.status));
        let (rotated, failed) = (policy.rotated_keys, policy.failed_keys);
        let _ = writeln!(out, "{}  {status}  {rotated:>12}  {failed:>11}", pad(name, width));
    }
    out.push('\n');
}

/// What a newcomer types after the first apply.
#[must_use]
pub fn next_steps(program: &str, key: &Address) -> String {
    let key = quoted(&key.to_string());
    format!(
        "\n{}\n\n  \
         echo \"attending physician: Dr. Vega\" | {program} data encrypt {key} > note.enc\n  \
         {program} rotate {key} --reason \"trying it out\"\n  \
         {program} data decrypt {key} < note.enc\n\n\
         What was encrypted before the rotation still decrypts after it. `{program} status` shows the keys.\n",
        paint(style::HEADING, "The keys are in use. Try one: encrypt a line, rotate, decrypt it again.")
    )
}

/// A word as a shell takes it. Names have letters, digits, spaces and `._-` alone.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}

/// Did the work end with less than was asked for?
#[must_use]
pub fn is_partial(report: &Report) -> bool {
    let Report { failed, not_started, left_out, errors, blocked, unanswered, interrupted, .. } = report;
    *interrupted
        || !(failed.is_empty() && not_started.is_empty() && left_out.is_empty() && errors.is_empty())
        || !(blocked.is_empty() && unanswered.is_empty())
}

#[cfg(test)]
mod tests;
