//! Writing: [`State`] for PostgreSQL.
//!
//! *A commit that was not answered.* Each batch has an identity, which its transaction writes into `batches`. When the
//! connection breaks, the batch is tried again, and the repetition first locks the lease's row: the transaction before it
//! had that lock from its beginning to its end, so that by then it has ended, one way or the other. If the identity is
//! there, the batch was written, and nothing is left to do; if not, it never will be, and it is written now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::{Begin, COPY_TIMEOUT, Failure, Postgres, Writing, lease, outbox, transaction, usage};
use crate::model::{AuditEntry, Delivery, Name, Timestamp, UsageCounter};
use crate::store::audit::AuditHead;
use crate::store::batch::{Batch, Kind};
use crate::store::rows::{
    AuditRow, ColumnType, DocumentRow, KeyRow, Moment, OutboxRow, PlanRow, PolicyRow, RotationRow, Row, StepRow,
    TenantOrAll, VersionRow, concluded_rows,
};
use crate::store::{Holder, Lease, LeaseScope, Migrated, ReadState, State, StoreError, Write, tables};

#[async_trait]
impl State for Postgres<Writing> {
    async fn acquire(&self, scopes: &BTreeSet<LeaseScope>, holder: &Holder, seconds: u32) -> Result<Lease, StoreError> {
        let tried = AtomicBool::new(false);
        transaction!(self, Begin::Write, |connection| {
            lease::acquire(connection, scopes, holder, seconds, tried.swap(true, Ordering::Relaxed))
        })
    }

    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError> {
        transaction!(self, Begin::Write, |connection| lease::renew(connection, lease, seconds))
    }

    async fn narrow(&self, lease: &Lease, scopes: &BTreeSet<LeaseScope>) -> Result<Lease, StoreError> {
        transaction!(self, Begin::Write, |connection| lease::narrow(connection, lease, scopes))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        transaction!(self, Begin::Write, |connection| lease::release(connection, lease))
    }

    #[expect(clippy::disallowed_methods, reason = "a batch's name is the store's own, and in no record")]
    async fn break_lease(&self, token: i64, seconds: u32, entry: &AuditEntry) -> Result<Option<Timestamp>, StoreError> {
        let id = Uuid::now_v7();
        transaction!(self, Begin::Write, |connection| break_lease(id, connection, token, seconds, entry))
    }

    #[expect(clippy::disallowed_methods, reason = "a batch's name is the store's own, and in no record")]
    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        // Everything that does not need the database is done before its locks are taken.
        lease.covers(writes)?;
        let batch = Batch::new(writes)?;
        let id = Uuid::now_v7();
        transaction!(self, Begin::Write, |connection| write(&batch, id, connection, lease))
    }

    async fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        transaction!(self, Begin::Write, |connection| outbox::claim(connection, now, until, limit))
    }

    async fn conclude(&self, concluded: &[(u32, Delivery)]) -> Result<(), StoreError> {
        let concluded = concluded_rows(concluded)?;
        transaction!(self, Begin::Write, |connection| outbox::conclude(connection, &concluded))
    }

    async fn revive(&self, now: Timestamp, given_up: bool) -> Result<u64, StoreError> {
        transaction!(self, Begin::Write, |connection| outbox::revive(connection, now, given_up))
    }

    async fn report_usage(&self, counter: &UsageCounter) -> Result<u64, StoreError> {
        transaction!(self, Begin::Write, |connection| usage::report(connection, counter))
    }

    fn migrated(&self) -> Option<&Migrated> {
        self.migrated.as_ref()
    }

    #[expect(clippy::disallowed_methods, reason = "a batch's name is the store's own, and in no record")]
    async fn copy_from(&self, lease: &Lease, source: &dyn ReadState) -> Result<(), StoreError> {
        let id = Uuid::now_v7();
        let attempts = self.attempts().each_within(COPY_TIMEOUT);
        transaction!(self, attempts, Begin::Write, |connection| copy(id, connection, lease, source))
    }
}

async fn write(batch: &Batch<'_>, id: Uuid, connection: &mut PgConnection, lease: &Lease) -> Result<(), Failure> {
    let held = lease::lock(connection, lease).await?;
    // Asked before the lease: it may have been lost since this batch was written.
    if was_written(id, connection).await? {
        return Ok(());
    }
    if !held {
        return Err(lease::lost(lease));
    }
    for (kind, rows) in &batch.statements {
        sqlx::query(sql(*kind)).bind(rows.as_str()).persistent(false).execute(&mut *connection).await?;
    }
    audit(batch, connection).await?;
    note(id, connection).await
}

