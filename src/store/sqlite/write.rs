//! Writing: [`State`] for SQLite.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Begin, Failure, Sqlite, Writing, lease, outbox, usage};
use crate::model::{AuditEntry, Delivery, Name, Timestamp, UsageCounter};
use crate::store::audit::AuditHead;
use crate::store::batch::{Batch, Kind};
use crate::store::rows::{
    AuditRow, DocumentRow, KeyRow, Moment, OutboxRow, PlanRow, PolicyRow, RotationRow, Row, StepRow, TenantOrAll,
    VersionRow, concluded_rows,
};
use crate::store::{Holder, Lease, LeaseScope, Migrated, ReadState, State, StoreError, Write, tables};

#[async_trait]
impl State for Sqlite<Writing> {
    async fn acquire(&self, scopes: &BTreeSet<LeaseScope>, holder: &Holder, seconds: u32) -> Result<Lease, StoreError> {
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Write).await?;
            let work = lease::acquire(&mut session.connection, scopes, holder, seconds).await;
            session.end(work).await
        };
        self.written(work.await)
    }

    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError> {
        self.written(lease::renew(&mut self.session().await.connection, lease, seconds).await)
    }

    async fn narrow(&self, lease: &Lease, scopes: &BTreeSet<LeaseScope>) -> Result<Lease, StoreError> {
        self.written(lease::narrow(&mut self.session().await.connection, lease, scopes).await)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.written(lease::release(&mut self.session().await.connection, lease).await)
    }

    async fn break_lease(&self, token: i64, seconds: u32, entry: &AuditEntry) -> Result<Option<Timestamp>, StoreError> {
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Write).await?;
            let work = break_lease(&mut session.connection, token, seconds, entry).await;
            session.end(work).await
        };
        self.written(work.await)
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        // Everything that does not need the database is done before its lock is taken.
        lease.covers(writes)?;
        let batch = Batch::new(writes)?;
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Write).await?;
            let work = write(&batch, &mut session.connection, lease).await;
            session.end(work).await
        };
        self.written(work.await)
    }

    async fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        self.written(outbox::claim(&mut self.session().await.connection, now, until, limit).await)
    }

    async fn conclude(&self, concluded: &[(u32, Delivery)]) -> Result<(), StoreError> {
        let concluded = concluded_rows(concluded)?;
        self.written(outbox::conclude(&mut self.session().await.connection, &concluded).await)
    }

    async fn revive(&self, now: Timestamp, given_up: bool) -> Result<u64, StoreError> {
        self.written(outbox::revive(&mut self.session().await.connection, now, given_up).await)
    }

    async fn report_usage(&self, counter: &UsageCounter) -> Result<u64, StoreError> {
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Write).await?;
            let work = usage::report(&mut session.connection, counter).await;
            session.end(work).await
        };
        self.written(work.await)
    }

    fn migrated(&self) -> Option<&Migrated> {
        self.access.migrated.as_ref()
    }

    async fn copy_from(&self, lease: &Lease, source: &dyn ReadState) -> Result<(), StoreError> {
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Write).await?;
            let work = copy(&mut session.connection, lease, source).await;
            session.end(work).await
        };
        self.written(work.await)
    }
}

impl Sqlite<Writing> {
    fn written<T>(&self, result: Result<T, Failure>) -> Result<T, StoreError> {
        self.at(result.map_err(Failure::while_writing))
    }
}

