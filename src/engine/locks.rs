//! Locks for people: who has one, and how it is taken away from somebody who will not come back.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::document::LONGEST_CALL;
use crate::model::{AuditEntry, ObjectRef, Timestamp};
use crate::store::{self, LeaseRecord};

use super::load::load_with_record;
use super::{EngineError, ErrorKind, Workspace, clock, planning};

/// Every lock that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LockReport {
    /// The instant, by the database's clock.
    pub as_of: Timestamp,
    /// The locks.
    pub locks: Vec<LeaseRecord>,
    /// The tokens of those whose holder worked on this host, which has no process of that number any more. A lock goes by the
    /// clock all the same.
    pub ended: Vec<i64>,
}

/// The locks of a state database.
///
/// # Errors
/// There is no state database, or it could not be read.
pub async fn locks(workspace: &Workspace, state: Option<&str>) -> Result<LockReport, EngineError> {
    let (_, state, _) = load_with_record(workspace, state).await?.with_state()?;
    let (as_of, locks) = (state.now().await?, state.leases().await?);
    let here = host(&planning::who()).map(str::to_owned);
    let is_of_here = |lock: &&LeaseRecord| here.is_some() && host(&lock.who) == here.as_deref();
    let ended = locks.iter().filter(is_of_here).filter(|lock| has_ended(lock.pid)).map(|lock| lock.token).collect();
    Ok(LockReport { as_of, locks, ended })
}

/// The host of `user@host`, unless that is what every host is called.
fn host(who: &str) -> Option<&str> {
    who.rsplit_once('@').map(|(_, host)| host).filter(|host| !host.is_empty() && *host != "localhost")
}

/// Is there certainly no such process on this machine?
#[cfg(unix)]
fn has_ended(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
const fn has_ended(_: u32) -> bool {
    false
}

/// Takes a lock away, and records who did it and why. Its holder writes nothing any more, and begins no call; the one
/// that may be on its way has until the instant that this gives, and nobody else gets the lock before.
///
/// # Errors
/// Nobody holds this lock (any more), it was broken already, or the database could not be written.
pub async fn break_lock(
    workspace: &Workspace,
    state: Option<&str>,
    token: i64,
    reason: &str,
) -> Result<Timestamp, EngineError> {
    let (desired, ..) = load_with_record(workspace, state).await?.with_state()?;
    let state = store::open_or_create(&desired.location(state)?).await?;
    let was = state.leases().await?.into_iter().find(|held| held.token == token);
    if let Some(was) = was.as_ref().filter(|was| was.is_broken()) {
        return Err(EngineError::new(
            "lock/broken",
            format!("the lock {token} is what is left of one that was broken"),
        )
        .kind(ErrorKind::Refused)
        .help(format!("a call of its holder may still be on its way: it is free at {}", was.until)));
    }
    let entry = AuditEntry {
        at: clock::now(),
        actor: planning::who(),
        commit: desired.origin.map(|origin| origin.commit),
        correlation_id: clock::new_id().to_string(),
        action: "lock.broken".to_owned(),
        object: ObjectRef::config(),
        before: was.map(|was| json!(was)),
        after: Some(json!({ "reason": reason })),
    };
    let stays = u32::try_from(LONGEST_CALL.as_secs()).unwrap_or(u32::MAX);
    state.break_lease(token, stays, &entry).await?.ok_or_else(|| {
        EngineError::new("lock/unknown", format!("nobody holds the lock {token}"))
            .help("`keywheel lock list` shows who holds what: a lock that changed hands has another number")
    })
}
