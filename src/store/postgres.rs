//! The state database in PostgreSQL.
//!
//! [`open_read_only`] gives what a plan may have, [`open_or_create`] what an apply needs; only what the latter returns
//! has the writing methods.
//!
//! *Any pooler will do.* Every query stands in a transaction and is an unnamed prepared statement, and nothing is left
//! in a session: no `SET`, no advisory lock that outlives its transaction, no cursor. So `PgBouncer` may lend another
//! server connection to each transaction.
//!
//! *Connections are lost.* A transaction whose connection broke is repeated on a new one, for as long as a restart of a
//! server takes, counted from when it was first missed, whoever misses it. Once that was in vain, or somebody wants the
//! work to end, every later call fails at once. A commit that was sent and not answered may have been carried out: its
//! repetition asks that first ([`write`]).
//!
//! *Rows travel as JSON*, as they do for SQLite: a commit sends all rows of a table as one parameter, and a read fetches
//! each row as one value. The columns have PostgreSQL's own types, so that other tools can read them.
//!
//! Must not know: what any of it means.

mod backup;
mod error;
mod lease;
mod outbox;
mod read;
mod schema;
mod usage;
mod write;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use self::error::Failure;
use super::{Migrated, PostgresUrl, StoreError};

/// How many connections one process has at most: one writes, others renew the lease or read meanwhile.
const MAX_CONNECTIONS: usize = 4;

/// How long making a connection may take, with its TLS and its password.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one attempt at a transaction may take. Behind a network that swallows everything, nothing else ends it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(2);

/// How long a lost connection is tried again by an apply: longer than a restart or a failover of a server takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// The same for the first connection, and for a plan, where a person waits and nothing is half done.
const LITTLE_PATIENCE: Duration = Duration::from_secs(5);

/// How often an attempt that takes long looks whether somebody wants the work to end.
const LOOK_AROUND: Duration = Duration::from_millis(250);

/// The pauses between two attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Does work in a transaction, and again where its connection was lost or another transaction was in its way. The work
/// may run once more after it was carried out: it must not mind.
///
/// A macro, because no bound on a closure can say that what it returns may move between threads.
macro_rules! transaction {
    ($state:expr, $attempts:expr, $begin:expr, |$connection:ident| $work:expr) => {{
        let mut attempts: $crate::store::postgres::Attempts = $attempts;
        loop {
            if let Some(gone) = $state.outage.is_final() {
                break Err(gone);
            }
            let attempt = async {
                let mut transaction = $state.begin($begin).await?;
                let $connection = transaction.connection();
                let work = $work.await;
                transaction.end(work).await
            };
            match $crate::store::postgres::limited(attempts.each, &$state.interrupt, attempt).await {
                Err(failure) if $state.another(&mut attempts, &failure).await => {}
                result => break $state.at(result),
            }
        }
    }};
    ($state:expr, $begin:expr, |$connection:ident| $work:expr) => {
        $crate::store::postgres::transaction!($state, $state.attempts(), $begin, |$connection| $work)
    };
}
use transaction;

/// An open PostgreSQL state database; `Access` is [`Reading`] or [`Writing`].
#[derive(Debug)]
pub struct Postgres<Access> {
    connections: Connections,
    /// The URL without its password, for messages.
    location: String,
    patience: Duration,
    /// Set once somebody wants the work to end.
    interrupt: Arc<AtomicBool>,
    outage: Outage,
    migrated: Option<Migrated>,
    _access: PhantomData<Access>,
}

/// The access of a plan: nothing is written.
#[derive(Debug)]
pub struct Reading(());

/// The access of an apply.
#[derive(Debug)]
pub struct Writing(());

/// Opens a state database to read it. Nothing is written.
///
/// # Errors
/// [`StoreError::Missing`] if the schema has none; [`StoreError::Newer`], [`StoreError::Corrupt`] if it cannot be
/// understood.
pub async fn open_read_only(url: &PostgresUrl) -> Result<Postgres<Reading>, StoreError> {
    let state = open(url, LITTLE_PATIENCE, Arc::default())?;
    transaction!(state, Attempts::first(), Begin::Read, |connection| schema::check_readable(connection))?;
    Ok(state)
}

/// Opens a state database to write it; makes or migrates its tables where that is needed. The database itself must be
/// there. Before a migration it is copied into a file in [`PostgresUrl::folder`]: without that copy it stays as it is.
///
/// # Errors
/// [`StoreError::ReadOnly`], [`StoreError::Full`], and those of [`open_read_only`] except the first.
pub async fn open_or_create(url: &PostgresUrl) -> Result<Postgres<Writing>, StoreError> {
    open_until(url, Arc::default()).await
}

