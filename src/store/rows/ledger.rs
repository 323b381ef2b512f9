//! `documents`, `applied_plans` and `audit_log`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Json, Moment, row};
use crate::model::{AppliedPlan, DocumentRecord, Name, ObjectKind, ObjectRef, Origin};

/// A tenant as a part of a primary key, which cannot be null: `''` is the repository as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(in crate::store) struct TenantOrAll(pub Option<Name>);

impl TryFrom<String> for TenantOrAll {
    type Error = crate::model::NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Ok(Self(None)) } else { Name::new(text).map(|name| Self(Some(name))) }
    }
}

impl From<TenantOrAll> for String {
    fn from(tenant: TenantOrAll) -> Self {
        tenant.0.map(Self::from).unwrap_or_default()
    }
}

row! {
    /// A tenant, guardrail, freeze or the configuration.
    DocumentRow of "documents" {
        kind: ObjectKind,
        tenant_id: TenantOrAll,
        name: Name,
        spec: Json<Value>,
        revision: u64,
        last_modified_by_commit: String,
        last_modified_by_author: String,
        last_modified_by_committer: String,
        last_modified_by_signer: Option<String>,
    }
}

impl From<&DocumentRecord> for DocumentRow {
    fn from(record: &DocumentRecord) -> Self {
        let DocumentRecord { object, spec, revision, last_modified_by } = record.clone();
        Self {
            kind: object.kind,
            tenant_id: TenantOrAll(object.tenant_id),
            name: object.name,
            spec: Json(spec),
            revision,
            last_modified_by_commit: last_modified_by.commit,
            last_modified_by_author: last_modified_by.author,
            last_modified_by_committer: last_modified_by.committer,
            last_modified_by_signer: last_modified_by.signer,
        }
    }
}

impl From<DocumentRow> for DocumentRecord {
    fn from(row: DocumentRow) -> Self {
        Self {
            object: ObjectRef { kind: row.kind, tenant_id: row.tenant_id.0, name: row.name },
            spec: row.spec.0,
            revision: row.revision,
            last_modified_by: Origin {
                commit: row.last_modified_by_commit,
                author: row.last_modified_by_author,
                committer: row.last_modified_by_committer,
                signer: row.last_modified_by_signer,
            },
        }
    }
}

row! {
    /// A plan that was applied or begun.
    PlanRow of "applied_plans" {
        digest: String,
        origin_commit: String,
        origin_author: String,
        origin_committer: String,
        origin_signer: Option<String>,
        correlation_id: String,
        started_at: Moment,
        finished_at: Option<Moment>,
        override_reason: Option<String>,
    }
}

impl From<&AppliedPlan> for PlanRow {
    fn from(plan: &AppliedPlan) -> Self {
        let origin = plan.origin.clone();
        Self {
            digest: plan.digest.clone(),
            origin_commit: origin.commit,
            origin_author: origin.author,
            origin_committer: origin.committer,
            origin_signer: origin.signer,
            correlation_id: plan.correlation_id.clone(),
            started_at: Moment(plan.started_at),
            finished_at: plan.finished_at.map(Moment),
            override_reason: plan.override_reason.clone(),
        }
    }
}

impl From<PlanRow> for AppliedPlan {
    fn from(row: PlanRow) -> Self {
        Self {
            digest: row.digest,
            origin: Origin {
                commit: row.origin_commit,
                author: row.origin_author,
                committer: row.origin_committer,
                signer: row.origin_signer,
            },
            correlation_id: row.correlation_id,
            started_at: row.started_at.0,
            finished_at: row.finished_at.map(|moment| moment.0),
            override_reason: row.override_reason,
        }
    }
}

row! {
    /// A link of a tenant's audit chain.
    AuditRow of "audit_log" {
        tenant_id: TenantOrAll,
        seq: u64,
        at: Moment,
        actor: String,
        commit_id: Option<String>,
        correlation_id: String,
        action: String,
        object_kind: ObjectKind,
        object_name: Name,
        before: Option<Json<Value>>,
        after: Option<Json<Value>>,
        hash: String,
    }
}
