//! The audit log and the locks, as text.

use std::fmt::Write as _;

use serde_json::Value;

use crate::engine::{
    AuditLink, AuditReport, AuditVerified, BrokenLink, CheckpointReport, LeaseRecord, LockReport, Why,
};
use crate::model::Name;

use super::style::{self, paint};
use super::text::{count, fitted, safe};
use super::{View, time};

/// Entries, the newest first.
#[must_use]
pub fn list(report: &AuditReport, view: View) -> String {
    let mut out = String::new();
    if report.entries.is_empty() {
        return "Nothing is recorded that matches.\n".to_owned();
    }
    for link in &report.entries {
        entry(&mut out, link, 0, view);
    }
    if report.truncated {
        let _ = writeln!(out, "{}", paint(style::DIM, "There are more: --limit shows them."));
    }
    out
}

fn entry(out: &mut String, link: &AuditLink, indent: usize, view: View) {
    let margin = " ".repeat(indent);
    let what = paint(style::HEADING, &format!("{} {}", link.action, link.object));
    let _ = writeln!(out, "{margin}{}  {what}", time::instant(link.at));
    let margin = format!("{margin}    ");
    let commit = link.commit.as_deref().and_then(|commit| commit.get(..12)).unwrap_or("-");
    let by = format!("by {}, commit {commit}, correlation_id {}", safe(&link.actor), safe(&link.correlation_id));
    let _ = writeln!(out, "{margin}{}", paint(style::DIM, &fitted(&by, view, margin.len())));
    for (word, value) in [("before", &link.before), ("after", &link.after)] {
        if let Some(value) = value {
            let word = format!("{margin}{word:<6}  ");
            let _ = writeln!(out, "{word}{}", fitted(&safe(&spaced(value)), view, word.len()));
        }
    }
}

/// A value as JSON on one line, which can be broken between its fields.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields =
                fields.iter().map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), spaced(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// Are the chains whole?
#[must_use]
pub fn check(verified: &AuditVerified, view: View) -> String {
    let check = &verified.log;
    let mut out = String::new();
    for head in &check.heads {
        let head = format!("{}: {}, head {}", chain(head.tenant_id.as_ref()), entries(head.seq), head.hash);
        let _ = writeln!(out, "{}", fitted(&head, view, 2));
    }
    match &check.broken {
        None => {
            let whole = format!("{} in {}", entries(check.entries), count(check.heads.len(), "chain"));
            let _ = match verified.unlogged.as_slice() {
                [] => writeln!(out, "{}", paint(style::GOOD, &format!("Whole: {whole}."))),
                _ => writeln!(out, "The links of {whole} fit."),
            };
        }
        Some(broken) => {
            let what = broken_entry("Broken", broken);
            let _ = writeln!(out, "{}", paint(style::ERROR, &fitted(&what, view, 2)));
        }
    }
    for missing in &verified.unlogged {
        let what = fitted(&format!("Missing: {}", safe(&missing.what)), view, 2);
        let _ = writeln!(out, "{}", paint(style::ERROR, &what));
    }
    if let Some(checkpoint) = &verified.checkpoint {
        for lost in &checkpoint.lost {
            let _ = writeln!(out, "{}", paint(style::ERROR, &fitted(&broken_entry("Lost", lost), view, 2)));
        }
        let signed =
            format!("the checkpoint of {}, signed by {}", time::instant(checkpoint.at), safe(&checkpoint.signer));
        let goes_on = match checkpoint.lost.len() {
            0 => {
                let goes_on = format!("It goes on from {signed} ({}).", entries(checkpoint.entries));
                paint(style::GOOD, &fitted(&goes_on, view, 2))
            }
            _ => paint(style::ERROR, &fitted(&format!("It does not go on from {signed}."), view, 2)),
        };
        let _ = writeln!(out, "{goes_on}");
    }
    out
}

fn broken_entry(word: &str, broken: &BrokenLink) -> String {
    format!("{word}: entry {} of {}: {}", broken.seq, chain(broken.tenant_id.as_ref()), safe(&broken.what))
}

fn entries(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "entry")
}

fn chain(tenant: Option<&Name>) -> &str {
    tenant.map_or("(repository)", Name::as_str)
}

/// A checkpoint that was written.
#[must_use]
pub fn checkpoint(report: &CheckpointReport, view: View) -> String {
    let signed = format!(
        "{} in {}, in {}; its signature by {} is {}.",
        entries(report.entries),
        count(report.heads.len(), "chain"),
        safe(&report.file.display().to_string()),
        report.key,
        safe(&report.signature.display().to_string())
    );
    format!("{} {}\n", paint(style::GOOD, "Signed:"), fitted(&signed, view, 2))
}

