//! The world around the engine: machines, the network between them and the database and the key manager, and what goes
//! wrong there.
//!
//! A request lives in the world, not in the worker that sent it: it lands when it lands, whether or not somebody still
//! waits for its answer. So a worker can die before it, during it and after it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::bugs::Bug;
use super::cloud::Cloud;
use super::script::Script;
use super::timeline::{self, Dice};
use crate::engine::clock;
use crate::store::memory::{Memory, Tables};

/// The longest that a request is on its way: the default of `operation_timeout`, after which nobody waits for it and
/// nothing of it lands.
pub const LONGEST_CALL: Duration = Duration::from_mins(1);

/// How long it takes, at most, until a new version is found by its mark. With the longest call and what two clocks may
/// differ by it stays below the default of `consistency_delay`, five minutes.
pub const LONGEST_LAG: Duration = Duration::from_secs(100);

/// How many of the last steps a failure tells.
const REMEMBERED: usize = 60;

pub struct World {
    pub memory: Memory,
    pub cloud: Mutex<Cloud>,
    pub bug: Option<Bug>,
    /// Do the script's policies have old versions destroyed?
    pub destroys_old_versions: bool,
    /// When nothing may begin.
    pub freezes: Vec<(Duration, Duration)>,
    pub watch: Mutex<super::invariants::Watch>,
    weather: Mutex<Weather>,
    log: Mutex<Log>,
}

/// What has happened, for people and for the count of it.
#[derive(Default)]
pub struct Log {
    pub steps: VecDeque<String>,
    pub met: BTreeMap<&'static str, u64>,
    pub violation: Option<Violation>,
    pub aloud: bool,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub what: String,
}

/// How often each thing goes wrong, in a thousand requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    pub crashes: u64,
    pub stalls: u64,
    pub lost: u64,
    pub refused: u64,
    pub slow: u64,
    pub duplicates: u64,
    pub stale: u64,
    /// The key manager refuses everything that concerns this key.
    pub cursed: Option<Uuid>,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Self =
        Self { crashes: 0, stalls: 0, lost: 0, refused: 0, slow: 0, duplicates: 0, stale: 0, cursed: None };

    /// Each seed has another mixture.
    pub fn of(dice: &mut Dice) -> Self {
        let mut rate = |most: u64| if dice.in_thousand(700) { dice.below(most) } else { 0 };
        Self {
            crashes: rate(60),
            stalls: rate(25),
            lost: rate(120),
            refused: rate(120),
            slow: rate(80),
            duplicates: rate(120),
            stale: rate(250),
            cursed: None,
        }
    }
}

/// Where a request goes, and whether it changes anything there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub name: &'static str,
    pub to: Side,
    pub changes: bool,
    /// May it be repeated without harm?
    pub repeats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Database,
    Provider,
}

/// What a sender is told instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It was not sent.
    Unreachable,
    /// It was refused for the moment.
    Throttled,
    /// No answer came in time.
    NoAnswer,
    /// The answer makes no sense.
    Garbled,
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Crash(When),
    Stall,
    Told(Trouble, Effect),
    Slow,
    Twice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    InFlight,
    After,
}

/// What a request without an answer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    BeforeTheAnswer,
    AfterTheAnswer,
    Twice,
}

/// A process that works for keywheel, from its start to its end or death.
pub struct Process {
    pub number: u64,
    /// How far its machine's clock is off, in seconds; it jumps.
    pub skew: AtomicI64,
    /// The newest fencing token that it was given.
    pub token: AtomicI64,
    alive: AtomicBool,
    stalled: AtomicBool,
}

impl Process {
    pub const fn new(number: u64, skew: i64) -> Self {
        let (alive, stalled) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { number, skew: AtomicI64::new(skew), token: AtomicI64::new(0), alive, stalled }
    }

    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// The dead do not go on, and the stalled not yet.
    async fn can_go_on(&self) {
        while self.is_stalled() {
            clock::sleep(Duration::from_secs(1)).await;
        }
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }

    /// Nothing of it goes on.
    pub fn ends(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    async fn die(&self) -> ! {
        self.ends();
        loop {
            std::future::pending::<()>().await;
        }
    }

    async fn stall(self: &Arc<Self>, duration: Duration) {
        self.stalled.store(true, Ordering::Relaxed);
        let process = self.clone();
        timeline::after(duration, move || process.stalled.store(false, Ordering::Relaxed));
        self.can_go_on().await;
    }
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// The world as a snapshot shows it.
    pub fn new(tables: Tables, cloud: Cloud, script: &Script, bug: Option<Bug>, aloud: bool) -> Arc<Self> {
        let memory = Memory::new(timeline::true_now, Uuid::from_u128(1), super::bugs::promises(bug));
        *memory.tables() = tables;
        let log = Log { aloud, ..Log::default() };
        let watch = super::invariants::Watch::default();
        Arc::new(Self {
            memory,
            cloud: Mutex::new(cloud),
            bug,
            destroys_old_versions: script.destroys_old_versions,
            freezes: script.freezes.clone(),
            watch: Mutex::new(watch),
            weather: Mutex::new(Weather::CALM),
            log: Mutex::new(log),
        })
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        locked(&self.log)
    }

    pub fn set_weather(&self, weather: Weather) {
        *locked(&self.weather) = weather;
    }

    pub fn weather(&self) -> Weather {
        *locked(&self.weather)
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Remembers a step.
    pub fn tell(&self, step: impl FnOnce() -> String) {
        let mut log = self.log();
        let at = timeline::elapsed();
        let step = format!("{:>12.3} s  {}", at.as_secs_f64(), step());
        if log.aloud {
            println!("{step}");
        }
        if log.steps.len() == REMEMBERED {
            log.steps.pop_front();
        }
        log.steps.push_back(step);
    }

    /// Counts something that was met.
    pub fn met(&self, what: &'static str) {
        *self.log().met.entry(what).or_insert(0) += 1;
    }

    /// A promise was broken. The first one counts.
    pub fn violated(&self, invariant: &'static str, what: impl Into<String>) {
        let what = what.into();
        self.tell(|| format!("BROKEN: {invariant}: {what}"));
        self.log().violation.get_or_insert(Violation { invariant, what });
    }

    /// Sends a request, and gives its answer, if one comes. `land` is what it does where it arrives.
    pub async fn request<T: Send + 'static>(
        self: &Arc<Self>,
        process: &Arc<Process>,
        call: Call,
        land: impl Fn(&Arc<Self>) -> T + Send + Sync + 'static,
    ) -> Result<T, Trouble> {
        process.can_go_on().await;
        let fault = self.fault(call);
        let number = process.number;
        match fault {
            Some(fault) => self.tell(|| format!("process {number}: {} ({fault:?})", call.name)),
            None if call.name == "renew" => {}
            None => self.tell(|| format!("process {number}: {}", call.name)),
        }
        if fault == Some(Fault::Crash(When::Before)) {
            process.die().await;
        }
        let (outward, homeward) = self.delays(fault, call);
        let (answer, answered) = oneshot::channel();
        let land = Arc::new(land);
        if let Some(Fault::Told(trouble, effect)) = fault {
            let told = outward + homeward;
            let lands = match effect {
                Effect::None => None,
                Effect::BeforeTheAnswer | Effect::Twice => Some(outward),
                Effect::AfterTheAnswer => Some((told + Duration::from_secs(8)).min(LONGEST_CALL)),
            };
            if effect == Effect::Twice {
                self.send(outward, call, land.clone());
            }
            if let Some(lands) = lands {
                self.send(lands, call, land);
            }
            clock::sleep(told).await;
            process.can_go_on().await;
            return Err(trouble);
        }
        let world = self.clone();
        let landing = land.clone();
        timeline::after(outward, move || {
            let result = landing(&world);
            if call.name != "renew" {
                world.tell(|| format!("           {} landed", call.name));
            }
            timeline::after(homeward, move || drop(answer.send(result)));
        });
        match fault {
            Some(Fault::Crash(When::InFlight)) => process.die().await,
            Some(Fault::Twice) => {
                // Whoever repeats a request below waits for the answer to the last one.
                self.send(outward, call, land);
            }
            _ => {}
        }
        let result = answered.await;
        process.can_go_on().await;
        match fault {
            Some(Fault::Crash(When::After)) => process.die().await,
            Some(Fault::Stall) => {
                let long = timeline::dice(|dice| 20 + dice.below(200));
                process.stall(Duration::from_secs(long)).await;
            }
            _ => {}
        }
        result.map_err(|_| Trouble::NoAnswer)
    }

    /// A request without anybody who waits for it.
    fn send<T: Send + 'static>(
        self: &Arc<Self>,
        lands: Duration,
        call: Call,
        land: Arc<impl Fn(&Arc<Self>) -> T + Send + Sync + 'static>,
    ) {
        let world = self.clone();
        timeline::after(lands, move || {
            drop(land(&world));
            world.tell(|| format!("           {} landed, and nobody waited", call.name));
        });
    }