async fn copy(connection: &mut SqliteConnection, lease: &Lease, source: &dyn ReadState) -> Result<(), Failure> {
    lease::check(connection, lease).await?;
    let identity = source.identity().await?;
    for table in tables::all() {
        let some = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
        if sqlx::query(AssertSqlSafe(some)).fetch_one(&mut *connection).await?.try_get(0)? {
            return Err(tables::not_empty(&table).into());
        }
        let sql = insert_into(table.name, &table.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let mut copied = 0;
        loop {
            let page = source.page(&table, copied).await?;
            if page.is_empty() {
                break;
            }
            copied += page.len() as u64;
            let rows = format!("[{}]", page.join(","));
            sqlx::query(AssertSqlSafe(sql.as_str())).bind(rows).execute(&mut *connection).await?;
        }
    }
    let sql = "UPDATE meta SET lineage = ?1, created_at = ?2";
    let query = sqlx::query(sql).bind(identity.lineage.to_string()).bind(Moment(identity.created_at).to_string());
    query.execute(connection).await?;
    Ok(())
}

async fn write(batch: &Batch<'_>, connection: &mut SqliteConnection, lease: &Lease) -> Result<(), Failure> {
    lease::check(connection, lease).await?;
    for (kind, rows) in &batch.statements {
        sqlx::query(sql(*kind)).bind(rows.as_str()).execute(&mut *connection).await?;
    }
    audit(batch, connection).await
}

/// Appends a batch's entries to the ends of their chains.
async fn audit(batch: &Batch<'_>, connection: &mut SqliteConnection) -> Result<(), Failure> {
    static AUDIT: LazyLock<String> = LazyLock::new(insert::<AuditRow>);
    if !batch.audit.is_empty() {
        let links = batch.links(heads(connection, batch.audited()?).await?)?;
        sqlx::query(AUDIT.as_str()).bind(links).execute(connection).await?;
    }
    Ok(())
}

async fn break_lease(
    connection: &mut SqliteConnection,
    token: i64,
    seconds: u32,
    entry: &AuditEntry,
) -> Result<Option<Timestamp>, Failure> {
    let free_at = lease::take_away(connection, token, seconds).await?;
    if free_at.is_some() {
        audit(&Batch { statements: Vec::new(), audit: vec![entry] }, connection).await?;
    }
    Ok(free_at)
}

/// The ends of the chains of these tenants; a chain without a link is left out.
async fn heads(
    connection: &mut SqliteConnection,
    tenants: String,
) -> Result<BTreeMap<Option<Name>, AuditHead>, Failure> {
    let sql = "SELECT a.tenant_id, a.seq, a.hash FROM json_each(?1) AS t CROSS JOIN audit_log AS a
               ON a.tenant_id = t.value AND a.seq = (SELECT max(seq) FROM audit_log WHERE tenant_id = t.value)";
    let mut heads = BTreeMap::new();
    for row in sqlx::query(sql).bind(tenants).fetch_all(connection).await? {
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
        upsert::<KeyRow>(
            &["id"],
            ", removed_at = CASE WHEN excluded.state = 'forgotten' THEN coalesce(removed_at, excluded.updated_at) END",
        )
    });
    static VERSION: LazyLock<String> = LazyLock::new(|| upsert::<VersionRow>(&["id"], ""));
    static ROTATION: LazyLock<String> = LazyLock::new(|| upsert::<RotationRow>(&["id"], ""));
    static STEP: LazyLock<String> = LazyLock::new(insert::<StepRow>);
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| upsert::<DocumentRow>(&["kind", "tenant_id", "name"], ""));
    static OUTBOX: LazyLock<String> =
        LazyLock::new(|| insert::<OutboxRow>() + " WHERE true ON CONFLICT (id, channel, receiver) DO NOTHING");
    // The same plan, begun anew, is the last one again.
    static PLAN: LazyLock<String> = LazyLock::new(|| {
        let renewed = ", seq = CASE WHEN applied_plans.started_at = excluded.started_at THEN applied_plans.seq
             ELSE (SELECT max(seq) + 1 FROM applied_plans) END";
        upsert::<PlanRow>(&["digest"], renewed)
    });
    match kind {
        Kind::Policy => &POLICY,
        Kind::RemovePolicy => {
            "UPDATE key_rotation_policies SET removed_at = r.value ->> 1, updated_at = r.value ->> 1
             FROM json_each(?1) AS r WHERE key_rotation_policies.id = r.value ->> 0 AND removed_at IS NULL"
        }
        Kind::UnlinkPolicy => {
            "UPDATE encryption_keys SET rotation_policy_id = NULL
             WHERE rotation_policy_id IN (SELECT value ->> 0 FROM json_each(?1))"
        }
        Kind::Key => &KEY,
        Kind::ForgetKey => {
            "UPDATE encryption_keys SET state = 'forgotten', removed_at = r.value ->> 1, updated_at = r.value ->> 1
             FROM json_each(?1) AS r WHERE encryption_keys.id = r.value ->> 0 AND removed_at IS NULL"
        }
        Kind::Version => &VERSION,
        Kind::Rotation => &ROTATION,
        Kind::Step => &STEP,
        Kind::Document => &DOCUMENT,
        Kind::RemoveDocument => {
            "DELETE FROM documents WHERE (kind, tenant_id, name) IN
                 (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1))"
        }
        Kind::AppliedPlan => &PLAN,
        Kind::Outbox => &OUTBOX,
    }
}

/// Inserts each row of the parameter. The rows are made SQLite's own (`MATERIALIZED`) before they are taken apart:
/// otherwise each column would read its whole row's text again.
pub(super) fn insert_into(table: &str, columns: &[&str]) -> String {
    let values: Vec<_> = (0..columns.len()).map(|index| format!("r ->> {index}")).collect();
    format!(
        "INSERT INTO {table} ({}) WITH rows (r) AS MATERIALIZED (SELECT value FROM jsonb_each(?1)) SELECT {} FROM rows",
        columns.join(", "),
        values.join(", ")
    )
}

fn insert<R: Row>() -> String {
    insert_into(R::TABLE, R::COLUMNS)
}

/// Inserts each row of the parameter, or replaces the one with the same key; `also` sets further columns then.
fn upsert<R: Row>(key: &[&str], also: &str) -> String {
    let others = R::COLUMNS.iter().filter(|column| !key.contains(column));
    let set: Vec<_> = others.map(|column| format!("{column} = excluded.{column}")).collect();
    // `WHERE true` keeps SQLite from reading `ON` as a join's.
    format!("{} WHERE true ON CONFLICT ({}) DO UPDATE SET {}{also}", insert::<R>(), key.join(", "), set.join(", "))
}
