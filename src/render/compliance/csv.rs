//! Evidence for a spreadsheet: one row for each rotation, span under a policy, gap, policy version, waiver, rule and chain of the log. What a
//! spreadsheet would take for a formula has a quotation mark in front.

use crate::engine::ComplianceReport;

use super::super::text::one_line;
use super::super::time;
use super::{approvers, name};

/// The columns.
const HEADER: [&str; 15] = [
    "record",
    "framework",
    "object",
    "from",
    "until",
    "duration_ms",
    "code",
    "result",
    "message",
    "commit",
    "correlation_id",
    "approvers",
    "digest",
    "from_ref",
    "to_ref",
];

/// The file.
#[must_use]
pub fn draw(report: &ComplianceReport) -> String {
    let mut rows: Vec<[String; 15]> = Vec::new();
    let row = |record: &str, object: String| {
        let mut row = [const { String::new() }; 15];
        [row[0], row[1], row[2]] = [record.to_owned(), report.framework.to_owned(), object];
        row
    };
    let rate = report.summary.rate_percent.map_or_else(String::new, |rate| format!("{rate:.2} %"));
    let mut all = row("summary", String::new());
    (all[3], all[4]) = (time::instant(report.from), time::instant(report.until));
    (all[7], all[8]) = (rate, report.definition.to_owned());
    all[9] = report.commit.clone().unwrap_or_default();
    rows.push(all);
    for key in &report.keys {
        let mut all = row("key", name(key));
        (all[3], all[4]) = (time::instant(key.managed_since), time::instant(key.removed_at.unwrap_or(report.until)));
        all[7] = key.state.to_string();
        all[8] = format!("{:.2} of {:.2} days within; {}", key.days_within, key.days, key.key_type);
        rows.push(all);
        for turn in &key.rotations {
            let mut all = row("rotation", name(key));
            (all[3], all[4]) = (time::instant(turn.started_at), turn.ended_at.map_or_else(String::new, time::instant));
            all[5] = turn.duration_ms.map_or_else(String::new, |ms| ms.to_string());
            (all[6], all[7]) = (turn.cause.to_string(), turn.result.to_string());
            let error = turn.error.as_ref().map_or_else(String::new, |error| format!("; its last error was: {error}"));
            all[8] = format!("{}{error}", turn.reason);
            all[9] = turn.commit.clone().unwrap_or_default();
            (all[10], all[11]) = (turn.correlation_id.clone(), approvers(turn));
            all[13] = turn.from_ref.clone().unwrap_or_default();
            all[14] = turn.to_ref.clone().unwrap_or_default();
            rows.push(all);
        }
        for span in &key.in_force {
            let mut all = row("in-force", name(key));
            (all[3], all[4]) = (time::instant(span.from), time::instant(span.until));
            all[8] = span.policy_name.to_string();
            rows.push(all);
        }
        for gap in &key.gaps {
            let mut all = row("gap", name(key));
            (all[3], all[4]) = (time::instant(gap.from), time::instant(gap.until));
            all[5] = (gap.until - gap.from).num_milliseconds().to_string();
            all[6].clone_from(&gap.code);
            all[8] = [&[gap.message.clone()][..], &gap.meanwhile].concat().join("; ");
            rows.push(all);
        }
    }
    for policy in &report.policies {
        let name = format!("{}/{}", policy.tenant_id, policy.policy_name);
        for version in &policy.versions {
            let mut all = row("policy", name.clone());
            all[3] = time::instant(version.from);
            (all[7], all[8]) = (version.status.to_string(), version.asks.clone());
            all[9] = version.commit.clone().unwrap_or_default();
            rows.push(all);
        }
        for waiver in &policy.waivers {
            let mut all = row("waiver", name.clone());
            (all[3], all[4]) = (time::instant(waiver.from), waiver.until.to_string());
            all[7] = waiver.removed_at.map_or_else(String::new, |at| format!("taken out at {}", time::instant(at)));
            (all[6], all[8], all[11]) = (waiver.rule.clone(), waiver.reason.clone(), waiver.approver.clone());
            rows.push(all);
        }
    }
    for rule in &report.rules {
        let mut all = row("rule", String::new());
        all[6].clone_from(&rule.code);
        all[7] = format!("{} kept, {} broken, {} waived", rule.kept, rule.broken_by.len(), rule.waived.len());
        all[8] = [&[rule.message.clone()][..], &rule.broken_by, &rule.waived].concat().join("; ");
        rows.push(all);
    }
    for head in &report.audit.heads {
        let mut all = row("audit", head.tenant_id.as_ref().map_or_else(String::new, ToString::to_string));
        all[7] = String::from(if report.audit.whole { "verified" } else { "BROKEN" });
        (all[8], all[12]) = (format!("{} entries", head.seq), head.hash.clone());
        rows.push(all);
    }
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    // Memory takes everything.
    let _ = writer.write_record(HEADER);
    for row in rows {
        let _ = writer.write_record(row.map(|cell| harmless(&cell)));
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A cell that no spreadsheet runs.
fn harmless(cell: &str) -> String {
    let cell = one_line(cell);
    // Some take away the spaces before it.
    if cell.trim_start().starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_is_text() {
        for formula in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", " =1+1", "\u{a0}=1"] {
            assert_eq!(harmless(formula), format!("'{formula}"));
        }
        assert_eq!(harmless("acme/patients"), "acme/patients");
    }
}
