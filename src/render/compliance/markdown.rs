//! Evidence as Markdown, for a wiki or a ticket.

use crate::engine::ComplianceReport;

use super::super::markdown::{code, inline};
use super::super::time;
use super::{
    approvers, audit, heading, nothing, numbers, of_force, of_gap, of_rule, of_turn, of_waiver, period, title,
};

/// So many rotations have room for each key.
const SHOWN: usize = 100;

/// The text.
#[must_use]
pub fn draw(report: &ComplianceReport) -> String {
    let mut out = format!("## {}\n\n{}.\n\n", inline(&title(report)), inline(&period(report)));
    for line in numbers(report) {
        out += &format!("- {}\n", inline(&line));
    }
    out += &format!("- {}\n\n{}\n\n{}\n\n", inline(&audit(report)), inline(report.definition), inline(report.limits));
    if report.keys.is_empty() {
        return out + &inline(&nothing(report)) + "\n";
    }
    out += "### Rules, as they are kept now\n\n";
    for rule in &report.rules {
        out += &format!("- {}\n", inline(&of_rule(rule)));
    }
    out += "\n### Policies\n\n";
    for policy in &report.policies {
        out += &format!("- {}\n", code(&format!("{}/{}", policy.tenant_id, policy.policy_name)));
        for version in &policy.versions {
            let commit = version.commit.as_deref().unwrap_or("no commit");
            out += &format!(
                "  - from {}: {}, {}, by {} at {}\n",
                time::instant(version.from),
                inline(&version.asks),
                version.status,
                inline(&version.actor),
                code(commit.get(..12).unwrap_or(commit))
            );
        }
        for waiver in &policy.waivers {
            out += &format!("  - waived: {}\n", inline(&of_waiver(waiver)));
        }
    }
    for key in &report.keys {
        let days = format!("{:.2} of {:.2} days within", key.days_within, key.days);
        out += &format!("\n### {}\n\n{days}.\n\n", inline(&heading(key)));
        for span in &key.in_force {
            out += &format!("- {}\n", inline(&of_force(span)));
        }
        for gap in &key.gaps {
            out += &format!("- **gap**: {}\n", inline(&of_gap(gap)));
        }
        if !key.rotations.is_empty() {
            out += "\n| began | what | commit | approved by | run |\n| --- | --- | --- | --- | --- |\n";
        }
        for turn in key.rotations.iter().take(SHOWN) {
            let commit = turn.commit.as_deref().unwrap_or_default();
            out += &format!(
                "| {} | {} | {} | {} | {} |\n",
                time::instant(turn.started_at),
                inline(&of_turn(turn)),
                inline(commit.get(..12).unwrap_or(commit)),
                inline(&approvers(turn)),
                inline(&turn.correlation_id)
            );
        }
        if key.rotations.len() > SHOWN {
            out += &format!("\n… and {} more.\n", key.rotations.len() - SHOWN);
        }
    }
    out += "\n### The audit log\n\n";
    for head in &report.audit.heads {
        let chain = head.tenant_id.as_ref().map_or("(repository)", |tenant| tenant.as_str());
        out += &format!("- {}: {} entries, {}\n", inline(chain), head.seq, code(&head.hash));
    }
    out
}
