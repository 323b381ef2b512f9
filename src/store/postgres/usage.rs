//! Usage counters in PostgreSQL.

use std::collections::BTreeMap;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::Failure;
use crate::model::UsageCounter;
use crate::store::rows::{Moment, UsageSum, integer};

/// See [`State::report_usage`](crate::store::State::report_usage).
pub(super) async fn report(connection: &mut PgConnection, counter: &UsageCounter) -> Result<u64, Failure> {
    let sql =
        "INSERT INTO usage_counters (key_version_id, source, total, reported_at) VALUES ($1::uuid, $2, $3, $4::timestamptz)
               ON CONFLICT (key_version_id, source) DO UPDATE SET total = excluded.total, reported_at = excluded.reported_at
               WHERE excluded.total > usage_counters.total";
    sqlx::query(sql)
        .bind(counter.key_version_id.to_string())
        .bind(&counter.source)
        .bind(integer(counter.total))
        .bind(Moment(counter.reported_at).to_string())
        .persistent(false)
        .execute(&mut *connection)
        .await?;
    let sql = "SELECT total FROM usage_counters WHERE key_version_id = $1::uuid";
    let query = sqlx::query(sql).bind(counter.key_version_id.to_string()).persistent(false);
    let mut sum = UsageSum::default();
    for row in query.fetch_all(connection).await? {
        sum.add(row.try_get(0)?);
    }
    Ok(sum.get())
}

/// How often each primary version was used.
pub(super) async fn of_primaries(connection: &mut PgConnection) -> Result<BTreeMap<Uuid, u64>, Failure> {
    let sql = "SELECT key_version_id::text, total FROM usage_counters
               JOIN encryption_keys ON primary_version_id = key_version_id WHERE removed_at IS NULL";
    let mut sums: BTreeMap<Uuid, UsageSum> = BTreeMap::new();
    for row in sqlx::query(sql).persistent(false).fetch_all(connection).await? {
        let id: String = row.try_get(0)?;
        let id = id.parse().map_err(|_| Failure::Corrupt(format!("a usage counter is of version {id:?}")))?;
        sums.entry(id).or_default().add(row.try_get(1)?);
    }
    Ok(sums.into_iter().map(|(id, sum)| (id, sum.get())).collect())
}
