//! `rotations` and `rotation_steps`.

use serde_json::Value;
use uuid::Uuid;

use super::{Json, Moment, row};
use crate::model::{
    Address, Name, Outcome, PastRotation, Phase, RotationCause, RotationPolicy, RotationRecord, Step, StepRecord,
    Workflow,
};

row! {
    /// One run of a workflow.
    RotationRow of "rotations" {
        id: Uuid,
        key_id: Uuid,
        tenant_id: Name,
        key_name: Name,
        workflow: Workflow,
        phase: Phase,
        open_step: Option<Step>,
        cause: RotationCause,
        reason: String,
        slot: Option<Moment>,
        from_ref: Option<String>,
        to_ref: Option<String>,
        intent: Json<Value>,
        policy: Option<Json<RotationPolicy>>,
        error: Option<String>,
        attempt: u32,
        correlation_id: String,
        commit_id: Option<String>,
        started_at: Moment,
        updated_at: Moment,
        finished_at: Option<Moment>,
    }
}

impl From<&RotationRecord> for RotationRow {
    fn from(record: &RotationRecord) -> Self {
        Self {
            id: record.id,
            key_id: record.key_id,
            tenant_id: record.address.tenant_id.clone(),
            key_name: record.address.name.clone(),
            workflow: record.workflow,
            phase: record.phase,
            open_step: record.open_step,
            cause: record.cause,
            reason: record.reason.clone(),
            slot: record.slot.map(Moment),
            from_ref: record.from_ref.clone(),
            to_ref: record.to_ref.clone(),
            intent: Json(record.intent.clone()),
            policy: record.policy.clone().map(Json),
            error: record.error.clone(),
            attempt: record.attempt,
            correlation_id: record.correlation_id.clone(),
            commit_id: record.commit.clone(),
            started_at: Moment(record.started_at),
            updated_at: Moment(record.updated_at),
            finished_at: record.finished_at.map(Moment),
        }
    }
}

row! {
    /// As much of a rotation as tells a key's habits.
    PastRow of "rotations" {
        key_id: Uuid,
        started_at: Moment,
        slot: Option<Moment>,
        cause: RotationCause,
    }
}

impl From<PastRow> for PastRotation {
    fn from(row: PastRow) -> Self {
        Self { key_id: row.key_id, at: row.started_at.0, slot: row.slot.map(|moment| moment.0), cause: row.cause }
    }
}

impl From<RotationRow> for RotationRecord {
    fn from(row: RotationRow) -> Self {
        Self {
            id: row.id,
            key_id: row.key_id,
            address: Address::new(row.tenant_id, row.key_name),
            workflow: row.workflow,
            phase: row.phase,
            open_step: row.open_step,
            cause: row.cause,
            reason: row.reason,
            slot: row.slot.map(|moment| moment.0),
            from_ref: row.from_ref,
            to_ref: row.to_ref,
            intent: row.intent.0,
            policy: row.policy.map(|json| json.0),
            error: row.error,
            attempt: row.attempt,
            correlation_id: row.correlation_id,
            commit: row.commit_id,
            started_at: row.started_at.0,
            updated_at: row.updated_at.0,
            finished_at: row.finished_at.map(|moment| moment.0),
        }
    }
}

row! {
    /// An entry of the journal; the table adds its sequence.
    StepRow of "rotation_steps" {
        rotation_id: Uuid,
        step: Step,
        outcome: Outcome,
        attempt: u32,
        detail: Option<String>,
        at: Moment,
    }
}

impl From<&StepRecord> for StepRow {
    fn from(record: &StepRecord) -> Self {
        Self {
            rotation_id: record.rotation_id,
            step: record.step,
            outcome: record.outcome,
            attempt: record.attempt,
            detail: record.detail.clone(),
            at: Moment(record.at),
        }
    }
}

impl From<StepRow> for StepRecord {
    fn from(row: StepRow) -> Self {
        Self {
            rotation_id: row.rotation_id,
            step: row.step,
            outcome: row.outcome,
            attempt: row.attempt,
            detail: row.detail,
            at: row.at.0,
        }
    }
}
