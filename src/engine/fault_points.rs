//! Fault points, for tests that kill the real binary: a debug build can be told to die at one of them.
//!
//! There is one before and one after each commit, each change of a lease, and each call of a key manager; they are
//! numbered as the process passes them. `KEYWHEEL_DIE_AT=N` makes the process send itself SIGKILL at the N-th,
//! `KEYWHEEL_DIE_AT='after create_version'` at the first of that name; and `KEYWHEEL_FAULT_POINTS=FILE` has the number and
//! the name of each written to a file as it is passed.
//!
//! Invariant: a release build has none of this, not even the names of the variables: the module is there under
//! `cfg(debug_assertions)` alone. Where the variable is not set, nothing is wrapped.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use uuid::Uuid;

use crate::model::{
    AppliedPlan, AuditEntry, Delivery, EncryptionKey, KeyRecord, LastUse, Observation, PastRotation, Recorded,
    StepRecord, Timestamp, UsageCounter, VersionRecord,
};
use crate::provider::{CreateVersion, Found, KeyHandle, KeyManager, Observe, Owned, ProviderError};
use crate::store::{
    AuditCheck, AuditFilter, AuditLink, HistoryEntry, HistoryFilter, Holder, Identity, Lease, LeaseRecord, LeaseScope,
    Migrated, OldVersions, OutboxFilter, ReadState, State, StoreError, Table, Undelivered, Write,
};

const DIE_AT: &str = "KEYWHEEL_DIE_AT";
const LIST: &str = "KEYWHEEL_FAULT_POINTS";

/// A state database with fault points, if there are to be any.
pub(super) fn state(state: Arc<dyn State>) -> Arc<dyn State> {
    if points().is_some() { Arc::new(Watched(state)) } else { state }
}

/// A key manager with fault points, if there are to be any.
pub(super) fn manager(manager: Arc<dyn KeyManager>) -> Arc<dyn KeyManager> {
    if points().is_some() { Arc::new(Watched(manager)) } else { manager }
}

/// An observer with fault points, if there are to be any.
pub(super) fn observer(observer: Arc<dyn Observe>) -> Arc<dyn Observe> {
    if points().is_some() { Arc::new(Watched(observer)) } else { observer }
}

/// The points of this process.
struct Points {
    /// A number or a name.
    die_at: String,
    passed: AtomicU64,
    list: Option<File>,
}

fn points() -> Option<&'static Points> {
    static POINTS: OnceLock<Option<Points>> = OnceLock::new();
    let points = POINTS.get_or_init(|| {
        let die_at = std::env::var(DIE_AT).ok()?;
        let list = std::env::var_os(LIST).and_then(|path| File::options().create(true).append(true).open(path).ok());
        Some(Points { die_at, passed: AtomicU64::new(0), list })
    });
    points.as_ref()
}

fn pass(when: &str, what: &str) {
    let Some(points) = points() else { return };
    let number = (points.passed.fetch_add(1, Ordering::SeqCst) + 1).to_string();
    let name = format!("{when} {what}");
    if let Some(mut list) = points.list.as_ref() {
        let _ = list.write_all(format!("{number} {name}\n").as_bytes());
    }
    if points.die_at == number || points.die_at == name {
        let _ = kill_process(getpid(), Signal::KILL);
        // The thread does not go on while the signal is on its way.
        loop {
            std::thread::park();
        }
    }
}

async fn around<T>(what: &'static str, call: impl Future<Output = T> + Send) -> T {
    pass("before", what);
    let answer = call.await;
    pass("after", what);
    answer
}

/// Something with a point before and after each of its calls that change anything, or ask a key manager.
struct Watched<T: ?Sized>(Arc<T>);

#[async_trait]
impl State for Watched<dyn State> {
    async fn acquire(&self, scopes: &BTreeSet<LeaseScope>, holder: &Holder, seconds: u32) -> Result<Lease, StoreError> {
        around("acquire", self.0.acquire(scopes, holder, seconds)).await
    }

    async fn narrow(&self, lease: &Lease, scopes: &BTreeSet<LeaseScope>) -> Result<Lease, StoreError> {
        around("narrow", self.0.narrow(lease, scopes)).await
    }

    async fn renew(&self, lease: &Lease, seconds: u32) -> Result<(), StoreError> {
        around("renew", self.0.renew(lease, seconds)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        around("release", self.0.release(lease)).await
    }

    async fn break_lease(&self, token: i64, seconds: u32, entry: &AuditEntry) -> Result<Option<Timestamp>, StoreError> {
        around("break_lease", self.0.break_lease(token, seconds, entry)).await
    }

    async fn commit(&self, lease: &Lease, writes: &[Write]) -> Result<(), StoreError> {
        around("commit", self.0.commit(lease, writes)).await
    }

    async fn claim(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        around("claim", self.0.claim(now, until, limit)).await
    }

    async fn conclude(&self, concluded: &[(u32, Delivery)]) -> Result<(), StoreError> {
        around("conclude", self.0.conclude(concluded)).await
    }

    async fn report_usage(&self, counter: &UsageCounter) -> Result<u64, StoreError> {
        around("report_usage", self.0.report_usage(counter)).await
    }

    fn migrated(&self) -> Option<&Migrated> {
        self.0.migrated()
    }

    async fn revive(&self, now: Timestamp, given_up: bool) -> Result<u64, StoreError> {
        around("revive", self.0.revive(now, given_up)).await
    }

    async fn copy_from(&self, lease: &Lease, source: &dyn ReadState) -> Result<(), StoreError> {
        around("copy_from", self.0.copy_from(lease, source)).await
    }
}

#[async_trait]
impl ReadState for Watched<dyn State> {
    async fn recorded(&self) -> Result<Recorded, StoreError> {
        self.0.recorded().await
    }

