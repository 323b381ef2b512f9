//! Reading: [`ReadState`] for the memory.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use uuid::Uuid;

use super::{HeldLease, Memory, left_out};
use crate::model::{
    Address, AppliedPlan, Delivery, Disposition, KeyRecord, Name, ObjectKind, PastRotation, Phase, PolicyRecord,
    Recorded, RotationRecord, StepRecord, Timestamp, VersionRecord, VersionState, Workflow,
};
use crate::store::audit::{AuditCheck, AuditLink};
use crate::store::rows::AuditRow;
use crate::store::{
    AuditFilter, HistoryEntry, HistoryFilter, Identity, LeaseRecord, LeaseScope, OldVersions, OutboxFilter, ReadState,
    StoreError, Table, Undelivered,
};
#[async_trait]
impl ReadState for Memory {
    async fn recorded(&self) -> Result<Recorded, StoreError> {
        let tables = self.tables();
        let policies = tables.policies.values().filter(|live| live.removed_at.is_none()).map(|live| &live.record);
        let address =
            |record: &PolicyRecord| Address::new(record.policy.tenant_id.clone(), record.policy.policy_name.clone());
        let mut unfinished: Vec<_> = tables.unfinished().cloned().collect();
        unfinished.sort_by_key(|rotation| (rotation.started_at, rotation.id));
        Ok(Recorded {
            lineage: Some(self.identity.lineage),
            policies: policies.map(|record| (address(record), record.clone())).collect(),
            keys: tables.keys().map(|key| (key.address(), key)).collect(),
            documents: tables.documents.iter().map(|(object, record)| (object.clone(), (**record).clone())).collect(),
            unfinished,
            usage: tables.usage(),
            // Of two that began at once, the one that was written last.
            last_applied: tables.plans.last().map(|plan| (**plan).clone()),
        })
    }

    async fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError> {
        let tables = self.tables();
        Ok(tables.keys.get(&id).map(|live| tables.joined(&live.record)))
    }

    async fn forgotten_keys(&self) -> Result<Vec<(KeyRecord, Timestamp)>, StoreError> {
        let tables = self.tables();
        let forgotten = tables.keys.values().filter_map(|live| Some((tables.joined(&live.record), live.removed_at?)));
        let mut forgotten: Vec<_> = forgotten.collect();
        forgotten.sort_by_key(|(record, removed_at)| (*removed_at, record.id));
        Ok(forgotten)
    }

    async fn versions(&self, key_id: Uuid) -> Result<Vec<VersionRecord>, StoreError> {
        let tables = self.tables();
        let mut found: Vec<_> = tables
            .versions
            .values()
            .filter(|version| version.key_id == key_id)
            .map(|version| (**version).clone())
            .collect();
        found.sort_by_key(|version| version.number);
        Ok(found)
    }

