//! What is recorded as done and stands nowhere in the audit log.
//!
//! A chain does not show that its end was cut off, and an empty one is whole. The record shows both: whatever is in it was
//! written in one transaction with an entry of the log.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::model::{Address, Name, ObjectRef, Recorded};
use crate::store::{HistoryEntry, ReadState};

use super::EngineError;

/// How many entries are read at once.
const PAGE: u32 = 1024;

/// Something that was done without an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unlogged {
    /// What it is about: a policy, a key, or all of a tenant or of the repository.
    pub object: ObjectRef,
    /// What is recorded, and what of it the log lacks.
    pub what: String,
}

/// What the log lacks of `recorded` and of `settled`, the rotations that came to their end.
pub(super) async fn unlogged(
    state: &dyn ReadState,
    recorded: &Recorded,
    settled: &[HistoryEntry],
) -> Result<Vec<Unlogged>, EngineError> {
    let mut lacks = Lacks::new(recorded, settled);
    let mut last: Option<(String, u64)> = None;
    loop {
        let after = last.as_ref().map(|(tenant, seq)| (tenant.as_str(), *seq));
        let page = state.audit_after(after, PAGE).await?;
        let Some(end) = page.last() else { return Ok(lacks.found()) };
        last = Some((end.object.tenant_id.as_ref().map_or_else(String::new, ToString::to_string), end.seq));
        for link in &page {
            let rotation = link.after.as_ref().and_then(|after| after.get("rotation_id")?.as_str()?.parse().ok());
            lacks.met(&link.object, rotation);
        }
    }
}

/// What no entry was met of yet.
struct Lacks<'a> {
    objects: BTreeSet<ObjectRef>,
    rotations: BTreeMap<Uuid, &'a HistoryEntry>,
    chains: BTreeSet<Option<Name>>,
}

impl<'a> Lacks<'a> {
    fn new(recorded: &Recorded, settled: &'a [HistoryEntry]) -> Self {
        let policies = recorded.policies.keys().map(ObjectRef::policy);
        // What is recorded of a key that is being made is its intent.
        let made = recorded.keys.iter().filter(|(_, key)| key.primary_version.is_some());
        let keys = made.map(|(address, _)| ObjectRef::key(address));
        let rotations = settled.iter().filter(|rotation| rotation.workflow.leads());
        Self {
            objects: recorded.documents.keys().cloned().chain(policies).chain(keys).collect(),
            rotations: rotations.map(|rotation| (rotation.rotation_id, rotation)).collect(),
            chains: BTreeSet::new(),
        }
    }

    fn met(&mut self, object: &ObjectRef, rotation: Option<Uuid>) {
        if !self.chains.contains(&object.tenant_id) {
            self.chains.insert(object.tenant_id.clone());
        }
        self.objects.remove(object);
        if let Some(rotation) = rotation {
            self.rotations.remove(&rotation);
        }
    }

    /// One for each object and rotation; of a chain without any entry, one for all of it.
    fn found(self) -> Vec<Unlogged> {
        let mut empty: BTreeMap<Option<Name>, (usize, usize)> = BTreeMap::new();
        let mut found = Vec::new();
        for object in self.objects {
            if self.chains.contains(&object.tenant_id) {
                let what = format!("{} {object} is recorded, and the log has no entry about it", object.kind);
                found.push(Unlogged { object, what });
            } else {
                empty.entry(object.tenant_id).or_default().0 += 1;
            }
        }
        for rotation in self.rotations.into_values() {
            let HistoryEntry { rotation_id, tenant_id, key_name, workflow, started_at, .. } = rotation;
            let chain = Some(tenant_id.clone());
            if self.chains.contains(&chain) {
                let started = started_at.format("%Y-%m-%dT%H:%M:%SZ");
                let what = format!(
                    "{tenant_id}/{key_name}: its {workflow} of {started} ({rotation_id}) is recorded as settled, and \
                     the log has no entry of that"
                );
                let address = Address::new(tenant_id.clone(), key_name.clone());
                found.push(Unlogged { object: ObjectRef::key(&address), what });
            } else {
                empty.entry(chain).or_default().1 += 1;
            }
        }
        let empty = empty.into_iter().map(|(chain, (objects, rotations))| {
            let whose = chain.as_ref().map_or_else(|| "the repository".to_owned(), |tenant| format!("tenant {tenant}"));
            let what = format!(
                "the log of {whose} is empty, and {} and {} are recorded",
                counted(objects, "object"),
                counted(rotations, "settled rotation")
            );
            Unlogged { object: chain.as_ref().map_or_else(ObjectRef::config, ObjectRef::tenant), what }
        });
        empty.chain(found).collect()
    }
}

fn counted(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}
