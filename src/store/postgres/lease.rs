//! Leases: who may write, by the database's clock.
//!
//! A lease is a row, and whoever writes under it has that row locked until its transaction has ended. So whoever takes a
//! lease over waits for the last commit under it, and after that no other can come. A lease that was given back or has
//! expired keeps its row until somebody takes one of its scopes.
//!
//! Those who take leases come one after the other, so that two of them with scopes in common cannot wait for each other.

use std::collections::BTreeSet;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::Failure;
use super::read::{instant, moment};
use crate::model::Timestamp;
use crate::store::lease::{BROKEN, names, parse_names};
use crate::store::rows::TenantOrAll;
use crate::store::{Holder, Lease, LeaseRecord, LeaseScope, StoreError};

/// Takes the lease. When this is done `again`, after the answer was lost, the holder may have it already: then it is
/// taken anew, with a higher token.
pub(super) async fn acquire(
    connection: &mut PgConnection,
    scopes: &BTreeSet<LeaseScope>,
    holder: &Holder,
    seconds: u32,
    again: bool,
) -> Result<Lease, Failure> {
    one_at_a_time(connection).await?;
    let names = names(scopes)?;
    let own = again.then_some(holder);
    if let Some(in_the_way) = in_the_way(connection, Some(&names), own).await? {
        return Err(in_the_way.into());
    }
    // What is left on these scopes was given back or has expired, and is lost as a whole: unless it is prolonged while
    // this waits for the last commit under it.
    let sql = "DELETE FROM leases WHERE token IN
                   (SELECT token FROM lease_scopes WHERE scope IN (SELECT jsonb_array_elements_text($1::jsonb)))
               AND (expires_at IS NULL OR expires_at <= clock_timestamp()
                   OR (who, pid, operation, correlation_id) = ($2, $3, $4, $5))";
    let (who, pid, operation, correlation_id) = own_or_nobody(own);
    let query = sqlx::query(sql).bind(names.as_str()).bind(who).bind(pid).bind(operation).bind(correlation_id);
    query.persistent(false).execute(&mut *connection).await?;
    let sql = "INSERT INTO leases (who, pid, operation, correlation_id, acquired_at, expires_at)
               VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + make_interval(secs => $5))
               RETURNING token";
    let token: i64 = sqlx::query(sql)
        .bind(holder.who.as_str())
        .bind(i64::from(holder.pid))
        .bind(holder.operation.as_str())
        .bind(holder.correlation_id.as_str())
        .bind(f64::from(seconds))
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let sql = "INSERT INTO lease_scopes (scope, token) SELECT jsonb_array_elements_text($1::jsonb), $2
               ON CONFLICT (scope) DO NOTHING";
    let query = sqlx::query(sql).bind(names.as_str()).bind(token).persistent(false);
    if query.execute(&mut *connection).await?.rows_affected() < scopes.len() as u64 {
        let prolonged = in_the_way(connection, Some(&names), own).await?;
        return Err(prolonged.map_or_else(|| Failure::Other("a lease changed hands".to_owned()), Failure::from));
    }
    // Nobody asks for a batch of yesterday.
    sqlx::query("DELETE FROM batches WHERE committed_at < clock_timestamp() - interval '1 day'")
        .persistent(false)
        .execute(connection)
        .await?;
    Ok(Lease::new(token, scopes.clone()))
}

/// Refuses while anybody holds a lease, and lets nobody take one before this transaction has ended: a schema changes
/// under nobody's hands.
pub(super) async fn unused(connection: &mut PgConnection) -> Result<(), Failure> {
    one_at_a_time(connection).await?;
    in_the_way(connection, None, None).await?.map_or(Ok(()), |locked| Err(locked.into()))
}

/// Readers, commits and prolongations do not wait for this.
pub(super) async fn one_at_a_time(connection: &mut PgConnection) -> Result<(), Failure> {
    sqlx::raw_sql("LOCK TABLE lease_scopes IN EXCLUSIVE MODE").execute(connection).await?;
    Ok(())
}

/// No lease is as nobody's: nothing equals NULL.
fn own_or_nobody(own: Option<&Holder>) -> (Option<&str>, Option<i64>, Option<&str>, Option<&str>) {
    let own = own.map(|own| (&*own.who, i64::from(own.pid), &*own.operation, &*own.correlation_id));
    (own.map(|own| own.0), own.map(|own| own.1), own.map(|own| own.2), own.map(|own| own.3))
}

/// The error that says who else holds one of these scopes, or (none) any at all.
pub(super) async fn in_the_way(
    connection: &mut PgConnection,
    names: Option<&str>,
    own: Option<&Holder>,
) -> Result<Option<StoreError>, Failure> {
    let sql = format!(
        "SELECT scope, who, pid, operation, {}, {} FROM lease_scopes JOIN leases USING (token)
         WHERE ($1::jsonb IS NULL OR scope IN (SELECT jsonb_array_elements_text($1::jsonb)))
             AND expires_at > clock_timestamp()
             AND ((who, pid, operation, correlation_id) = ($2, $3, $4, $5)) IS NOT TRUE
         ORDER BY scope COLLATE \"C\" LIMIT 1",
        instant("acquired_at"),
        instant("expires_at"),
    );
    let (who, pid, operation, correlation_id) = own_or_nobody(own);
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(names).bind(who).bind(pid).bind(operation);
    let row = query.bind(correlation_id).persistent(false).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let scope = TenantOrAll::try_from(row.try_get::<String, _>(0)?);
    Ok(Some(StoreError::Locked {
        scope: scope.map_err(|error| Failure::Corrupt(format!("the leases: {error}")))?.into(),
        who: row.try_get(1)?,
        pid: u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or_default(),
        operation: row.try_get(3)?,
        since: moment(row.try_get(4)?)?,
        until: moment(row.try_get(5)?)?,
    }))
}

