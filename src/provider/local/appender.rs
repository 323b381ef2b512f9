//! Group commit: one thread writes the keystore, and the changes of many tasks share one sync of the disk.
//!
//! A task hands its change over and waits. The thread takes everything that waits, judges each change against the
//! keystore as it is (after reading what other processes have appended), appends the records, syncs, takes them into the
//! view, and answers. While it syncs, the next batch gathers.
//!
//! # Invariant
//! The view holds nothing that is not durable. A batch holds at most one change of a key, so that each change is judged
//! against durable records.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{mpsc, oneshot};

use super::error::KeystoreError;
use super::index::Change;
use super::keystore::{self, Location, View};
use super::log::{Extent, Locked, Log, Writer};
use super::record::Record;
use super::version_ref::VersionRef;
use crate::diagnostic::Finding;
use crate::model::Timestamp;
use crate::provider::{ErrorKind, ProviderError};

/// The most changes that share a sync; more wait for the next one.
const MAX_BATCH: usize = 1024;

/// What the tasks and the writing thread share.
pub(super) struct Shared {
    location: Location,
    view: RwLock<View>,
    /// How long the file may become by the append that is under way.
    reserved: AtomicU64,
    warnings: Mutex<Vec<Finding>>,
}

impl Shared {
    /// The keystore as far as it is durable. Hold it briefly, and never across an await.
    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the person who runs keywheel should know.
    pub(super) fn warnings(&self) -> Vec<Finding> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warn(&self, warning: Option<Finding>) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(warning) = warning.filter(|warning| !warnings.contains(warning)) {
            warnings.push(warning);
        }
    }

    /// Has nobody else changed the file since the view was read? One look at the file's length, without a lock.
    ///
    /// The lengths are read in the order in which an append under way raises them, from the last to the first, so that
    /// this process's own append is not taken for another's.
    fn is_current(&self) -> bool {
        let seen = self.view().extent;
        let now = Extent::of(&self.location.keystore);
        let reserved = self.reserved.load(Ordering::SeqCst);
        match (seen, now) {
            (Some(seen), Ok(now)) => {
                now.is_same_file(&seen) && (seen.length..=reserved.max(seen.length)).contains(&now.length)
            }
            (None, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// The way to the writing thread, which ends when this is dropped.
pub(super) struct Appender {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What a task waits for.
struct Job {
    /// The change to make; none: only look at what other processes have appended.
    change: Option<Change>,
    operation: &'static str,
    reply: oneshot::Sender<Answer>,
}

impl Appender {
    /// Reads the keystore, if there is one, and starts the thread. `clock` dates the records.
    pub(super) fn start(location: Location, clock: fn() -> Timestamp) -> Result<Self, KeystoreError> {
        let (view, log, warning) = keystore::read_all(&location)?;
        let shared = Arc::new(Shared {
            view: RwLock::new(view),
            reserved: AtomicU64::new(0),
            warnings: Mutex::new(warning.into_iter().collect()),
            location,
        });
        let (jobs, waiting) = mpsc::channel(MAX_BATCH);
        let thread = Thread { shared: Arc::clone(&shared), log, writer: None, clock };
        std::thread::Builder::new()
            .name("keystore".to_owned())
            .spawn(move || thread.run(waiting))
            .map_err(KeystoreError::io("start the writer of the keystore", &shared.location.keystore))?;
        Ok(Self { shared, jobs })
    }

    /// What is known without asking the thread.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Brings the view up to date, if another process has appended.
    pub(super) async fn refresh(&self, operation: &'static str) -> Result<(), ProviderError> {
        if self.shared.is_current() {
            return Ok(());
        }
        self.submit(None, operation).await.map(drop)
    }

    /// Makes a change durable.
    pub(super) async fn change(&self, change: Change) -> Answer {
        let operation = change.action.operation();
        self.submit(Some(change), operation).await
    }

    async fn submit(&self, change: Option<Change>, operation: &'static str) -> Answer {
        let stopped = || ProviderError::new(ErrorKind::Unknown, operation, "the writer of the keystore has stopped");
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { change, operation, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

/// The writing thread.
struct Thread {
    shared: Arc<Shared>,
    /// The log as it was left by the first reading, until the first job needs it.
    log: Option<Log>,
    writer: Option<Writer>,
    clock: fn() -> Timestamp,
}

impl Thread {
    fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        while waiting.blocking_recv_many(&mut jobs, MAX_BATCH) > 0 {
            while !jobs.is_empty() {
                // Whoever has given up before its change was begun will not find it made later.
                jobs.retain(|job| !job.reply.is_closed());
                let mut keys = HashSet::new();
                let first_of_its_key = |job: &Job| job.change.as_ref().is_none_or(|change| keys.insert(change.key));
                let (batch, later) = std::mem::take(&mut jobs).into_iter().partition(first_of_its_key);
                jobs = later;
                self.answer(batch);
            }
        }
    }

    fn answer(&mut self, batch: Vec<Job>) {
        let changes: Vec<_> = batch.iter().map(|job| job.change.as_ref()).collect();
        let mut outcome = self.commit(&changes).map(Vec::into_iter);
        for job in batch {
            let result = match &mut outcome {
                Ok(results) => results.next().unwrap_or(Ok(None)),
                Err(error) => Err(error.during(job.operation)),
            };
            // A task may have given up by now; what was done for it stays done.
            let _ = job.reply.send(result);
        }
    }

    /// Makes the changes durable together. The outer error is everybody's, an inner one its change's alone.
    fn commit(&mut self, changes: &[Option<&Change>]) -> Result<Vec<Answer>, KeystoreError> {
        if let Some(log) = self.log.take() {
            self.writer = Some(log.into_writer()?);
        }
        if let Some(writer) = &mut self.writer {
            match attempt(&self.shared, writer, self.clock, changes) {
                // Perhaps another file has been put in this one's place: what counts is how it reads from its start.
                Err(KeystoreError::Replaced { .. } | KeystoreError::Damaged { .. }) => self.writer = None,
                outcome => return outcome,
            }
        }
        let creates = changes.iter().flatten().any(|change| change.creates());
        let (view, log) = self.read_again(creates)?;
        *self.shared.view_mut() = view;
        match log {
            Some(log) => attempt(&self.shared, self.writer.insert(log.into_writer()?), self.clock, changes),
            // The empty view has the answer to every change that does not create.
            None => Ok(changes.iter().map(|change| self.shared.view().judge(*change, (self.clock)())).collect()),
        }
    }

    /// Reads the whole keystore; makes one first, if a change needs it.
    fn read_again(&self, creates: bool) -> Result<(View, Option<Log>), KeystoreError> {
        let location = &self.shared.location;
        let known = self.shared.view().extent.is_some();
        if !location.exists()? {
            if known {
                return Err(KeystoreError::Gone { keystore: location.keystore.clone() });
            }
            if creates {
                self.shared.warn(keystore::create(location)?);
            }
        }
        let (view, log, warning) = keystore::read_all(location)?;
        self.shared.warn(warning);
        Ok((view, log))
    }
}

/// What became of a change: the number of the version that it made or changed; none if there was nothing to do.
type Answer = Result<Option<u32>, ProviderError>;

/// Judges the changes under the lock and appends what they come to.
///
/// [`KeystoreError::Replaced`] and [`KeystoreError::Damaged`] come before anything is written.
fn attempt(
    shared: &Shared,
    writer: &mut Writer,
    clock: fn() -> Timestamp,
    changes: &[Option<&Change>],
) -> Result<Vec<Answer>, KeystoreError> {
    let mut log = writer.lock()?;
    log.check_still_in_place()?;
    if log.has_more()? {
        let mut view = shared.view_mut();
        log.catch_up(|record| view.take(record))?;
        view.extent = Some(log.extent()?);
    }
    let (mut records, mut erased) = (Vec::new(), BTreeSet::new());
    let mut answers = Vec::with_capacity(changes.len());
    for change in changes {
        let now = clock();
        let answer = shared.view().judge(*change, now);
        if let (Some(change), Ok(Some(number))) = (change, &answer) {
            let version = VersionRef { key: change.key, number: *number };
            if change.destroys() {
                erased.insert(version);
            }
            records.push(Record { version, at: now, event: change.action.event(now)? });
        }
        answers.push(answer);
    }
    if !records.is_empty() {
        append(shared, &mut log, records, &erased)?;
    }
    Ok(answers)
}

/// Makes records durable, and takes them into the view. Where material goes, the whole file is written anew.
fn append(
    shared: &Shared,
    log: &mut Locked<'_>,
    records: Vec<Record>,
    erased: &BTreeSet<VersionRef>,
) -> Result<(), KeystoreError> {
    let appended = if erased.is_empty() {
        let frames = log.seal(&records)?;
        shared.reserved.store(log.length() + frames.len(), Ordering::SeqCst);
        log.append(&frames)
    } else {
        log.rewrite(erased, &records)
    };
    let mut view = shared.view_mut();
    // From here on the view's own extent says how long the file is.
    shared.reserved.store(0, Ordering::SeqCst);
    appended?;
    for record in records {
        view.take(record).map_err(|what| log.in_doubt(what))?;
    }
    view.extent = Some(log.extent()?);
    Ok(())
}
