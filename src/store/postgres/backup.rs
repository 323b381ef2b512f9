//! A copy of a PostgreSQL state database as an SQLite file.

use std::path::Path;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{Failure, read, schema};
use crate::store::sqlite::{NewFile, read_copy};
use crate::store::tables::Tally;
use crate::store::{StoreError, Table};

/// Copies everything that the transaction of this connection sees into the empty file `to`, and reads it again there. The
/// file has the schema that the database has. A transaction that does not see one instant throughout keeps writers away
/// meanwhile (`lock`).
pub(super) async fn copy_out(connection: &mut PgConnection, to: &Path, lock: bool) -> Result<(), Failure> {
    let schema = schema::found(connection).await?.ok_or(Failure::Missing)?;
    let identity = read::identity(connection).await?;
    let mut file = NewFile::create(to, schema).await?;
    if lock {
        let names: Vec<_> = file.tables().iter().map(Table::name).collect();
        let sql = format!("LOCK TABLE {} IN SHARE MODE", names.join(", "));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    let mut tables = Vec::new();
    for table in file.tables() {
        let mut tally = Tally::new(&table);
        loop {
            let page = read::page(connection, &table, tally.rows()).await?;
            if page.is_empty() {
                break;
            }
            tally.take(&page)?;
            file.insert(&table, &page).await?;
        }
        tables.push((table.name(), tally.finish()));
    }
    file.finish(&identity).await?;
    let copied = read_copy(to).await?;
    if copied.tables == tables {
        return Ok(());
    }
    let message = "it does not hold what was written into it".to_owned();
    Err(StoreError::Corrupt { location: to.display().to_string(), message }.into())
}