pub(super) async fn renew(connection: &mut PgConnection, lease: &Lease, seconds: u32) -> Result<(), Failure> {
    let sql = "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $2)
         WHERE token = $1 AND expires_at IS NOT NULL";
    let query = sqlx::query(sql).bind(lease.token).bind(f64::from(seconds));
    let done = query.persistent(false).execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(lost(lease)) }
}

pub(super) async fn narrow(
    connection: &mut PgConnection,
    lease: &Lease,
    scopes: &BTreeSet<LeaseScope>,
) -> Result<Lease, Failure> {
    let sql = "DELETE FROM lease_scopes
         WHERE token = $1 AND scope NOT IN (SELECT jsonb_array_elements_text($2::jsonb))";
    sqlx::query(sql).bind(lease.token).bind(names(scopes)?).persistent(false).execute(connection).await?;
    Ok(lease.narrowed(scopes))
}

pub(super) async fn release(connection: &mut PgConnection, lease: &Lease) -> Result<(), Failure> {
    end(connection, lease.token).await
}

/// Takes a lease away from whoever has it. What it is on stays in the way for so many seconds, at most until it expires.
/// Gives until when; none if nobody had it.
pub(super) async fn take_away(
    connection: &mut PgConnection,
    token: i64,
    seconds: u32,
) -> Result<Option<Timestamp>, Failure> {
    // Whoever writes under it has its row: this waits for them.
    let sql = format!(
        "WITH held AS (SELECT * FROM leases WHERE token = $1 AND expires_at IS NOT NULL FOR UPDATE)
         INSERT INTO leases (who, pid, operation, correlation_id, acquired_at, expires_at)
         SELECT who, pid, operation || $3, correlation_id, acquired_at,
                least(expires_at, clock_timestamp() + make_interval(secs => $2)) FROM held
         RETURNING token, {}",
        instant("expires_at")
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(token).bind(f64::from(seconds)).bind(BROKEN);
    let Some(moved) = query.persistent(false).fetch_optional(&mut *connection).await? else { return Ok(None) };
    let (new, free_at): (i64, _) = (moved.try_get(0)?, moment(moved.try_get(1)?)?);
    let sql = "UPDATE lease_scopes SET token = $2 WHERE token = $1";
    sqlx::query(sql).bind(token).bind(new).persistent(false).execute(&mut *connection).await?;
    end(connection, token).await?;
    Ok(Some(free_at))
}

/// So many seconds from now.
pub(super) async fn in_seconds(connection: &mut PgConnection, seconds: u32) -> Result<Timestamp, Failure> {
    let sql = format!("SELECT {}", instant("(clock_timestamp() + make_interval(secs => $1))"));
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(f64::from(seconds));
    moment(query.persistent(false).fetch_one(connection).await?.try_get(0)?)
}

/// Ends a lease: nothing is written under it any more.
async fn end(connection: &mut PgConnection, token: i64) -> Result<(), Failure> {
    let sql = "UPDATE leases SET expires_at = NULL WHERE token = $1";
    sqlx::query(sql).bind(token).persistent(false).execute(connection).await?;
    Ok(())
}

/// Every lease that was not given back.
pub(super) async fn list(connection: &mut PgConnection) -> Result<Vec<LeaseRecord>, Failure> {
    let sql = format!(
        "SELECT token, (SELECT coalesce(json_agg(scope ORDER BY scope COLLATE \"C\"), '[]')::text
                FROM lease_scopes WHERE lease_scopes.token = leases.token),
             who, pid, operation, {}, {}, expires_at <= clock_timestamp()
         FROM leases WHERE expires_at IS NOT NULL ORDER BY token",
        instant("acquired_at"),
        instant("expires_at"),
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false).fetch_all(connection).await?;
    let record = |row: &sqlx::postgres::PgRow| {
        let scopes = parse_names(row.try_get(1)?);
        let (repository, tenants) = scopes.map_err(|error| Failure::Corrupt(format!("the leases: {error}")))?;
        Ok(LeaseRecord {
            token: row.try_get(0)?,
            repository,
            tenants,
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

/// Locks the lease's row until the end of the transaction, and says whether the lease is still there and not given back.
/// An expired lease that nobody took over still counts: nobody else can have written under a higher token.
pub(super) async fn lock(connection: &mut PgConnection, lease: &Lease) -> Result<bool, Failure> {
    let sql = "SELECT expires_at IS NOT NULL FROM leases WHERE token = $1 FOR UPDATE";
    let row = sqlx::query(sql).bind(lease.token).persistent(false).fetch_optional(connection).await?;
    Ok(match row {
        Some(row) => row.try_get(0)?,
        None => false,
    })
}

pub(super) fn lost(lease: &Lease) -> Failure {
    StoreError::LeaseLost { token: lease.token }.into()
}
