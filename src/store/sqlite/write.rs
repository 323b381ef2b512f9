//! Writing: [`State`] for SQLite.
//!
//! A batch becomes one list of statements for each table. Within a table the order of the writes is kept, and
//! neighbours of one kind share a statement; between tables it does not matter, because references are checked at the
//! commit and every other rule is about one table. `RemovePolicy` is the one write that concerns two.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use serde::Serialize;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::{Begin, Failure, Sqlite, Writing, lease};
use crate::model::{AuditEntry, Name};
use crate::store::audit::AuditHead;
use crate::store::rows::{
    AuditRow, DocumentRow, KeyRow, Moment, PlanRow, PolicyRow, RotationRow, Row, StepRow, TenantOrAll, VersionRow,
};
use crate::store::{Holder, Lease, State, StoreError, Write};

#[async_trait]
impl State for Sqlite<Writing> {
    async fn acquire(&self, scope: &str, holder: &Holder, seconds: u32) -> Result<Lease, StoreError> {
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Write).await?;
            let work = lease::acquire(&mut session.connection, scope, holder, seconds).await;
            session.end(work).await
        };
        self.written(work.await)
    }

    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError> {
        self.written(lease::renew(&mut self.session().await.connection, lease, seconds).await)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.written(lease::release(&mut self.session().await.connection, lease).await)
    }

    async fn break_lease(&self, lease: &Lease) -> Result<bool, StoreError> {
        self.written(lease::take_away(&mut self.session().await.connection, lease).await)
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        // Everything that does not need the database is done before its lock is taken.
        let batch = self.at(Batch::new(writes))?;
        let mut session = self.session().await;
        let work = async {
            session.begin(Begin::Write).await?;
            let work = batch.write(&mut session.connection, lease).await;
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

/// One kind of statement: what it does to every row of its parameter, a JSON array of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Policy,
    RemovePolicy,
    UnlinkPolicy,
    Key,
    ForgetKey,
    Version,
    Rotation,
    Step,
    Document,
    RemoveDocument,
    AppliedPlan,
}

/// A parameter of this length is not made longer: SQLite takes it apart in memory.
const LONGEST_PARAMETER: usize = 4 << 20;

/// The statements of one table, in their order.
#[derive(Debug, Default)]
struct Statements(Vec<(Kind, Vec<u8>)>);

impl Statements {
    fn add(&mut self, kind: Kind, row: &impl Serialize) -> Result<(), Failure> {
        let parameter = match self.0.last_mut() {
            Some((last, parameter)) if *last == kind && parameter.len() < LONGEST_PARAMETER => {
                parameter.push(b',');
                parameter
            }
            _ => &mut self.0.push_mut((kind, vec![b'['])).1,
        };
        serde_json::to_writer(parameter, row).map_err(|error| Failure::Conflict(error.to_string()))
    }
}

/// A batch of writes, ready to be sent.
#[derive(Debug)]
struct Batch<'a> {
    statements: Vec<(Kind, String)>,
    /// Links of the audit log; their places in the chains are known only inside the transaction.
    audit: Vec<&'a AuditEntry>,
}

impl<'a> Batch<'a> {
    fn new(writes: &'a [Write]) -> Result<Self, Failure> {
        let [mut policies, mut keys, mut versions, mut rotations, mut steps, mut documents, mut plans]: [Statements;
            7] = Default::default();
        let mut audit = Vec::new();
        for write in writes {
            match write {
                Write::Policy(record) => policies.add(Kind::Policy, &PolicyRow::from(&**record))?,
                Write::RemovePolicy { id, at } => {
                    policies.add(Kind::RemovePolicy, &(id, Moment(*at)))?;
                    keys.add(Kind::UnlinkPolicy, &[id])?;
                }
                Write::Key(record) => keys.add(Kind::Key, &KeyRow::from(&**record))?,
                Write::ForgetKey { id, at } => keys.add(Kind::ForgetKey, &(id, Moment(*at)))?,
                Write::Version(record) => versions.add(Kind::Version, &VersionRow::from(&**record))?,
                Write::Rotation(record) => rotations.add(Kind::Rotation, &RotationRow::from(&**record))?,
                Write::Step(record) => steps.add(Kind::Step, &StepRow::from(record))?,
                Write::Document(record) => documents.add(Kind::Document, &DocumentRow::from(&**record))?,
                Write::RemoveDocument(object) => {
                    let tenant_id = TenantOrAll(object.tenant_id.clone());
                    documents.add(Kind::RemoveDocument, &(object.kind, tenant_id, &object.name))?;
                }
                Write::Audit(entry) => audit.push(&**entry),
                Write::AppliedPlan(plan) => plans.add(Kind::AppliedPlan, &PlanRow::from(&**plan))?,
            }
        }
        let tables = [policies, keys, versions, rotations, steps, documents, plans];
        let statements = tables.into_iter().flat_map(|table| table.0);
        Ok(Self {
            statements: statements
                .map(|(kind, rows)| parameter(rows).map(|rows| (kind, rows)))
                .collect::<Result<_, Failure>>()?,
            audit,
        })
    }

