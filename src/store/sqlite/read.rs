//! Reading: [`ReadState`] for SQLite.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::schema::NOW;
use super::{Begin, Failure, Sqlite, backup, lease, outbox, usage};
use crate::model::{
    Address, AppliedPlan, Delivery, DocumentRecord, KeyRecord, Name, PastRotation, PolicyRecord, Recorded,
    RotationRecord, StepRecord, Timestamp, VersionRecord,
};
use crate::store::audit::{AuditCheck, AuditLink, BrokenLink};
use crate::store::rows::{
    AuditRow, DocumentRow, KeyRow, Moment, PastRow, PlanRow, PolicyRow, RotationRow, Row, StepRow, TenantOrAll,
    VersionRow,
};
use crate::store::tables::PAGE;
use crate::store::{
    AuditFilter, HistoryEntry, HistoryFilter, Identity, LeaseRecord, OldVersions, OutboxFilter, ReadState, StoreError,
    Table, Undelivered,
};

#[async_trait]
impl<Access: Send + Sync> ReadState for Sqlite<Access> {
    async fn recorded(&self) -> Result<Recorded, StoreError> {
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Read).await?;
            let work = recorded(&mut session.connection).await;
            session.end(work).await
        };
        self.at(work.await)
    }

    async fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| select_keys("encryption_keys.id = ?1"));
        let query = sqlx::query(SQL.as_str()).bind(id.to_string());
        self.at(keys(query, &mut self.session().await.connection).await.map(|mut found| found.pop()))
    }

    async fn forgotten_keys(&self) -> Result<Vec<(KeyRecord, Timestamp)>, StoreError> {
        self.at(forgotten_keys(&mut self.session().await.connection).await)
    }

    async fn versions(&self, key_id: Uuid) -> Result<Vec<VersionRecord>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| select::<VersionRow>("WHERE key_id = ?1 ORDER BY number"));
        let query = sqlx::query(SQL.as_str()).bind(key_id.to_string());
        self.at(all::<VersionRow, _>(query, &mut self.session().await.connection).await)
    }

    async fn all_versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            select::<VersionRow>(
                "WHERE key_id IN (SELECT id FROM encryption_keys WHERE removed_at IS NULL) ORDER BY key_id, number",
            )
        });
        self.at(all::<VersionRow, _>(sqlx::query(SQL.as_str()), &mut self.session().await.connection).await)
    }

    async fn old_versions(&self, now: Timestamp, kept: bool) -> Result<OldVersions, StoreError> {
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Read).await?;
            let work = old_versions(&mut session.connection, now, kept).await;
            session.end(work).await
        };
        self.at(work.await)
    }

    async fn compromised(&self) -> Result<Vec<VersionRecord>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            select::<VersionRow>(
                "WHERE compromised_at IS NOT NULL AND state NOT IN ('disabled', 'pending_destruction', 'destroyed')
                    AND key_id IN (SELECT id FROM encryption_keys WHERE removed_at IS NULL)
                 ORDER BY key_id, number",
            )
        });
        let query = sqlx::query(SQL.as_str());
        self.at(all::<VersionRow, _>(query, &mut self.session().await.connection).await)
    }

    async fn journal(&self, rotation_id: Uuid) -> Result<Vec<StepRecord>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| select::<StepRow>("WHERE rotation_id = ?1 ORDER BY seq"));
        let query = sqlx::query(SQL.as_str()).bind(rotation_id.to_string());
        self.at(all::<StepRow, _>(query, &mut self.session().await.connection).await)
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError> {
        self.at(history(&mut self.session().await.connection, filter).await)
    }

    async fn last_rotations(&self, keys: &[Uuid], each: u32) -> Result<Vec<PastRotation>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {} FROM json_each(?1) AS wanted
                 JOIN rotations ON rotations.rowid IN (
                    SELECT rowid FROM rotations
                    WHERE key_id = wanted.value AND workflow = 'rotate' AND phase = 'settled'
                    ORDER BY started_at DESC LIMIT ?2)
                 ORDER BY wanted.key, rotations.started_at DESC",
                array::<PastRow>("rotations")
            )
        });
        let keys = serde_json::to_string(keys).unwrap_or_default();
        let query = sqlx::query(SQL.as_str()).bind(keys).bind(i64::from(each));
        self.at(all::<PastRow, _>(query, &mut self.session().await.connection).await)
    }

    async fn applied_plan(&self, digest: &str) -> Result<Option<AppliedPlan>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| select::<PlanRow>("WHERE digest = ?1"));
        let query = sqlx::query(SQL.as_str()).bind(digest);
        self.at(all::<PlanRow, _>(query, &mut self.session().await.connection).await.map(|mut found| found.pop()))
    }

    async fn overridden(&self) -> Result<Vec<AppliedPlan>, StoreError> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| select::<PlanRow>("WHERE override_reason IS NOT NULL ORDER BY started_at DESC, digest"));
        let query = sqlx::query(SQL.as_str());
        self.at(all::<PlanRow, _>(query, &mut self.session().await.connection).await)
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditLink>, StoreError> {
        self.at(audit(&mut self.session().await.connection, filter).await)
    }

    async fn audit_after(&self, link: Option<(&str, u64)>, limit: u32) -> Result<Vec<AuditLink>, StoreError> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| select::<AuditRow>("WHERE (tenant_id, seq) > (?1, ?2) ORDER BY tenant_id, seq LIMIT ?3"));
        let (tenant_id, seq) = link.unwrap_or(("", 0));
        let query = sqlx::query(SQL.as_str()).bind(tenant_id).bind(i64::try_from(seq).unwrap_or(i64::MAX)).bind(limit);
        self.at(all::<AuditRow, _>(query, &mut self.session().await.connection).await)
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        self.at(lease::list(&mut self.session().await.connection).await)
    }

    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>, StoreError> {
        self.at(outbox::list(&mut self.session().await.connection, filter).await)
    }

    async fn undelivered(&self) -> Result<Undelivered, StoreError> {
        self.at(outbox::undelivered(&mut self.session().await.connection).await)
    }

    async fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        self.at(verify_audit(&mut self.session().await.connection).await)
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.at(identity(&mut self.session().await.connection).await)
    }

    async fn page(&self, table: &Table, after: u64) -> Result<Vec<String>, StoreError> {
        self.at(page(&mut self.session().await.connection, table, after).await)
    }

    async fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        self.at(backup::vacuum_into(&mut self.session().await.connection, to).await)
    }

    async fn problems(&self) -> Result<Vec<String>, StoreError> {
        self.at(problems(&mut self.session().await.connection).await)
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.at(now(&mut self.session().await.connection).await)
    }
}

