//! Leases: who may write, by the database's clock.
//!
//! Every instant is SQLite's own, taken inside the transaction, so that two machines with different clocks cannot both
//! hold a lease. A lease that was given back or has expired keeps its row until somebody takes one of its scopes.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::Failure;
use super::read::moment;
use super::schema::NOW;
use crate::model::Timestamp;
use crate::store::lease::{BROKEN, names, parse_names};
use crate::store::rows::TenantOrAll;
use crate::store::{Holder, Lease, LeaseRecord, LeaseScope, StoreError};

/// `?n` seconds from now, in the form of every column of time.
fn from_now(parameter: &str) -> String {
    format!("strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '+' || {parameter} || ' seconds')")
}

/// Takes a lease, inside a transaction that has the write lock.
pub(super) async fn acquire(
    connection: &mut SqliteConnection,
    scopes: &BTreeSet<LeaseScope>,
    holder: &Holder,
    seconds: u32,
) -> Result<Lease, Failure> {
    static TAKE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "INSERT INTO leases (who, pid, operation, correlation_id, acquired_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, {NOW}, {}) RETURNING token",
            from_now("?5")
        )
    });
    let names = names(scopes)?;
    if let Some(in_the_way) = in_the_way(connection, Some(&names)).await? {
        return Err(in_the_way.into());
    }
    // What is left on these scopes was given back or has expired, and is lost as a whole.
    let sql = "DELETE FROM leases WHERE token IN
                   (SELECT token FROM lease_scopes WHERE scope IN (SELECT value FROM json_each(?1)))";
    sqlx::query(sql).bind(names.as_str()).execute(&mut *connection).await?;
    let token: i64 = sqlx::query(TAKE.as_str())
        .bind(holder.who.as_str())
        .bind(holder.pid)
        .bind(holder.operation.as_str())
        .bind(holder.correlation_id.as_str())
        .bind(seconds)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let sql = "INSERT INTO lease_scopes (scope, token) SELECT value, ?2 FROM json_each(?1)";
    sqlx::query(sql).bind(names).bind(token).execute(connection).await?;
    Ok(Lease::new(token, scopes.clone()))
}

/// The error that says who holds one of these scopes, or (none) any at all.
pub(super) async fn in_the_way(
    connection: &mut SqliteConnection,
    names: Option<&str>,
) -> Result<Option<StoreError>, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT scope, who, pid, operation, acquired_at, expires_at FROM lease_scopes JOIN leases USING (token)
             WHERE (?1 IS NULL OR scope IN (SELECT value FROM json_each(?1))) AND expires_at > {NOW}
             ORDER BY scope LIMIT 1"
        )
    });
    let Some(row) = sqlx::query(SQL.as_str()).bind(names).fetch_optional(connection).await? else { return Ok(None) };
    let scope = TenantOrAll::try_from(row.try_get::<String, _>(0)?);
    Ok(Some(StoreError::Locked {
        scope: scope.map_err(|error| Failure::Corrupt(format!("the leases: {error}")))?.into(),
        who: row.try_get(1)?,
        pid: row.try_get(2)?,
        operation: row.try_get(3)?,
        since: moment(row.try_get(4)?)?,
        until: moment(row.try_get(5)?)?,
    }))
}

pub(super) async fn renew(connection: &mut SqliteConnection, lease: &Lease, seconds: u32) -> Result<(), Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let expires_at = from_now("?2");
        format!("UPDATE leases SET expires_at = {expires_at} WHERE token = ?1 AND expires_at IS NOT NULL")
    });
    let done = sqlx::query(SQL.as_str()).bind(lease.token).bind(seconds).execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(lost(lease)) }
}

pub(super) async fn narrow(
    connection: &mut SqliteConnection,
    lease: &Lease,
    scopes: &BTreeSet<LeaseScope>,
) -> Result<Lease, Failure> {
    let sql = "DELETE FROM lease_scopes WHERE token = ?1 AND scope NOT IN (SELECT value FROM json_each(?2))";
    sqlx::query(sql).bind(lease.token).bind(names(scopes)?).execute(connection).await?;
    Ok(lease.narrowed(scopes))
}

pub(super) async fn release(connection: &mut SqliteConnection, lease: &Lease) -> Result<(), Failure> {
    end(connection, lease.token).await
}

/// Takes a lease away from whoever has it. What it is on stays in the way for so many seconds, at most until it expires.
/// Gives until when; none if nobody had it.
pub(super) async fn take_away(
    connection: &mut SqliteConnection,
    token: i64,
    seconds: u32,
) -> Result<Option<Timestamp>, Failure> {
    static MOVE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "INSERT INTO leases (who, pid, operation, correlation_id, acquired_at, expires_at)
             SELECT who, pid, operation || ?3, correlation_id, acquired_at, min(expires_at, {})
             FROM leases WHERE token = ?1 AND expires_at IS NOT NULL RETURNING token, expires_at",
            from_now("?2")
        )
    });
    let moved = sqlx::query(MOVE.as_str()).bind(token).bind(seconds).bind(BROKEN);
    let Some(moved) = moved.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let (new, free_at): (i64, _) = (moved.try_get(0)?, moment(moved.try_get(1)?)?);
    let sql = "UPDATE lease_scopes SET token = ?2 WHERE token = ?1";
    sqlx::query(sql).bind(token).bind(new).execute(&mut *connection).await?;
    end(connection, token).await?;
    Ok(Some(free_at))
}

/// Ends a lease: nothing is written under it any more.
async fn end(connection: &mut SqliteConnection, token: i64) -> Result<(), Failure> {
    let sql = "UPDATE leases SET expires_at = NULL WHERE token = ?1";
    sqlx::query(sql).bind(token).execute(connection).await?;
    Ok(())
}

/// Every lease that was not given back.
pub(super) async fn list(connection: &mut SqliteConnection) -> Result<Vec<LeaseRecord>, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT token, (SELECT json_group_array(scope) FROM
                    (SELECT scope FROM lease_scopes WHERE lease_scopes.token = leases.token ORDER BY scope)),
                who, pid, operation, acquired_at, expires_at, expires_at <= {NOW}
             FROM leases WHERE expires_at IS NOT NULL ORDER BY token"
        )
    });
    let rows = sqlx::query(SQL.as_str()).fetch_all(connection).await?;
    let record = |row: &sqlx::sqlite::SqliteRow| {
        let scopes = parse_names(row.try_get(1)?);
        let (repository, tenants) = scopes.map_err(|error| Failure::Corrupt(format!("the leases: {error}")))?;
        Ok(LeaseRecord {
            token: row.try_get(0)?,
            repository,
            tenants,
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

/// Is the lease still there, and not given back? An expired lease that nobody took over still counts: the transaction
/// that asks has the database to itself, so nobody else can have written under a higher token.
pub(super) async fn check(connection: &mut SqliteConnection, lease: &Lease) -> Result<(), Failure> {
    let sql = "SELECT 1 FROM leases WHERE token = ?1 AND expires_at IS NOT NULL";
    let held = sqlx::query(sql).bind(lease.token).fetch_optional(connection).await?;
    if held.is_some() { Ok(()) } else { Err(lost(lease)) }
}

fn lost(lease: &Lease) -> Failure {
    StoreError::LeaseLost { token: lease.token }.into()
}
