//! A batch of writes, put in the order in which a database takes it.
//!
//! A batch becomes one list of statements for each table. Within a table the order of the writes is kept, and
//! neighbours of one kind share a statement; between tables it does not matter, because references are checked at the
//! commit and every other rule is about one table. `RemovePolicy` is the one write that concerns two.
//!
//! Must not know: SQL, connections.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::audit::AuditHead;
use super::rows::{
    DocumentRow, KeyRow, Moment, OutboxRow, PlanRow, PolicyRow, RotationRow, StepRow, TenantOrAll, VersionRow,
};
use super::{StoreError, Write};
use crate::model::{AuditEntry, Delivery, Name};

/// One kind of statement: what it does to every row of its parameter, a JSON array of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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
    Outbox,
}

/// A batch of writes, ready to be sent.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// What to do, and the rows to do it to.
    pub statements: Vec<(Kind, String)>,
    /// Links of the audit log; their places in the chains are known only inside the transaction.
    pub audit: Vec<&'a AuditEntry>,
}

/// A parameter of this length is not made longer: the database takes it apart in memory.
const LONGEST_PARAMETER: usize = 4 << 20;

/// The statements of one table, in their order.
#[derive(Debug, Default)]
struct Statements {
    done: Vec<(Kind, Vec<u8>)>,
    /// The rows of the last statement: none may be in it twice, because PostgreSQL refuses to write it twice then.
    within: HashSet<String>,
}

impl Statements {
    fn add(&mut self, kind: Kind, identity: impl Into<String>, row: &impl Serialize) -> Result<(), StoreError> {
        let identity = identity.into();
        let parameter = match self.done.last_mut() {
            Some((last, parameter))
                if *last == kind && parameter.len() < LONGEST_PARAMETER && !self.within.contains(&identity) =>
            {
                parameter.push(b',');
                parameter
            }
            _ => {
                self.within.clear();
                &mut self.done.push_mut((kind, vec![b'['])).1
            }
        };
        self.within.insert(identity);
        serde_json::to_writer(parameter, row).map_err(|error| refused(&error))
    }
}

impl<'a> Batch<'a> {
    /// # Errors
    /// [`StoreError::Conflict`] if a value has no form as a row.
    pub(super) fn new(writes: &'a [Write]) -> Result<Self, StoreError> {
        let [mut policies, mut keys, mut versions, mut rotations, mut steps, mut documents, mut plans, mut outbox]: [Statements;
            8] = Default::default();
        let mut audit = Vec::new();
        for write in writes {
            match write {
                Write::Policy(record) => policies.add(Kind::Policy, record.id, &PolicyRow::from(&**record))?,
                Write::RemovePolicy { id, at } => {
                    policies.add(Kind::RemovePolicy, *id, &(id, Moment(*at)))?;
                    keys.add(Kind::UnlinkPolicy, *id, &[id])?;
                }
                Write::Key(record) => keys.add(Kind::Key, record.id, &KeyRow::from(&**record))?,
                Write::ForgetKey { id, at } => keys.add(Kind::ForgetKey, *id, &(id, Moment(*at)))?,
                Write::Version(record) => versions.add(Kind::Version, record.id, &VersionRow::from(&**record))?,
                Write::Rotation(record) => rotations.add(Kind::Rotation, record.id, &RotationRow::from(&**record))?,
                Write::Step(record) => {
                    let place = steps.within.len().to_string();
                    steps.add(Kind::Step, place, &StepRow::from(record))?;
                }
                Write::Document(record) => {
                    documents.add(Kind::Document, format!("{:?}", record.object), &DocumentRow::from(&**record))?;
                }
                Write::RemoveDocument(object) => {
                    let tenant_id = TenantOrAll(object.tenant_id.clone());
                    let row = (object.kind, tenant_id, &object.name);
                    documents.add(Kind::RemoveDocument, format!("{object:?}"), &row)?;
                }
                Write::Audit(entry) => audit.push(&**entry),
                Write::AppliedPlan(plan) => plans.add(Kind::AppliedPlan, &*plan.digest, &PlanRow::from(&**plan))?,
                Write::Outbox(delivery) => {
                    let Delivery { message, channel, receiver, .. } = &**delivery;
                    let identity = format!("{} {channel} {receiver}", message.id);
                    outbox.add(Kind::Outbox, identity, &OutboxRow::from(&**delivery))?;
                }
            }
        }
        let tables = [policies, keys, versions, rotations, steps, documents, plans, outbox];
        let statements = tables.into_iter().flat_map(|table| table.done);
        let statements = statements.map(|(kind, rows)| parameter(rows).map(|rows| (kind, rows)));
        Ok(Self { statements: statements.collect::<Result<_, _>>()?, audit })
    }

    /// The tenants whose audit chains grow, as a JSON array.
    pub(super) fn audited(&self) -> Result<String, StoreError> {
        let mut tenants: Vec<_> = self.audit.iter().map(|entry| TenantOrAll(entry.object.tenant_id.clone())).collect();
        tenants.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        tenants.dedup();
        serde_json::to_string(&tenants).map_err(|error| refused(&error))
    }

    /// The rows of the audit log that follow these ends of chains; a chain without a link has none.
    pub(super) fn links(&self, mut heads: BTreeMap<Option<Name>, AuditHead>) -> Result<String, StoreError> {
        let mut rows = vec![b'['];
        for entry in &self.audit {
            let tenant = &entry.object.tenant_id;
            let head = heads.entry(tenant.clone()).or_insert_with(|| AuditHead::start(tenant.clone()));
            let link = head
                .append(entry)
                .map_err(|error| StoreError::Conflict { message: format!("an audit entry: {error}") })?;
            if rows.len() > 1 {
                rows.push(b',');
            }
            serde_json::to_writer(&mut rows, &link).map_err(|error| refused(&error))?;
        }
        parameter(rows)
    }
}

/// Closes a list of rows, and gives it as the text that it is.
fn parameter(mut rows: Vec<u8>) -> Result<String, StoreError> {
    rows.push(b']');
    String::from_utf8(rows).map_err(|error| refused(&error))
}

fn refused(error: &impl ToString) -> StoreError {
    StoreError::Conflict { message: error.to_string() }
}
