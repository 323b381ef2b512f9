//! Leases: who may write, by the database's clock.
//!
//! Every instant is SQLite's own, taken inside the transaction, so that two machines with different clocks cannot both
//! hold a lease. A lease that was given back or has expired keeps its row, so that tokens only grow.

use std::sync::LazyLock;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::Failure;
use super::read::moment;
use super::schema::NOW;
use crate::store::{Holder, Lease, LeaseRecord, StoreError};

/// `?n` seconds from now, in the form of every column of time.
fn from_now(parameter: &str) -> String {
    format!("strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '+' || {parameter} || ' seconds')")
}

pub(super) async fn acquire(
    connection: &mut SqliteConnection,
    scope: &str,
    holder: &Holder,
    seconds: u32,
) -> Result<Lease, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "INSERT INTO leases (scope, token, who, pid, operation, correlation_id, acquired_at, expires_at)
             VALUES (?1, 1, ?2, ?3, ?4, ?5, {NOW}, {})
             ON CONFLICT (scope) DO UPDATE SET token = token + 1, who = excluded.who, pid = excluded.pid,
                 operation = excluded.operation, correlation_id = excluded.correlation_id,
                 acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
             WHERE leases.expires_at IS NULL OR leases.expires_at <= excluded.acquired_at
             RETURNING token",
            from_now("?6")
        )
    });
    let taken = sqlx::query(SQL.as_str())
        .bind(scope)
        .bind(holder.who.as_str())
        .bind(holder.pid)
        .bind(holder.operation.as_str())
        .bind(holder.correlation_id.as_str())
        .bind(seconds)
        .fetch_optional(&mut *connection)
        .await?;
    match taken {
        Some(row) => Ok(Lease { scope: scope.to_owned(), token: row.try_get(0)? }),
        None => Err(holder_of(connection, scope).await?.into()),
    }
}

/// The error that says who holds the lease.
async fn holder_of(connection: &mut SqliteConnection, scope: &str) -> Result<StoreError, Failure> {
    let sql = "SELECT who, pid, operation, acquired_at, expires_at FROM leases WHERE scope = ?1";
    let row = sqlx::query(sql).bind(scope).fetch_one(connection).await?;
    Ok(StoreError::Locked {
        scope: scope.to_owned(),
        who: row.try_get(0)?,
        pid: row.try_get(1)?,
        operation: row.try_get(2)?,
        since: moment(row.try_get(3)?)?,
        until: moment(row.try_get(4)?)?,
    })
}

pub(super) async fn renew(connection: &mut SqliteConnection, lease: &Lease, seconds: u32) -> Result<(), Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let expires_at = from_now("?3");
        format!(
            "UPDATE leases SET expires_at = {expires_at} WHERE scope = ?1 AND token = ?2 AND expires_at IS NOT NULL"
        )
    });
    let done =
        sqlx::query(SQL.as_str()).bind(&*lease.scope).bind(lease.token).bind(seconds).execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(lost(lease)) }
}

pub(super) async fn release(connection: &mut SqliteConnection, lease: &Lease) -> Result<(), Failure> {
    let sql = "UPDATE leases SET expires_at = NULL WHERE scope = ?1 AND token = ?2";
    sqlx::query(sql).bind(&*lease.scope).bind(lease.token).execute(connection).await?;
    Ok(())
}

/// Every lease that was not given back.
pub(super) async fn list(connection: &mut SqliteConnection) -> Result<Vec<LeaseRecord>, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT scope, token, who, pid, operation, acquired_at, expires_at, expires_at <= {NOW}
             FROM leases WHERE expires_at IS NOT NULL ORDER BY scope"
        )
    });
    let rows = sqlx::query(SQL.as_str()).fetch_all(connection).await?;
    let record = |row: &sqlx::sqlite::SqliteRow| {
        Ok(LeaseRecord {
            scope: row.try_get(0)?,
            token: row.try_get(1)?,
            who: row.try_get(2)?,
            pid: row.try_get(3)?,
            operation: row.try_get(4)?,
            since: moment(row.try_get(5)?)?,
            until: moment(row.try_get(6)?)?,
            expired: row.try_get(7)?,
        })
    };
    rows.iter().map(record).collect()
}

/// Ends a lease for whoever has it. The token grows, so that a worker that still believes in it writes nothing.
pub(super) async fn take_away(connection: &mut SqliteConnection, lease: &Lease) -> Result<bool, Failure> {
    let sql = "UPDATE leases SET expires_at = NULL, token = token + 1
               WHERE scope = ?1 AND token = ?2 AND expires_at IS NOT NULL";
    let done = sqlx::query(sql).bind(&*lease.scope).bind(lease.token).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Is the lease's token still the newest, and not given back? An expired lease that nobody took over still counts:
/// the transaction that asks has the database to itself, so nobody else can have written under a higher token.
pub(super) async fn check(connection: &mut SqliteConnection, lease: &Lease) -> Result<(), Failure> {
    let sql = "SELECT 1 FROM leases WHERE scope = ?1 AND token = ?2 AND expires_at IS NOT NULL";
    let held = sqlx::query(sql).bind(&*lease.scope).bind(lease.token).fetch_optional(connection).await?;
    if held.is_some() { Ok(()) } else { Err(lost(lease)) }
}

fn lost(lease: &Lease) -> Failure {
    StoreError::LeaseLost { scope: lease.scope.clone() }.into()
}