/// `SELECT` of whole rows, each as one JSON array.
pub(super) fn select<R: Row>(rest: &str) -> String {
    format!("SELECT {} FROM {} {rest}", array::<R>(R::TABLE), R::TABLE)
}

pub(super) fn array<R: Row>(table: &str) -> String {
    let columns: Vec<_> = R::COLUMNS.iter().map(|column| format!("{table}.{column}")).collect();
    format!("json_array({})", columns.join(", "))
}

type SqliteQuery<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

/// All rows of a query, as records.
pub(super) async fn all<R: Row, T: From<R>>(
    query: SqliteQuery<'_>,
    connection: &mut SqliteConnection,
) -> Result<Vec<T>, Failure> {
    let mut rows = query.fetch(connection);
    let mut records = Vec::new();
    while let Some(row) = rows.try_next().await? {
        records.push(decode::<R>(&row, 0)?.into());
    }
    Ok(records)
}

fn decode<R: Row>(row: &SqliteRow, column: usize) -> Result<R, Failure> {
    let text: &str = row.try_get_unchecked(column)?;
    serde_json::from_str(text).map_err(|error| Failure::Corrupt(unreadable::<R>(text, &error)))
}

/// Names the table, the row by its first column, and the column that cannot be read.
fn unreadable<R: Row>(text: &str, error: &serde_json::Error) -> String {
    let columns: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let row = columns.first().and_then(serde_json::Value::as_str).unwrap_or("?");
    format!("a row of {} ({} = {row}) makes no sense: {error}", R::TABLE, R::COLUMNS.first().unwrap_or(&"?"))
}

