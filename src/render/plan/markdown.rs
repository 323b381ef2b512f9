//! A plan as the comment on a pull request.
//!
//! Its first line is a marker that no reader sees, so that the next run finds the comment and replaces it. Then, in the
//! order in which they matter: what will not decrypt any more, what the plan is refused for, what changes, what is due,
//! what waits. The whole fits [`BUDGET`]: what does not is left out by whole objects, from the end, and counted.

use crate::diagnostic::{Finding, Related};
use crate::model::{ObjectKind, ObjectRef, Severity, Timestamp};
use crate::plan::{Action, Base, Change, Consequence, Drift, Plan, Saved, Waiting};

use super::super::markdown::{code, fence, folded, inline};
use super::super::text::{count, sentence, thousands};
use super::super::time;
use super::envelope::Envelope;
use super::fields;
use super::groups::{Groups, loss};
use super::{SUMMARY_ORDER, check_title, mark, short, title, verb};

/// What GitHub takes as one comment, in characters; held in bytes, which are never fewer.
pub const BUDGET: usize = 65_536;

/// The beginning of the first line, by which a comment is found again. The plan's digest follows, and ` -->`.
pub const MARKER: &str = "<!-- keywheel:plan:";

/// The first line of the comment of a check, by which it is found again.
pub const CHECK_MARKER: &str = "<!-- keywheel:check -->";

/// So many changes of one sort are read one after the other; more are folded away together.
const OPEN: usize = 10;

/// So many lines of a diff are shown without a click.
const SHORT_DIFF: usize = 10;

/// The bytes of one diff, or of what follows from one change: enough for every document that a person wrote.
const PIECE: usize = 6_000;

/// So much of a line that has no room is shown.
const LINE: usize = 400;

/// What a line about things that are left out takes at most.
const REST: usize = 80;

/// The comment.
#[must_use]
pub fn draw(plan: &Plan) -> String {
    drawn(plan, None)
}

/// The comment of a saved plan at an instant, with its expiry and its approvals.
#[must_use]
pub fn draw_saved(saved: &Saved, now: Timestamp) -> String {
    drawn(&saved.plan, Envelope::of(saved, now))
}

fn drawn(plan: &Plan, envelope: Option<Envelope>) -> String {
    let groups = Groups::of(plan);
    let sections = [
        destruction(&groups.lost, &groups),
        refusals(plan),
        left_out(plan),
        table(plan),
        findings("Errors", &plan.diagnostics, |severity| severity == Severity::Error),
        changes("Policy changes", &groups.policies, &groups),
        changes("Key changes", &groups.keys, &groups),
        elsewhere(&groups.elsewhere),
        drift(&plan.drift),
        work(&groups),
        waiting(plan),
        findings("Warnings and notes", &plan.diagnostics, |severity| severity != Severity::Error),
    ];
    let sections: Vec<Section> = sections.into_iter().flatten().collect();
    within(BUDGET, &(head(plan) + &about(envelope)), &sections, &foot(plan))
}

/// What a check of documents found, as a comment. Its first line is [`CHECK_MARKER`].
#[must_use]
pub fn draw_check(all: &[Finding], documents: usize) -> String {
    let mut head = format!("{CHECK_MARKER}\n## {}\n\n", check_title(all));
    head.push_str(&format!("{} checked.\n\n", count(documents, "document")));
    let sections = [
        findings("Errors", all, |severity| severity == Severity::Error),
        findings("Warnings and notes", all, |severity| severity != Severity::Error),
    ];
    let sections: Vec<Section> = sections.into_iter().flatten().collect();
    let foot = format!("---\n<sub>keywheel {}</sub>\n", env!("CARGO_PKG_VERSION"));
    within(BUDGET, &head, &sections, &foot)
}

/// A part of the comment: it has at least one item, and is left out item by item.
struct Section {
    before: String,
    items: Vec<String>,
    /// Ends it, below an empty line.
    after: &'static str,
    /// Stands before the count, where that is a part of a list or a quotation.
    margin: &'static str,
}

