//! Group commit: many rotations hand in their writes, and share a transaction.
//!
//! [`Journal::write`] returns once its writes are durable. Whatever waits when a transaction ends goes into the next
//! one together, so that a thousand rotations cost a few dozen commits, and each step is still durable before its
//! effect.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::document::LONGEST_CALL;
use crate::store::{Lease, LeaseScope, State, StoreError, Write};

use super::clock;
use super::recovery::Keeper;

/// How many submissions may wait; those who find the queue full wait for a place.
const QUEUE: usize = 4096;

/// How many writes one transaction takes: large enough that a commit's cost is shared, small enough to stay under a
/// tenth of a second.
const BATCH: usize = 8192;

/// For how long a lease is taken, in seconds. The heartbeat prolongs it six times as often as needed.
pub(super) const LEASE_SECONDS: u32 = 90;

/// How long after its last prolongation a lease may still be counted on when a call begins. What is left of it is for the
/// call itself, so that no call of ours lands after another worker took over.
const CALLS_BEGIN_WITHIN: Duration = match Duration::from_secs(LEASE_SECONDS as u64).checked_sub(LONGEST_CALL) {
    Some(rest) => rest,
    None => Duration::ZERO,
};

/// The one way into the state database while an apply runs.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: mpsc::Sender<Submission>,
    /// When the lease was last prolonged; none once another worker has it.
    held: watch::Receiver<Option<Instant>>,
    /// What is written about, and under which token.
    lease: Arc<watch::Sender<Lease>>,
}

/// Takes what key managers have done and the state database does not.
pub(super) type Kept = Arc<Mutex<Keeper>>;

#[derive(Debug)]
struct Submission {
    writes: Vec<Write>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The tasks behind a journal.
#[derive(Debug)]
pub(super) struct Writer {
    commits: JoinHandle<()>,
    heartbeat: JoinHandle<()>,
}

impl Journal {
    /// Starts the writer and the heartbeat of a lease that was `asked` for then: its answer may have taken a part of it.
    pub(super) fn start(state: Arc<dyn State>, lease: Lease, asked: Instant, kept: Kept) -> (Self, Writer) {
        let (queue, submissions) = mpsc::channel(QUEUE);
        let (holds, writes_under) = watch::channel(lease.clone());
        let (holding, held) = watch::channel(Some(asked));
        let commits = tokio::spawn(commit_all(state.clone(), writes_under, submissions, kept));
        let heartbeat = tokio::spawn(async move {
            loop {
                clock::sleep(Duration::from_secs(u64::from(LEASE_SECONDS) / 6)).await;
                let asked = clock::instant();
                match state.renew(&lease, LEASE_SECONDS).await {
                    Ok(()) => {
                        let _ = holding.send(Some(asked));
                    }
                    // Every later commit fails by its token; this only spares the calls before it.
                    Err(StoreError::LeaseLost { .. }) => {
                        let _ = holding.send(None);
                        return;
                    }
                    // It is asked again; until then what was held counts, as long as it lasts.
                    Err(_) => {}
                }
            }
        });
        (Self { queue, held, lease: Arc::new(holds) }, Writer { commits, heartbeat })
    }

    /// Makes writes durable, all of them or none.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing of these writes is durable then.
    pub async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let gone = || StoreError::Other { location: "journal".to_owned(), message: "its writer has ended".to_owned() };
        let (done, outcome) = oneshot::channel();
        self.queue.send(Submission { writes, done }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    /// The lease that is written under.
    pub(super) fn lease(&self) -> Lease {
        self.lease.borrow().clone()
    }

    /// Gives back what the rest of the work does not need. Nothing is written about that any more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(super) async fn narrow(&self, state: &dyn State, scopes: &BTreeSet<LeaseScope>) -> Result<(), StoreError> {
        self.lease.send_replace(state.narrow(&self.lease(), scopes).await?);
        Ok(())
    }

    /// May another worker take the lease, or has it, before a call that begins now has ended?
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let now = clock::instant();
        self.held.borrow().is_none_or(|prolonged| now.saturating_duration_since(prolonged) > CALLS_BEGIN_WITHIN)
    }

    /// Ends when [`Self::is_lost`] holds.
    pub async fn lease_lost(&self) {
        let mut held = self.held.clone();
        loop {
            let Some(prolonged) = *held.borrow_and_update() else { return };
            let since = clock::instant().saturating_duration_since(prolonged);
            let Some(left) = CALLS_BEGIN_WITHIN.checked_sub(since) else { return };
            tokio::select! {
                () = clock::sleep(left + Duration::from_millis(1)) => {}
                changed = held.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Writer {
    /// Ends the tasks. Everything that was submitted is durable or answered before.
    pub(super) async fn stop(self, journal: Journal) {
        drop(journal);
        self.heartbeat.abort();
        let _ = self.commits.await;
    }
}

async fn commit_all(
    state: Arc<dyn State>,
    held: watch::Receiver<Lease>,
    mut submissions: mpsc::Receiver<Submission>,
    kept: Kept,
) {
    // Before anybody hears of the loss, and waits for anything else.
    let keep = |error: &StoreError, lost: &mut dyn Iterator<Item = &[Write]>| {
        // Where another worker took over, it asks the key managers itself.
        if !matches!(error, StoreError::LeaseLost { .. }) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).keep(lost);
        }
    };
    while let Some(first) = submissions.recv().await {
        let mut batch = vec![first];
        let mut size = batch.iter().map(|submission| submission.writes.len()).sum::<usize>();
        while size < BATCH {
            let Ok(next) = submissions.try_recv() else { break };
            size += next.writes.len();
            batch.push(next);
        }
        let mut writes = Vec::with_capacity(size);
        let mut lengths = Vec::with_capacity(batch.len());
        for submission in &mut batch {
            lengths.push(submission.writes.len());
            writes.append(&mut submission.writes);
        }
        let lease = held.borrow().clone();
        match state.commit(&lease, &writes).await {
            Ok(()) => {
                for submission in batch {
                    let _ = submission.done.send(Ok(()));
                }
            }
            // A database that is gone is not asked once more for each: every answer takes as long as its patience lasts.
            Err(error) if batch.len() == 1 || !matches!(error, StoreError::Conflict { .. }) => {
                let mut rest = writes.as_slice();
                keep(
                    &error,
                    &mut lengths.iter().map(|length| {
                        let (own, others) = rest.split_at((*length).min(rest.len()));
                        rest = others;
                        own
                    }),
                );
                for submission in batch {
                    let _ = submission.done.send(Err(error.clone()));
                }
            }
            // One submission's conflict must not fail the others': each gets a transaction of its own.
            Err(_) => {
                let mut rest = writes.as_slice();
                for (submission, length) in batch.into_iter().zip(lengths) {
                    let (own, others) = rest.split_at(length.min(rest.len()));
                    rest = others;
                    let written = state.commit(&lease, own).await;
                    if let Err(error) = &written {
                        keep(error, &mut std::iter::once(own));
                    }
                    let _ = submission.done.send(written);
                }
            }
        }
    }
}