/// The same; once `interrupt` is set, a lost connection is hardly waited for any more.
///
/// # Errors
/// See [`open_or_create`].
pub async fn open_until(url: &PostgresUrl, interrupt: Arc<AtomicBool>) -> Result<Postgres<Writing>, StoreError> {
    let mut state = open(url, patience(), interrupt)?;
    let (first, migrations) = (Attempts::first(), schema::MIGRATIONS);
    if !transaction!(state, first, Begin::Write, |connection| schema::is_newest(connection, migrations))? {
        // The copy takes longer than anything else in a first transaction.
        let attempts = Attempts::first().each_within(COPY_TIMEOUT);
        state.migrated = transaction!(state, attempts, Begin::Write, |connection| {
            schema::migrate(connection, migrations, url.folder())
        })?;
    }
    Ok(state)
}

/// A debug build can be told to lose its patience sooner, for tests: after so many seconds.
fn patience() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(seconds) = std::env::var("KEYWHEEL_PATIENCE").ok().and_then(|text| text.parse().ok()) {
        return Duration::from_secs(seconds);
    }
    PATIENCE
}

fn open<Access>(
    url: &PostgresUrl,
    patience: Duration,
    interrupt: Arc<AtomicBool>,
) -> Result<Postgres<Access>, StoreError> {
    let location = url.to_string();
    let options: PgConnectOptions = match url.expose().parse() {
        Ok(options) => options,
        Err(error) => return Err(Failure::Sql(error).at(&location)),
    };
    let options = options
        // PgBouncer knows no named statements in transaction mode, and refuses a startup parameter that it cannot track.
        .statement_cache_capacity(0)
        .extra_float_digits(None)
        .disable_statement_logging();
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("keywheel"),
    };
    Ok(Postgres {
        connections: Connections::new(options),
        location,
        patience,
        interrupt,
        outage: Outage::default(),
        migrated: None,
        _access: PhantomData,
    })
}

/// How long a copy may take: millions of rows.
const COPY_TIMEOUT: Duration = Duration::from_hours(1);

/// How a transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// It only reads, and sees one state throughout.
    Read,
    /// It writes. Row locks keep writers apart, and each statement sees what was committed before it.
    Write,
}

impl Begin {
    fn sql(self) -> &'static str {
        match self {
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Self::Write => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }
}

/// What holds for a writing transaction, and is forgotten at its end. A commit is on the disk when it is answered,
/// whatever the server's default is; nobody waits for ever; and a transaction whose client went away ends before others
/// stop waiting for its locks.
const WRITE_SETTINGS: &str = "SELECT set_config('lock_timeout', '30s', true),
    set_config('idle_in_transaction_session_timeout', '20s', true),
    set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
        true)";

impl<Access> Postgres<Access> {
    /// Begins a transaction on a connection that answers.
    async fn begin(&self, begin: Begin) -> Result<Transaction<'_>, Failure> {
        let mut transaction = Transaction(self.connections.lend().await?);
        sqlx::raw_sql(begin.sql()).execute(transaction.connection()).await?;
        if begin == Begin::Write {
            sqlx::raw_sql(WRITE_SETTINGS).execute(transaction.connection()).await?;
        }
        Ok(transaction)
    }

    fn attempts(&self) -> Attempts {
        Attempts::new(self.patience, Failure::is_worth_repeating)
    }

    /// Waits for the next attempt, if there is to be one after this failure.
    async fn another(&self, attempts: &mut Attempts, failure: &Failure) -> bool {
        if !(attempts.worth_repeating)(failure) {
            return false;
        }
        let mut until = attempts.until;
        if failure.is_lost_connection() {
            let interrupted = self.interrupt.load(Ordering::Relaxed);
            let patience = if interrupted { self.patience.min(LITTLE_PATIENCE) } else { self.patience };
            until = until.min(self.outage.since() + patience);
        }
        attempts.pause(until).await
    }

    /// The outcome for the caller, whose last attempt it is of.
    fn at<T>(&self, result: Result<T, Failure>) -> Result<T, StoreError> {
        let lost = result.as_ref().is_err_and(Failure::is_lost_connection);
        let result = result.map_err(|failure| failure.at(&self.location));
        match &result {
            Err(error) if lost => self.outage.ends_the_work(error),
            _ => self.outage.is_over(),
        }
        result
    }
}

