//! Leases: who may write, by the database's clock.
//!
//! A lease is a row, and whoever writes under it has that row locked until its transaction has ended. So whoever takes a
//! lease over waits for the last commit under it, and after that no other can come. A lease that was given back or has
//! expired keeps its row, so that tokens only grow.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::Failure;
use super::read::{instant, moment};
use crate::store::{Holder, Lease, LeaseRecord, StoreError};

/// Takes the lease. When this is done `again`, after the answer was lost, the holder may have it already: then it is
/// taken anew, with a higher token.
pub(super) async fn acquire(
    connection: &mut PgConnection,
    scope: &str,
    holder: &Holder,
    seconds: u32,
    again: bool,
) -> Result<Lease, Failure> {
    let sql = "INSERT INTO leases (scope, token, who, pid, operation, correlation_id, acquired_at, expires_at)
         VALUES ($1, 1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp() + make_interval(secs => $6))
         ON CONFLICT (scope) DO UPDATE SET token = leases.token + 1, who = excluded.who, pid = excluded.pid,
             operation = excluded.operation, correlation_id = excluded.correlation_id,
             acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
         WHERE leases.expires_at IS NULL OR leases.expires_at <= clock_timestamp()
             OR $7 AND (leases.who, leases.pid, leases.operation, leases.correlation_id)
                 = (excluded.who, excluded.pid, excluded.operation, excluded.correlation_id)
         RETURNING token";
    let taken = sqlx::query(sql)
        .bind(scope)
        .bind(holder.who.as_str())
        .bind(i64::from(holder.pid))
        .bind(holder.operation.as_str())
        .bind(holder.correlation_id.as_str())
        .bind(f64::from(seconds))
        .bind(again)
        .persistent(false)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = taken else { return Err(holder_of(connection, scope).await?.into()) };
    // Nobody asks for a batch of yesterday.
    sqlx::query("DELETE FROM batches WHERE committed_at < clock_timestamp() - interval '1 day'")
        .persistent(false)
        .execute(connection)
        .await?;
    Ok(Lease { scope: scope.to_owned(), token: row.try_get(0)? })
}

/// The error that says who holds the lease.
async fn holder_of(connection: &mut PgConnection, scope: &str) -> Result<StoreError, Failure> {
    let sql = format!(
        "SELECT who, pid, operation, {}, coalesce({}, {}) FROM leases WHERE scope = $1",
        instant("acquired_at"),
        instant("expires_at"),
        instant("acquired_at"),
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(scope).persistent(false).fetch_one(connection).await?;
    Ok(StoreError::Locked {
        scope: scope.to_owned(),
        who: row.try_get(0)?,
        pid: u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default(),
        operation: row.try_get(2)?,
        since: moment(row.try_get(3)?)?,
        until: moment(row.try_get(4)?)?,
    })
}

pub(super) async fn renew(connection: &mut PgConnection, lease: &Lease, seconds: u32) -> Result<(), Failure> {
    let sql = "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $3)
         WHERE scope = $1 AND token = $2 AND expires_at IS NOT NULL";
    let query = sqlx::query(sql).bind(&*lease.scope).bind(lease.token).bind(f64::from(seconds));
    let done = query.persistent(false).execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(lost(lease)) }
}

pub(super) async fn release(connection: &mut PgConnection, lease: &Lease) -> Result<(), Failure> {
    let sql = "UPDATE leases SET expires_at = NULL WHERE scope = $1 AND token = $2";
    sqlx::query(sql).bind(&*lease.scope).bind(lease.token).persistent(false).execute(connection).await?;
    Ok(())
}

/// Every lease that was not given back.
pub(super) async fn list(connection: &mut PgConnection) -> Result<Vec<LeaseRecord>, Failure> {
    let sql = format!(
        "SELECT scope, token, who, pid, operation, {}, {}, expires_at <= clock_timestamp()
         FROM leases WHERE expires_at IS NOT NULL ORDER BY scope",
        instant("acquired_at"),
        instant("expires_at"),
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false).fetch_all(connection).await?;
    let record = |row: &sqlx::postgres::PgRow| {
        Ok(LeaseRecord {
            scope: row.try_get(0)?,
            token: row.try_get(1)?,
            who: row.try_get(2)?,
            pid: u32::try_from(row.try_get::<i64, _>(3)?).unwrap_or_default(),
            operation: row.try_get(4)?,
            since: moment(row.try_get(5)?)?,
            until: moment(row.try_get(6)?)?,
            expired: row.try_get(7)?,
        })
    };
    rows.iter().map(record).collect()
}

/// Ends a lease for whoever has it. The token grows, so that a worker that still believes in it writes nothing.
pub(super) async fn take_away(connection: &mut PgConnection, lease: &Lease) -> Result<bool, Failure> {
    let sql = "UPDATE leases SET expires_at = NULL, token = token + 1
         WHERE scope = $1 AND token = $2 AND expires_at IS NOT NULL";
    let done = sqlx::query(sql).bind(&*lease.scope).bind(lease.token).persistent(false).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Locks the lease's row until the end of the transaction, and says whether the lease is still this one and not given
/// back. An expired lease that nobody took over still counts: nobody else can have written under a higher token.
pub(super) async fn lock(connection: &mut PgConnection, lease: &Lease) -> Result<bool, Failure> {
    let sql = "SELECT token = $2 AND expires_at IS NOT NULL FROM leases WHERE scope = $1 FOR UPDATE";
    let query = sqlx::query(sql).bind(&*lease.scope).bind(lease.token).persistent(false);
    let row = query.fetch_optional(connection).await?;
    Ok(match row {
        Some(row) => row.try_get(0)?,
        None => false,
    })
}

pub(super) fn lost(lease: &Lease) -> Failure {
    StoreError::LeaseLost { scope: lease.scope.clone() }.into()
}
