//! Two machines that start one apply after the other, and whose processes go on in an order that the dice choose; and a
//! person who runs errands, and puts right what only a person may.
//!
//! The processes run the engine's own code. Each is polled by hand, so that it can be stopped for a while or for good
//! between any two requests; the tasks that it has spawned are its journal's, and end with it because the dead send
//! nothing.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use super::bugs::Bug;
use super::database::Connection;
use super::invariants::{self, RECOVERS, SUBSET};
use super::kms::Kms;
use super::script::{Progress as Errands, Script};
use super::timeline::{self, Dice};
use super::world::{Process, Weather, World, locked};
use crate::engine::apply::{Wanted, clocks_agree, locked as under_lock, run};
use crate::engine::manual::{Request, change};
use crate::engine::providers::Observers;
use crate::engine::{ApplyOptions, EngineError, Event, Progress, Report, clock, leases, planning};
use crate::model::{Address, KeyState};
use crate::plan::{Change, Plan, Saved};
use crate::store::State;

/// How many runs must be enough to finish everything once nothing goes wrong any more.
const RUNS_TO_REST: usize = 10;

thread_local! {
    /// The process that is at work.
    static AT_WORK: RefCell<Option<(Arc<World>, Arc<Process>)>> = const { RefCell::new(None) };
}

/// The key manager of the process that is at work; none outside of a simulated world.
pub fn manager() -> Option<Arc<Kms>> {
    AT_WORK.with_borrow(|at_work| {
        at_work.as_ref().map(|(world, process)| Arc::new(Kms { world: world.clone(), process: process.clone() }))
    })
}

/// One part of a script, played.
pub struct Play {
    pub world: Arc<World>,
    script: Rc<Script>,
    running: Vec<Running>,
    processes: u64,
    /// The errands of the round that are done.
    errands_done: usize,
}

struct Running {
    process: Arc<Process>,
    machine: usize,
    task: Task,
    awake: Arc<Awake>,
    future: Pin<Box<dyn Future<Output = Ended>>>,
}

/// What a process came to: nothing left to do, or not.
type Ended = Result<bool, EngineError>;

struct Awake(AtomicBool);

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a process is started for.
#[derive(Debug, Clone)]
enum Task {
    Apply,
    /// An apply of a plan that was saved, and that somebody looked at for a while.
    Saved,
    Errand(Address, Request),
}

impl Play {
    pub fn new(world: Arc<World>, script: Rc<Script>) -> Self {
        Self { world, script, running: Vec::new(), processes: 0, errands_done: 0 }
    }

    /// Plays a round: with faults if there is weather, and then without, until everything is quiet.
    pub async fn round(&mut self, round: usize, weather: Option<Weather>) {
        timeline::skip_to(self.script.rounds[round].at);
        self.errands_done = 0;
        self.world.tell(|| format!("round {round}"));
        if let Some(weather) = weather {
            self.storm(round, weather).await;
        }
        self.calm(round).await;
    }

    fn is_broken(&self) -> bool {
        self.world.log().violation.is_some()
    }

    async fn storm(&mut self, round: usize, mut weather: Weather) {
        self.misfortune(round, &mut weather);
        self.world.set_weather(weather);
        let cursed = weather.cursed.is_some();
        let mut left = if cursed { 18 } else { timeline::dice(|dice| 2 + dice.below(5)) };
        let mut free_from = [Duration::ZERO; 2];
        while (left > 0 || !self.running.is_empty()) && !self.is_broken() {
            for (machine, free_from) in free_from.iter_mut().enumerate() {
                let busy = self.running.iter().any(|running| running.machine == machine);
                if left > 0 && !busy && timeline::elapsed() >= *free_from {
                    left -= 1;
                    let pause = timeline::dice(|dice| if cursed { 1800 + dice.below(3600) } else { dice.below(400) });
                    let task = self.task(round, true);
                    self.start(machine, round, task);
                    *free_from = timeline::elapsed() + Duration::from_secs(pause);
                    timeline::after(Duration::from_secs(pause), || {});
                }
            }
            let ended = self.step().await;
            if let Some(Err(error)) = ended {
                self.world.tell(|| format!("           it ended: {error}"));
            }
        }
    }

