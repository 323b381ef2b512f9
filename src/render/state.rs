//! What became of a state database, as text.

use std::fmt::Write as _;
use std::path::Path;

use crate::diagnostic::Finding;
use crate::engine::{
    BackupReport, CopiedTable, CopyReport, LeftAlone, LostRotation, MigrateReport, Migration, ReclaimReport, Reclaimed,
    RecoveryReport, Verdict, VerifyReport,
};
use crate::model::Severity;
use crate::plan::StateSnapshot;

use super::style::{self, paint};
use super::text::{count, fitted, safe};
use super::{View, findings, table, time};

/// A copy that was made.
#[must_use]
pub fn copied(report: &CopyReport, view: View) -> String {
    format!(
        "{}\nCopied from {} to {}; every row is the same, and so is the audit chain ({} links).\n\
         Now let `state` in keywheel.yaml name the copy, and put the original away: both have the lineage {}.\n",
        tables(&report.tables, view),
        safe(&report.from),
        safe(&report.to),
        report.audit_entries,
        report.lineage
    )
}

/// A backup that was written.
#[must_use]
pub fn backed_up(report: &BackupReport, view: View) -> String {
    let file = report.file.display().to_string();
    let copied = format!(
        "{} was copied to {}, and read again there ({} of the audit log, schema {}).",
        safe(&report.of),
        safe(&file),
        count(usize::try_from(report.audit_entries).unwrap_or(usize::MAX), "entry"),
        report.schema,
    );
    let restore = format!("To restore it into an empty database: keywheel state copy sqlite:{} TARGET", safe(&file));
    let mut out = format!(
        "{}\n{} {}\n{}\n",
        tables(&report.tables, view),
        paint(style::GOOD, "Backed up."),
        fitted(&copied, view, 11),
        fitted(&restore, view, 2),
    );
    if let Some(broken) = &report.audit_broken {
        let what =
            format!("The audit log is broken at entry {}, in the backup too: {}", broken.seq, safe(&broken.what));
        let _ = writeln!(out, "{}", paint(style::WARNING, &fitted(&what, view, 2)));
    }
    out
}

/// A snapshot that was written.
#[must_use]
pub fn snapshot(snapshot: &StateSnapshot, file: &Path) -> String {
    let file = file.display().to_string();
    format!(
        "{} {} as of {}, without settings or secrets.\nTo review a change with it: keywheel plan --base REF --state {}\n",
        paint(style::GOOD, "Written:"),
        count(snapshot.keys.len(), "key"),
        time::instant(snapshot.as_of),
        safe(&file)
    )
}

/// A schema that became the newest.
#[must_use]
pub fn migrated(report: &MigrateReport) -> String {
    let state = safe(&report.state);
    match &report.migrated {
        None => format!("{state} has the newest schema.\n"),
        Some(Migration { from, to, backup }) => format!(
            "{} {state} came from schema {from} to {to}; as it was before, it is in {}.\n",
            paint(style::GOOD, "Migrated."),
            safe(&backup.display().to_string())
        ),
    }
}

/// What a recovery would write.
#[must_use]
pub fn recovery(report: &RecoveryReport) -> String {
    let lost = format!("Lost at {} by {}", time::instant(report.lost_at), safe(&report.actor));
    let mut out = format!("{}\n\n", paint(style::HEADING, &lost));
    for rotation in &report.rotations {
        let LostRotation { key, workflow, reached, version, verdict, .. } = rotation;
        let (mark, what) = match verdict {
            Verdict::Fits => (paint(style::CHANGE, "~"), "is recorded"),
            Verdict::Known => (paint(style::DIM, "="), "is known by now, and left alone"),
            Verdict::Unknown => (paint(style::ERROR, "!"), "is not in this record, which is older: left alone"),
        };
        let version = version.as_ref().map(|version| format!(", version {}", safe(version))).unwrap_or_default();
        let workflow = workflow.noun();
        let _ = writeln!(out, "  {mark} {key}: that its {workflow} came to {reached}{version} {what}");
    }
    out
}

/// What a recovery wrote.
#[must_use]
pub fn recovered(report: &RecoveryReport) -> String {
    let fits = report.rotations.iter().filter(|rotation| rotation.verdict == Verdict::Fits).count();
    let done = if fits == 0 {
        paint(style::GOOD, "Nothing to record: everything in the file is known by now.")
    } else {
        paint(style::GOOD, &format!("Recorded: {}.", count(fits, "rotation")))
    };
    format!("{}\n{done} The file is {}.\n", recovery(report), safe(&report.file.display().to_string()))
}

/// What is recorded of versions that the record lost.
#[must_use]
pub fn reclaim(report: &ReclaimReport, view: View) -> String {
    let mut out = String::new();
    for Reclaimed { key, recorded_primary, primary, versions, held } in &report.keys {
        let _ = writeln!(out, "{} {}", paint(style::CHANGE, "~"), paint(style::HEADING, &key.to_string()));
        for version in versions {
            let made = version.created_at.map_or_else(String::new, |at| format!(", made {}", time::instant(at)));
            let state = version.state.as_str().replace('_', " ");
            let line = format!("version {} ({state}{made}): {}", version.number, safe(&version.provider_ref));
            let _ = writeln!(out, "    {}", fitted(&line, view, 6));
        }
        if primary != recorded_primary {
            let line = format!("primary: {}, and no longer {}", safe(primary), safe(recorded_primary));
            let _ = writeln!(out, "    {}", fitted(&line, view, 6));
        }
        if *held {
            let line = format!("held, as an older version is primary: `keywheel release {key}` lets it rotate again");
            let _ = writeln!(out, "    {}", fitted(&line, view, 6));
        }
    }
    for LeftAlone { key, why } in &report.left {
        let line = format!("{key} is left as it was: {}", safe(why));
        let _ = writeln!(out, "{} {}", paint(style::WARNING, "!"), fitted(&line, view, 2));
    }
    out
}