async fn recorded(connection: &mut SqliteConnection) -> Result<Recorded, Failure> {
    static POLICIES: LazyLock<String> = LazyLock::new(|| select::<PolicyRow>("WHERE removed_at IS NULL"));
    static KEYS: LazyLock<String> = LazyLock::new(|| select_keys("encryption_keys.removed_at IS NULL"));
    static DOCUMENTS: LazyLock<String> = LazyLock::new(|| select::<DocumentRow>(""));
    static UNFINISHED: LazyLock<String> =
        LazyLock::new(|| select::<RotationRow>("WHERE phase NOT IN ('settled', 'abandoned') ORDER BY started_at, id"));
    static LAST: LazyLock<String> = LazyLock::new(|| select::<PlanRow>("ORDER BY seq DESC LIMIT 1"));

    let lineage: String = sqlx::query("SELECT lineage FROM meta").fetch_one(&mut *connection).await?.try_get(0)?;
    let lineage = lineage.parse().map_err(|_| Failure::Corrupt(format!("its lineage is {lineage:?}")))?;
    let policies = all::<PolicyRow, PolicyRecord>(sqlx::query(POLICIES.as_str()), &mut *connection).await?;
    let keys = keys(sqlx::query(KEYS.as_str()), &mut *connection).await?;
    let documents = all::<DocumentRow, DocumentRecord>(sqlx::query(DOCUMENTS.as_str()), &mut *connection).await?;
    let unfinished = all::<RotationRow, RotationRecord>(sqlx::query(UNFINISHED.as_str()), &mut *connection).await?;
    let mut last = all::<PlanRow, AppliedPlan>(sqlx::query(LAST.as_str()), &mut *connection).await?;
    let usage = usage::of_primaries(connection).await?;
    Ok(Recorded {
        lineage: Some(lineage),
        policies: policies.into_iter().map(|record| (policy_address(&record), record)).collect(),
        keys: keys.into_iter().map(|record| (record.address(), record)).collect(),
        documents: documents.into_iter().map(|record| (record.object.clone(), record)).collect(),
        unfinished,
        usage,
        last_applied: last.pop(),
    })
}