    async fn all_versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        let tables = self.tables();
        let live = |key: Uuid| tables.keys.get(&key).is_some_and(|key| key.removed_at.is_none());
        let versions = tables.versions.values().filter(|version| live(version.key_id));
        let mut found: Vec<_> = versions.map(|version| (**version).clone()).collect();
        found.sort_by_key(|version| (version.key_id, version.number));
        Ok(found)
    }

    async fn old_versions(&self, now: Timestamp, kept: bool) -> Result<OldVersions, StoreError> {
        let tables = self.tables();
        let tenant = |version: &VersionRecord| {
            let key = tables.keys.get(&version.key_id).filter(|key| key.removed_at.is_none());
            key.map(|key| key.record.key.tenant_id.clone())
        };
        let is_old = |version: &VersionRecord| {
            let terms = version.retention.as_ref().map(|terms| terms.old_key_disposition);
            let has_passed = version.retain_until.is_some_and(|until| until <= now);
            let governed = kept || terms.is_some_and(|disposition| disposition != Disposition::Keep);
            match version.state {
                VersionState::PendingDestruction => true,
                VersionState::Disabled => !version.orphan,
                VersionState::Deactivated => !version.orphan && has_passed && governed,
                _ => false,
            }
        };
        let live = || tables.versions.values().filter(|version| tenant(version).is_some());
        let mut versions: Vec<_> =
            live().filter(|version| is_old(version)).map(|version| (**version).clone()).collect();
        versions.sort_by_key(|version| (version.key_id, version.number));
        let mut existing = BTreeMap::new();
        if !versions.is_empty() {
            for tenant in live().filter(|version| version.state != VersionState::Destroyed).filter_map(|it| tenant(it))
            {
                *existing.entry(tenant).or_default() += 1;
            }
        }
        Ok(OldVersions { versions, existing })
    }

    async fn compromised(&self) -> Result<Vec<VersionRecord>, StoreError> {
        use VersionState::{Destroyed, Disabled, PendingDestruction};
        let decrypts = |version: &VersionRecord| !matches!(version.state, Disabled | PendingDestruction | Destroyed);
        let mut found = self.all_versions().await?;
        found.retain(|version| version.compromised_at.is_some() && decrypts(version));
        Ok(found)
    }

    async fn journal(&self, rotation_id: Uuid) -> Result<Vec<StepRecord>, StoreError> {
        let tables = self.tables();
        let steps = tables.steps.iter().filter(|step| step.rotation_id == rotation_id);
        Ok(steps.map(|step| (**step).clone()).collect())
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError> {
        let tables = self.tables();
        let HistoryFilter { tenant_id, key, phase, leads, since, correlation_id, limit } = filter;
        let is_of = |rotation: &RotationRecord, address: &Address| {
            let now = tables.keys.get(&rotation.key_id).map(|live| live.record.address());
            rotation.address == *address || now.as_ref() == Some(address)
        };
        let mut found: Vec<&RotationRecord> = tables
            .rotations
            .values()
            .map(|rotation| &**rotation)
            .filter(|rotation| tenant_id.as_ref().is_none_or(|tenant_id| rotation.address.tenant_id == *tenant_id))
            .filter(|rotation| key.as_ref().is_none_or(|address| is_of(rotation, address)))
            .filter(|rotation| phase.is_none_or(|phase| rotation.phase == phase))
            .filter(|rotation| !leads || rotation.workflow.leads())
            .filter(|rotation| since.is_none_or(|since| rotation.started_at >= since))
            .filter(|rotation| correlation_id.as_ref().is_none_or(|run| rotation.correlation_id == *run))
            .collect();
        found.sort_by_key(|rotation| std::cmp::Reverse((rotation.started_at, rotation.id)));
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(found.into_iter().take(limit).cloned().map(HistoryEntry::from).collect())
    }

    async fn last_rotations(&self, keys: &[Uuid], each: u32) -> Result<Vec<PastRotation>, StoreError> {
        let tables = self.tables();
        let mut found = Vec::new();
        for key in keys {
            let is_past = |it: &&RotationRecord| {
                it.key_id == *key && it.workflow == Workflow::Rotate && it.phase == Phase::Settled
            };
            let mut own: Vec<&RotationRecord> = tables.rotations.values().map(|it| &**it).filter(is_past).collect();
            own.sort_by_key(|rotation| std::cmp::Reverse(rotation.started_at));
            found.extend(own.into_iter().take(each as usize).map(|rotation| PastRotation {
                key_id: *key,
                at: rotation.started_at,
                slot: rotation.slot,
                cause: rotation.cause,
            }));
        }
        Ok(found)
    }

    async fn applied_plan(&self, digest: &str) -> Result<Option<AppliedPlan>, StoreError> {
        Ok(self.tables().plans.iter().find(|plan| plan.digest == digest).map(|plan| (**plan).clone()))
    }

    async fn overridden(&self) -> Result<Vec<AppliedPlan>, StoreError> {
        let tables = self.tables();
        let mut found: Vec<AppliedPlan> =
            tables.plans.iter().filter(|plan| plan.override_reason.is_some()).map(|plan| (**plan).clone()).collect();
        found.sort_by(|a, b| (b.started_at, &a.digest).cmp(&(a.started_at, &b.digest)));
        Ok(found)
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditLink>, StoreError> {
        let AuditFilter { tenant_id, object, since, until, limit } = filter;
        let is_about = |row: &AuditRow, object: &Address| {
            row.tenant_id.0.as_ref() == Some(&object.tenant_id)
                && row.object_name == object.name
                && matches!(row.object_kind, ObjectKind::RotationPolicy | ObjectKind::EncryptionKey)
        };
        let tables = self.tables();
        let mut found: Vec<&AuditRow> = tables
            .links()
            .filter(|row| tenant_id.is_none() || row.tenant_id.0 == *tenant_id)
            .filter(|row| object.as_ref().is_none_or(|object| is_about(row, object)))
            .filter(|row| since.is_none_or(|since| row.at.0 >= since) && until.is_none_or(|until| row.at.0 <= until))
            .collect();
        found.sort_by_key(|row| (std::cmp::Reverse(row.at.0), row.tenant_id.0.clone(), std::cmp::Reverse(row.seq)));
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(found.into_iter().take(limit).map(|row| AuditLink::from(row.clone())).collect())
    }

    async fn audit_after(&self, after: Option<(&str, u64)>, limit: u32) -> Result<Vec<AuditLink>, StoreError> {
        let place = |row: &AuditRow| (row.tenant_id.0.as_ref().map_or("", Name::as_str).to_owned(), row.seq);
        let after = after.map_or_else(|| (String::new(), 0), |(tenant_id, seq)| (tenant_id.to_owned(), seq));
        let tables = self.tables();
        Ok(tables
            .links()
            .filter(|row| place(row) > after)
            .take(limit as usize)
            .map(|row| AuditLink::from(row.clone()))
            .collect())
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        let now = (self.clock)();
        let tables = self.tables();
        let held = tables.leases.iter().filter_map(|(token, lease)| Some((*token, lease, lease.until?)));
        let tenant = |scope: &LeaseScope| match scope {
            LeaseScope::Repository => None,
            LeaseScope::Tenant(tenant_id) => Some(tenant_id.clone()),
        };
        let record = |(token, lease, until): (i64, &HeldLease, Timestamp)| LeaseRecord {
            token,
            repository: lease.scopes.contains(&LeaseScope::Repository),
            tenants: lease.scopes.iter().filter_map(tenant).collect(),
            who: lease.holder.who.clone(),
            pid: lease.holder.pid,
            operation: lease.holder.operation.clone(),
            since: lease.since,
            until,
            expired: until <= now,
        };
        Ok(held.map(record).collect())
    }

    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>, StoreError> {
        let OutboxFilter { tenant_id, undelivered, limit } = filter;
        let tables = self.tables();
        let mut found: Vec<_> = tables
            .outbox
            .values()
            .filter(|delivery| tenant_id.is_none() || delivery.message.object.tenant_id == *tenant_id)
            .filter(|delivery| !undelivered || delivery.sent_at.is_none())
            .collect();
        found.sort_by_key(|delivery| {
            let Delivery { message, channel, receiver, .. } = &***delivery;
            (std::cmp::Reverse((message.at, message.id)), channel.as_str(), receiver.clone())
        });
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(found.into_iter().take(limit).map(|delivery| (**delivery).clone()).collect())
    }

    async fn undelivered(&self) -> Result<Undelivered, StoreError> {
        let tables = self.tables();
        let mut count = Undelivered::default();
        for delivery in tables.outbox.values().filter(|delivery| delivery.sent_at.is_none()) {
            *(if delivery.given_up_at.is_some() { &mut count.given_up } else { &mut count.waiting }) += 1;
        }
        Ok(count)
    }

    async fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        let mut check = AuditCheck::default();
        for row in self.tables().links() {
            check.take(row);
        }
        Ok(check)
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        Ok(self.identity.clone())
    }

    async fn page(&self, _table: &Table, _after: u64) -> Result<Vec<String>, StoreError> {
        Err(left_out())
    }

    async fn back_up(&self, _to: &Path) -> Result<(), StoreError> {
        Err(left_out())
    }

    async fn problems(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok((self.clock)())
    }
}