/// What was recorded.
#[must_use]
pub fn reclaimed(report: &ReclaimReport, view: View) -> String {
    let done = match report.keys.len() {
        0 if report.left.is_empty() => "Nothing to record: every version with this state's marks is known.".to_owned(),
        0 => "Nothing was recorded.".to_owned(),
        keys => {
            let versions = report.keys.iter().map(|key| key.versions.len()).sum();
            format!("Recorded: {} of {}.", count(versions, "version"), count(keys, "key"))
        }
    };
    let paint_as = if report.left.is_empty() { style::GOOD } else { style::WARNING };
    format!("{}{}\n", reclaim(report, view), paint(paint_as, &done))
}

fn tables(tables: &[CopiedTable], view: View) -> String {
    let rows = tables.iter().map(|table| {
        let digest = table.digest.get(..16).unwrap_or(&table.digest);
        vec![table.table.clone(), table.rows.to_string(), digest.to_owned()]
    });
    table::draw(&["TABLE", "ROWS", "DIGEST"], rows, view)
}

/// A finding about no place in a document, within the columns of a terminal.
fn on_a_terminal(finding: &Finding, view: View) -> String {
    let (word, style) = match finding.severity {
        Severity::Error => ("error", style::ERROR),
        Severity::Warning => ("warning", style::WARNING),
        Severity::Info => ("note", style::DIM),
    };
    let head = format!("{word}[{}]", safe(&finding.code));
    let message = fitted(&format!("{head}: {}", safe(&finding.message)), view, 2);
    let message = message.strip_prefix(&head).unwrap_or(&message);
    let mut out = format!("{}{message}\n", paint(style, &head));
    if let Some(help) = &finding.help {
        let help = fitted(&format!("help: {}", safe(help)), view, 2);
        let help = help.strip_prefix("help").unwrap_or(&help);
        let _ = writeln!(out, "{}{help}", paint(style::HELP, "help"));
    }
    out.push('\n');
    out
}

/// What a check of the state found.
#[must_use]
pub fn verified(report: &VerifyReport, view: View) -> String {
    let mut out = match view.width {
        Some(_) => report.findings.iter().map(|finding| on_a_terminal(finding, view)).collect(),
        None => findings::draw(&report.findings, true, view.columns()),
    };
    let looked_at = format!(
        "{}, {}, {} and {} in {}",
        count(report.keys, "key"),
        count(report.versions, "version"),
        count(report.rotations, "rotation"),
        count(usize::try_from(report.audit_entries).unwrap_or(usize::MAX), "audit entry"),
        safe(&report.state)
    );
    let asked = match report.answered {
        None => "the key managers were not asked".to_owned(),
        Some(answered) => {
            let mut asked = format!("the key managers answered for {}", count(answered, "key"));
            if report.unanswered > 0 {
                let _ = write!(asked, " and not for {}", count(report.unanswered, "key"));
            }
            if report.unlisted > 0 {
                let _ = write!(
                    asked,
                    "; which keys carry keywheel's marks, {} did not say",
                    match report.unlisted {
                        1 => "one".to_owned(),
                        several => format!("{several} of them"),
                    }
                );
            }
            asked
        }
    };
    let verdict = if report.findings.iter().any(Finding::is_error) {
        paint(style::ERROR, "Not as it must be:")
    } else if report.is_incomplete() {
        paint(style::WARNING, "Not known:")
    } else {
        paint(style::GOOD, "Sound:")
    };
    let _ = writeln!(out, "{verdict} {}", fitted(&format!("{looked_at}; {asked}."), view, 2));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_fits_a_terminal() {
        let unrecorded =
            "acme/patients: arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c-0000-4000-8000-000000000000 carries marks";
        let report = VerifyReport {
            as_of: "2026-11-23T05:20:00Z".parse().unwrap(),
            state: "sqlite:/home/ada/policies/.keywheel/state.db".to_owned(),
            lineage: uuid::Uuid::nil(),
            keys: 2,
            versions: 3,
            rotations: 4,
            audit_entries: 1,
            answered: Some(0),
            unanswered: 2,
            unlisted: 1,
            findings: vec![
                Finding::error("verify/unrecorded", unrecorded).help("was an older backup restored? ".repeat(5)),
            ],
        };
        let draw = |width| anstream::adapter::strip_str(&verified(&report, View { width, full: false })).to_string();
        let text = draw(Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80 || !line.trim().contains(' ')), "{text}");
        assert!(text.starts_with("error[verify/unrecorded]: acme/patients:\n  arn:aws:kms"), "{text}");
        for text in [text, draw(None)] {
            let text = text.replace("\n  ", " ");
            let asked = "answered for 0 keys and not for 2 keys; which keys carry keywheel's marks, one did not say.";
            assert!(
                text.contains("2 keys, 3 versions, 4 rotations and 1 audit entry in ") && text.contains(asked),
                "{text}"
            );
        }
    }
}
