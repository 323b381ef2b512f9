//! A plan as one page of HTML, to read before saying yes and to keep with the minutes.
//!
//! What will not decrypt any more stands on top, then what the plan is refused for; long lists are folded. It shows every
//! object of the plan: a page has no budget.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::diagnostic::{Finding, Related};
use crate::model::{Severity, Timestamp};
use crate::plan::{Action, Base, Change, Consequence, Drift, Plan, Saved, Waiting};

use super::super::html;
use super::super::text::{count, safe, sentence, thousands};
use super::super::time;
use super::envelope::Envelope;
use super::fields::{self, Sign};
use super::groups::{Groups, loss};
use super::{SUMMARY_ORDER, check_title, mark, short, title, verb};

/// So many rows are read one after the other; more are folded away together.
const OPEN: usize = 25;

/// The page.
#[must_use]
pub fn draw(plan: &Plan) -> String {
    drawn(plan, None)
}

/// The page of a saved plan at an instant, with its expiry and its approvals.
#[must_use]
pub fn draw_saved(saved: &Saved, now: Timestamp) -> String {
    drawn(&saved.plan, Envelope::of(saved, now))
}

fn drawn(plan: &Plan, envelope: Option<Envelope>) -> String {
    let groups = Groups::of(plan);
    let title = title(plan);
    let body = html! {
        h1 { (title) }
        (meta(plan))
        (about(envelope))
        @if let Some(why) = plan.not_applicable.as_ref().filter(|_| plan.base.is_none()) {
            section.warning { h2 { "To be read only" } p { "It was made " (safe(why)) ", and cannot be applied." } }
        }
        (tally(plan))
        (destruction(&groups.lost, &groups))
        (refusals(plan))
        (left_out(plan))
        (findings("Errors", &plan.diagnostics, |severity| severity == Severity::Error))
        (nothing(plan))
        (changes("Policy changes", &groups.policies, &groups))
        (changes("Key changes", &groups.keys, &groups))
        (elsewhere(&groups.elsewhere))
        (drift(&plan.drift))
        (work(&groups))
        (waiting(plan))
        (findings("Warnings and notes", &plan.diagnostics, |severity| severity != Severity::Error))
    };
    html::page(&title, &body)
}

/// What a check of documents found, as a page.
#[must_use]
pub fn draw_check(all: &[Finding], documents: usize) -> String {
    let title = check_title(all);
    let body = html! {
        h1 { (title) }
        p.lead { (count(documents, "document")) " checked" }
        (findings("Errors", all, |severity| severity == Severity::Error))
        (findings("Warnings and notes", all, |severity| severity != Severity::Error))
    };
    html::page(&title, &body)
}

/// When and of what it was made.
fn meta(plan: &Plan) -> Markup {
    html! {
        dl.meta {
            div { dt { "as of" } dd { time datetime=(time::instant(plan.as_of)) { (time::instant(plan.as_of)) } } }
            div {
                dt { "commit" }
                dd { @match &plan.sources.commit { Some(commit) => code { (safe(commit)) }, None => { "none" } } }
            }
            @if let Some(Base { reference, commit }) = &plan.base {
                div { dt { "compared with" } dd { code { (safe(reference)) } " at " code { (safe(short(commit))) } } }
            }
            div { dt { "plan" } dd { code { (plan.digest) } } }
            div { dt { "tz database" } dd { (safe(&plan.tz_version)) } }
        }
    }
}

/// Until when it can be applied, and who has approved it.
fn about(envelope: Option<Envelope>) -> Markup {
    let Some(Envelope { expired, expiry, approved, given }) = envelope else { return html! {} };
    html! {
        @if expired { section.warning { h2 { "Expired" } p { (expiry) } } } @else { p.lead { (expiry) } }
        @if let Some(approved) = approved { p { "Approved: " (safe(&approved)) "." } }
        @if !given.is_empty() { ul { @for approval in &given { li { (safe(approval)) } } } }
    }
}

/// The numbers.
fn tally(plan: &Plan) -> Markup {
    let counts = plan.summary();
    let mut present: Vec<(Action, usize)> =
        SUMMARY_ORDER.iter().filter_map(|action| Some((*action, *counts.get(action)?))).collect();
    // What cannot be undone is read first.
    present.sort_by_key(|(action, _)| std::cmp::Reverse(if action.is_destructive() { *action as usize } else { 0 }));
    let aside = [(plan.waiting.len(), "waiting"), (plan.drift.len(), "drifted")];
    html! {
        @if !present.is_empty() || aside.iter().any(|(number, _)| *number > 0) {
            ul.counts {
                @for (action, number) in &present {
                    li.danger[action.is_destructive()] { b { (thousands(*number)) } span { "to " (verb(*action)) } }
                }
                @for (number, word) in aside {
                    @if number > 0 { li { b { (thousands(number)) } span { (word) } } }
                }
            }
        }
    }
}