    async fn key(&self, id: Uuid) -> Result<Option<KeyRecord>, StoreError> {
        self.0.key(id).await
    }

    async fn forgotten_keys(&self) -> Result<Vec<(KeyRecord, Timestamp)>, StoreError> {
        self.0.forgotten_keys().await
    }

    async fn versions(&self, key_id: Uuid) -> Result<Vec<VersionRecord>, StoreError> {
        self.0.versions(key_id).await
    }

    async fn all_versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        self.0.all_versions().await
    }

    async fn old_versions(&self, now: Timestamp, kept: bool) -> Result<OldVersions, StoreError> {
        self.0.old_versions(now, kept).await
    }

    async fn outbox(&self, filter: &OutboxFilter) -> Result<Vec<Delivery>, StoreError> {
        self.0.outbox(filter).await
    }

    async fn undelivered(&self) -> Result<Undelivered, StoreError> {
        self.0.undelivered().await
    }

    async fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        self.0.back_up(to).await
    }

    async fn problems(&self) -> Result<Vec<String>, StoreError> {
        self.0.problems().await
    }

    async fn journal(&self, rotation_id: Uuid) -> Result<Vec<StepRecord>, StoreError> {
        self.0.journal(rotation_id).await
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError> {
        self.0.history(filter).await
    }

    async fn last_rotations(&self, keys: &[Uuid], each: u32) -> Result<Vec<PastRotation>, StoreError> {
        self.0.last_rotations(keys, each).await
    }

    async fn compromised(&self) -> Result<Vec<VersionRecord>, StoreError> {
        self.0.compromised().await
    }

    async fn overridden(&self) -> Result<Vec<AppliedPlan>, StoreError> {
        self.0.overridden().await
    }

    async fn applied_plan(&self, digest: &str) -> Result<Option<AppliedPlan>, StoreError> {
        self.0.applied_plan(digest).await
    }

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditLink>, StoreError> {
        self.0.audit(filter).await
    }

    async fn audit_after(&self, link: Option<(&str, u64)>, limit: u32) -> Result<Vec<AuditLink>, StoreError> {
        self.0.audit_after(link, limit).await
    }

    async fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        self.0.leases().await
    }

    async fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        self.0.verify_audit().await
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.0.identity().await
    }

    async fn page(&self, table: &Table, after: u64) -> Result<Vec<String>, StoreError> {
        self.0.page(table, after).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.0.now().await
    }
}

#[async_trait]
impl<T: Observe + ?Sized> Observe for Watched<T> {
    async fn observe(&self, keys: &[KeyHandle]) -> Vec<Observation> {
        around("observe", self.0.observe(keys)).await
    }

    async fn owned(&self) -> Result<Vec<Owned>, ProviderError> {
        around("owned", self.0.owned()).await
    }

    async fn primary(&self, key: &KeyHandle) -> Result<Option<String>, ProviderError> {
        around("primary", self.0.primary(key)).await
    }

    async fn intent(&self, key: &KeyHandle) -> Result<Value, ProviderError> {
        around("intent", self.0.intent(key)).await
    }

    async fn last_use(&self, key: &KeyHandle, version: &str) -> Result<Option<LastUse>, ProviderError> {
        around("last_use", self.0.last_use(key, version)).await
    }

    async fn find_created(&self, request: &CreateVersion) -> Result<Vec<Found>, ProviderError> {
        around("find_created", self.0.find_created(request)).await
    }
}

#[async_trait]
impl KeyManager for Watched<dyn KeyManager> {
    async fn create_version(&self, request: &CreateVersion) -> Result<Found, ProviderError> {
        around("create_version", self.0.create_version(request)).await
    }

    async fn verify(&self, request: &CreateVersion, version: &str) -> Result<(), ProviderError> {
        around("verify", self.0.verify(request, version)).await
    }

    async fn promote(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        around("promote", self.0.promote(key, from, version)).await
    }

    async fn prove_primary(&self, key: &KeyHandle, from: Option<&str>, version: &str) -> Result<(), ProviderError> {
        around("prove_primary", self.0.prove_primary(key, from, version)).await
    }

    async fn disable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        around("disable", self.0.disable(key, version)).await
    }

    async fn enable(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        around("enable", self.0.enable(key, version)).await
    }

    async fn schedule_destruction(&self, key: &KeyHandle, version: &str) -> Result<Timestamp, ProviderError> {
        around("schedule_destruction", self.0.schedule_destruction(key, version)).await
    }

    async fn cancel_destruction(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        around("cancel_destruction", self.0.cancel_destruction(key, version)).await
    }

    async fn destroy(&self, key: &KeyHandle, version: &str) -> Result<(), ProviderError> {
        around("destroy", self.0.destroy(key, version)).await
    }

    async fn update_settings(
        &self,
        key: &KeyHandle,
        former: Option<&EncryptionKey>,
        version: &str,
    ) -> Result<(), ProviderError> {
        around("update_settings", self.0.update_settings(key, former, version)).await
    }

    async fn encrypt(&self, key: &KeyHandle, plaintext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        around("encrypt", self.0.encrypt(key, plaintext)).await
    }

    async fn decrypt(&self, key: &KeyHandle, ciphertext: &[u8]) -> Result<Vec<u8>, ProviderError> {
        around("decrypt", self.0.decrypt(key, ciphertext)).await
    }
}
