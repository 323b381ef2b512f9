//! The audit log and the locks, as text.

use std::fmt::Write as _;

use crate::engine::{
    AuditLink, AuditReport, AuditVerified, BrokenLink, CheckpointReport, LeaseRecord, LockReport, Why,
};
use crate::model::Name;

use super::style::{self, paint};
use super::text::{count, safe};
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
pub fn check(verified: &AuditVerified) -> String {
    let check = &verified.log;
    let mut out = String::new();
    for head in &check.heads {
        let _ = writeln!(out, "{}: {} entries, head {}", chain(head.tenant_id.as_ref()), head.seq, head.hash);
    }
    match &check.broken {
        None => {
            let whole = format!("Whole: {} entries in {} chains.", check.entries, check.heads.len());
            let _ = writeln!(out, "{}", paint(style::GOOD, &whole));
        }
        Some(broken) => {
            let what = broken_entry("Broken", broken);
            let _ = writeln!(out, "{}", paint(style::ERROR, &what));
        }
    }
    if let Some(checkpoint) = &verified.checkpoint {
        for lost in &checkpoint.lost {
            let _ = writeln!(out, "{}", paint(style::ERROR, &broken_entry("Lost", lost)));
        }
        let signed =
            format!("the checkpoint of {}, signed by {}", time::instant(checkpoint.at), safe(&checkpoint.signer));
        let goes_on = match checkpoint.lost.len() {
            0 => paint(style::GOOD, &format!("It goes on from {signed} ({} entries).", checkpoint.entries)),
            _ => paint(style::ERROR, &format!("It does not go on from {signed}.")),
        };
        let _ = writeln!(out, "{goes_on}");
    }
    out
}

fn broken_entry(word: &str, broken: &BrokenLink) -> String {
    format!("{word}: entry {} of {}: {}", broken.seq, chain(broken.tenant_id.as_ref()), safe(&broken.what))
}

fn chain(tenant: Option<&Name>) -> &str {
    tenant.map_or("(repository)", Name::as_str)
}

/// A checkpoint that was written.
#[must_use]
pub fn checkpoint(report: &CheckpointReport) -> String {
    format!(
        "{} {} entries in {} chains, in {}; its signature by {} is {}.\n",
        paint(style::GOOD, "Signed:"),
        report.entries,
        report.heads.len(),
        safe(&report.file.display().to_string()),
        report.key,
        safe(&report.signature.display().to_string())
    )
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
        let id = paint(style::HEADING, &lock.token.to_string());
        let free = if lock.expired {
            "expired: the next one who asks gets it".to_owned()
        } else {
            format!("until {} at the latest", time::instant_and_relative(lock.until, report.as_of))
        };
        let _ = writeln!(
            out,
            "{id}  {}: {} (process {}, {}) since {}, {free}",
            locked(lock),
            safe(&lock.who),
            lock.pid,
            safe(&lock.operation),
            time::instant(lock.since)
        );
    }
    out
}

/// What a lock is on; of many tenants, how many.
fn locked(lock: &LeaseRecord) -> String {
    let tenants = match lock.tenants.as_slice() {
        [] => None,
        [tenant] => Some(format!("tenant {tenant}")),
        few @ ([_, _] | [_, _, _]) => {
            let names: Vec<_> = few.iter().map(ToString::to_string).collect();
            Some(format!("tenants {}", names.join(", ")))
        }
        many => Some(count(many.len(), "tenant")),
    };
    let repository = lock.repository.then(|| "the repository".to_owned());
    repository.into_iter().chain(tenants).collect::<Vec<_>>().join(" and ")
}
