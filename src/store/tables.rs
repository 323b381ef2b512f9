//! Every table as a whole: what a copy of a database takes over, row by row.
//!
//! A [`Table`] has all columns, those too that no record has. Its rows travel as JSON arrays in the order of the columns,
//! in the same form from every database: instants, dates and identities as text, booleans as 0 and 1, lists and objects
//! as their JSON text. Left out are `meta`, whose identity is taken over by itself, and what belongs to a running
//! database: `leases` with their scopes, and PostgreSQL's `batches`.
//!
//! Must not know: SQL, connections.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use super::rows::{
    AuditRow, ColumnType, DocumentRow, KeyRow, OutboxRow, PlanRow, PolicyRow, RotationRow, Row, StepRow, VersionRow,
};
use super::{ReadState, StoreError};

/// How many rows travel together.
pub(super) const PAGE: u32 = 2000;

/// A table of the state database.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) name: &'static str,
    pub(super) columns: Vec<(&'static str, ColumnType)>,
    /// The columns that its rows are ordered by: the same order in every database.
    pub(super) order: &'static [&'static str],
}

/// What a table holds: the same in two databases only if every row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// How many rows.
    pub rows: u64,
    /// SHA-256 over the rows in their order, each as canonical JSON (RFC 8785) and a line feed; in hexadecimal.
    pub digest: String,
}

impl Table {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn of<R: Row>(order: &'static [&'static str], more: &[(&'static str, ColumnType)]) -> Self {
        let columns = R::COLUMNS.iter().copied().zip(R::TYPES.iter().copied()).chain(more.iter().copied());
        Self { name: R::TABLE, columns: columns.collect(), order }
    }

    /// The column whose values the database gives, if there is one.
    pub(super) fn sequence(&self) -> Option<&'static str> {
        self.columns.iter().map(|(name, _)| *name).find(|name| *name == "seq" && self.order == ["seq"])
    }

    pub(super) fn column_names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// All tables that a copy takes over.
#[must_use]
pub fn all() -> Vec<Table> {
    use ColumnType::{Instant, Integer, Json, Text, Uuid};
    let table = |name, order, columns: &[_]| Table { name, columns: columns.to_vec(), order };
    vec![
        Table::of::<PolicyRow>(&["id"], &[("removed_at", Instant)]),
        Table::of::<KeyRow>(&["id"], &[("removed_at", Instant)]),
        Table::of::<VersionRow>(&["id"], &[]),
        Table::of::<RotationRow>(&["id"], &[]),
        Table::of::<StepRow>(&["seq"], &[("seq", Integer)]),
        Table::of::<AuditRow>(&["tenant_id", "seq"], &[]),
        Table::of::<DocumentRow>(&["kind", "tenant_id", "name"], &[]),
        Table::of::<PlanRow>(&["seq"], &[("seq", Integer)]),
        Table::of::<OutboxRow>(&["id", "channel", "receiver"], &[]),
        table(
            "usage_counters",
            &["key_version_id", "source"],
            &[("key_version_id", Uuid), ("source", Text), ("total", Integer), ("reported_at", Instant)],
        ),
        table(
            "events",
            &["source", "id"],
            &[
                ("source", Text),
                ("id", Text),
                ("type", Text),
                ("tenant_id", Text),
                ("subject", Text),
                ("data", Json),
                ("received_at", Instant),
                ("acted_on_at", Instant),
            ],
        ),
        table(
            "api_tokens",
            &["id"],
            &[
                ("id", Uuid),
                ("tenant_id", Text),
                ("name", Text),
                ("token_hash", Text),
                ("permissions", Json),
                ("created_at", Instant),
                ("expires_at", Instant),
                ("revoked_at", Instant),
                ("last_used_at", Instant),
            ],
        ),
    ]
}

/// Why nothing is copied into a database in which there is something.
pub(super) fn not_empty(table: &Table) -> StoreError {
    StoreError::Conflict {
        message: format!("nothing is copied into a database that is not empty: {} has rows", table.name),
    }
}

/// Reads a whole table, page by page.
///
/// # Errors
/// See [`StoreError`]; [`StoreError::Corrupt`] if a row makes no sense.
pub async fn content(state: &dyn ReadState, table: &Table) -> Result<Content, StoreError> {
    let mut tally = Tally::new(table);
    loop {
        let page = state.page(table, tally.rows).await?;
        if page.is_empty() {
            return Ok(tally.finish());
        }
        tally.take(&page)?;
    }
}

/// The content of a table, as far as its rows have come.
pub(super) struct Tally<'a> {
    table: &'a Table,
    rows: u64,
    hash: Context,
}

impl<'a> Tally<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self { table, rows: 0, hash: Context::new(&SHA256) }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// # Errors
    /// [`StoreError::Corrupt`] if a row makes no sense.
    pub(super) fn take(&mut self, page: &[String]) -> Result<(), StoreError> {
        for row in page {
            let canonical = canonical(self.table, row).map_err(|error| StoreError::Corrupt {
                location: self.table.name.to_owned(),
                message: format!("a row makes no sense: {error}"),
            })?;
            self.hash.update(&canonical);
            self.hash.update(b"\n");
        }
        self.rows += page.len() as u64;
        Ok(())
    }

    pub(super) fn finish(self) -> Content {
        let digest = self.hash.finish().as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Content { rows: self.rows, digest }
    }
}

/// A row in the one form that does not depend on how a database writes JSON.
fn canonical(table: &Table, row: &str) -> Result<Vec<u8>, serde_json::Error> {
    let mut values: Vec<Value> = serde_json::from_str(row)?;
    for (value, (_, column_type)) in values.iter_mut().zip(&table.columns) {
        if let (ColumnType::Json, Value::String(text)) = (column_type, &*value) {
            *value = serde_json::from_str(text)?;
        }
    }
    serde_json_canonicalizer::to_vec(&values)
}