fn nothing(plan: &Plan) -> Markup {
    let sentence = match (plan.waiting.is_empty(), plan.left_out.is_empty()) {
        (false, _) => "Nothing can be done now.",
        (true, true) if plan.base.is_some() => "No document says anything else.",
        (true, true) => "Every policy and key is as git says, and nothing is due.",
        (true, false) if plan.base.is_some() => "No document of the other tenants says anything else.",
        (true, false) => "Nothing is due among the tenants that were looked at.",
    };
    html! {
        @if plan.is_empty() && plan.refusals.is_empty() { p.lead { (sentence) } }
    }
}

/// What will not decrypt any more, in whole sentences.
fn destruction(lost: &[&Change], groups: &Groups<'_>) -> Markup {
    html! {
        @if !lost.is_empty() {
            section.danger #destruction {
                h2 { "Data that will not decrypt any more: " (count(lost.len(), "key version")) }
                ul {
                    @for change in lost {
                        li {
                            code { (change.object) }
                            @if let Some(version) = change.version { " version " (version) }
                            " " strong { (loss(change.action)) } ". " (sentence(&safe(&change.reason.message)))
                            @if let Some(reference) = provider_ref(change) { " " code.dim { (safe(reference)) } }
                            (follows(groups.consequences(change)))
                        }
                    }
                }
            }
        }
    }
}

fn provider_ref(change: &Change) -> Option<&str> {
    change.before.as_ref()?.get("provider_ref")?.as_str()
}

fn refusals(plan: &Plan) -> Markup {
    html! {
        @if !plan.refusals.is_empty() {
            section.danger #refused {
                h2 { "Refused: this plan cannot be applied as it stands" }
                @for refusal in &plan.refusals {
                    p { code { (safe(&refusal.code)) } " " (sentence(&safe(&refusal.message))) }
                    p { (sentence(&safe(&refusal.help.replace("DIGEST", &plan.digest)))) }
                    @if let Some(place) = &refusal.place { p.dim { "at " code { (safe(&place.to_string())) } } }
                }
            }
        }
    }
}

fn left_out(plan: &Plan) -> Markup {
    html! {
        @if !plan.left_out.is_empty() {
            section.warning {
                h2 { "Nothing was planned of " (count(plan.left_out.len(), "tenant")) }
                ul { @for (tenant, why) in &plan.left_out { li { code { (tenant) } ": " (safe(why)) } } }
            }
        }
    }
}

fn findings(title: &str, findings: &[Finding], wanted: fn(Severity) -> bool) -> Markup {
    let findings: Vec<&Finding> = findings.iter().filter(|finding| wanted(finding.severity)).collect();
    let chip = |severity| match severity {
        Severity::Error => html! { span.chip.danger { "error" } },
        Severity::Warning => html! { span.chip.warning { "warning" } },
        Severity::Info => html! { span.chip { "note" } },
    };
    let list = html! {
        @for finding in &findings {
            h3 { (chip(finding.severity)) " " (safe(&finding.message)) }
            p.dim {
                code { (safe(&finding.code)) }
                @if let Some(place) = &finding.place {
                    " at " code { (safe(&place.to_string())) }
                }
            }
            @if let Some(line) = &finding.source_line { pre { (safe(line)) } }
            @if let Some(help) = &finding.help { p { (safe(help)) } }
            @if let Some(Related { place, message, source_line }) = &finding.related {
                p.dim { (safe(message)) ": " code { (safe(&place.to_string())) } }
                @if let Some(line) = source_line { pre { (safe(line)) } }
            }
        }
    };
    part(title, findings.len(), &list)
}

/// Documents: each with its reason, what follows, and its fields.
fn changes(title: &str, changes: &[&Change], groups: &Groups<'_>) -> Markup {
    let list = html! {
        @for change in changes {
            h3 { (chip(change.action)) " " code { (change.object) } " " small { (change.object.kind) } }
            p { (safe(&change.reason.message)) }
            (follows(groups.consequences(change)))
            (diff(change))
        }
    };
    part(title, changes.len(), &list)
}