/// Puts the parts together. Each has a share of the room for its beginning, and what is left goes to the first.
fn within(budget: usize, head: &str, sections: &[Section], foot: &str) -> String {
    let frames: usize = sections.iter().map(|part| part.before.len() + part.after.len() + REST).sum();
    let mut room = budget.saturating_sub(head.len() + foot.len() + frames);
    let share = room / (2 * sections.len().max(1));
    let mut shown: Vec<usize> = Vec::new();
    for part in sections {
        let (number, taken) = fitting(&part.items, share);
        shown.push(number);
        room = room.saturating_sub(taken);
    }
    for (part, shown) in sections.iter().zip(&mut shown) {
        let (number, taken) = fitting(part.items.get(*shown..).unwrap_or_default(), room);
        *shown += number;
        room = room.saturating_sub(taken);
    }
    let mut out = head.to_owned();
    for (Section { before, items, after, margin }, shown) in sections.iter().zip(shown) {
        out.push_str(before);
        items.iter().take(shown).for_each(|item| out.push_str(item));
        if shown < items.len() {
            let more = thousands(items.len() - shown);
            out.push_str(&format!("{}\n{margin}… and {more} more that this has no room for.\n", margin.trim_end()));
        }
        if !out.ends_with("\n\n") {
            out.push('\n');
        }
        out.push_str(after);
    }
    out + foot
}

/// How many of the first items fit into so much room, and how much of it they take.
fn fitting(items: &[String], room: usize) -> (usize, usize) {
    let mut taken = 0;
    let fits = |item: &&String| {
        let fits = taken + item.len() <= room;
        taken += if fits { item.len() } else { 0 };
        fits
    };
    let number = items.iter().take_while(fits).count();
    (number, taken)
}

fn head(plan: &Plan) -> String {
    let mut out = format!("{MARKER}{} -->\n", plan.digest);
    out.push_str(&format!("## {}\n\n", title(plan)));
    out.push_str(&format!("As of {}, ", time::instant(plan.as_of)));
    match &plan.sources.commit {
        Some(commit) => out.push_str(&format!("commit {}", code(short(commit)))),
        None => out.push_str("no commit"),
    }
    if let Some(Base { reference, commit }) = &plan.base {
        out.push_str(&format!(", compared with {} at {}", code(reference), code(short(commit))));
    }
    let tenants = plan.tenants().len();
    if tenants > 0 {
        out.push_str(&format!(", {}", count(tenants, "tenant")));
    }
    out.push_str(".\n\n");
    if let Some(why) = plan.not_applicable.as_ref().filter(|_| plan.base.is_none()) {
        out.push_str(&format!("> [!NOTE]\n> It was made {}, and can only be read.\n\n", inline(why)));
    }
    if plan.is_empty() && plan.refusals.is_empty() {
        out.push_str(match (plan.waiting.is_empty(), plan.left_out.is_empty()) {
            (false, _) => "Nothing can be done now.\n\n",
            (true, true) if plan.base.is_some() => "No document says anything else.\n\n",
            (true, true) => "Every policy and key is as git says, and nothing is due.\n\n",
            (true, false) if plan.base.is_some() => "No document of the other tenants says anything else.\n\n",
            (true, false) => "Nothing is due among the tenants that were looked at.\n\n",
        });
    }
    out
}

/// Until when it can be applied, and who has approved it.
fn about(envelope: Option<Envelope>) -> String {
    let Some(Envelope { expired, expiry, approved, given }) = envelope else { return String::new() };
    let mut out = if expired { format!("> [!WARNING]\n> {expiry}\n") } else { format!("{expiry}\n") };
    if let Some(approved) = approved {
        out.push_str(&format!("\nApproved: {}.\n\n", inline(&approved)));
    }
    // A file may hold any number of them, and the rest of the comment has room too.
    for approval in given.iter().take(OPEN) {
        out.push_str(&format!("- {}\n", inline(approval)));
    }
    if given.len() > OPEN {
        out.push_str(&format!("- … and {} more\n", thousands(given.len() - OPEN)));
    }
    out + "\n"
}

