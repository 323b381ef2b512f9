//! What is told, and to whom: a fact becomes rows of the outbox, one a receiver, for the transaction that records the fact.
//!
//! A message's identity is made from its fact, so that a fact that stands over many runs is told once.
//!
//! Must not know: how anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};

use crate::diagnostic::Finding;
use crate::document::{Repository, without_secrets};
use crate::model::{
    Address, Channel, Delivery, EncryptionKey, KeyRecord, Message, MessageKind, Name, ObjectKind, ObjectRef,
    Observation, Recorded, RotationPolicy, Secret, Timestamp,
};
use crate::plan::{self, Action, Plan, approvals, continued_key};
use crate::provider::ProviderPlace;
use crate::schedule::Timing;
use crate::store::Write;

use super::observe::Observed;
use super::providers::Managers;
use super::records::policy_of;
use super::workflow::Context;
use super::{Desired, clock, facts};

/// Whom each policy wants told.
#[derive(Debug, Default)]
pub(super) struct Receivers(BTreeMap<Address, Vec<Receiver>>);

/// A receiver, by the names of the environment variables that lead to it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Receiver {
    channel: Channel,
    address: String,
    signed_with: Option<String>,
}

/// Something that is to be told.
pub(super) struct Fact {
    pub kind: MessageKind,
    /// What makes it this fact and no other of its kind.
    pub identity: String,
    /// For people: one line that says what it is about.
    pub text: String,
    /// For machines: an object.
    pub details: Value,
}

impl Receivers {
    /// Those of the documents, and of what is recorded where a tenant's documents have errors.
    pub(super) fn new(repository: &Repository, recorded: &Recorded) -> Self {
        let left_out = recorded.policies.iter().filter(|(address, _)| is_left_out(repository, address));
        let policies = left_out.map(|(address, record)| (address, &record.policy));
        let policies = policies.chain(repository.policies.iter().map(|(address, policy)| (address, &policy.value)));
        Self(policies.map(|(address, policy)| (address.clone(), receivers(policy))).collect())
    }

