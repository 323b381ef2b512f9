//! A state database moves: from SQLite to PostgreSQL, or back.
//!
//! Both databases are locked meanwhile, and the copy is one transaction: it is there whole or not at all. Afterwards
//! every table is read again on both sides, and the audit chains are checked link by link.

use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::store::{self, Holder, Lease, Location, State, StoreError, tables};

use super::journal::Journal;
use super::recovery::Keeper;
use super::{EngineError, ErrorKind, Workspace, clock, leases, load, planning};

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CopyReport {
    /// From where, without a password.
    pub from: String,
    /// To where, without a password.
    pub to: String,
    /// The database's identity, which the copy has too: saved plans and the marks on keys name it.
    pub lineage: Uuid,
    /// Every table, the same in both databases.
    pub tables: Vec<CopiedTable>,
    /// How many links of the audit chains were checked in the copy.
    pub audit_entries: u64,
}

/// A table that was copied and compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CopiedTable {
    /// Its name.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
    /// SHA-256 over its rows in a form that does not depend on the database, in hexadecimal.
    pub digest: String,
}

/// Copies a state database into an empty one, and compares both.
///
/// # Errors
/// There is nothing to copy, the target is not empty, somebody works on either, or the copy differs from its original.
pub async fn copy_state(workspace: &Workspace, from: &str, to: &str) -> Result<CopyReport, EngineError> {
    let root = load::root_of(workspace)?;
    let (from_location, to_location) = (planning::location(&root, from)?, planning::location(&root, to)?);
    if from_location == to_location {
        return Err(EngineError::new("state/same", format!("{from_location} is where the state is already"))
            .help("name another database as the second one"));
    }
    // Opened for reading first: nothing is made where there is nothing to copy.
    match store::open_read_only(&from_location).await {
        Ok(opened) => drop(opened),
        Err(error @ StoreError::Missing { .. }) => {
            let missing = EngineError::new("state/missing", error.to_string());
            return Err(missing.help("name the database or the backup that there is: FROM comes first, then TO"));
        }
        Err(error) => return Err(error.into()),
    }
    let from = store::open_or_create(&from_location).await?;
    let to = store::open_or_create(&to_location).await?;
    let holder = leases::holder("state copy");
    under_lease(from.clone(), &holder, async |_| {
        under_lease(to.clone(), &holder, async |lease| {
            copy_and_compare(&*from, &*to, lease, (&from_location, &to_location)).await
        })
        .await
    })
    .await
}

/// Does something while nobody else may write to a database.
pub(super) async fn under_lease<T>(
    state: Arc<dyn State>,
    holder: &Holder,
    work: impl AsyncFnOnce(Lease) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let asked = clock::instant();
    let lease = leases::acquire_everything(&*state, holder).await?;
    // For its heartbeat: no key manager is asked for anything.
    let nothing = Keeper::new(Uuid::nil(), &holder.correlation_id, Vec::new());
    let (journal, writer) = Journal::start(state.clone(), lease.clone(), asked, Arc::new(Mutex::new(nothing)));
    let done = work(lease.clone()).await;
    writer.stop(journal).await;
    let released = state.release(&lease).await;
    let done = done?;
    released?;
    Ok(done)
}

async fn copy_and_compare(
    from: &dyn State,
    to: &dyn State,
    lease: Lease,
    (from_location, to_location): (&Location, &Location),
) -> Result<CopyReport, EngineError> {
    let original = from.verify_audit().await?;
    if let Some(broken) = original.broken {
        return Err(EngineError::new(
            "state/audit-broken",
            format!("the audit log of {from_location} is broken at link {}: {}", broken.seq, broken.what),
        )
        .kind(ErrorKind::Refused)
        .help("`keywheel audit verify` shows it; a copy would hide when it broke, so none is made"));
    }
    to.copy_from(&lease, from).await.map_err(|error| match error {
        StoreError::Conflict { message } => EngineError::new("state/not-empty", message)
            .kind(ErrorKind::Refused)
            .help("name a database in which no keywheel has worked yet"),
        error => error.into(),
    })?;
    let differs = |what: &str| {
        EngineError::new("state/copy-differs", format!("{what} of {to_location} differs from that of {from_location}"))
            .help("do not use the copy: remove it, and copy again")
    };
    let mut tables = Vec::new();
    for table in tables::all() {
        let content = tables::content(from, &table).await?;
        if tables::content(to, &table).await? != content {
            return Err(differs(table.name()));
        }
        tables.push(CopiedTable { table: table.name().to_owned(), rows: content.rows, digest: content.digest });
    }
    let copied = to.verify_audit().await?;
    if copied != original {
        return Err(differs("the audit log"));
    }
    let identity = to.identity().await?;
    if identity != from.identity().await? {
        return Err(differs("the lineage"));
    }
    Ok(CopyReport {
        from: from_location.to_string(),
        to: to_location.to_string(),
        lineage: identity.lineage,
        tables,
        audit_entries: copied.entries,
    })
}