/// How many there are of what.
fn table(plan: &Plan) -> Option<Section> {
    let number = |number: usize| if number == 0 { String::new() } else { thousands(number) };
    let row = |what: &str, action: Action| {
        let all = plan.changes.iter().filter(|change| change.action == action);
        let (keys, policies): (Vec<&Change>, _) =
            all.partition(|change| change.object.kind == ObjectKind::EncryptionKey);
        format!("| {what} | {} | {} |\n", number(policies.len()), number(keys.len()))
    };
    let present = plan.summary();
    let (lost, other): (Vec<Action>, Vec<Action>) =
        SUMMARY_ORDER.iter().filter(|action| present.contains_key(action)).partition(|action| action.is_destructive());
    let mut rows = String::new();
    for action in lost.iter().rev().chain(&other) {
        let word =
            format!("{} {}", mark(*action).0.replace("<>", "⇄").replace('~', "\\~").replace('-', "−"), verb(*action));
        let word = if action.is_destructive() { format!("**{word}**") } else { word };
        rows.push_str(&row(&word, *action));
    }
    if !plan.waiting.is_empty() {
        rows.push_str(&format!("| waiting | | {} |\n", thousands(plan.waiting.len())));
    }
    if !plan.drift.is_empty() {
        rows.push_str(&format!("| drifted | | {} |\n", thousands(plan.drift.len())));
    }
    let items = if rows.is_empty() { Vec::new() } else { vec![rows] };
    section("| | Policies and rules | Keys |\n|:--|--:|--:|\n".to_owned(), items, "", "")
}