    /// Those of a key's policy.
    fn of(&self, key: &EncryptionKey) -> &[Receiver] {
        let policy = policy_of(key).map(|(tenant_id, name)| Address::new(tenant_id, name));
        policy.and_then(|policy| self.0.get(&policy)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A literal address is told nothing (the plan says so): it would have to be kept until the message is sent.
fn receivers(policy: &RotationPolicy) -> Vec<Receiver> {
    let Some(settings) = &policy.notification_settings else { return Vec::new() };
    let variable = |secret: &Option<Secret>| secret.as_ref().and_then(Secret::variable).map(str::to_owned);
    // What should be signed is not sent without.
    let cannot_sign = settings.webhook_secret.as_ref().is_some_and(|secret| secret.variable().is_none());
    let webhook = variable(&settings.webhook_url).filter(|_| !cannot_sign).map(|address| Receiver {
        channel: Channel::Webhook,
        address,
        signed_with: variable(&settings.webhook_secret),
    });
    let slack = variable(&settings.slack_webhook).map(|address| Receiver {
        channel: Channel::Slack,
        address,
        signed_with: None,
    });
    webhook.into_iter().chain(slack).collect()
}

fn is_left_out(repository: &Repository, policy: &Address) -> bool {
    repository.failed_tenants.contains(&policy.tenant_id)
}

impl Context {
    /// The writes that tell a fact about a key to everybody whom its policy wants told.
    pub(super) fn tell(&self, key: &EncryptionKey, fact: Fact) -> Vec<Write> {
        let object = ObjectRef::key(&Address::new(key.tenant_id.clone(), key.key_name.clone()));
        self.send(object, self.receivers.of(key).iter().collect(), fact)
    }

    /// The writes that tell a fact about several keys of a tenant to everybody whom one of their policies wants told.
    fn tell_all<'a>(&self, tenant_id: &Name, keys: impl Iterator<Item = &'a EncryptionKey>, fact: Fact) -> Vec<Write> {
        let receivers = keys.flat_map(|key| self.receivers.of(key)).collect();
        self.send(ObjectRef::tenant(tenant_id), receivers, fact)
    }

    fn send(&self, object: ObjectRef, receivers: BTreeSet<&Receiver>, fact: Fact) -> Vec<Write> {
        if receivers.is_empty() {
            return Vec::new();
        }
        let message = self.message(object, fact);
        let delivery = |receiver: &Receiver| Delivery {
            message: message.clone(),
            channel: receiver.channel,
            receiver: receiver.address.clone(),
            signed_with: receiver.signed_with.clone(),
            attempt: 0,
            next_attempt_at: Some(message.at),
            error: None,
            sent_at: None,
            given_up_at: None,
        };
        receivers.into_iter().map(|receiver| Write::Outbox(Box::new(delivery(receiver)))).collect()
    }

    fn message(&self, object: ObjectRef, fact: Fact) -> Message {
        let Fact { kind, identity, text, details } = fact;
        let details = match details {
            Value::Object(details) => details,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        Message {
            id: identity_of(self.lineage, kind, &identity),
            kind,
            object,
            text: without_secrets(&text).into_owned(),
            details: details.into_iter().map(|(name, value)| (name, hidden(value))).collect(),
            at: clock::now(),
            correlation_id: self.correlation_id.clone(),
        }
    }
}

/// A UUID of version 8 (RFC 9562 section 5.8): the same for the same fact in the same state database.
fn identity_of(lineage: Uuid, kind: MessageKind, fact: &str) -> Uuid {
    let hash = digest(&SHA256, format!("{lineage} {kind} {fact}").as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// What a provider or a person wrote may quote a secret.
fn hidden(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_secrets(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(hidden).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, hidden(value))).collect(),
        other => other,
    }
}

/// Tells of every key that missed a slot, whether or not this apply can do something about it.
pub(super) fn overdue(
    context: &Context,
    desired: &Desired,
    recorded: &Recorded,
    plan: &Plan,
    now: Timestamp,
) -> Vec<Write> {
    let repository = &desired.repository;
    let mut timings: BTreeMap<Address, Option<Timing>> = BTreeMap::new();
    let mut timing_of = |address: &Address| {
        let timing = timings.entry(address.clone()).or_insert_with(|| {
            let desired = repository.policies.get(address).map(|policy| &policy.value);
            let applied = recorded.policies.get(address).filter(|_| is_left_out(repository, address));
            Timing::new(desired.or(applied.map(|record| &record.policy))?).ok()
        });
        timing.clone()
    };
    let covered = recorded.keys.values().filter(|record| context.covers(&record.key.tenant_id));
    let late = covered.filter_map(|record| {
        let (tenant_id, name) = policy_of(&record.key)?;
        let since = timing_of(&Address::new(tenant_id, name))?.overdue_since(&plan::history(record), now)?;
        Some((record, since))
    });
    let outlooks = Outlooks::new(plan);
    late.flat_map(|(record, since)| context.tell(&record.key, missed(record, since, &outlooks))).collect()
}

/// Tells of every key manager that gave no usable answer about a tenant's keys.
pub(super) fn unanswered(context: &Context, managers: &Managers, desired: &Desired, observed: &Observed) -> Vec<Write> {
    let mut places: BTreeMap<(&Name, ProviderPlace), Vec<(&EncryptionKey, &str)>> = BTreeMap::new();
    for (address, observation) in &observed.keys {
        let Observation::Unknown { why } = observation else { continue };
        let Some(key) = desired.repository.keys.get(address).map(|key| &key.value) else { continue };
        if context.covers(&address.tenant_id) {
            places.entry((&address.tenant_id, managers.place(key))).or_default().push((key, why));
        }
    }
    let told = places.into_iter().flat_map(|((tenant_id, place), keys)| {
        let why = keys.first().map(|(_, why)| *why).unwrap_or_default();
        let names: Vec<&Name> = keys.iter().map(|(key, _)| &key.key_name).collect();
        let fact = facts::unreachable(tenant_id, &place, &names, why);
        context.tell_all(tenant_id, keys.into_iter().map(|(key, _)| key), fact)
    });
    told.collect()
}

/// Tells of every change that waits until owners have approved it.
pub(super) fn unapproved(context: &Context, desired: &Desired, recorded: &Recorded, plan: &Plan) -> Vec<Write> {
    let waiting = plan.waiting.iter().filter(|waiting| waiting.reason.code == approvals::WAITS);
    let told = waiting.filter_map(|waiting| {
        let address = waiting.object.address()?;
        let document = &desired.repository.keys.get(&address)?.value;
        let (_, record) = continued_key(&desired.repository, recorded, &address, document)?;
        let covered = context.covers(&address.tenant_id);
        covered.then(|| context.tell(document, facts::waits_for_approval(record, &address, waiting)))
    });
    told.flatten().collect()
}

/// Tells of every key whose document asks for what cannot be.
pub(super) fn impossible(context: &Context, desired: &Desired, errors: &[Finding]) -> Vec<Write> {
    let told = errors.iter().filter_map(|error| {
        let key = error.object.as_ref().filter(|object| object.kind == ObjectKind::EncryptionKey)?;
        let address = key.address().filter(|address| context.covers(&address.tenant_id))?;
        let document = &desired.repository.keys.get(&address)?.value;
        Some(context.tell(document, facts::impossible(&address, error)))
    });
    told.flatten().collect()
}

/// What the plan says about each key that is due.
struct Outlooks(BTreeMap<ObjectRef, String>);

impl Outlooks {
    fn new(plan: &Plan) -> Self {
        // Of a key's old versions it says nothing.
        let waiting = plan.waiting.iter().filter(|waiting| waiting.version.is_none());
        let waiting = waiting.map(|waiting| (&waiting.object, format!("it waits: {}", waiting.reason.message)));
        let rotations = plan.changes.iter().filter(|change| matches!(change.action, Action::Rotate | Action::Finish));
        let rotated = rotations.map(|change| (&change.object, "this apply is about to rotate it".to_owned()));
        Self(waiting.chain(rotated).map(|(object, text)| (object.clone(), text)).collect())
    }

    fn of(&self, object: &ObjectRef, plan_text: &str) -> String {
        self.0.get(object).cloned().unwrap_or_else(|| plan_text.to_owned())
    }
}

fn missed(record: &KeyRecord, since: Timestamp, outlooks: &Outlooks) -> Fact {
    let address = record.address();
    let outlook = outlooks.of(&ObjectRef::key(&address), "`keywheel explain` says what holds it back");
    Fact {
        kind: MessageKind::KeyOverdue,
        identity: format!("{} {}", record.id, since.timestamp_micros()),
        text: format!("{address} is overdue: its slot of {} was missed; {outlook}", plan::instant(since)),
        details: json!({ "overdue_since": since, "outlook": outlook, "rotation_policy": record.key.rotation_policy }),
    }
}
