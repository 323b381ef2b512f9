//! A plan as a person reads it before saying yes.
//!
//! In the order of reading: when and of what it was made; policy changes, key changes, due work; what waits and until
//! when; what drifted; what else is worth knowing; tenants that were left out; and loudest at the end, limits that it goes
//! over. The last line sums it up, and begins with `Plan:` or `No changes.`, so that a script can find it.

mod envelope;
mod fields;
mod groups;
pub mod markdown;
pub mod page;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anstyle::Style;

use crate::diagnostic::Finding;
use crate::model::{ObjectRef, Timestamp};
use crate::plan::{Action, Base, Change, Consequence, Drift, Plan, Saved, Waiting};

use super::style::{self, paint};
use super::text::{columns, count, one_line, pad, safe, thousands, wrap};
use super::{View, findings, time};
use envelope::Envelope;
use groups::Groups;
pub use groups::loss;

/// How many rows of a group are shown; the rest is counted. More than a review reads, and JSON has all.
const SHOWN: usize = 50;

/// The widest column of names: a longer one pushes its row only.
const NAME_COLUMN: usize = 56;

/// Draws a plan.
#[must_use]
pub fn draw(plan: &Plan, view: View) -> String {
    drawn(plan, None, view)
}

/// Draws a saved plan at an instant, with its expiry and its approvals.
#[must_use]
pub fn draw_saved(saved: &Saved, now: Timestamp, view: View) -> String {
    drawn(&saved.plan, Envelope::of(saved, now), view)
}

fn drawn(plan: &Plan, envelope: Option<Envelope>, view: View) -> String {
    let groups = Groups::of(plan);
    let mut page = Page { out: String::new(), view, as_of: plan.as_of, groups: &groups };
    page.header(plan);
    page.envelope(envelope);
    page.destruction(&groups.lost);
    page.changes("Policy changes", &groups.policies);
    page.changes("Key changes", &groups.keys);
    page.work(&groups.work);
    page.elsewhere(&groups.elsewhere);
    page.waiting(&plan.waiting);
    page.drift(&plan.drift);
    if !plan.diagnostics.is_empty() {
        page.heading("Findings", plan.diagnostics.len());
        page.out.push_str(&findings::draw(&plan.diagnostics, true, view.columns()));
        page.out.push('\n');
    }
    page.left_out(plan);
    page.refusals(plan);
    let _ = writeln!(page.out, "{}", summary(plan));
    page.out
}

/// The last line: what would be done, in numbers.
#[must_use]
pub fn summary(plan: &Plan) -> String {
    let mut aside = Vec::new();
    if !plan.waiting.is_empty() {
        aside.push(format!("{} waiting", thousands(plan.waiting.len())));
    }
    if !plan.drift.is_empty() {
        aside.push(format!("{} drifted", thousands(plan.drift.len())));
    }
    let aside = aside.join(", ");
    if plan.is_empty() && !plan.refusals.is_empty() {
        return format!("{} Nothing was planned.", paint(style::ERROR, "Refused."));
    }
    if plan.is_empty() {
        let none = paint(style::GOOD, "No changes.");
        return match aside.as_str() {
            "" if plan.base.is_some() && plan.left_out.is_empty() => format!("{none} No document says anything else."),
            "" if plan.base.is_some() => format!("{none} No document of the other tenants says anything else."),
            "" if plan.left_out.is_empty() => {
                format!("{none} Every policy and key is as git says, and nothing is due.")
            }
            "" => format!("{none} Nothing is due among the tenants that were looked at."),
            aside => format!("{none} Nothing can be done now; {aside}."),
        };
    }
    let aside = if aside.is_empty() { String::new() } else { format!("; {aside}") };
    format!("{} {}{aside}.", paint(style::HEADING, "Plan:"), counts(plan))
}

/// `2 to create, 41 to rotate`; empty where there is nothing to do.
#[must_use]
pub fn counts(plan: &Plan) -> String {
    let counts = plan.summary();
    let parts: Vec<String> = SUMMARY_ORDER
        .iter()
        .filter_map(|action| Some((action, counts.get(action)?)))
        .map(|(action, count)| format!("{} to {}", thousands(*count), verb(*action)))
        .collect();
    parts.join(", ")
}

/// What a check found in one line, as a title.
fn check_title(found: &[Finding]) -> String {
    let whole = findings::summary(found);
    match (found.is_empty(), found.iter().any(Finding::is_error)) {
        (true, _) => "The documents are valid".to_owned(),
        (false, false) => format!("The documents are valid: {whole}"),
        (false, true) => format!("The documents are not valid: {whole}"),
    }
}