/// Appends a batch's entries to the ends of their chains.
async fn audit(batch: &Batch<'_>, connection: &mut PgConnection) -> Result<(), Failure> {
    static AUDIT: LazyLock<String> = LazyLock::new(insert::<AuditRow>);
    if !batch.audit.is_empty() {
        // Whoever writes under another lease may be at the same chains.
        sqlx::raw_sql("SELECT 1 FROM meta FOR NO KEY UPDATE").execute(&mut *connection).await?;
        let links = batch.links(heads(connection, batch.audited()?).await?)?;
        sqlx::query(AUDIT.as_str()).bind(links).persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Takes a lease away, and says so. One at a time, a repetition waits for the transaction before it to end.
async fn break_lease(
    id: Uuid,
    connection: &mut PgConnection,
    token: i64,
    seconds: u32,
    entry: &AuditEntry,
) -> Result<Option<Timestamp>, Failure> {
    lease::one_at_a_time(connection).await?;
    if was_written(id, connection).await? {
        // Until when is not known any more, but not for longer than from now on.
        return lease::in_seconds(connection, seconds).await.map(Some);
    }
    let free_at = lease::take_away(connection, token, seconds).await?;
    if free_at.is_some() {
        audit(&Batch { statements: Vec::new(), audit: vec![entry] }, connection).await?;
        note(id, connection).await?;
    }
    Ok(free_at)
}

/// Notes that a batch is written, in the transaction that writes it.
async fn note(id: Uuid, connection: &mut PgConnection) -> Result<(), Failure> {
    let sql = "INSERT INTO batches (id, committed_at) VALUES ($1::uuid, clock_timestamp())";
    sqlx::query(sql).bind(id.to_string()).persistent(false).execute(connection).await?;
    Ok(())
}

async fn copy(id: Uuid, connection: &mut PgConnection, lease: &Lease, source: &dyn ReadState) -> Result<(), Failure> {
    let held = lease::lock(connection, lease).await?;
    if was_written(id, connection).await? {
        return Ok(());
    }
    if !held {
        return Err(lease::lost(lease));
    }
    // The other database may be slow to answer.
    let sql = "SELECT set_config('idle_in_transaction_session_timeout', '10min', true)";
    sqlx::raw_sql(sql).execute(&mut *connection).await?;
    let identity = source.identity().await?;
    for table in tables::all() {
        let some = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
        if sqlx::query(AssertSqlSafe(some)).persistent(false).fetch_one(&mut *connection).await?.try_get(0)? {
            return Err(tables::not_empty(&table).into());
        }
        let sql = insert_into(table.name, table.columns.iter().copied());
        let mut copied = 0;
        loop {
            let page = source.page(&table, copied).await?;
            if page.is_empty() {
                break;
            }
            copied += page.len() as u64;
            let rows = format!("[{}]", page.join(","));
            sqlx::query(AssertSqlSafe(sql.as_str())).bind(rows).persistent(false).execute(&mut *connection).await?;
        }
        if let Some(column) = table.sequence() {
            let (table, next) = (table.name, format!("coalesce(max({column}), 0) + 1"));
            let sql =
                format!("SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {next}, false) FROM {table}");
            sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *connection).await?;
        }
    }
    let sql = "UPDATE meta SET lineage = $1::uuid, created_at = $2::timestamptz";
    let query = sqlx::query(sql).bind(identity.lineage.to_string()).bind(Moment(identity.created_at).to_string());
    query.persistent(false).execute(&mut *connection).await?;
    note(id, connection).await
}

async fn was_written(id: Uuid, connection: &mut PgConnection) -> Result<bool, Failure> {
    let sql = "SELECT EXISTS (SELECT 1 FROM batches WHERE id = $1::uuid)";
    let row = sqlx::query(sql).bind(id.to_string()).persistent(false).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// The ends of the chains of these tenants; a chain without a link is left out.
async fn heads(connection: &mut PgConnection, tenants: String) -> Result<BTreeMap<Option<Name>, AuditHead>, Failure> {
    let sql = "SELECT a.tenant_id, a.seq, a.hash FROM jsonb_array_elements_text($1::jsonb) AS t (tenant_id)
               CROSS JOIN LATERAL (SELECT audit_log.tenant_id, seq, hash FROM audit_log
                   WHERE audit_log.tenant_id = t.tenant_id ORDER BY seq DESC LIMIT 1) AS a";
    let mut heads = BTreeMap::new();
    for row in sqlx::query(sql).bind(tenants).persistent(false).fetch_all(connection).await? {
        let tenant = TenantOrAll::try_from(row.try_get::<String, _>(0)?);
        let tenant_id = tenant.map_err(|error| Failure::Corrupt(format!("the audit log: {error}")))?.0;
        let seq = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default();
        heads.insert(tenant_id.clone(), AuditHead { tenant_id, seq, hash: row.try_get(2)? });
    }
    Ok(heads)
}

fn sql(kind: Kind) -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| upsert::<PolicyRow>(&["id"], ", removed_at = NULL"));
    // A key that is written as forgotten is a tombstone too.
    static KEY: LazyLock<String> = LazyLock::new(|| {
        let removed_at = ", removed_at = CASE WHEN excluded.state = 'forgotten'
             THEN coalesce(encryption_keys.removed_at, excluded.updated_at) END";
        upsert::<KeyRow>(&["id"], removed_at)
    });
    static VERSION: LazyLock<String> = LazyLock::new(|| upsert::<VersionRow>(&["id"], ""));
    static ROTATION: LazyLock<String> = LazyLock::new(|| upsert::<RotationRow>(&["id"], ""));
    static STEP: LazyLock<String> = LazyLock::new(insert::<StepRow>);
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| upsert::<DocumentRow>(&["kind", "tenant_id", "name"], ""));
    static OUTBOX: LazyLock<String> =
        LazyLock::new(|| insert::<OutboxRow>() + " ON CONFLICT (id, channel, receiver) DO NOTHING");
    // The same plan, begun anew, is the last one again.
    static PLAN: LazyLock<String> = LazyLock::new(|| {
        let renewed = ", seq = CASE WHEN applied_plans.started_at = excluded.started_at THEN applied_plans.seq
             ELSE nextval(pg_get_serial_sequence('applied_plans', 'seq')) END";
        upsert::<PlanRow>(&["digest"], renewed)
    });
    match kind {
        Kind::Policy => &POLICY,
        Kind::RemovePolicy => {
            "UPDATE key_rotation_policies SET removed_at = (r ->> 1)::timestamptz, updated_at = (r ->> 1)::timestamptz
             FROM jsonb_array_elements($1::jsonb) AS rows (r)
             WHERE key_rotation_policies.id = (r ->> 0)::uuid AND removed_at IS NULL"
        }
        Kind::UnlinkPolicy => {
            "UPDATE encryption_keys SET rotation_policy_id = NULL
             WHERE rotation_policy_id IN (SELECT (r ->> 0)::uuid FROM jsonb_array_elements($1::jsonb) AS rows (r))"
        }
        Kind::Key => &KEY,
        Kind::ForgetKey => {
            "UPDATE encryption_keys SET state = 'forgotten', removed_at = (r ->> 1)::timestamptz,
                 updated_at = (r ->> 1)::timestamptz
             FROM jsonb_array_elements($1::jsonb) AS rows (r)
             WHERE encryption_keys.id = (r ->> 0)::uuid AND removed_at IS NULL"
        }
        Kind::Version => &VERSION,
        Kind::Rotation => &ROTATION,
        Kind::Step => &STEP,
        Kind::Document => &DOCUMENT,
        Kind::RemoveDocument => {
            "DELETE FROM documents WHERE (kind, tenant_id, name) IN
                 (SELECT r ->> 0, r ->> 1, r ->> 2 FROM jsonb_array_elements($1::jsonb) AS rows (r))"
        }
        Kind::AppliedPlan => &PLAN,
        Kind::Outbox => &OUTBOX,
    }
}