    async fn write(self, connection: &mut SqliteConnection, lease: &Lease) -> Result<(), Failure> {
        lease::check(connection, lease).await?;
        for (kind, parameter) in self.statements {
            sqlx::query(kind.sql()).bind(parameter).execute(&mut *connection).await?;
        }
        append_audit(connection, &self.audit).await
    }
}

/// Closes a list of rows, and gives it as the text that it is.
fn parameter(mut rows: Vec<u8>) -> Result<String, Failure> {
    rows.push(b']');
    String::from_utf8(rows).map_err(|error| Failure::Conflict(error.to_string()))
}

async fn append_audit(connection: &mut SqliteConnection, entries: &[&AuditEntry]) -> Result<(), Failure> {
    static INSERT: LazyLock<String> = LazyLock::new(insert::<AuditRow>);
    if entries.is_empty() {
        return Ok(());
    }
    let mut heads = heads(connection, entries).await?;
    let mut rows = vec![b'['];
    for entry in entries {
        let tenant = &entry.object.tenant_id;
        let head = heads.entry(tenant.clone()).or_insert_with(|| AuditHead::start(tenant.clone()));
        let link = head.append(entry).map_err(|error| Failure::Conflict(format!("an audit entry: {error}")))?;
        if rows.len() > 1 {
            rows.push(b',');
        }
        serde_json::to_writer(&mut rows, &link).map_err(|error| Failure::Conflict(error.to_string()))?;
    }
    sqlx::query(INSERT.as_str()).bind(parameter(rows)?).execute(connection).await?;
    Ok(())
}

/// The ends of the chains that the entries belong to; a chain without a link is left out.
async fn heads(
    connection: &mut SqliteConnection,
    entries: &[&AuditEntry],
) -> Result<BTreeMap<Option<Name>, AuditHead>, Failure> {
    let mut tenants: Vec<_> = entries.iter().map(|entry| TenantOrAll(entry.object.tenant_id.clone())).collect();
    tenants.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    tenants.dedup();
    let tenants = serde_json::to_string(&tenants).map_err(|error| Failure::Conflict(error.to_string()))?;
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

impl Kind {
    fn sql(self) -> &'static str {
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
        static PLAN: LazyLock<String> = LazyLock::new(|| upsert::<PlanRow>(&["digest"], ""));
        match self {
            Self::Policy => &POLICY,
            Self::RemovePolicy => {
                "UPDATE key_rotation_policies SET removed_at = r.value ->> 1, updated_at = r.value ->> 1
                 FROM json_each(?1) AS r WHERE key_rotation_policies.id = r.value ->> 0 AND removed_at IS NULL"
            }
            Self::UnlinkPolicy => {
                "UPDATE encryption_keys SET rotation_policy_id = NULL
                 WHERE rotation_policy_id IN (SELECT value ->> 0 FROM json_each(?1))"
            }
            Self::Key => &KEY,
            Self::ForgetKey => {
                "UPDATE encryption_keys SET state = 'forgotten', removed_at = r.value ->> 1, updated_at = r.value ->> 1
                 FROM json_each(?1) AS r WHERE encryption_keys.id = r.value ->> 0 AND removed_at IS NULL"
            }
            Self::Version => &VERSION,
            Self::Rotation => &ROTATION,
            Self::Step => &STEP,
            Self::Document => &DOCUMENT,
            Self::RemoveDocument => {
                "DELETE FROM documents WHERE (kind, tenant_id, name) IN
                     (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1))"
            }
            Self::AppliedPlan => &PLAN,
        }
    }
}

/// Inserts each row of the parameter. The rows are made SQLite's own (`MATERIALIZED`) before they are taken apart:
/// otherwise each column would read its whole row's text again.
fn insert<R: Row>() -> String {
    let values: Vec<_> = (0..R::COLUMNS.len()).map(|index| format!("r ->> {index}")).collect();
    format!(
        "INSERT INTO {} ({}) WITH rows (r) AS MATERIALIZED (SELECT value FROM jsonb_each(?1)) SELECT {} FROM rows",
        R::TABLE,
        R::COLUMNS.join(", "),
        values.join(", ")
    )
}

/// Inserts each row of the parameter, or replaces the one with the same key; `also` sets further columns then.
fn upsert<R: Row>(key: &[&str], also: &str) -> String {
    let others = R::COLUMNS.iter().filter(|column| !key.contains(column));
    let set: Vec<_> = others.map(|column| format!("{column} = excluded.{column}")).collect();
    // `WHERE true` keeps SQLite from reading `ON` as a join's.
    format!("{} WHERE true ON CONFLICT ({}) DO UPDATE SET {}{also}", insert::<R>(), key.join(", "), set.join(", "))
}