    fn delays(&self, fault: Option<Fault>, call: Call) -> (Duration, Duration) {
        timeline::dice(|dice| {
            let mut short = || Duration::from_millis(1 + dice.below(40));
            let (outward, homeward) = (short(), short());
            match fault {
                Some(Fault::Slow) if call.to == Side::Database => (outward, Duration::from_secs(1 + dice.below(100))),
                Some(Fault::Slow | Fault::Told(Trouble::NoAnswer, _)) => {
                    let out = 1 + dice.below(40);
                    (Duration::from_secs(out), Duration::from_secs(1 + dice.below(55 - out)))
                }
                _ => (outward, homeward),
            }
        })
    }

    /// Throws the dice over a request.
    fn fault(&self, call: Call) -> Option<Fault> {
        let Weather { crashes, stalls, lost, refused, slow, duplicates, .. } = self.weather();
        let writes = call.to == Side::Database && call.changes;
        let fault = timeline::dice(|dice| {
            if dice.in_thousand(crashes) {
                return Some(Fault::Crash(dice.one_of(&[When::Before, When::InFlight, When::After])));
            }
            if dice.in_thousand(stalls) {
                return Some(Fault::Stall);
            }
            if dice.in_thousand(slow) {
                return Some(Fault::Slow);
            }
            if call.to == Side::Database {
                // A database that gives an error has written nothing; what it means to say otherwise is its own to find out.
                let fails = dice.in_thousand(refused / 3);
                return fails.then_some(Fault::Told(Trouble::Unreachable, Effect::None));
            }
            if dice.in_thousand(refused) {
                let trouble = dice.one_of(&[Trouble::Unreachable, Trouble::Throttled]);
                return Some(Fault::Told(trouble, Effect::None));
            }
            if dice.in_thousand(lost) {
                let trouble = dice.one_of(&[Trouble::NoAnswer, Trouble::NoAnswer, Trouble::Garbled]);
                let effects = [Effect::None, Effect::BeforeTheAnswer, Effect::AfterTheAnswer];
                return Some(Fault::Told(trouble, dice.one_of(&effects)));
            }
            let twice = call.changes && dice.in_thousand(duplicates);
            // Whoever repeats a request below did not get its answer; of what cannot be repeated he then says so.
            twice.then_some(if call.repeats { Fault::Twice } else { Fault::Told(Trouble::NoAnswer, Effect::Twice) })
        })?;
        self.met(match fault {
            Fault::Crash(When::Before) => "crash before a request",
            Fault::Crash(When::InFlight) if writes => "crash during a commit",
            Fault::Crash(When::InFlight) => "crash during a call",
            Fault::Crash(When::After) => "crash after a request",
            Fault::Stall => "stall",
            Fault::Slow => "slow request",
            Fault::Twice | Fault::Told(_, Effect::Twice) => "duplicate",
            Fault::Told(Trouble::Throttled, _) => "throttled",
            Fault::Told(Trouble::Unreachable, _) => "unreachable",
            Fault::Told(_, Effect::None) => "lost request",
            Fault::Told(_, Effect::BeforeTheAnswer) => "lost answer",
            Fault::Told(_, Effect::AfterTheAnswer) => "effect after the timeout",
        });
        Some(fault)
    }
}
