//! `outbox`.

use serde::Serialize;
use uuid::Uuid;

use super::ledger::TenantOrAll;
use super::{Json, Moment, row};
use crate::model::{Channel, Delivery, Message};
use crate::store::StoreError;

row! {
    /// A message on its way to one receiver.
    OutboxRow of "outbox" {
        id: Uuid,
        channel: Channel,
        receiver: String,
        tenant_id: TenantOrAll,
        payload: Json<Message>,
        signed_with: Option<String>,
        created_at: Moment,
        attempt: u32,
        next_attempt_at: Option<Moment>,
        error: Option<String>,
        sent_at: Option<Moment>,
        given_up_at: Option<Moment>,
    }
}

/// What became of messages, as a JSON array of arrays: which one (the primary key), the attempt as which it was claimed, and
/// the columns that tell of its sending.
pub(in crate::store) fn concluded_rows(concluded: &[(u32, Delivery)]) -> Result<String, StoreError> {
    fn row((claimed, delivery): &(u32, Delivery)) -> impl Serialize + '_ {
        let moments = [delivery.next_attempt_at, delivery.sent_at, delivery.given_up_at].map(|at| at.map(Moment));
        let [next_attempt_at, sent_at, given_up_at] = moments;
        let Delivery { message, channel, receiver, attempt, error, .. } = delivery;
        (message.id, channel, receiver, claimed, attempt, next_attempt_at, error, sent_at, given_up_at)
    }
    let rows: Vec<_> = concluded.iter().map(row).collect();
    serde_json::to_string(&rows).map_err(|error| StoreError::Conflict { message: error.to_string() })
}

impl From<&Delivery> for OutboxRow {
    fn from(delivery: &Delivery) -> Self {
        let message = delivery.message.clone();
        Self {
            id: message.id,
            channel: delivery.channel,
            receiver: delivery.receiver.clone(),
            tenant_id: TenantOrAll(message.object.tenant_id.clone()),
            created_at: Moment(message.at),
            payload: Json(message),
            signed_with: delivery.signed_with.clone(),
            attempt: delivery.attempt,
            next_attempt_at: delivery.next_attempt_at.map(Moment),
            error: delivery.error.clone(),
            sent_at: delivery.sent_at.map(Moment),
            given_up_at: delivery.given_up_at.map(Moment),
        }
    }
}

impl From<OutboxRow> for Delivery {
    fn from(row: OutboxRow) -> Self {
        Self {
            message: row.payload.0,
            channel: row.channel,
            receiver: row.receiver,
            signed_with: row.signed_with,
            attempt: row.attempt,
            next_attempt_at: row.next_attempt_at.map(|moment| moment.0),
            error: row.error,
            sent_at: row.sent_at.map(|moment| moment.0),
            given_up_at: row.given_up_at.map(|moment| moment.0),
        }
    }
}
