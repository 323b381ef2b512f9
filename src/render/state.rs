//! What became of a state database, as text.

use std::fmt::Write as _;
use std::path::Path;

use crate::diagnostic::Finding;
use crate::engine::{
    BackupReport, CopiedTable, CopyReport, LostRotation, MigrateReport, Migration, RecoveryReport, Verdict,
    VerifyReport,
};
use crate::plan::StateSnapshot;

use super::style::{self, paint};
use super::text::{count, safe};
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
    let mut out = format!(
        "{}\n{} {} was copied to {}, and read again there ({} links of the audit chain, schema {}).\n\
         To restore it into an empty database: keywheel state copy sqlite:{} TARGET\n",
        tables(&report.tables, view),
        paint(style::GOOD, "Backed up."),
        safe(&report.of),
        safe(&file),
        report.audit_entries,
        report.schema,
        safe(&file),
    );
    if let Some(broken) = &report.audit_broken {
        let what =
            format!("The audit log is broken at entry {}, in the backup too: {}", broken.seq, safe(&broken.what));
        let _ = writeln!(out, "{}", paint(style::WARNING, &what));
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

fn tables(tables: &[CopiedTable], view: View) -> String {
    let rows = tables.iter().map(|table| {
        let digest = table.digest.get(..16).unwrap_or(&table.digest);
        vec![table.table.clone(), table.rows.to_string(), digest.to_owned()]
    });
    table::draw(&["TABLE", "ROWS", "DIGEST"], rows, view)
}

/// What a check of the state found.
#[must_use]
pub fn verified(report: &VerifyReport, view: View) -> String {
    let mut out = findings::draw(&report.findings, true, view.columns());
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
        Some(answered) if report.unanswered == 0 => format!("the key managers answered for {}", count(answered, "key")),
        Some(answered) => format!(
            "the key managers answered for {} and not for {}",
            count(answered, "key"),
            count(report.unanswered, "key")
        ),
    };
    let verdict = if report.findings.iter().any(Finding::is_error) {
        paint(style::ERROR, "Not as it must be:")
    } else if report.unanswered > 0 {
        paint(style::WARNING, "Not known:")
    } else {
        paint(style::GOOD, "Sound:")
    };
    let _ = writeln!(out, "{verdict} {looked_at}; {asked}.");
    out
}
