//! The audit log and the locks, as text.

use std::fmt::Write as _;

use crate::engine::{AuditCheck, AuditLink, AuditReport, LockReport, Why};

use super::style::{self, paint};
use super::text::safe;
use super::time;

/// Entries, the newest first.
#[must_use]
pub fn list(report: &AuditReport) -> String {
    let mut out = String::new();
    if report.entries.is_empty() {
        return "Nothing is recorded that matches.\n".to_owned();
    }
    for link in &report.entries {
        entry(&mut out, link, "");
    }
    if report.truncated {
        let _ = writeln!(out, "{}", paint(style::DIM, "There are more: --limit shows them."));
    }
    out
}

fn entry(out: &mut String, link: &AuditLink, indent: &str) {
    let what = paint(style::HEADING, &format!("{} {}", link.action, link.object));
    let _ = writeln!(out, "{indent}{}  {what}", time::instant(link.at));
    let commit = link.commit.as_deref().and_then(|commit| commit.get(..12)).unwrap_or("-");
    let by = format!("by {}, commit {commit}, correlation_id {}", safe(&link.actor), safe(&link.correlation_id));
    let _ = writeln!(out, "{indent}    {}", paint(style::DIM, &by));
    for (word, value) in [("before", &link.before), ("after", &link.after)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{indent}    {word}  {}", safe(&value.to_string()));
        }
    }
}

/// Are the chains whole?
#[must_use]
pub fn check(check: &AuditCheck) -> String {
    let mut out = String::new();
    for head in &check.heads {
        let chain = head.tenant_id.as_ref().map_or("(repository)", |tenant| tenant.as_str());
        let _ = writeln!(out, "{chain}: {} entries, head {}", head.seq, head.hash);
    }
    match &check.broken {
        None => {
            let whole = format!("Whole: {} entries in {} chains.", check.entries, check.heads.len());
            let _ = writeln!(out, "{}", paint(style::GOOD, &whole));
        }
        Some(broken) => {
            let chain = broken.tenant_id.as_ref().map_or("(repository)", |tenant| tenant.as_str());
            let what = format!("Broken: entry {} of {chain}: {}", broken.seq, safe(&broken.what));
            let _ = writeln!(out, "{}", paint(style::ERROR, &what));
        }
    }
    out
}

/// Why a key was as it was.
#[must_use]
pub fn why(why: &Why) -> String {
    let mut out = String::new();
    let primary = why.primary.as_deref().unwrap_or("none");
    let title = format!("{} at {}", why.key, time::instant(why.at));
    let _ = writeln!(out, "{}\n", paint(style::HEADING, &title));
    let _ = writeln!(out, "  primary  {}", safe(primary));
    let _ = writeln!(out, "  policy   {}", safe(why.policy.as_deref().unwrap_or("none")));
    let parts = [
        ("What made it primary", &why.made_primary_by),
        ("The newest change of the key", &why.key_entry),
        ("The newest change of its policy", &why.policy_entry),
    ];
    for (title, link) in parts {
        if let Some(link) = link {
            let _ = writeln!(out, "\n{title}\n");
            entry(&mut out, link, "  ");
        }
    }
    out
}

/// Who holds what.
#[must_use]
pub fn locks(report: &LockReport) -> String {
    if report.locks.is_empty() {
        return "Nobody holds a lock.\n".to_owned();
    }
    let mut out = String::new();
    for lock in &report.locks {
        let id = paint(style::HEADING, &format!("{}-{}", lock.scope, lock.token));
        let free = if lock.expired {
            "expired: the next one who asks gets it".to_owned()
        } else {
            format!("until {} at the latest", time::instant_and_relative(lock.until, report.as_of))
        };
        let _ = writeln!(
            out,
            "{id}  {} (process {}, {}) since {}, {free}",
            safe(&lock.who),
            lock.pid,
            safe(&lock.operation),
            time::instant(lock.since)
        );
    }
    out
}