/// The whole in one line, as a title: what would be done, and whether it may.
fn title(plan: &Plan) -> String {
    let subject = if plan.base.is_some() { "Review of the change" } else { "Key rotation plan" };
    let errors = plan.diagnostics.iter().filter(|finding| finding.is_error()).count();
    let mut what = Vec::new();
    if errors > 0 {
        what.push(count(errors, "error"));
    }
    match (plan.is_empty(), plan.refusals.is_empty()) {
        (true, true) if errors == 0 => what.push("no changes".to_owned()),
        (true, true) => {}
        (true, false) => what.push("refused".to_owned()),
        (false, true) => what.push(counts(plan)),
        (false, false) => what.push(format!("refused: {}", counts(plan))),
    }
    format!("{subject}: {}", what.join(", "))
}

/// An action as a word of a sentence.
#[must_use]
pub const fn verb(action: Action) -> &'static str {
    match action {
        Action::CancelDestruction => "cancel destruction",
        Action::Rollback => "roll back",
        Action::ScheduleDestruction => "schedule for destruction",
        other => other.as_str(),
    }
}

/// A commit as people write it.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// The order in which a reader asks: what is new, what differs, what leaves, what rotates.
const SUMMARY_ORDER: [Action; 23] = [
    Action::Create,
    Action::Adopt,
    Action::Update,
    Action::Rename,
    Action::Suspend,
    Action::Reactivate,
    Action::Link,
    Action::Unlink,
    Action::Restore,
    Action::Remove,
    Action::Forget,
    Action::Release,
    Action::Park,
    Action::Resume,
    Action::Finish,
    Action::Rollback,
    Action::Rotate,
    Action::Attest,
    Action::Enable,
    Action::CancelDestruction,
    Action::Disable,
    Action::ScheduleDestruction,
    Action::Destroy,
];

/// The mark in front of a change, in its colour.
#[must_use]
pub fn symbol(action: Action) -> String {
    let (mark, style) = mark(action);
    paint(style, mark)
}

const fn mark(action: Action) -> (&'static str, Style) {
    match action {
        Action::Create => ("+", style::ADD),
        Action::Update
        | Action::Rename
        | Action::Suspend
        | Action::Reactivate
        | Action::Restore
        | Action::Release
        | Action::Park
        | Action::Resume
        | Action::Attest
        | Action::Enable
        | Action::CancelDestruction => ("~", style::CHANGE),
        Action::Remove | Action::Forget => ("-", style::REMOVE),
        Action::Adopt | Action::Link | Action::Unlink => ("<>", style::LINK),
        Action::Rotate | Action::Finish => ("↻", style::ROTATE),
        Action::Rollback => ("↺", style::REMOVE),
        Action::Disable | Action::ScheduleDestruction | Action::Destroy => ("✗", style::ERROR),
    }
}

/// What each mark means, in the order of the legend.
const LEGEND: [(Action, &str); 7] = [
    (Action::Destroy, "disable or destroy"),
    (Action::Create, "create"),
    (Action::Update, "change"),
    (Action::Remove, "remove from keywheel"),
    (Action::Adopt, "adopt or link"),
    (Action::Rotate, "rotate"),
    (Action::Rollback, "roll back"),
];

