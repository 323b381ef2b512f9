//! A backup of the state: one file, whichever database it is, that `state copy` restores from.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::model::Timestamp;
use crate::store::{self, AuditCheck, BrokenLink, Location};

use super::load::load_with_record;
use super::{CopiedTable, EngineError, ErrorKind, Workspace, clock};

/// A backup that was written, and read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BackupReport {
    /// Of which database, without a password.
    pub of: String,
    /// The file.
    pub file: PathBuf,
    /// When it was begun.
    pub as_of: Timestamp,
    /// The database's identity, which a restored copy has too: saved plans and the marks on keys name it.
    pub lineage: Uuid,
    /// The schema, which is that of the database.
    pub schema: i64,
    /// Every table, as the file has it.
    pub tables: Vec<CopiedTable>,
    /// How many links of the audit chains were checked in the file.
    pub audit_entries: u64,
    /// The first broken link of the audit log, if there is one: the copy is faithful to that too.
    pub audit_broken: Option<BrokenLink>,
}

/// Writes everything that the state database holds at one instant into a new file: `file`, or one that is named by the
/// instant, in `.keywheel/` or beside an SQLite file.
///
/// # Errors
/// There is no state database or nothing in it, there is a file of this name, or it could not be written.
pub async fn back_up(
    workspace: &Workspace,
    state: Option<&str>,
    file: Option<&Path>,
) -> Result<BackupReport, EngineError> {
    let (desired, reader, recorded) = load_with_record(workspace, state).await?.with_state()?;
    let location = desired.location(state)?;
    if recorded.is_unused() {
        let message = format!("nothing was ever recorded in {location}: no backup of it is made");
        return Err(EngineError::new("state/empty", message).kind(ErrorKind::Refused).help(
            "a database that was in use has a record: check `state` in keywheel.yaml, and keep the backups that there are",
        ));
    }
    let as_of = clock::now();
    let file = match file {
        Some(file) => file.to_owned(),
        None => location.folder().join(format!("backup-{}.db", as_of.format("%Y%m%dT%H%M%SZ"))),
    };
    let copied = store::back_up(&*reader, &file).await?;
    let copy = store::open_read_only(&Location::Sqlite(file.clone())).await?;
    let AuditCheck { entries, broken, .. } = copy.verify_audit().await?;
    let tables = copied.tables.into_iter().map(|(table, content)| CopiedTable {
        table: table.to_owned(),
        rows: content.rows,
        digest: content.digest,
    });
    Ok(BackupReport {
        of: location.to_string(),
        as_of,
        lineage: copy.identity().await?.lineage,
        schema: copied.schema,
        tables: tables.collect(),
        audit_entries: entries,
        audit_broken: broken,
        file,
    })
}
