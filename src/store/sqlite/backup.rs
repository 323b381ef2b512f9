//! Copies of a database as an SQLite file, whole and checked before anybody sees them.
//!
//! A copy of an SQLite database is SQLite's own (`VACUUM INTO`); that of another database is a [`NewFile`] of the same
//! schema, filled row by row. Nobody holds a lease in a copy: whoever held one works on the original.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::schema::{self, MIGRATIONS};
use super::write::insert_into;
use super::{Begin, Failure, Session, options};
use crate::store::rows::Moment;
use crate::store::tables::{self, Content, Table, Tally};
use crate::store::{Identity, StoreError};

/// Copies a database into the empty file `to`, as it is at this instant. Others may read meanwhile, and writers wait.
pub(super) async fn vacuum_into(connection: &mut SqliteConnection, to: &Path) -> Result<(), Failure> {
    let text = to.to_str().ok_or_else(|| Failure::Other("the path of its backup is not UTF-8".to_owned()))?;
    sqlx::query("VACUUM INTO ?1").bind(text).execute(connection).await?;
    let mut copy = Session::connect(unsafe_until_synced(to)).await?;
    finish(&mut copy.connection).await?;
    copy.connection.close().await?;
    sync(to)
}

/// A new SQLite file into which another database is copied. It is worth nothing before [`NewFile::finish`].
pub(in crate::store) struct NewFile<'a> {
    path: &'a Path,
    session: Session,
    tables: Vec<Table>,
}

impl<'a> NewFile<'a> {
    /// Makes the tables of a schema in the empty file `path`. What an attempt before left in it is gone.
    ///
    /// # Errors
    /// See [`StoreError`]; the file is not there.
    pub async fn create(path: &'a Path, schema: i64) -> Result<Self, StoreError> {
        let work = async {
            std::fs::File::options().write(true).truncate(true).open(path)?;
            let mut session = Session::connect(unsafe_until_synced(path)).await?;
            session.begin(Begin::Write).await?;
            let migrations: Vec<_> =
                MIGRATIONS.iter().copied().filter(|migration| migration.version <= schema).collect();
            schema::run(&mut session.connection, 0, &migrations).await?;
            let tables = tables_of(&mut session.connection).await?;
            Ok(Self { path, session, tables })
        };
        at(path, work.await)
    }

    /// Its tables, with the columns that its schema has.
    pub fn tables(&self) -> Vec<Table> {
        self.tables.clone()
    }

    /// Adds rows to a table, in its order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn insert(&mut self, table: &Table, rows: &[String]) -> Result<(), StoreError> {
        let sql = insert_into(table.name, &table.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let query = sqlx::query(AssertSqlSafe(sql)).bind(format!("[{}]", rows.join(",")));
        at(self.path, query.execute(&mut self.session.connection).await.map(drop).map_err(Failure::from))
    }

    /// Gives it the identity of the database that it is a copy of, and makes it durable.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn finish(mut self, identity: &Identity) -> Result<(), StoreError> {
        let work = async {
            let sql = "UPDATE meta SET lineage = ?1, created_at = ?2";
            let query = sqlx::query(sql).bind(identity.lineage.to_string());
            query.bind(Moment(identity.created_at).to_string()).execute(&mut self.session.connection).await?;
            self.session.end(Ok(())).await?;
            finish(&mut self.session.connection).await?;
            self.session.connection.close().await?;
            sync(self.path)
        };
        at(self.path, work.await)
    }
}

/// What a copy holds, read again from its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its schema.
    pub schema: i64,
    /// Every table.
    pub tables: Vec<(&'static str, Content)>,
}

/// Reads a copy from its file, and checks that SQLite finds it sound.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is not, and see [`StoreError`].
pub async fn read_copy(path: &Path) -> Result<Copied, StoreError> {
    let work = async {
        let mut session = Session::connect(options(path).read_only(true)).await?;
        let connection = &mut session.connection;
        if let Some(problem) = integrity(connection).await?.into_iter().next() {
            return Err(Failure::Corrupt(problem));
        }
        let schema = schema::found(connection).await?.ok_or(Failure::Missing)?;
        let mut tables = Vec::new();
        for table in tables_of(connection).await? {
            let mut tally = Tally::new(&table);
            loop {
                let page = super::read::page(connection, &table, tally.rows()).await?;
                if page.is_empty() {
                    break;
                }
                tally.take(&page)?;
            }
            tables.push((table.name, tally.finish()));
        }
        Ok(Copied { schema, tables })
    };
    at(path, work.await)
}

/// What SQLite finds wrong with the file itself.
pub(super) async fn integrity(connection: &mut SqliteConnection) -> Result<Vec<String>, Failure> {
    let rows = sqlx::query("PRAGMA integrity_check(20)").fetch_all(connection).await?;
    let lines = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Every table that the file has, with the columns that it has there: an older schema lacks some.
async fn tables_of(connection: &mut SqliteConnection) -> Result<Vec<Table>, Failure> {
    let mut present = Vec::new();
    for mut table in tables::all() {
        let rows = sqlx::query("SELECT name FROM pragma_table_info(?1)").bind(table.name).fetch_all(&mut *connection);
        let names = rows.await?.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
        table.columns.retain(|(column, _)| names.iter().any(|name| name == column));
        present.extend(Some(table).filter(|table| !table.columns.is_empty()));
    }
    Ok(present)
}

/// A copy is worth nothing until it is whole, so that nothing of it is made durable before.
fn unsafe_until_synced(path: &Path) -> SqliteConnectOptions {
    options(path).journal_mode(SqliteJournalMode::Off).synchronous(SqliteSynchronous::Off)
}

async fn finish(connection: &mut SqliteConnection) -> Result<(), Failure> {
    sqlx::query("UPDATE leases SET expires_at = NULL").execute(connection).await?;
    Ok(())
}

fn sync(path: &Path) -> Result<(), Failure> {
    Ok(std::fs::File::open(path)?.sync_all()?)
}

fn at<T>(path: &Path, result: Result<T, Failure>) -> Result<T, StoreError> {
    result.map_err(|failure| failure.while_writing().at(&path.display().to_string()))
}