fn chip(action: Action) -> Markup {
    let (mark, _) = mark(action);
    let class = match mark {
        "+" => "add",
        "-" | "↺" | "✗" => "remove",
        "~" => "change",
        _ => "",
    };
    html! { span.chip.(class) { (mark.replace("<>", "⇄")) " " (verb(action)) } }
}

/// The fields of a change, line by line; a sign stands for each colour.
fn diff(change: &Change) -> Markup {
    let lines = fields::diff(change).concat();
    let class = |sign| match sign {
        Sign::Added => "add",
        Sign::Removed => "remove",
        Sign::Same => "dim",
    };
    html! {
        @if !lines.is_empty() {
            div.diff.mono {
                @for line in &lines { div class=(class(line.sign)) { (line.sign.mark()) " " (line.text) } }
            }
        }
    }
}

fn follows(consequences: &[&Consequence]) -> Markup {
    html! {
        @if !consequences.is_empty() {
            ul.follows { @for consequence in consequences { li { (safe(&consequence.message)) } } }
        }
    }
}

fn elsewhere(consequences: &[&Consequence]) -> Markup {
    let list = html! {
        ul { @for Consequence { object, message, .. } in consequences { li { code { (object) } ": " (safe(message)) } } }
    };
    part("What follows elsewhere", consequences.len(), &list)
}

fn drift(drift: &[Drift]) -> Markup {
    let value = |value: &Option<String>| {
        let shown = |text: &str| if text.is_empty() { "\"\"".to_owned() } else { safe(text).into_owned() };
        html! { @if let Some(text) = value { code { (shown(text)) } } @else { span.dim { "nothing" } } }
    };
    let table = html! {
        div.wide { table {
            thead { tr { th { "Object" } th { "Field" } th { "Recorded" } th { "Observed" } th { "What happened" } } }
            tbody {
                @for Drift { object, field, reason, recorded, observed } in drift {
                    tr {
                        td { code { (object) } } td { code { (safe(field)) } } td { (value(recorded)) }
                        td { (value(observed)) } td { (safe(&reason.message)) }
                    }
                }
            }
        } }
    };
    part("Drift", drift.len(), &table)
}

/// Due work, by tenant where there are many.
fn work(groups: &Groups<'_>) -> Markup {
    let mut tenants: BTreeMap<Option<&str>, Vec<&Change>> = BTreeMap::new();
    for change in &groups.work {
        let tenant = change.object.tenant_id.as_ref().map(crate::model::Name::as_str);
        tenants.entry(tenant).or_default().push(change);
    }
    let table = |changes: &[&Change]| {
        html! {
            div.wide { table {
                thead { tr { th { "Key" } th { "What" } th { "Why" } } }
                tbody {
                    @for change in changes {
                        tr {
                            td { code { (change.object) } } td { (chip(change.action)) }
                            td { (safe(&change.reason.message)) (follows(groups.consequences(change))) }
                        }
                    }
                }
            } }
        }
    };
    if groups.work.len() <= OPEN || tenants.len() == 1 {
        return part("Due work", groups.work.len(), &table(&groups.work));
    }
    html! {
        h2 { "Due work " small { "(" (thousands(groups.work.len())) ")" } }
        @for (tenant, changes) in &tenants {
            details {
                summary { code { (tenant.unwrap_or("repository")) } " " small { (count(changes.len(), "key")) } }
                (table(changes))
            }
        }
    }
}

fn waiting(plan: &Plan) -> Markup {
    let table = html! {
        div.wide { table {
            thead { tr { th { "Key" } th { "What" } th { "Why it waits" } th { "Until" } } }
            tbody {
                @for Waiting { object, action, version, reason, starts_at } in &plan.waiting {
                    tr {
                        td { code { (object) } }
                        td { (chip(*action)) @if let Some(version) = version { " version " (version) } }
                        td { (safe(&reason.message)) }
                        td { @if let Some(at) = starts_at { (time::instant_and_relative(*at, plan.as_of)) } }
                    }
                }
            }
        } }
    };
    part("Waiting", plan.waiting.len(), &table)
}

/// A part below its title; folded where it is long.
fn part(title: &str, number: usize, body: &Markup) -> Markup {
    html! {
        @if number > 0 {
            h2 { (title) " " small { "(" (thousands(number)) ")" } }
            @if number > OPEN {
                details { summary { "Show all " (thousands(number)) } (body) }
            } @else { (body) }
        }
    }
}