    /// What goes wrong with a round as a whole.
    fn misfortune(&self, round: usize, weather: &mut Weather) {
        let keys: Vec<_> = self.world.memory.tables().keys().collect();
        let Some(key) = keys.first() else { return };
        let kind = timeline::dice(|dice| dice.below(40));
        // What comes half a day late moves the next slot, and an old version's time.
        let is_last = round + 1 == self.script.rounds.len();
        if kind >= 30 && is_last && !self.world.destroys_old_versions {
            weather.cursed = Some(key.id);
        }
        if kind <= 3
            && kind > 0
            && let Some(alias) = key.key.kms_alias.clone()
        {
            // Somebody moves the name, to a version of long ago or to a key of their own.
            let world = self.world.clone();
            let at = Duration::from_millis(timeline::dice(|dice| dice.below(300_000)));
            timeline::after(at, move || {
                if world.weather() == Weather::CALM {
                    return;
                }
                let mut cloud = locked(&world.cloud);
                let Some(before) = cloud.target(&alias).map(str::to_owned) else { return };
                let to = cloud.foreign("theirs", None);
                cloud.lead(&alias, &to);
                drop(cloud);
                world.met("foreign move");
                world.tell(|| format!("           somebody leads {alias} to {to}"));
                locked(&world.watch).foreign.entry(alias).or_insert((timeline::elapsed(), before));
            });
        }
    }

    async fn calm(&mut self, round: usize) {
        self.world.set_weather(Weather::CALM);
        // What is on its way lands, and the leases of the dead run out.
        self.pass(Duration::from_secs(200)).await;
        self.put_right();
        for runs in 0..RUNS_TO_REST {
            if self.is_broken() {
                return;
            }
            let task = self.task(round, false);
            let applied = matches!(task, Task::Apply);
            self.start(0, round, task);
            let ended = loop {
                let ended = self.step().await;
                if ended.is_some() || self.is_broken() {
                    break ended;
                }
            };
            match ended {
                Some(Err(error)) => self.world.tell(|| format!("           it ended: {error}")),
                Some(Ok(true)) if applied && self.is_done(round) => {
                    self.pass(Duration::from_secs(1)).await;
                    return invariants::at_rest(&self.world);
                }
                _ => {}
            }
            let retry_at = self.world.memory.tables().keys().filter_map(|key| key.retry_at).max();
            let wait = retry_at.map(|at| at - timeline::true_now()).and_then(|wait| wait.to_std().ok());
            // What was done by hand late may hold the next slot back for a while.
            let patience = Duration::from_secs(if runs < 4 { 320 } else { 3600 });
            self.pass(wait.unwrap_or_default() + patience).await;
        }
        if !self.is_broken() {
            self.world.violated(RECOVERS, format!("round {round} is not done after {RUNS_TO_REST} runs"));
        }
    }

    /// A person leads back the names that somebody moved.
    fn put_right(&self) {
        let moved = std::mem::take(&mut locked(&self.world.watch).foreign);
        let mut cloud = locked(&self.world.cloud);
        for (alias, (_, before)) in moved {
            let foreign = cloud.target(&alias).is_some_and(|target| target == super::cloud::arn("theirs"));
            if foreign {
                cloud.lead(&alias, &before);
            }
        }
    }

    fn is_done(&self, round: usize) -> bool {
        self.errands_done == self.script.rounds[round].errands.len()
            && self.world.memory.tables().unfinished().next().is_none()
            && self.parked_by_failures(round).is_none()
            && !self.world.memory.tables().keys().any(|key| key.retry_at.is_some_and(|at| at > timeline::true_now()))
    }

    /// What is to be done next.
    fn task(&mut self, round: usize, storm: bool) -> Task {
        let errands = &self.script.rounds[round].errands;
        let mut now = None;
        while let Some(errand) = errands.get(self.errands_done) {
            let tables = self.world.memory.tables();
            match errand.progress(&tables) {
                Errands::Done => self.errands_done += 1,
                Errands::UnderWay => break,
                Errands::ToDo => {
                    now = Some((errand.key.clone(), errand.request(&tables)));
                    break;
                }
            }
        }
        // Nobody asks for the same twice at once.
        let by_hand = self.running.iter().any(|running| matches!(running.task, Task::Errand(..)));
        let by_chance = !storm || timeline::dice(|dice| dice.in_thousand(600));
        if let Some(key) = self.parked_by_failures(round).filter(|_| !storm) {
            return Task::Errand(key, Request::Resume { reason: "it works again".to_owned() });
        }
        match now.filter(|_| by_chance && !by_hand) {
            Some((key, request)) => Task::Errand(key, request),
            None if storm && timeline::dice(|dice| dice.in_thousand(150)) => Task::Saved,
            None => Task::Apply,
        }
    }

