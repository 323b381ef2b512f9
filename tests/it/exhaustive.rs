//! The state machine of every workflow with two workers, crashes, lost answers and lost leases, checked in every order in
//! which they can happen (by the model checker stateright), not in samples of them.
//!
//! What is real: [`beginning`], [`next_step`], [`record`] and [`abandon`], which decide every step. What is modelled: the
//! database as one fenced row, the key manager, and two workers that keep what they have read in memory, as
//! `engine::workflow` does.

use std::collections::BTreeSet;

use keywheel::model::{Outcome, Phase, Step, Workflow};
use keywheel::rotation::{Event, Next, Status, abandon, beginning, next_step, record};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// A mistake that the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// The intent is written after the call.
    CallBeforeIntent,
    /// An open creation is repeated without a look at the key manager.
    RepeatWithoutProbe,
    /// The new version is not proven before the stable name moves.
    PromoteUnproven,
    /// Writes of a worker that lost its lease are taken.
    NoFencing,
    /// A call may still land after another worker took the lease.
    LateCalls,
    /// A twin that a probe finds is not recorded.
    ForgetTwins,
    /// What was left of an old version's change is done, and not given up.
    GoOnRetiring,
}

/// What can go wrong, and how often in one history.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    workflow: Workflow,
    bug: Bug,
    crashes: u8,
    lost_answers: u8,
    refusals: u8,
    takeovers: u8,
}

const REALISTIC: Rotation =
    Rotation { workflow: Workflow::Rotate, bug: Bug::None, crashes: 2, lost_answers: 2, refusals: 1, takeovers: 2 };

/// A version. 0 is the one that is primary at first; a rollback leads to 1, and a change of an old version is of 1.
type Version = u8;

/// Does a workflow change an old version, rather than make one primary?
const fn retires(workflow: Workflow) -> bool {
    matches!(beginning(workflow).phase, Phase::Retiring)
}

const KNOWN_TARGET: &str = "the stable name leads to a version that the journal knows";
const PROVEN: &str = "what is promoted was proven";
const INTENT_FIRST: &str = "the intent is in the journal before its effect";
const ALL_KNOWN: &str = "at the end every version is known";
const AS_RECORDED: &str = "at the end an old version is as it is recorded";
const JUDGED: &str = "an old version is changed by nobody but who judged that it may be";
const SETTLES: &str = "it comes to its end, and the stable name leads where it should";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// The journal: how far it is, what was made, what else was found.
    status: Status,
    to: Option<Version>,
    twins: BTreeSet<Version>,
    /// Is there anything in it yet?
    begun: bool,
    /// Somebody has the lease, and it has not expired.
    leased: bool,
    workers: [Worker; 2],
    /// The key manager.
    made: BTreeSet<Version>,
    proven: BTreeSet<Version>,
    primary: Version,
    /// Is the old version in the state that the workflow leads to?
    changed: bool,
    /// Has somebody brought it there who did not judge that it may be?
    unjudged: bool,
    /// Has anything been done whose intent was not in the journal then?
    unannounced: bool,
    left: Left,
}

/// What may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Left {
    crashes: u8,
    lost_answers: u8,
    refusals: u8,
    takeovers: u8,
}

