//! Evidence for an auditor as text, and the words that its other forms share. Every form says "supports": a report is no
//! finding of compliance.

pub mod csv;
pub mod markdown;
pub mod page;

use crate::engine::ComplianceReport;
use crate::model::{Phase, Workflow};
use crate::plan::compliance::{Gap, InForce, KeyEvidence, RuleEvidence, Turn, WaiverEvidence};

use super::style::{self, paint};
use super::text::{count, one_line, safe, wrap};
use super::{View, table, time};

/// Draws a report for a terminal: the numbers, what is not as it should be, and the keys.
#[must_use]
pub fn draw(report: &ComplianceReport, view: View) -> String {
    let mut out = format!("{}\n{}\n\n", paint(style::HEADING, &title(report)), period(report));
    for line in numbers(report) {
        out += &format!("  {line}\n");
    }
    out += &format!("  {}\n\n", audit(report));
    for line in wrap(report.definition, view.columns()) {
        out += &format!("{}\n", paint(style::DIM, &line));
    }
    out += "\n";
    if !report.rules.is_empty() && !report.keys.is_empty() {
        out += &format!("{}\n\n", paint(style::HEADING, "Rules, as they are kept now"));
        for rule in &report.rules {
            let mark = if rule.broken_by.is_empty() { paint(style::GOOD, "✓") } else { paint(style::WARNING, "!") };
            out += &format!("  {mark} {}\n", one_line(&of_rule(rule)));
        }
        out += "\n";
    }
    let gaps = report.keys.iter().flat_map(|key| key.gaps.iter().map(move |gap| (key, gap)));
    section(&mut out, "Gaps", gaps.map(|(key, gap)| format!("{}: {}", name(key), of_gap(gap))));
    let failed = report.keys.iter().flat_map(|key| key.rotations.iter().map(move |turn| (key, turn)));
    let failed = failed.filter(|(_, turn)| turn.result != Phase::Settled);
    section(
        &mut out,
        "Rotations that failed",
        failed.map(|(key, turn)| format!("{} at {}: {}", name(key), time::instant(turn.started_at), of_turn(turn))),
    );
    let waivers = report.policies.iter().flat_map(|policy| policy.waivers.iter().map(move |waiver| (policy, waiver)));
    section(
        &mut out,
        "Waivers",
        waivers.map(|(policy, waiver)| format!("{}/{}: {}", policy.tenant_id, policy.policy_name, of_waiver(waiver))),
    );
    if report.keys.is_empty() {
        out += &format!("{}\n", nothing(report));
        return out;
    }
    let rows = report.keys.iter().map(|key| {
        let last = key.rotations.iter().rev().find(|turn| turn.ended_at.is_some());
        vec![
            safe(&heading(key)).into_owned(),
            key.rotations.len().to_string(),
            last.map_or_else(|| "-".to_owned(), |turn| time::instant(turn.started_at)),
            format!("{:.2}", key.days),
            format!("{:.2}", key.days_within),
            key.gaps.len().to_string(),
        ]
    });
    out + &table::draw(&["KEY", "ROTATIONS", "LAST", "DAYS", "WITHIN", "GAPS"], rows, view)
}

/// What a person should look at, under its heading; nothing where there is none.
fn section(out: &mut String, heading: &str, said: impl Iterator<Item = String>) {
    let mut said = said.peekable();
    if said.peek().is_none() {
        return;
    }
    *out += &format!("{}\n\n", paint(style::HEADING, heading));
    for line in said {
        *out += &format!("  {} {}\n", paint(style::WARNING, "!"), one_line(&line));
    }
    *out += "\n";
}

/// `Key rotation evidence that supports an assessment under HIPAA`.
pub(super) fn title(report: &ComplianceReport) -> String {
    format!("Key rotation evidence that supports an assessment under {}", report.framework)
}

/// The period, and what was read.
pub(super) fn period(report: &ComplianceReport) -> String {
    let (from, until) = (time::instant(report.from), time::instant(report.until));
    let commit = report
        .commit
        .as_ref()
        .map_or_else(String::new, |commit| format!(", commit {}", commit.get(..12).unwrap_or(commit)));
    format!("From {from} until {until}, read at {}{commit}", time::instant(report.as_of))
}