/// What is known of a server that does not answer: since when, and whether it is waited for no longer. Whoever waits for
/// it waits together with all others, and not one after the other.
#[derive(Debug, Default)]
struct Outage(Mutex<(Option<Instant>, Option<StoreError>)>);

impl Outage {
    fn known(&self) -> std::sync::MutexGuard<'_, (Option<Instant>, Option<StoreError>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when it is known: from now on, if nobody had noticed.
    fn since(&self) -> Instant {
        *self.known().0.get_or_insert_with(Instant::now)
    }

    /// Why it is waited for no longer, if so.
    fn is_final(&self) -> Option<StoreError> {
        self.known().1.clone()
    }

    fn ends_the_work(&self, error: &StoreError) {
        self.known().1.get_or_insert_with(|| error.clone());
    }

    fn is_over(&self) {
        *self.known() = (None, None);
    }
}

/// An open transaction. Dropping it closes its connection, and the server rolls back.
struct Transaction<'a>(Lent<'a>);

impl Transaction<'_> {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.0.connection
    }

    /// Commits if the work succeeded, and rolls back if it failed. A commit that fails has not happened, unless the
    /// connection was lost.
    async fn end<T>(mut self, work: Result<T, Failure>) -> Result<T, Failure> {
        match work {
            Ok(value) => {
                sqlx::raw_sql("COMMIT").execute(self.connection()).await?;
                self.0.give_back();
                Ok(value)
            }
            Err(failure) => {
                // What the work says counts; a connection on which this fails is not used again.
                if sqlx::raw_sql("ROLLBACK").execute(self.connection()).await.is_ok() {
                    self.0.give_back();
                }
                Err(failure)
            }
        }
    }
}

/// An attempt, which fails when it takes too long, and sooner once somebody wants the work to end.
async fn limited<T>(
    to: Duration,
    interrupt: &AtomicBool,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let interrupted = async {
        while !interrupt.load(Ordering::Relaxed) {
            sleep(LOOK_AROUND).await;
        }
        sleep(CONNECT_TIMEOUT).await;
    };
    tokio::select! {
        biased;
        done = timeout(to, attempt) => done.unwrap_or(Err(Failure::TimedOut)),
        () = interrupted => Err(Failure::TimedOut),
    }
}

/// Whether, and until when, something is tried again.
#[derive(Debug)]
struct Attempts {
    until: Instant,
    pause: Duration,
    /// How long one may take.
    each: Duration,
    worth_repeating: fn(&Failure) -> bool,
}

impl Attempts {
    fn new(patience: Duration, worth_repeating: fn(&Failure) -> bool) -> Self {
        Self { until: Instant::now() + patience, pause: PAUSES.0, each: ATTEMPT_TIMEOUT, worth_repeating }
    }

    fn each_within(self, each: Duration) -> Self {
        Self { each, ..self }
    }

    /// Those of the transaction with which a database is opened: what cannot be reached then is an error at once.
    fn first() -> Self {
        Self::new(LITTLE_PATIENCE, Failure::is_worth_repeating_at_first)
    }

    /// Waits for the next attempt, if there is time for one.
    async fn pause(&mut self, until: Instant) -> bool {
        if Instant::now() + self.pause > until {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        true
    }
}

/// A few connections, made when they are needed.
#[derive(Debug)]
struct Connections {
    options: PgConnectOptions,
    permits: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection with no transaction open on it. It is closed unless it is given back.
struct Lent<'a> {
    connection: PgConnection,
    idle: &'a Mutex<Vec<PgConnection>>,
    _permit: tokio::sync::SemaphorePermit<'a>,
}

impl Connections {
    fn new(options: PgConnectOptions) -> Self {
        Self { options, permits: Semaphore::new(MAX_CONNECTIONS), idle: Mutex::default() }
    }

    async fn lend(&self) -> Result<Lent<'_>, Failure> {
        let permit = self.permits.acquire().await.map_err(|_| Failure::TimedOut)?;
        // One that was cut meanwhile is found by the ping, and another is made in its place.
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = idle else { break };
            if matches!(timeout(CONNECT_TIMEOUT, connection.ping()).await, Ok(Ok(()))) {
                return Ok(Lent { connection, idle: &self.idle, _permit: permit });
            }
        }
        let connection = timeout(CONNECT_TIMEOUT, self.options.connect()).await.map_err(|_| Failure::TimedOut)?;
        let connection = connection.map_err(Failure::Connecting)?;
        Ok(Lent { connection, idle: &self.idle, _permit: permit })
    }
}

impl Lent<'_> {
    fn give_back(self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}

#[cfg(test)]
mod tests;