fn foot(plan: &Plan) -> String {
    let Plan { digest, .. } = plan;
    format!(
        "---\n<sub>keywheel {}, plan <code>{digest}</code>. `keywheel show` shows a saved plan in full.</sub>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What will not decrypt any more, in whole sentences.
fn destruction(lost: &[&Change], groups: &Groups<'_>) -> Option<Section> {
    let item = |change: &&Change| {
        let version = change.version.map(|number| format!(" version {number}")).unwrap_or_default();
        let mut item = format!(
            "> - {}{version} **{}**. {}",
            code(&change.object.to_string()),
            loss(change.action),
            inline(&sentence(&change.reason.message))
        );
        if let Some(reference) = change.before.as_ref().and_then(|before| before.get("provider_ref")?.as_str()) {
            item.push_str(&format!(" ({})", code(reference)));
        }
        item.push('\n');
        item.push_str(&follows(groups.consequences(change), ">   "));
        item
    };
    let before = format!(
        "> [!CAUTION]\n> **Data that will not decrypt any more: {}.** Read this before anything else.\n>\n",
        count(lost.len(), "key version")
    );
    section(before, lost.iter().map(item).collect(), "", "> ")
}

fn refusals(plan: &Plan) -> Option<Section> {
    let items = plan.refusals.iter().map(|refusal| {
        let help = refusal.help.replace("DIGEST", &plan.digest);
        let place = refusal.place.as_ref().map(|place| format!("<br>\n>   {}", code(&place.to_string())));
        format!(
            "> - {}: {}<br>\n>   {}{}\n",
            code(&refusal.code),
            inline(&sentence(&refusal.message)),
            inline(&sentence(&help)),
            place.unwrap_or_default()
        )
    });
    let before = "> [!CAUTION]\n> **Refused: this plan cannot be applied as it stands.**\n>\n".to_owned();
    section(before, items.collect(), "", "> ")
}

fn left_out(plan: &Plan) -> Option<Section> {
    let items = plan
        .left_out
        .iter()
        .map(|(tenant, why)| format!("> - {}: {}\n", code(tenant.as_str()), inline(&sentence(why))));
    let before = format!("> [!WARNING]\n> **Nothing was planned of {}.**\n>\n", count(plan.left_out.len(), "tenant"));
    section(before, items.collect(), "", "> ")
}

fn findings(title: &str, findings: &[Finding], wanted: fn(Severity) -> bool) -> Option<Section> {
    let item = |finding: &Finding| {
        let word = match finding.severity {
            Severity::Error => "**error**",
            Severity::Warning => "warning",
            Severity::Info => "note",
        };
        let mut item = format!("- {word} {}: {}", code(&finding.code), inline(&finding.message));
        if let Some(place) = &finding.place {
            item.push_str(&format!("<br>\n  {}", code(&place.to_string())));
        }
        if let Some(help) = &finding.help {
            item.push_str(&format!("<br>\n  help: {}", inline(help)));
        }
        if let Some(Related { place, message, .. }) = &finding.related {
            item.push_str(&format!("<br>\n  {}: {}", inline(message), code(&place.to_string())));
        }
        item + "\n"
    };
    let items: Vec<String> = findings.iter().filter(|finding| wanted(finding.severity)).map(item).collect();
    list(title, items, 5)
}

/// Documents: each with its reason, what follows, and its fields.
fn changes(title: &str, changes: &[&Change], groups: &Groups<'_>) -> Option<Section> {
    let few = changes.len() <= OPEN / 2;
    let item = |change: &&Change| {
        let Change { object, action, reason, .. } = change;
        let mut item = format!(
            "**{}** {} {}<br>\n{}\n\n",
            verb(*action),
            object.kind,
            code(&object.to_string()),
            inline(&reason.message)
        );
        let follows = follows(groups.consequences(change), "");
        if !follows.is_empty() {
            item.push_str(&follows);
            item.push('\n');
        }
        item.push_str(&diff(change, few));
        item
    };
    list(title, changes.iter().map(item).collect(), OPEN)
}

/// The fields of a change, folded; open where they are few.
fn diff(change: &Change, few: bool) -> String {
    let all = fields::diff(change);
    if all.is_empty() {
        return String::new();
    }
    let drawn = |line: &fields::Line| format!("{} {}", line.sign.mark(), line.text);
    let all: Vec<Vec<String>> = all.iter().map(|field| field.iter().map(drawn).collect()).collect();
    let sizes: Vec<usize> = all.iter().map(|field| field.iter().map(|line| line.len() + 1).sum()).collect();
    let lines: Vec<String> =
        all.iter().zip(shares(PIECE, &sizes)).flat_map(|(field, room)| shortened(field, room)).collect();
    let block = folded(&count(fields::number(change), "field"), &fence("diff", &lines));
    let block = if few && lines.len() <= SHORT_DIFF { block.replacen("<details>", "<details open>", 1) } else { block };
    block + "\n"
}

/// How much room each has: as much as it wants, and where that is too much, what the smaller ones leave. So a long value
/// keeps no other out of sight.
fn shares(room: usize, wanted: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|index| wanted.get(*index));
    let (mut left, mut shares) = (room, vec![0; wanted.len()]);
    for (done, index) in order.iter().enumerate() {
        let fair = left / (wanted.len() - done);
        if let (Some(share), Some(wants)) = (shares.get_mut(*index), wanted.get(*index)) {
            *share = fair.min(*wants);
            left -= *share;
        }
    }
    shares
}

/// The lines of one field, within so many bytes. What is cut out of its middle is counted.
fn shortened(field: &[String], room: usize) -> Vec<String> {
    let mut left = room;
    let mut shown = Vec::new();
    for (index, line) in field.iter().enumerate() {
        if let Some(rest) = left.checked_sub(line.len() + 1) {
            left = rest;
            shown.push(line.clone());
            continue;
        }
        // A line that is as long as a book shows its beginning.
        let cut = line.floor_char_boundary(left.min(LINE));
        let more = field.len() - index;
        shown.push(match line.get(..cut).filter(|_| left > REST) {
            Some(beginning) => format!("{beginning}… ({} characters)", thousands(line.chars().count())),
            None => format!("  … and {} more", count(more, "line")),
        });
        if more > 1 && left > REST {
            shown.push(format!("  … and {} more", count(more - 1, "line")));
        }
        break;
    }
    shown
}

/// What follows from a change, as a list.
fn follows(consequences: &[&Consequence], margin: &str) -> String {
    let mut out = String::new();
    for (shown, consequence) in consequences.iter().enumerate() {
        let line = format!("{margin}- {}\n", inline(&consequence.message));
        if out.len() + line.len() > PIECE {
            out.push_str(&format!("{margin}- … and {} more\n", thousands(consequences.len() - shown)));
            break;
        }
        out.push_str(&line);
    }
    out
}

fn elsewhere(consequences: &[&Consequence]) -> Option<Section> {
    let item = |consequence: &&Consequence| {
        format!("- {}: {}\n", code(&consequence.object.to_string()), inline(&consequence.message))
    };
    list("What follows elsewhere", consequences.iter().map(item).collect(), OPEN)
}

fn drift(drift: &[Drift]) -> Option<Section> {
    let item = |Drift { object, field, reason, recorded, observed }: &Drift| {
        let value = |value: &Option<String>| match value.as_deref() {
            None => "nothing".to_owned(),
            Some("") => code("\"\""),
            Some(value) => code(value),
        };
        format!(
            "- {} {}: {}<br>\n  recorded {}, observed {}\n",
            code(&object.to_string()),
            code(field),
            inline(&reason.message),
            value(recorded),
            value(observed)
        )
    };
    list("Drift", drift.iter().map(item).collect(), OPEN)
}

fn work(groups: &Groups<'_>) -> Option<Section> {
    let row = |change: &&Change| {
        let Change { object, action, reason, .. } = change;
        let follows = groups.consequences(change).iter().map(|follows| format!("<br>{}", inline(&follows.message)));
        let mut cell = inline(&reason.message);
        follows.take_while(|line| line.len() < PIECE).for_each(|line| {
            if cell.len() < PIECE {
                cell.push_str(&line);
            }
        });
        format!("| {} | {} | {cell} |\n", name(object), verb(*action))
    };
    let rows = groups.work.iter().map(row).collect();
    rows_of("Due work", "| Key | | Why |\n|:--|:--|:--|\n", rows)
}

fn waiting(plan: &Plan) -> Option<Section> {
    let row = |Waiting { object, action, version, reason, starts_at }: &Waiting| {
        let version = version.map(|number| format!(" version {number}")).unwrap_or_default();
        let until = starts_at.map(|at| time::instant_and_relative(at, plan.as_of)).unwrap_or_default();
        format!("| {} | {}{version} | {} | {until} |\n", name(object), verb(*action), inline(&reason.message))
    };
    rows_of("Waiting", "| Key | | Why | Until |\n|:--|:--|:--|:--|\n", plan.waiting.iter().map(row).collect())
}

/// The name of an object in a cell: names have no `|`.
fn name(object: &ObjectRef) -> String {
    code(&object.to_string())
}

/// A table, which is folded where it is long.
fn rows_of(title: &str, head: &str, rows: Vec<String>) -> Option<Section> {
    let part = list(title, rows, OPEN)?;
    Some(Section { before: format!("{}{head}", part.before), ..part })
}

/// Items below a title; folded away where there are more than `open`.
fn list(title: &str, items: Vec<String>, open: usize) -> Option<Section> {
    let number = thousands(items.len());
    if items.len() <= open {
        return section(format!("### {title} ({number})\n\n"), items, "", "");
    }
    section(format!("<details><summary><b>{title}</b> ({number})</summary>\n\n"), items, "</details>\n\n", "")
}

fn section(before: String, items: Vec<String>, after: &'static str, margin: &'static str) -> Option<Section> {
    (!items.is_empty()).then_some(Section { before, items, after, margin })
}