    /// A key that was parked, and not because the script says so.
    fn parked_by_failures(&self, round: usize) -> Option<Address> {
        let errands = &self.script.rounds[round].errands;
        let by_script = self.errands_done > 0 && matches!(errands[self.errands_done - 1].request, Request::Park { .. });
        let mut parked = self.world.memory.tables().keys().collect::<Vec<_>>().into_iter();
        parked.find(|key| key.state == KeyState::Parked && !by_script).map(|key| key.address())
    }

    fn start(&mut self, machine: usize, round: usize, task: Task) {
        self.processes += 1;
        let weather = self.world.weather();
        let skew = timeline::dice(|dice| match dice.below(20) {
            _ if weather == Weather::CALM => 0,
            0 => 600,
            1..=6 => i64::try_from(dice.below(100)).unwrap() - 50,
            _ => 0,
        });
        let process = Arc::new(Process::new(self.processes, skew));
        if weather != Weather::CALM && timeline::dice(|dice| dice.in_thousand(100)) {
            let (jumping, to) = (process.clone(), timeline::dice(|dice| i64::try_from(dice.below(100)).unwrap() - 50));
            let world = self.world.clone();
            timeline::after(Duration::from_millis(timeline::dice(|dice| dice.below(2_000))), move || {
                jumping.skew.store(to, Ordering::Relaxed);
                world.met("clock jump");
            });
        }
        self.world.tell(|| format!("process {}: begins {task:?} on machine {machine}", self.processes));
        self.world.met("process");
        let future = work(self.world.clone(), process.clone(), self.script.clone(), round, task.clone());
        let awake = Arc::new(Awake(AtomicBool::new(true)));
        self.running.push(Running { process, machine, task, awake, future: Box::pin(future) });
    }

    /// Lets everybody go on who can, until all wait; then goes to the next thing that happens. Gives what a process came
    /// to, if one has ended.
    async fn step(&mut self) -> Option<Ended> {
        loop {
            self.running.retain(|running| running.process.is_alive());
            let ready: Vec<usize> = (0..self.running.len())
                .filter(|index| {
                    let running = &self.running[*index];
                    running.awake.0.load(Ordering::Relaxed) && !running.process.is_stalled()
                })
                .collect();
            if let Some(index) = (!ready.is_empty()).then(|| timeline::dice(|dice: &mut Dice| dice.one_of(&ready))) {
                if let Some(ended) = self.poll(index) {
                    return Some(ended);
                }
                continue;
            }
            // The journals' tasks go on until all of them wait.
            tokio::task::yield_now().await;
            self.running.retain(|running| running.process.is_alive());
            let woken = |running: &Running| running.awake.0.load(Ordering::Relaxed) && !running.process.is_stalled();
            if !self.running.iter().any(woken) {
                break;
            }
        }
        if self.running.is_empty() {
            // Whoever was at work has died.
            timeline::go_on();
            return Some(Ok(false));
        }
        assert!(timeline::go_on(), "everybody waits, and nothing will happen");
        None
    }

    fn poll(&mut self, index: usize) -> Option<Ended> {
        let running = &mut self.running[index];
        running.awake.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(running.awake.clone());
        AT_WORK.set(Some((self.world.clone(), running.process.clone())));
        timeline::skew(running.process.skew.load(Ordering::Relaxed));
        let polled = running.future.as_mut().poll(&mut TaskContext::from_waker(&waker));
        timeline::skew(0);
        AT_WORK.set(None);
        match polled {
            Poll::Ready(ended) => {
                // Its journal's tasks end with it.
                self.running.remove(index).process.ends();
                Some(ended)
            }
            Poll::Pending => None,
        }
    }

    /// Lets time pass while nobody works.
    async fn pass(&mut self, duration: Duration) {
        let until = timeline::elapsed() + duration;
        timeline::after(duration, || {});
        while timeline::elapsed() < until {
            tokio::task::yield_now().await;
            timeline::go_on();
        }
        tokio::task::yield_now().await;
    }
}

