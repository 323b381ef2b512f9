//! The outbox in PostgreSQL.

use std::sync::LazyLock;

use sqlx::postgres::PgConnection;
use sqlx::{QueryBuilder, Row as _};

use super::Failure;
use super::read::{all, array, select};
use crate::model::{Delivery, Timestamp};
use crate::store::rows::{Moment, OutboxRow};
use crate::store::{OutboxFilter, Undelivered};

/// See [`State::claim`](crate::store::State::claim).
pub(super) async fn claim(
    connection: &mut PgConnection,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<Delivery>, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            // What another sender claims meanwhile is seen once its row is locked: so the row itself is asked once more.
            "WITH turns AS (SELECT id, channel, receiver,
                     row_number() OVER (PARTITION BY channel, receiver ORDER BY created_at, id) AS turn
                 FROM outbox WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= $1::timestamptz)
             UPDATE outbox SET attempt = attempt + 1, next_attempt_at = $2::timestamptz WHERE (id, channel, receiver) IN
                 (SELECT id, channel, receiver FROM outbox AS waiting JOIN turns USING (id, channel, receiver)
                  WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= $1::timestamptz
                  ORDER BY turn, created_at, id, channel, receiver LIMIT $3 FOR UPDATE OF waiting SKIP LOCKED)
             RETURNING {}",
            array::<OutboxRow>("outbox")
        )
    });
    let query = sqlx::query(SQL.as_str()).bind(Moment(now).to_string()).bind(Moment(until).to_string());
    let mut claimed: Vec<Delivery> = all::<OutboxRow, _>(query.bind(i64::from(limit)), connection).await?;
    claimed.sort_by_key(|delivery| (delivery.message.at, delivery.message.id, delivery.channel));
    Ok(claimed)
}

/// See [`State::conclude`](crate::store::State::conclude).
pub(super) async fn conclude(connection: &mut PgConnection, concluded: &str) -> Result<(), Failure> {
    let sql =
        "UPDATE outbox SET attempt = (r ->> 4)::bigint, next_attempt_at = (r ->> 5)::timestamptz, error = r ->> 6,
                   sent_at = (r ->> 7)::timestamptz, given_up_at = (r ->> 8)::timestamptz
               FROM jsonb_array_elements($1::jsonb) AS rows (r)
               WHERE id = (r ->> 0)::uuid AND channel = r ->> 1 AND receiver = r ->> 2 AND attempt = (r ->> 3)::bigint
                   AND sent_at IS NULL AND given_up_at IS NULL";
    sqlx::query(sql).bind(concluded).persistent(false).execute(connection).await?;
    Ok(())
}

/// See [`State::revive`](crate::store::State::revive).
pub(super) async fn revive(connection: &mut PgConnection, now: Timestamp, given_up: bool) -> Result<u64, Failure> {
    let sql = "UPDATE outbox SET given_up_at = NULL, attempt = CASE WHEN given_up_at IS NULL THEN attempt ELSE 0 END, next_attempt_at = $1::timestamptz
               WHERE sent_at IS NULL AND CASE WHEN given_up_at IS NULL THEN error IS NOT NULL AND next_attempt_at > $1::timestamptz ELSE $2 END";
    let done =
        sqlx::query(sql).bind(Moment(now).to_string()).bind(given_up).persistent(false).execute(connection).await?;
    Ok(done.rows_affected())
}

/// See [`ReadState::outbox`](crate::store::ReadState::outbox).
pub(super) async fn list(connection: &mut PgConnection, filter: &OutboxFilter) -> Result<Vec<Delivery>, Failure> {
    let mut query = QueryBuilder::new(select::<OutboxRow>("WHERE true"));
    if let Some(tenant_id) = &filter.tenant_id {
        query.push(" AND tenant_id = ").push_bind(tenant_id.as_str());
    }
    if filter.undelivered {
        query.push(" AND sent_at IS NULL");
    }
    query.push(" ORDER BY created_at DESC, id DESC, channel, receiver");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }
    all::<OutboxRow, Delivery>(query.build(), connection).await
}

/// See [`ReadState::undelivered`](crate::store::ReadState::undelivered).
pub(super) async fn undelivered(connection: &mut PgConnection) -> Result<Undelivered, Failure> {
    let sql = "SELECT count(*) FILTER (WHERE given_up_at IS NULL), count(*) FILTER (WHERE given_up_at IS NOT NULL)
               FROM outbox WHERE sent_at IS NULL";
    let row = sqlx::query(sql).persistent(false).fetch_one(connection).await?;
    let count = |column: usize| row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or_default());
    Ok(Undelivered { waiting: count(0)?, given_up: count(1)? })
}