/// The text under construction.
struct Page<'p> {
    out: String,
    view: View,
    as_of: Timestamp,
    groups: &'p Groups<'p>,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn header(&mut self, plan: &Plan) {
        let of = match &plan.sources.commit {
            Some(commit) => format!("commit {}", one_line(short(commit))),
            None => "no commit".to_owned(),
        };
        self.line(&format!("{} as of {}, {of}", paint(style::HEADING, "Plan"), time::instant(plan.as_of)));
        if let Some(Base { reference, commit }) = &plan.base {
            let (reference, commit) = (one_line(reference), one_line(short(commit)));
            self.line(&format!(
                "Compared with {reference}, commit {commit}: no database and no key manager was asked."
            ));
        } else if let Some(why) = &plan.not_applicable {
            self.line(&paint(style::WARNING, &format!("It was made {}, and can only be read.", one_line(why))));
        }
        let used: BTreeSet<&str> = plan.changes.iter().map(|change| mark(change.action).0).collect();
        let legend: Vec<String> = LEGEND
            .iter()
            .filter(|(action, _)| used.contains(mark(*action).0))
            .map(|(action, word)| format!("{} {word}", symbol(*action)))
            .collect();
        if !legend.is_empty() {
            self.line("");
            self.line(&format!("  {}", legend.join("   ")));
        }
        self.line("");
    }

    fn envelope(&mut self, envelope: Option<Envelope>) {
        let Some(Envelope { expired, expiry, approved, given }) = envelope else { return };
        self.line(&if expired { paint(style::WARNING, &expiry) } else { expiry });
        if let Some(approved) = approved {
            self.line(&format!("Approved: {approved}."));
        }
        for approval in given {
            self.reason(&approval, 2);
        }
        self.line("");
    }

    fn heading(&mut self, title: &str, number: usize) {
        self.line(&paint(style::HEADING, &format!("{title} ({})", thousands(number))));
        self.line("");
    }

    /// Counts what is not shown of a group.
    fn rest(&mut self, total: usize) {
        if total > SHOWN {
            let more = format!("  ... and {} more; --format json lists all of them", thousands(total - SHOWN));
            self.line(&paint(style::DIM, &more));
            self.line("");
        }
    }

    /// Documents: each with its reason and its fields.
    fn changes(&mut self, title: &str, changes: &[&Change]) {
        if changes.is_empty() {
            return;
        }
        self.heading(title, changes.len());
        for change in changes.iter().take(SHOWN) {
            let Change { object, action, reason, .. } = change;
            let name = paint(style::HEADING, &format!("{} {object}", object.kind));
            let verb = match action {
                Action::Create => String::new(),
                _ => format!("  {}", paint(mark(*action).1, verb(*action))),
            };
            self.line(&format!("  {} {name}{verb}", symbol(*action)));
            self.reason(&reason.message, 5);
            for row in fields::rows(change, self.view) {
                self.line(&format!("{}{row}", " ".repeat(fields::INDENT)));
            }
            self.follows(change);
            self.line("");
        }
        self.rest(changes.len());
    }

    /// What will not decrypt any more: before everything else, and whole sentences.
    fn destruction(&mut self, changes: &[&Change]) {
        if changes.is_empty() {
            return;
        }
        let title = format!("Data that will not decrypt any more ({})", thousands(changes.len()));
        self.line(&paint(style::ERROR, &title));
        self.line("");
        for change in changes.iter().take(SHOWN) {
            let name = paint(style::HEADING, &change.object.to_string());
            let version = change.version.map(|number| format!(" version {number}")).unwrap_or_default();
            let verb = paint(style::ERROR, &format!("{}{version}", verb(change.action)));
            self.line(&format!("  {} {name}  {verb}", symbol(change.action)));
            self.reason(&change.reason.message, 5);
            if let Some(reference) = change.before.as_ref().and_then(|before| before.get("provider_ref")?.as_str()) {
                self.line(&format!("     {}", one_line(reference)));
            }
            self.follows(change);
            self.line("");
        }
        self.rest(changes.len());
    }

    /// Due work: one row a key.
    fn work(&mut self, changes: &[&Change]) {
        if changes.is_empty() {
            return;
        }
        self.heading("Due work", changes.len());
        let shown = || changes.iter().take(SHOWN);
        let width = self.name_column(shown().map(|change| &change.object));
        for change in shown() {
            let what = match change.action {
                Action::Finish => format!("finish: {}", change.reason.message),
                _ => change.reason.message.clone(),
            };
            self.row(change.action, &change.object, width, &what);
            self.follows(change);
        }
        self.line("");
        self.rest(changes.len());
    }

    fn elsewhere(&mut self, consequences: &[&Consequence]) {
        if consequences.is_empty() {
            return;
        }
        self.heading("What follows elsewhere", consequences.len());
        for Consequence { object, message, .. } in consequences.iter().take(SHOWN) {
            self.line(&format!("  {}", paint(style::HEADING, &object.to_string())));
            self.reason(message, 5);
        }
        self.line("");
        self.rest(consequences.len());
    }

    fn waiting(&mut self, waiting: &[Waiting]) {
        if waiting.is_empty() {
            return;
        }
        self.heading("Waiting", waiting.len());
        let shown = || waiting.iter().take(SHOWN);
        let width = self.name_column(shown().map(|waiting| &waiting.object));
        for Waiting { object, action, version, reason, starts_at } in shown() {
            let version = version.map(|number| format!(" version {number}")).unwrap_or_default();
            let verb = match action {
                Action::Rotate => String::new(),
                _ => format!("{}{version}: ", verb(*action)),
            };
            let until = match starts_at {
                Some(at) => format!("; until {}", time::instant_and_relative(*at, self.as_of)),
                None => String::new(),
            };
            self.row(*action, object, width, &format!("{verb}{}{until}", reason.message));
        }
        self.line("");
        self.rest(waiting.len());
    }

    fn drift(&mut self, drift: &[Drift]) {
        if drift.is_empty() {
            return;
        }
        self.heading("Drift", drift.len());
        for drift in drift.iter().take(SHOWN) {
            let Drift { object, field, reason, recorded, observed } = drift;
            let name = paint(style::HEADING, &object.to_string());
            self.line(&format!("  {}  {name}  {}", paint(style::WARNING, "!"), one_line(field)));
            self.reason(&reason.message, 5);
            if let Some(next) = drift.next_step() {
                self.reason(&format!("next: {next}"), 5);
            }
            let word = |value: &Option<String>| match value {
                Some(text) if text.is_empty() => "\"\"".to_owned(),
                Some(text) => one_line(text),
                None => "(none)".to_owned(),
            };
            self.line(&format!("       recorded  {}", paint(style::REMOVE, &word(recorded))));
            self.line(&format!("       observed  {}", paint(style::ADD, &word(observed))));
            self.line("");
        }
        self.rest(drift.len());
        self.reason("Primary versions were looked at; `keywheel drift` looks at every version.", 2);
        self.line("");
    }

    fn left_out(&mut self, plan: &Plan) {
        if plan.left_out.is_empty() {
            return;
        }
        self.line(&paint(style::WARNING, &format!("Left out: {}", count(plan.left_out.len(), "tenant"))));
        self.line("");
        for (tenant, why) in &plan.left_out {
            let mark = paint(style::WARNING, "!");
            self.line(&format!("  {mark}  {}: nothing of it was planned", paint(style::HEADING, tenant.as_str())));
            self.reason(why, 5);
        }
        self.line("");
    }

    fn refusals(&mut self, plan: &Plan) {
        if plan.refusals.is_empty() {
            return;
        }
        self.line(&paint(style::ERROR, "REFUSED: this plan cannot be applied as it stands"));
        self.line("");
        for refusal in &plan.refusals {
            let code = paint(style::ERROR, &format!("error[{}]", one_line(&refusal.code)));
            self.line(&format!("  {code}: {}", one_line(&refusal.message)));
            if let Some(place) = &refusal.place {
                self.line(&paint(style::DIM, &format!("    --> {}", one_line(&place.to_string()))));
            }
            let help = refusal.help.replace("DIGEST", &plan.digest);
            self.reason(&format!("help: {help}"), 4);
        }
        self.line("");
    }

    /// What follows from a change, below it.
    fn follows(&mut self, change: &Change) {
        for consequence in self.groups.consequences(change) {
            let lines = wrap(&safe(&consequence.message), self.view.columns().saturating_sub(8));
            for (index, line) in lines.iter().enumerate() {
                self.line(&format!("     {} {line}", if index == 0 { "=>" } else { "  " }));
            }
        }
    }

    /// A sentence below a heading, wrapped.
    fn reason(&mut self, message: &str, indent: usize) {
        for line in wrap(&safe(message), self.view.columns().saturating_sub(indent)) {
            let line = paint(style::DIM, &line);
            self.line(&format!("{}{line}", " ".repeat(indent)));
        }
    }

    /// How wide the column of names is: as the longest that is shown, within reason.
    fn name_column<'a>(&self, objects: impl Iterator<Item = &'a ObjectRef>) -> usize {
        let longest = objects.map(|object| columns(&object.to_string())).max().unwrap_or(0);
        longest.min(NAME_COLUMN).min(self.view.columns() / 2)
    }

    /// A name and a sentence, on one line where they fit, and below each other elsewhere.
    fn row(&mut self, action: Action, object: &ObjectRef, width: usize, what: &str) {
        let name = pad(&object.to_string(), width);
        let indent = 4 + columns(&name) + 2;
        let what = one_line(what);
        let mark = symbol(action);
        if columns(&name) > width || self.view.width.is_some_and(|view| indent + columns(&what) > view) {
            self.line(&format!("  {mark} {}", name.trim_end()));
            self.reason(&what, 6);
        } else {
            self.line(&format!("  {mark} {name}  {}", paint(style::DIM, &what)));
        }
    }
}
