//! The state database as a process sees it: each method a request to the one in memory.
//!
//! A commit that was not answered is repeated below the trait, and answered late; an error means that nothing was
//! written. That is the contract of [`State::commit`].

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures::FutureExt;
use uuid::Uuid;

use super::bugs::{self, Bug};
use super::invariants;
use super::world::{Call, Process, Side, World};
use crate::model::{
    AppliedPlan, AuditEntry, Delivery, KeyRecord, PastRotation, Recorded, StepRecord, Timestamp, UsageCounter,
    VersionRecord,
};
use crate::store::{
    AuditCheck, AuditFilter, AuditLink, HistoryEntry, HistoryFilter, Holder, Identity, Lease, LeaseRecord, LeaseScope,
    Migrated, OldVersions, OutboxFilter, ReadState, State, StoreError, Table, Undelivered, Write,
};

pub struct Connection {
    pub world: Arc<World>,
    pub process: Arc<Process>,
    /// Writes that were answered and not made: only somebody who plants a mistake keeps any.
    pub held_back: bugs::HeldBack,
}

impl Connection {
    async fn ask<T: Send + 'static>(
        &self,
        name: &'static str,
        changes: bool,
        land: impl Fn(&Arc<World>) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let call = Call { name, to: Side::Database, changes, repeats: true };
        self.world.request(&self.process, call, land).await.unwrap_or_else(|trouble| {
            Err(StoreError::Unreachable { location: "memory".to_owned(), message: format!("{trouble:?}") })
        })
    }
}

/// The database in memory answers at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().unwrap()
}

#[async_trait]
impl ReadState for Connection {
    async fn recorded(&self) -> Result<Recorded, StoreError> {
        self.ask("recorded", false, |world| now(world.memory.recorded())).await
    }

    async fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError> {
        self.ask("key", false, move |world| now(world.memory.key(id))).await
    }

    async fn forgotten_keys(&self) -> Result<Vec<(KeyRecord, Timestamp)>, StoreError> {
        now(self.world.memory.forgotten_keys())
    }

    async fn versions(&self, key_id: Uuid) -> Result<Vec<VersionRecord>, StoreError> {
        self.ask("versions", false, move |world| now(world.memory.versions(key_id))).await
    }

    async fn all_versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        self.ask("all versions", false, |world| now(world.memory.all_versions())).await
    }

    async fn old_versions(&self, at: Timestamp, kept: bool) -> Result<OldVersions, StoreError> {
        self.ask("old versions", false, move |world| now(world.memory.old_versions(at, kept))).await
    }

    async fn journal(&self, rotation_id: Uuid) -> Result<Vec<StepRecord>, StoreError> {
        self.ask("journal", false, move |world| now(world.memory.journal(rotation_id))).await
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError> {
        let filter = filter.clone();
        self.ask("history", false, move |world| now(world.memory.history(&filter))).await
    }

    async fn last_rotations(&self, keys: &[Uuid], each: u32) -> Result<Vec<PastRotation>, StoreError> {
        let keys = keys.to_vec();
        self.ask("last_rotations", false, move |world| now(world.memory.last_rotations(&keys, each))).await
    }

    async fn compromised(&self) -> Result<Vec<VersionRecord>, StoreError> {
        self.ask("compromised", false, |world| now(world.memory.compromised())).await
    }

    async fn overridden(&self) -> Result<Vec<AppliedPlan>, StoreError> {
        self.ask("overridden", false, |world| now(world.memory.overridden())).await
    }

    async fn applied_plan(&self, digest: &str) -> Result<Option<AppliedPlan>, StoreError> {
        let digest = digest.to_owned();
        self.ask("applied plan", false, move |world| now(world.memory.applied_plan(&digest))).await
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditLink>, StoreError> {
        now(self.world.memory.audit(filter))
    }

    async fn audit_after(&self, link: Option<(&str, u64)>, limit: u32) -> Result<Vec<AuditLink>, StoreError> {
        now(self.world.memory.audit_after(link, limit))
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        now(self.world.memory.leases())
    }

    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>, StoreError> {
        now(self.world.memory.outbox(filter))
    }

    async fn undelivered(&self) -> Result<Undelivered, StoreError> {
        now(self.world.memory.undelivered())
    }

    async fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        now(self.world.memory.verify_audit())
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        now(self.world.memory.identity())
    }

    async fn page(&self, table: &Table, after: u64) -> Result<Vec<String>, StoreError> {
        now(self.world.memory.page(table, after))
    }

    async fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        now(self.world.memory.back_up(to))
    }

    async fn problems(&self) -> Result<Vec<String>, StoreError> {
        now(self.world.memory.problems())
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.ask("now", false, |world| now(world.memory.now())).await
    }
}

#[async_trait]
impl State for Connection {
    async fn acquire(&self, scopes: &BTreeSet<LeaseScope>, holder: &Holder, seconds: u32) -> Result<Lease, StoreError> {
        let (scopes, holder) = (scopes.clone(), holder.clone());
        let lease = self
            .ask("acquire", true, move |world| {
                let before = now(world.memory.leases())?;
                let lease = now(world.memory.acquire(&scopes, &holder, seconds))?;
                invariants::acquired(world, &lease, &before);
                Ok(lease)
            })
            .await?;
        self.process.token.store(lease.token, Ordering::Relaxed);
        Ok(lease)
    }

    async fn narrow(&self, lease: &Lease, scopes: &BTreeSet<LeaseScope>) -> Result<Lease, StoreError> {
        let (lease, scopes) = (lease.clone(), scopes.clone());
        self.ask("narrow", true, move |world| now(world.memory.narrow(&lease, &scopes))).await
    }

    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError> {
        if self.world.has(Bug::HeartbeatPretends) {
            return Ok(());
        }
        let lease = lease.clone();
        self.ask("renew", true, move |world| now(world.memory.renew(&lease, seconds))).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.ask("release", true, move |world| now(world.memory.release(&lease))).await
    }

    async fn break_lease(&self, token: i64, seconds: u32, entry: &AuditEntry) -> Result<Option<Timestamp>, StoreError> {
        now(self.world.memory.break_lease(token, seconds, entry))
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        let Some(writes) = bugs::spoil(&self.world, &self.held_back, writes) else { return Ok(()) };
        let lease = lease.clone();
        self.ask("commit", true, move |world| {
            now(world.memory.commit(&lease, &writes))?;
            invariants::committed(world, &lease, &writes);
            Ok(())
        })
        .await
    }

    async fn claim(&self, at: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        now(self.world.memory.claim(at, until, limit))
    }

    async fn conclude(&self, concluded: &[(u32, Delivery)]) -> Result<(), StoreError> {
        now(self.world.memory.conclude(concluded))
    }

    async fn revive(&self, at: Timestamp, given_up: bool) -> Result<u64, StoreError> {
        now(self.world.memory.revive(at, given_up))
    }

    async fn report_usage(&self, counter: &UsageCounter) -> Result<u64, StoreError> {
        now(self.world.memory.report_usage(counter))
    }

    fn migrated(&self) -> Option<&Migrated> {
        self.world.memory.migrated()
    }

    async fn copy_from(&self, lease: &Lease, source: &dyn ReadState) -> Result<(), StoreError> {
        self.world.memory.copy_from(lease, source).await
    }
}