/// The numbers, a line each.
pub(super) fn numbers(report: &ComplianceReport) -> Vec<String> {
    let it = &report.summary;
    let rate = it.rate_percent.map_or_else(
        || "no rate: no key was under the tag".to_owned(),
        |rate| format!("{rate:.2} % of key-days within ({:.2} of {:.2})", it.key_days_within, it.key_days),
    );
    vec![
        rate,
        format!("{}, {} of them without a gap", count(it.keys, "key"), it.keys_without_gap),
        format!("{}, {} failed, {}", count(it.rotations, "rotation"), it.failed_rotations, count(it.gaps, "gap")),
        format!("{} without the tag, of which this report says nothing", count(it.untagged_keys, "key")),
    ]
}

/// The log that it rests on.
pub(super) fn audit(report: &ComplianceReport) -> String {
    let entries = count(usize::try_from(report.audit.entries).unwrap_or(usize::MAX), "entry");
    match &report.audit.broken {
        None => format!("the audit log is whole: {entries}, every link verified"),
        Some(broken) => format!("THE AUDIT LOG IS BROKEN at entry {}: {}", broken.seq, broken.what),
    }
}

/// What to do where there is nothing to report on.
pub(super) fn nothing(report: &ComplianceReport) -> String {
    format!(
        "No key was under a policy with the tag {} in this period: add it to compliance_tags of the policies that it \
         concerns, and apply that.",
        report.framework
    )
}

pub(super) fn name(key: &KeyEvidence) -> String {
    format!("{}/{}", key.tenant_id, key.key_name)
}

/// Its name, and that it is not there any more.
pub(super) fn heading(key: &KeyEvidence) -> String {
    let removed = key.removed_at.map_or_else(String::new, |at| format!(" (removed at {})", time::instant(at)));
    format!("{}{removed}", name(key))
}

/// A waiver in one sentence.
pub(super) fn of_waiver(waiver: &WaiverEvidence) -> String {
    let WaiverEvidence { rule, from, until, reason, approver, removed_at } = waiver;
    let removed = removed_at.map_or_else(String::new, |at| format!(", taken out at {}", time::instant(at)));
    format!("{rule} from {} until {until} by {approver}{removed}: {reason}", time::instant(*from))
}

/// A gap in one sentence.
pub(super) fn of_gap(gap: &Gap) -> String {
    let meanwhile =
        if gap.meanwhile.is_empty() { String::new() } else { format!(" (meanwhile {})", gap.meanwhile.join(", ")) };
    format!(
        "{} from {} until {}: {}{meanwhile}",
        gap.code,
        time::instant(gap.from),
        time::instant(gap.until),
        gap.message
    )
}

/// A rule, and who keeps it.
pub(super) fn of_rule(rule: &RuleEvidence) -> String {
    let mut said = format!("{}: kept by {}", rule.message, rule.kept);
    if !rule.broken_by.is_empty() {
        said += &format!(", not by {}", some(&rule.broken_by));
    }
    if !rule.waived.is_empty() {
        said += &format!(", waived for {}", some(&rule.waived));
    }
    said
}

fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What a rotation was.
pub(super) fn of_turn(turn: &Turn) -> String {
    let what = if turn.workflow == Workflow::Rollback { "rollback" } else { "rotation" };
    let duration = turn.duration_ms.map_or_else(String::new, |ms| format!(" in {ms} ms"));
    let versions = match (&turn.from_ref, &turn.to_ref) {
        (Some(from), Some(to)) => format!(", from {from} to {to}"),
        (Some(from), None) => format!(", from {from}"),
        (None, _) => String::new(),
    };
    let error = turn.error.as_ref().map_or_else(String::new, |error| format!("; its last error was: {error}"));
    format!("{what} of {} ({}), {}{duration}{versions}: {}{error}", turn.key_name, turn.cause, turn.result, turn.reason)
}

/// Under which policy a key was when.
pub(super) fn of_force(span: &InForce) -> String {
    format!("under {} from {} until {}", span.policy_name, time::instant(span.from), time::instant(span.until))
}

/// Who approved, if anybody was asked.
pub(super) fn approvers(turn: &Turn) -> String {
    turn.approvers.iter().cloned().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
