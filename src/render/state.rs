//! What became of a state database, as text.

use super::text::safe;
use super::{View, table};
use crate::engine::CopyReport;

/// A copy that was made.
#[must_use]
pub fn copied(report: &CopyReport, view: View) -> String {
    let rows = report.tables.iter().map(|table| {
        let digest = table.digest.get(..16).unwrap_or(&table.digest);
        vec![table.table.clone(), table.rows.to_string(), digest.to_owned()]
    });
    let tables = table::draw(&["TABLE", "ROWS", "DIGEST"], rows, view);
    format!(
        "{tables}\nCopied from {} to {}; every row is the same, and so is the audit chain ({} links).\n\
         Now let `state` in keywheel.yaml name the copy, and put the original away: both have the lineage {}.\n",
        safe(&report.from),
        safe(&report.to),
        report.audit_entries,
        report.lineage
    )
}