/// A worker, and what it believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    Thinking(Memory),
    Calling(Memory, Step),
    Answered(Memory, Step, Outcome, Option<Version>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Memory {
    status: Status,
    to: Option<Version>,
    /// Is its fencing token the newest?
    current: bool,
    /// Did somebody else begin it?
    left_over: bool,
}

impl Worker {
    const fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Idle => None,
            Self::Thinking(memory) | Self::Calling(memory, _) | Self::Answered(memory, ..) => Some(memory),
        }
    }

    fn lose(&mut self) {
        if let Self::Thinking(memory) | Self::Calling(memory, _) | Self::Answered(memory, ..) = self {
            memory.current = false;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Happens {
    TakesTheLease(usize),
    LeaseExpires,
    Goes(usize),
    Calls(usize, Answer),
    Dies(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Comes,
    Refused,
    LostBeforeTheEffect,
    LostAfterTheEffect,
    /// Somebody below repeated the request.
    LostAfterTwoEffects,
}

impl World {
    /// The worker whose token is the newest.
    fn holder(&self) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.memory().is_some_and(|memory| memory.current))
    }

    /// A commit, fenced.
    fn commit(&mut self, bug: Bug, memory: Memory) -> bool {
        if !memory.current && bug != Bug::NoFencing {
            return false;
        }
        (self.status, self.to, self.begun) = (memory.status, memory.to, true);
        true
    }

    /// What the key manager does. None: it could not.
    fn effect(&mut self, bug: Bug, step: Step, Memory { to, left_over, .. }: Memory) -> Option<Version> {
        self.unannounced |= self.status.open_step != Some(step);
        match step {
            // It is idempotent.
            Step::Retire => (self.changed, self.unjudged) = (true, self.unjudged || left_over),
            Step::Create => {
                let version = self.made.last().map_or(1, |last| last + 1);
                self.made.insert(version);
                return Some(version);
            }
            Step::Verify if bug == Bug::PromoteUnproven => {}
            Step::Verify => {
                self.proven.insert(to?);
            }
            // It is read before it is moved.
            Step::Promote if self.primary == 0 || Some(self.primary) == to => self.primary = to?,
            Step::Settle if Some(self.primary) == to => {}
            Step::Promote | Step::Settle => return None,
        }
        to
    }

    /// What becomes of an open step: the key manager is asked.
    fn probe(&self, of: Rotation, step: Step, memory: Memory) -> (Outcome, Option<Version>, BTreeSet<Version>) {
        let mut twins = BTreeSet::new();
        let bug = of.bug;
        // To where a rollback leads, the name led before: what is read may be of that time.
        let trusted = of.workflow != Workflow::Rollback;
        match step {
            Step::Create if bug == Bug::RepeatWithoutProbe => (Outcome::Failed, None, twins),
            Step::Retire if self.changed && bug != Bug::RepeatWithoutProbe => (Outcome::Succeeded, memory.to, twins),
            Step::Create => {
                let mut made = self.made.iter().copied();
                let Some(oldest) = made.next() else { return (Outcome::Failed, None, twins) };
                if bug != Bug::ForgetTwins {
                    twins.extend(made);
                }
                (Outcome::Succeeded, Some(oldest), twins)
            }
            Step::Promote if Some(self.primary) == memory.to && trusted => (Outcome::Succeeded, memory.to, twins),
            Step::Verify | Step::Promote | Step::Settle | Step::Retire => (Outcome::Failed, memory.to, twins),
        }
    }
}

impl Rotation {
    /// The next thing that a worker does by itself.
    fn go(self, world: &mut World, index: usize) -> Option<()> {
        let after = match world.workers[index] {
            Worker::Idle | Worker::Calling(..) => return None,
            Worker::Thinking(memory) => match next_step(memory.status) {
                Next::Nothing => {
                    world.leased &= !memory.current;
                    Worker::Idle
                }
                // A worker that could not prolong its lease begins no call.
                Next::Do(_) if !world.leased && self.bug != Bug::LateCalls => Worker::Idle,
                Next::Do(Step::Retire) if memory.left_over && self.bug != Bug::GoOnRetiring => {
                    let given_up = Memory { status: abandon(memory.status).unwrap(), ..memory };
                    if world.commit(self.bug, given_up) { Worker::Thinking(given_up) } else { Worker::Idle }
                }
                Next::Do(step) => {
                    let status = record(memory.status, Event { step, outcome: Outcome::Started }).unwrap();
                    let started = Memory { status, ..memory };
                    if self.bug == Bug::CallBeforeIntent || world.commit(self.bug, started) {
                        Worker::Calling(started, step)
                    } else {
                        Worker::Idle
                    }
                }
                Next::Probe(step) => {
                    let (outcome, to, twins) = world.probe(self, step, memory);
                    let status = record(memory.status, Event { step, outcome }).unwrap();
                    let probed = Memory { status, to, ..memory };
                    if world.commit(self.bug, probed) {
                        world.twins.extend(twins);
                        Worker::Thinking(probed)
                    } else {
                        Worker::Idle
                    }
                }
            },
            Worker::Answered(memory, step, outcome, to) => {
                let status = record(memory.status, Event { step, outcome }).unwrap();
                let to = if outcome == Outcome::Succeeded { to } else { memory.to };
                let told = Memory { status, to, ..memory };
                if world.commit(self.bug, told) { Worker::Thinking(told) } else { Worker::Idle }
            }
        };
        world.workers[index] = after;
        Some(())
    }
}

impl Model for Rotation {
    type State = World;
    type Action = Happens;

    fn init_states(&self) -> Vec<World> {
        let Self { workflow, crashes, lost_answers, refusals, takeovers, .. } = *self;
        let to = (!matches!(workflow, Workflow::Create | Workflow::Rotate)).then_some(1);
        vec![World {
            status: beginning(workflow),
            to,
            twins: BTreeSet::new(),
            begun: false,
            leased: false,
            workers: [Worker::Idle; 2],
            made: to.into_iter().collect(),
            proven: BTreeSet::new(),
            primary: 0,
            changed: false,
            unjudged: false,
            unannounced: false,
            left: Left { crashes, lost_answers, refusals, takeovers },
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Happens>) {
        for (index, worker) in world.workers.iter().enumerate() {
            match worker {
                Worker::Idle if !world.leased && !world.status.is_finished() => {
                    actions.push(Happens::TakesTheLease(index));
                }
                Worker::Idle => {}
                Worker::Thinking(_) | Worker::Answered(..) => actions.push(Happens::Goes(index)),
                Worker::Calling(..) => {
                    actions.push(Happens::Calls(index, Answer::Comes));
                    if world.left.refusals > 0 {
                        actions.push(Happens::Calls(index, Answer::Refused));
                    }
                    if world.left.lost_answers > 0 {
                        actions.push(Happens::Calls(index, Answer::LostBeforeTheEffect));
                        actions.push(Happens::Calls(index, Answer::LostAfterTheEffect));
                        actions.push(Happens::Calls(index, Answer::LostAfterTwoEffects));
                    }
                }
            }
            if *worker != Worker::Idle && world.left.crashes > 0 {
                actions.push(Happens::Dies(index));
            }
        }
        // The lease of a dead worker ends by itself; that of a live one where it is slow, but not before its call has
        // ended: a call's deadline is earlier than the lease's.
        let in_a_call = matches!(world.holder(), Some(Worker::Calling(..))) && self.bug != Bug::LateCalls;
        if world.leased && (world.holder().is_none() || (world.left.takeovers > 0 && !in_a_call)) {
            actions.push(Happens::LeaseExpires);
        }
    }

    fn next_state(&self, before: &World, action: Happens) -> Option<World> {
        let mut world = before.clone();
        match action {
            Happens::TakesTheLease(index) => {
                world.workers.iter_mut().for_each(Worker::lose);
                world.leased = true;
                let (status, to) = (world.status, world.to);
                let left_over = world.begun && retires(self.workflow);
                world.workers[index] = Worker::Thinking(Memory { status, to, current: true, left_over });
            }
            Happens::LeaseExpires => {
                world.left.takeovers -= u8::from(world.holder().is_some());
                world.leased = false;
            }
            Happens::Goes(index) => self.go(&mut world, index)?,
            Happens::Dies(index) => {
                world.left.crashes -= 1;
                world.workers[index] = Worker::Idle;
            }
            Happens::Calls(index, answer) => {
                let Worker::Calling(memory, step) = world.workers[index] else { return None };
                let (outcome, to) = match answer {
                    Answer::Refused => {
                        world.left.refusals -= 1;
                        (Outcome::Failed, memory.to)
                    }
                    Answer::LostBeforeTheEffect => {
                        world.left.lost_answers -= 1;
                        (Outcome::Unknown, memory.to)
                    }
                    Answer::LostAfterTheEffect | Answer::LostAfterTwoEffects => {
                        world.left.lost_answers -= 1;
                        let _ = world.effect(self.bug, step, memory);
                        if answer == Answer::LostAfterTwoEffects {
                            let _ = world.effect(self.bug, step, memory);
                        }
                        (Outcome::Unknown, memory.to)
                    }
                    Answer::Comes => match world.effect(self.bug, step, memory) {
                        Some(to) => (Outcome::Succeeded, Some(to)),
                        None => (Outcome::Failed, memory.to),
                    },
                };
                world.workers[index] = Worker::Answered(memory, step, outcome, to);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(KNOWN_TARGET, |_, world: &World| world.primary == 0 || world.to == Some(world.primary)),
            Property::always(PROVEN, |_, world: &World| world.primary == 0 || world.proven.contains(&world.primary)),
            Property::always(INTENT_FIRST, |_, world: &World| !world.unannounced),
            Property::always(ALL_KNOWN, |_, world: &World| {
                let known = world.to.into_iter().chain(world.twins.iter().copied()).collect::<BTreeSet<_>>();
                world.status.phase != Phase::Settled || known == world.made
            }),
            Property::always(AS_RECORDED, |model: &Self, world: &World| {
                let is_over = retires(model.workflow) && world.status.is_finished();
                !is_over || (world.status.phase == Phase::Settled) == world.changed
            }),
            Property::always(JUDGED, |_, world: &World| !world.unjudged),
            Property::eventually(SETTLES, |model: &Self, world: &World| {
                // What was left of an old version's change is given up: a new plan judges anew.
                let given_up = retires(model.workflow) && world.status.phase == Phase::Abandoned;
                let led = retires(model.workflow) || world.to == Some(world.primary);
                given_up || (world.status.phase == Phase::Settled && led)
            }),
        ]
    }
}

/// A mistake, and the promise that it must be found to break.
type Planted = (Bug, &'static str);

/// Goes through every order of events from a workflow's beginning, and plants mistakes there.
fn explore(workflow: Workflow, at_least: usize, planted: &[Planted]) {
    let model = Rotation { workflow, ..REALISTIC };
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    println!("{workflow}: {states} states, {} planted mistakes", planted.len());
    assert!(states >= at_least, "{workflow}: {states} states are too few to mean anything");
    for (bug, broken) in planted {
        let found = HasDiscoveries::AllOf(BTreeSet::from([*broken]));
        let checker = Rotation { bug: *bug, ..model }.checker().threads(2).finish_when(found).spawn_bfs().join();
        let discoveries: Vec<_> = checker.discoveries().into_keys().collect();
        assert!(discoveries.contains(broken), "{workflow} with {bug:?}: {broken:?} still holds, of {discoveries:?}");
    }
}

#[test]
fn no_order_of_crashes_lost_answers_and_takeovers_breaks_a_rotation() {
    let planted = [
        (Bug::CallBeforeIntent, INTENT_FIRST),
        (Bug::RepeatWithoutProbe, ALL_KNOWN),
        (Bug::PromoteUnproven, PROVEN),
        (Bug::NoFencing, KNOWN_TARGET),
        (Bug::LateCalls, ALL_KNOWN),
        (Bug::ForgetTwins, ALL_KNOWN),
    ];
    explore(Workflow::Rotate, 50_000, &planted);
}

#[test]
fn nor_a_rollback() {
    let planted = [
        (Bug::CallBeforeIntent, INTENT_FIRST),
        (Bug::PromoteUnproven, PROVEN),
        (Bug::NoFencing, INTENT_FIRST),
        (Bug::LateCalls, INTENT_FIRST),
    ];
    explore(Workflow::Rollback, 10_000, &planted);
}

#[test]
fn nor_any_change_of_an_old_version() {
    let planted = [
        (Bug::CallBeforeIntent, INTENT_FIRST),
        (Bug::RepeatWithoutProbe, AS_RECORDED),
        (Bug::NoFencing, AS_RECORDED),
        (Bug::LateCalls, AS_RECORDED),
        (Bug::GoOnRetiring, JUDGED),
    ];
    let retirements = Workflow::ALL.iter().copied().filter(|workflow| retires(*workflow));
    for workflow in retirements {
        explore(workflow, 500, &planted);
    }
}