/// Why a key was as it was.
#[must_use]
pub fn why(why: &Why, view: View) -> String {
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
            entry(&mut out, link, 2, view);
        }
    }
    out
}

/// Who holds what.
#[must_use]
pub fn locks(report: &LockReport, view: View) -> String {
    if report.locks.is_empty() {
        return "Nobody holds a lock.\n".to_owned();
    }
    let mut out = String::new();
    for lock in &report.locks {
        let id = paint(style::HEADING, &lock.token.to_string());
        let ended =
            if report.ended.contains(&lock.token) { ", and this host has no such process any more" } else { "" };
        let free = if lock.expired {
            "expired: the next one who asks gets it".to_owned()
        } else {
            format!("until {} at the latest", time::instant_and_relative(lock.until, report.as_of))
        };
        let line = format!(
            "{}: {} (process {}, {}) since {}, {free}{ended}",
            locked(lock),
            safe(&lock.who),
            lock.pid,
            safe(&lock.operation),
            time::instant(lock.since)
        );
        let _ = writeln!(out, "{id}  {}", fitted(&line, view, 4));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{AuditCheck, Unlogged};
    use crate::model::{Address, ObjectRef};
    use crate::store::AuditHead;
    use serde_json::json;

    const NARROW: View = View { width: Some(80), full: false };

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn link() -> AuditLink {
        let key: Address = "acme/patients".parse().unwrap();
        AuditLink {
            seq: 3,
            at: "2026-11-23T05:20:00Z".parse().unwrap(),
            actor: "ada@laptop".to_owned(),
            commit: Some("0123456789abcdef".to_owned()),
            correlation_id: "01a22dc0-558b-71c1-bca9-db864f5b212d".to_owned(),
            action: "key.rotated".to_owned(),
            object: ObjectRef::key(&key),
            before: Some(json!({ "primary": "01a22dc0-55de-7235-a192-429cd714c6c8:1" })),
            after: Some(json!({
                "primary": "01a22dc0-55de-7235-a192-429cd714c6c8:2", "reason": "a\nb",
                "rotation_id": "01a22dc0-55de-7235-a192-429cd714c6c8", "cause": "manual", "list": [1, {"a": null}],
            })),
            hash: "0".repeat(64),
        }
    }

    #[test]
    fn an_entry_is_broken_between_its_fields_on_a_terminal_alone() {
        let report = AuditReport { as_of: link().at, truncated: false, entries: vec![link()] };
        insta::assert_snapshot!(plain(&list(&report, NARROW)), @r#"
        2026-11-23T05:20:00Z  key.rotated acme/patients
            by ada@laptop, commit 0123456789ab, correlation_id
            01a22dc0-558b-71c1-bca9-db864f5b212d
            before  {"primary": "01a22dc0-55de-7235-a192-429cd714c6c8:1"}
            after   {"cause": "manual", "list": [1, {"a": null}], "primary":
                    "01a22dc0-55de-7235-a192-429cd714c6c8:2", "reason": "a\nb",
                    "rotation_id": "01a22dc0-55de-7235-a192-429cd714c6c8"}
        "#);
        let piped = plain(&list(&report, View { width: None, full: false }));
        assert_eq!(piped.lines().count(), 4, "{piped}");
    }

    #[test]
    fn a_check_fits_a_terminal_and_counts_as_people_do() {
        let head = |tenant: Option<&str>, seq| AuditHead {
            tenant_id: tenant.map(|name| name.parse().unwrap()),
            seq,
            hash: "0123456789abcdef".repeat(4),
        };
        let heads = vec![head(None, 1), head(Some("acme"), 3)];
        let log = AuditCheck { entries: 4, heads, broken: None };
        let mut verified = AuditVerified { log, unlogged: Vec::new(), checkpoint: None };
        insta::assert_snapshot!(plain(&check(&verified, NARROW)), @"
        (repository): 1 entry, head
          0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        acme: 3 entries, head
          0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        Whole: 4 entries in 2 chains.
        ");
        let what = "acme/patients: its rotate of 2026-11-23T05:20:00Z is recorded as settled, and the log has no entry of that";
        verified.unlogged = vec![Unlogged { object: link().object, what: what.to_owned() }];
        insta::assert_snapshot!(plain(&check(&verified, NARROW)), @"
        (repository): 1 entry, head
          0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        acme: 3 entries, head
          0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        The links of 4 entries in 2 chains fit.
        Missing: acme/patients: its rotate of 2026-11-23T05:20:00Z is recorded as
          settled, and the log has no entry of that
        ");
    }
}