async fn old_versions(connection: &mut SqliteConnection, now: Timestamp, kept: bool) -> Result<OldVersions, Failure> {
    static VERSIONS: LazyLock<String> = LazyLock::new(|| {
        select::<VersionRow>(
            "WHERE (orphan = 0 OR state = 'pending_destruction')
                AND (state IN ('disabled', 'pending_destruction')
                    OR (state = 'deactivated' AND retain_until <= ?1
                        AND (?2 OR retention ->> 'old_key_disposition' <> 'keep')))
                AND key_id IN (SELECT id FROM encryption_keys WHERE removed_at IS NULL)
             ORDER BY key_id, number",
        )
    });
    let query = sqlx::query(VERSIONS.as_str()).bind(Moment(now).to_string()).bind(kept);
    let versions = all::<VersionRow, VersionRecord>(query, &mut *connection).await?;
    let mut existing = BTreeMap::new();
    if !versions.is_empty() {
        let sql = "SELECT tenant_id, count(*) FROM key_versions JOIN encryption_keys ON encryption_keys.id = key_id
                   WHERE key_versions.state <> 'destroyed' AND removed_at IS NULL GROUP BY tenant_id";
        for row in sqlx::query(sql).fetch_all(connection).await? {
            let (tenant_id, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let name = Name::new(&tenant_id).map_err(|error| Failure::Corrupt(format!("{tenant_id:?}: {error}")))?;
            existing.insert(name, usize::try_from(count).unwrap_or(0));
        }
    }
    Ok(OldVersions { versions, existing })
}

/// Keys, each with its primary version, and when it was forgotten.
fn select_keys(which: &str) -> String {
    format!(
        "SELECT {}, CASE WHEN key_versions.id IS NOT NULL THEN {} END, encryption_keys.removed_at
         FROM encryption_keys LEFT JOIN key_versions ON key_versions.id = encryption_keys.primary_version_id
         WHERE {which}",
        array::<KeyRow>("encryption_keys"),
        array::<VersionRow>("key_versions")
    )
}

async fn keys(query: SqliteQuery<'_>, connection: &mut SqliteConnection) -> Result<Vec<KeyRecord>, Failure> {
    let mut keys: Vec<KeyRecord> = Vec::new();
    let mut rows = query.fetch(connection);
    while let Some(row) = rows.try_next().await? {
        keys.push(key(&row)?);
    }
    Ok(keys)
}

fn key(row: &SqliteRow) -> Result<KeyRecord, Failure> {
    let primary = row.try_get_unchecked::<Option<&str>, _>(1)?.is_some();
    let primary = primary.then(|| decode::<VersionRow>(row, 1)).transpose()?;
    Ok(decode::<KeyRow>(row, 0)?.into_record(primary))
}

async fn forgotten_keys(connection: &mut SqliteConnection) -> Result<Vec<(KeyRecord, Timestamp)>, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        select_keys("encryption_keys.removed_at IS NOT NULL ORDER BY encryption_keys.removed_at, encryption_keys.id")
    });
    let mut keys = Vec::new();
    let mut rows = sqlx::query(SQL.as_str()).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        keys.push((key(&row)?, moment(row.try_get_unchecked(2)?)?));
    }
    Ok(keys)
}

fn policy_address(record: &PolicyRecord) -> Address {
    Address::new(record.policy.tenant_id.clone(), record.policy.policy_name.clone())
}

async fn history(connection: &mut SqliteConnection, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, Failure> {
    let mut query = QueryBuilder::new(select::<RotationRow>("WHERE true"));
    if let Some(tenant_id) = &filter.tenant_id {
        query.push(" AND tenant_id = ").push_bind(tenant_id.as_str());
    }
    if let Some(key) = &filter.key {
        // A key keeps its history when it is renamed, and is found by an earlier name too.
        query
            .push(" AND (key_id IN (SELECT id FROM encryption_keys WHERE tenant_id = ")
            .push_bind(key.tenant_id.as_str());
        query.push(" AND key_name = ").push_bind(key.name.as_str());
        query.push(") OR (tenant_id = ").push_bind(key.tenant_id.as_str());
        query.push(" AND key_name = ").push_bind(key.name.as_str()).push("))");
    }
    if let Some(phase) = filter.phase {
        query.push(" AND phase = ").push_bind(phase.as_str());
    }
    if filter.leads {
        query.push(" AND workflow IN ('create', 'rotate', 'rollback')");
    }
    if let Some(since) = filter.since {
        query.push(" AND started_at >= ").push_bind(Moment(since).to_string());
    }
    if let Some(correlation_id) = &filter.correlation_id {
        query.push(" AND correlation_id = ").push_bind(correlation_id.as_str());
    }
    query.push(" ORDER BY started_at DESC, id DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }
    let rotations = all::<RotationRow, RotationRecord>(query.build(), connection).await?;
    Ok(rotations.into_iter().map(HistoryEntry::from).collect())
}

async fn audit(connection: &mut SqliteConnection, filter: &AuditFilter) -> Result<Vec<AuditLink>, Failure> {
    let mut query = QueryBuilder::new(select::<AuditRow>("WHERE true"));
    if let Some(tenant_id) = &filter.tenant_id {
        query.push(" AND tenant_id = ").push_bind(tenant_id.as_str());
    }
    if let Some(object) = &filter.object {
        query.push(" AND tenant_id = ").push_bind(object.tenant_id.as_str());
        query.push(" AND object_name = ").push_bind(object.name.as_str());
        query.push(" AND object_kind IN ('RotationPolicy', 'EncryptionKey')");
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(Moment(since).to_string());
    }
    if let Some(until) = filter.until {
        query.push(" AND at <= ").push_bind(Moment(until).to_string());
    }
    query.push(" ORDER BY at DESC, tenant_id, seq DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }
    all::<AuditRow, AuditLink>(query.build(), connection).await
}

async fn verify_audit(connection: &mut SqliteConnection) -> Result<AuditCheck, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!("SELECT {}, tenant_id, seq FROM audit_log ORDER BY tenant_id, seq", array::<AuditRow>("audit_log"))
    });
    let mut check = AuditCheck::default();
    let mut rows = sqlx::query(SQL.as_str()).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        match decode::<AuditRow>(&row, 0) {
            Ok(link) => check.take(&link),
            Err(Failure::Corrupt(what)) if check.broken.is_none() => {
                let tenant: String = row.try_get_unchecked(1)?;
                let seq: i64 = row.try_get_unchecked(2)?;
                let tenant_id = TenantOrAll::try_from(tenant).ok().and_then(|tenant| tenant.0);
                check.broken = Some(BrokenLink { tenant_id, seq: u64::try_from(seq).unwrap_or_default(), what });
            }
            Err(failure) => return Err(failure),
        }
        if check.broken.is_some() {
            break;
        }
    }
    Ok(check)
}