/// Inserts each row of the parameter, in the order of the parameter; what a sequence would give, the row gives.
fn insert_into(table: &str, columns: impl Iterator<Item = (&'static str, ColumnType)> + Clone) -> String {
    let names: Vec<_> = columns.clone().map(|(name, _)| name).collect();
    let values = columns.enumerate().map(|(index, (_, column_type))| {
        let cast = match column_type {
            ColumnType::Text => "",
            ColumnType::Integer => "::bigint",
            ColumnType::Boolean => "::boolean",
            ColumnType::Uuid => "::uuid",
            ColumnType::Instant => "::timestamptz",
            ColumnType::Date => "::date",
            ColumnType::TimeOfDay => "::time",
            // Becomes jsonb where the column is.
            ColumnType::Json => "::json",
        };
        format!("(r ->> {index}){cast}")
    });
    format!(
        "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE
         SELECT {} FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS rows (r, place) ORDER BY place",
        names.join(", "),
        values.collect::<Vec<_>>().join(", ")
    )
}

fn insert<R: Row>() -> String {
    insert_into(R::TABLE, R::COLUMNS.iter().copied().zip(R::TYPES.iter().copied()))
}

/// Inserts each row of the parameter, or replaces the one with the same key; `also` sets further columns then.
fn upsert<R: Row>(key: &[&str], also: &str) -> String {
    let others = R::COLUMNS.iter().filter(|column| !key.contains(column));
    let set: Vec<_> = others.map(|column| format!("{column} = excluded.{column}")).collect();
    format!("{} ON CONFLICT ({}) DO UPDATE SET {}{also}", insert::<R>(), key.join(", "), set.join(", "))
}
