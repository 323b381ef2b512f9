//! Mistakes that are planted into the world, one at a time, to show that the simulation finds them. Each takes away a
//! promise that the engine makes or relies on, from outside: the engine itself is as it is.

use std::sync::{Arc, Mutex};

use super::world::{World, locked};
use crate::model::{AuditEntry, Outcome, Step, VersionRecord, VersionState};
use crate::store::Write;
use crate::store::memory::Promises;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A step's intent becomes durable with its outcome, after the call.
    IntentAfterCall,
    /// The database takes the writes of a worker that lost its lease.
    NoFencing,
    /// Two workers hold the same lease.
    LeaseHeldTwice,
    /// The heartbeat says that it prolonged the lease, and did not.
    HeartbeatPretends,
    /// A probe for what an open creation made finds nothing, whatever is there.
    RetryWithoutProbing,
    /// An open creation is repeated at once, without the key manager's delay.
    RetryWithoutWaiting,
    /// A probe finds one version, and overlooks its twins.
    TwinsForgotten,
    /// Versions do not carry their rotation's mark.
    NoMark,
    /// A call without an answer is taken for one without an effect.
    NoAnswerIsFailure,
    /// A version is promoted that was never used.
    PromoteBeforeVerify,
    /// The stable name is moved from wherever it leads.
    PromoteWithoutLooking,
    /// The stable name is moved by deleting and making it again.
    AliasDeletedAndCreated,
    /// The end of a rotation is recorded without the key's new primary.
    SettledWithoutTheKey,
    /// Audit entries are written in a transaction after that of what they tell of.
    AuditAfterwards,
    /// That an adopted key is given its settings is written after the call.
    AdoptionUnannounced,
    /// That a twin is put out of use is written after the call.
    TwinUnannounced,
    /// Messages are written in a transaction after that of what they tell of.
    MessageAfterwards,
    /// The retention of an old version counts from long ago, and the key manager is not asked either: its date of last use
    /// alone would still keep the version. So it is with the next.
    DisableInsideRetention,
    /// So does the time for which it stays disabled before it is destroyed.
    DestroyInsideRetention,
    /// The key manager is not asked when an old version was used last: it seems never to have been.
    LastUseForgotten,
    /// The documents are read without their freezes.
    FreezesForgotten,
    /// What was saved and approved is put aside: everything that a fresh plan has is done.
    SavedPlanPutAside,
}

/// Writes that a spoiled connection said it had made, and keeps for its next commit.
pub type HeldBack = Mutex<Vec<Write>>;

/// What the database promises under a bug.
pub fn promises(bug: Option<Bug>) -> Promises {
    match bug {
        Some(Bug::NoFencing) => Promises { fencing: false, ..Promises::ALL },
        Some(Bug::LeaseHeldTwice) => Promises { exclusive_leases: false, ..Promises::ALL },
        _ => Promises::ALL,
    }
}

/// The writes that reach the database; none if the commit is only pretended.
pub fn spoil(world: &Arc<World>, held_back: &HeldBack, writes: &[Write]) -> Option<Vec<Write>> {
    let mut kept = locked(held_back);
    let mut writes = writes.to_vec();
    match world.bug {
        Some(Bug::IntentAfterCall) => {
            let is_intent = |write: &Write| matches!(write, Write::Step(step) if step.outcome == Outcome::Started);
            let begins = writes.iter().any(is_intent);
            writes.splice(0..0, kept.drain(..));
            if begins {
                *kept = writes;
                return None;
            }
        }
        Some(Bug::SettledWithoutTheKey) => {
            let is_end = |write: &Write| matches!(write, Write::Step(step) if step.step == Step::Settle && step.outcome == Outcome::Succeeded);
            if writes.iter().any(is_end) {
                writes.retain(|write| !matches!(write, Write::Key(_)));
            }
        }
        Some(Bug::AuditAfterwards) => {
            late(&mut writes, &mut kept, |write| matches!(write, Write::Audit(_)));
        }
        Some(Bug::AdoptionUnannounced) => late(&mut writes, &mut kept, |write| {
            let adopts =
                |entry: &AuditEntry| entry.after.as_ref().is_some_and(|after| after.get("provider_ref").is_some());
            is_audit(write, |entry| entry.action == "key.settings_requested" && adopts(entry))
        }),
        Some(Bug::TwinUnannounced) => {
            late(&mut writes, &mut kept, |write| is_audit(write, |entry| entry.action == "version.disable_requested"));
        }
        Some(Bug::MessageAfterwards) => {
            late(&mut writes, &mut kept, |write| matches!(write, Write::Outbox(_)));
        }
        Some(Bug::DisableInsideRetention) => age(&mut writes, |version| {
            if version.state == VersionState::Deactivated {
                version.deactivated_at = version.deactivated_at.map(|at| at - LONG);
                version.retain_until = version.retain_until.map(|at| at - LONG);
            }
        }),
        Some(Bug::DestroyInsideRetention) => age(&mut writes, |version| {
            if version.state == VersionState::Disabled {
                version.disabled_at = version.disabled_at.map(|at| at - LONG);
            }
        }),
        _ => {}
    }
    Some(writes)
}

/// Keeps some writes for the next transaction, which takes those of the one before.
fn late(writes: &mut Vec<Write>, kept: &mut Vec<Write>, is_late: impl Fn(&Write) -> bool) {
    let late = writes.extract_if(.., |write| is_late(write)).collect();
    writes.extend(std::mem::replace(kept, late));
}

fn is_audit(write: &Write, is_it: impl Fn(&AuditEntry) -> bool) -> bool {
    matches!(write, Write::Audit(entry) if is_it(entry))
}

/// Longer than anything is retained here.
pub const LONG: chrono::Duration = chrono::Duration::days(60);

fn age(writes: &mut [Write], spoil: impl Fn(&mut VersionRecord)) {
    for write in writes {
        if let Write::Version(version) = write {
            spoil(version);
        }
    }
}