async fn identity(connection: &mut SqliteConnection) -> Result<Identity, Failure> {
    let row = sqlx::query("SELECT lineage, created_at FROM meta").fetch_one(connection).await?;
    let (lineage, created_at): (&str, &str) = (row.try_get_unchecked(0)?, row.try_get_unchecked(1)?);
    let lineage = lineage.parse().map_err(|_| Failure::Corrupt(format!("its lineage is {lineage:?}")))?;
    Ok(Identity { lineage, created_at: moment(created_at)? })
}

pub(super) async fn page(connection: &mut SqliteConnection, table: &Table, after: u64) -> Result<Vec<String>, Failure> {
    let (columns, name, order) = (table.column_names(), table.name, table.order.join(", "));
    let sql = format!("SELECT json_array({columns}) FROM {name} ORDER BY {order} LIMIT {PAGE} OFFSET {after}");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get_unchecked(0)?)).collect()
}

async fn problems(connection: &mut SqliteConnection) -> Result<Vec<String>, Failure> {
    let mut problems = backup::integrity(connection).await?;
    let sql = "SELECT \"table\" || ' names a row of ' || parent || ' that is not there'
               FROM pragma_foreign_key_check LIMIT 20";
    for row in sqlx::query(sql).fetch_all(&mut *connection).await? {
        problems.push(row.try_get(0)?);
    }
    // What a person could take away before an edit.
    for trigger in ["audit_log_is_never_changed", "audit_log_only_grows", "audit_log_is_never_shortened"] {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = ?1)";
        if !sqlx::query(sql).bind(trigger).fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
            problems.push(format!("the trigger {trigger} was taken away"));
        }
    }
    Ok(problems)
}

async fn now(connection: &mut SqliteConnection) -> Result<Timestamp, Failure> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {NOW}"));
    let text: String = sqlx::query(SQL.as_str()).fetch_one(connection).await?.try_get(0)?;
    moment(&text)
}

/// An instant that SQLite gave.
pub(super) fn moment(text: &str) -> Result<Timestamp, Failure> {
    Moment::parse(text).map(|moment| moment.0).ok_or_else(|| Failure::Corrupt(format!("{text:?} is not an instant")))
}
