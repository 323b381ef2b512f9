//! Evidence as a page to read and to print.

use maud::{Markup, html};

use crate::engine::ComplianceReport;
use crate::plan::compliance::KeyEvidence;

use super::super::text::safe;
use super::super::{html, time};
use super::{
    approvers, audit, heading, nothing, numbers, of_force, of_gap, of_rule, of_turn, of_waiver, period, title,
};

/// The page.
#[must_use]
pub fn draw(report: &ComplianceReport) -> String {
    let title = title(report);
    let body = html! {
        h1 { (title) }
        p.lead { (period(report)) }
        ul { @for line in numbers(report) { li { (line) } } }
        @if report.audit.whole { p { (audit(report)) } } @else { section.danger { h2 { "The audit log is broken" } p { (safe(&audit(report))) } } }
        p.dim { (report.definition) }
        p.dim { (report.limits) }
        @if report.keys.is_empty() {
            section.warning { p { (nothing(report)) } }
        } @else {
            h2 { "Rules, as they are kept now" }
            ul {
                @for rule in &report.rules {
                    li { @if !rule.broken_by.is_empty() { span.chip.danger { "not kept" } " " } (safe(&of_rule(rule))) }
                }
            }
            (policies(report))
            h2 { "Keys" }
            @for key in &report.keys { (evidence(key)) }
        }
        h2 { "The audit log" }
        div.wide {
            table {
                thead { tr { th { "chain" } th { "entries" } th { "hash of its last entry" } } }
                tbody {
                    @for head in &report.audit.heads {
                        tr {
                            td { @if let Some(tenant) = &head.tenant_id { (tenant) } @else { "the repository" } }
                            td { (head.seq) }
                            td { code { (head.hash) } }
                        }
                    }
                }
            }
        }
    };
    html::page(&title, &body)
}

fn policies(report: &ComplianceReport) -> Markup {
    html! {
        h2 { "Policies" }
        div.wide {
            table {
                thead { tr { th { "policy" } th { "from" } th { "keys were due" } th { "status" } th { "commit" } th { "applied by" } } }
                tbody {
                    @for policy in &report.policies {
                        @for version in &policy.versions {
                            tr {
                                td { (policy.tenant_id) "/" (policy.policy_name) }
                                td { (time::instant(version.from)) }
                                td { (safe(&version.asks)) }
                                td { (version.status) }
                                td { code { (version.commit.as_deref().map_or("", |commit| commit.get(..12).unwrap_or(commit))) } }
                                td { (safe(&version.actor)) }
                            }
                        }
                        @for waiver in &policy.waivers {
                            tr {
                                td { (policy.tenant_id) "/" (policy.policy_name) }
                                td colspan="5" {
                                    span.chip.warning { "waiver" } " " (safe(&of_waiver(waiver)))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn evidence(key: &KeyEvidence) -> Markup {
    html! {
        h3 { (heading(key)) " " small { (format!("{:.2} of {:.2} days within", key.days_within, key.days)) } }
        p.dim {
            (safe(&key.key_type)) ", " (key.kms_provider) @if let Some(alias) = &key.kms_alias { ", " (safe(alias)) }
            ", " (key.state) ", in care since " (time::instant(key.managed_since)) ", " code { (key.key_id) }
        }
        @for span in &key.in_force { p { (of_force(span)) } }
        @for gap in &key.gaps { p { span.chip.danger { "gap" } " " (safe(&of_gap(gap))) } }
        @if !key.rotations.is_empty() {
            div.wide {
                table {
                    thead { tr { th { "began" } th { "what" } th { "commit" } th { "approved by" } th { "run" } } }
                    tbody {
                        @for turn in &key.rotations {
                            tr {
                                td { (time::instant(turn.started_at)) }
                                td { (safe(&of_turn(turn))) }
                                td { code { (turn.commit.as_deref().map_or("", |commit| commit.get(..12).unwrap_or(commit))) } }
                                td { (safe(&approvers(turn))) }
                                td { code { (turn.correlation_id) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