/// One process: the engine's own code, from the lease to the report. True if there was nothing left to do.
async fn work(world: Arc<World>, process: Arc<Process>, script: Rc<Script>, round: usize, task: Task) -> Ended {
    let connection = Connection { world: world.clone(), process, held_back: std::sync::Mutex::default() };
    let state: Arc<dyn State> = Arc::new(connection);
    let mut options = ApplyOptions::default();
    let mut desired = script.desired(round);
    if world.has(Bug::FreezesForgotten) {
        desired.repository.freezes.clear();
    }
    let mut config = desired.repository.config.clone();
    if world.has(Bug::RetryWithoutWaiting) {
        config.providers.aws_kms.consistency_delay = "0s".to_owned();
    }
    clocks_agree(state.as_ref()).await?;
    let nothing_left = AtomicBool::new(false);
    let mut saved: Option<Vec<Change>> = None;
    if matches!(task, Task::Saved) {
        let recorded = state.recorded().await?;
        let observers = Observers::new(config.providers.clone(), desired.root.clone());
        let known = planning::KnownBefore::default();
        let (plan, _) =
            planning::fresh(&desired, &recorded, Some(&*state), &observers, &Quiet, clock::now(), known).await?;
        saved = Some(plan.changes.clone());
        let expires_at = plan.as_of + chrono::Duration::days(7);
        options.saved =
            Some(Saved { plan, expires_at, approvals: Vec::new() }).filter(|_| !world.has(Bug::SavedPlanPutAside));
        world.met("saved plan");
        clock::sleep(Duration::from_secs(timeline::dice(|dice| dice.below(300)))).await;
    }
    let approve = |plan: &Plan| {
        for change in &plan.changes {
            let is_it = |saved: &Change| saved.identity() == change.identity() && saved.after == change.after;
            if saved.as_ref().is_some_and(|saved| !saved.iter().any(is_it)) {
                world.violated(SUBSET, format!("{} {}", change.action.as_str(), change.object));
            }
        }
        let waits = plan.waiting.iter().any(|waiting| ["minimum_gap", "freeze"].contains(&&*waiting.reason.code));
        for finding in &plan.diagnostics {
            world.tell(|| format!("           {}", finding.message));
        }
        for waiting in &plan.waiting {
            world.tell(|| {
                format!("           waits: {} {}: {}", waiting.action.as_str(), waiting.object, waiting.reason.message)
            });
        }
        for drift in &plan.drift {
            world.tell(|| format!("           drift of {}: {}", drift.object, drift.reason.message));
        }
        nothing_left.store(plan.is_empty() && plan.drift.is_empty() && !waits, Ordering::Relaxed);
        Ok(true)
    };
    let report = match task {
        Task::Apply | Task::Saved => {
            let recorded = state.recorded().await?;
            let wanted = leases::Wanted::everything(&desired.repository, &recorded);
            under_lock(state, wanted, "apply", &options, &Quiet, async |state, lease| {
                let everything = async |_: &dyn State, _: &_| {
                    Ok(Wanted::Everything { authors: crate::engine::ownership::Authors::default(), older: None })
                };
                run(&desired, &options, &config, state, lease, &approve, &Quiet, everything).await
            })
            .await?
        }
        Task::Errand(key, request) => {
            let recorded = state.recorded().await?;
            desired = planning::as_applied(desired, &recorded, &key);
            let wanted = leases::Wanted::tenant(&key.tenant_id);
            under_lock(state, wanted, request.word(), &options, &Quiet, async |state, lease| {
                run(&desired, &options, &config, state, lease, &approve, &Quiet, async |state, recorded| {
                    let change = change(&desired, state, recorded, &key, &request).await?;
                    Ok(Wanted::One(Box::new(change)))
                })
                .await
            })
            .await?
        }
    };
    tell(&world, report.as_ref());
    Ok(nothing_left.load(Ordering::Relaxed) && report.is_some_and(|report| report.failed.is_empty()))
}

fn tell(world: &World, report: Option<&Report>) {
    let Some(report) = report else { return };
    world.tell(|| format!("           done {:?}", report.done));
    for failed in &report.failed {
        world.tell(|| format!("           failed {}: {}", failed.object, failed.error));
    }
    world.met("complete apply");
}

/// Nobody watches.
struct Quiet;

impl Progress for Quiet {
    fn event(&self, _event: Event) {}
}
