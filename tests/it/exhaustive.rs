//! The state machine of a rotation with two workers, crashes, lost answers and lost leases, checked in every order in which
//! they can happen (by the model checker stateright), not in samples of them.
//!
//! What is real: [`next_step`] and [`record`], which decide every step. What is modelled: the database as one fenced row, the
//! key manager, and two workers that keep what they have read in memory, as `engine::workflow` does.

use std::collections::BTreeSet;

use keywheel::model::{Outcome, Phase, Step};
use keywheel::rotation::{Event, Next, Status, next_step, record};
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
}

/// What can go wrong, and how often in one history.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    bug: Bug,
    crashes: u8,
    lost_answers: u8,
    refusals: u8,
    takeovers: u8,
}

const REALISTIC: Rotation = Rotation { bug: Bug::None, crashes: 2, lost_answers: 2, refusals: 1, takeovers: 2 };

/// A version; 0 is the old one, which is primary at first.
type Version = u8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// The journal: how far it is, what was made, what else was found.
    status: Status,
    to: Option<Version>,
    twins: BTreeSet<Version>,
    /// Somebody has the lease, and it has not expired.
    leased: bool,
    workers: [Worker; 2],
    /// The key manager.
    made: BTreeSet<Version>,
    proven: BTreeSet<Version>,
    primary: Version,
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
        (self.status, self.to) = (memory.status, memory.to);
        true
    }

    /// What the key manager does. None: it could not.
    fn effect(&mut self, bug: Bug, step: Step, to: Option<Version>) -> Option<Version> {
        match step {
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
            Step::Promote | Step::Settle | Step::Retire => return None,
        }
        to
    }

    /// What becomes of an open step: the key manager is asked.
    fn probe(&self, bug: Bug, step: Step, memory: Memory) -> (Outcome, Option<Version>, BTreeSet<Version>) {
        let mut twins = BTreeSet::new();
        match step {
            Step::Create if bug == Bug::RepeatWithoutProbe => (Outcome::Failed, None, twins),
            Step::Create => {
                let mut made = self.made.iter().copied();
                let Some(oldest) = made.next() else { return (Outcome::Failed, None, twins) };
                if bug != Bug::ForgetTwins {
                    twins.extend(made);
                }
                (Outcome::Succeeded, Some(oldest), twins)
            }
            Step::Promote if Some(self.primary) == memory.to => (Outcome::Succeeded, memory.to, twins),
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
                    let (outcome, to, twins) = world.probe(self.bug, step, memory);
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
        let Self { crashes, lost_answers, refusals, takeovers, .. } = *self;
        vec![World {
            status: Status::NEW,
            to: None,
            twins: BTreeSet::new(),
            leased: false,
            workers: [Worker::Idle; 2],
            made: BTreeSet::new(),
            proven: BTreeSet::new(),
            primary: 0,
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
                world.workers[index] = Worker::Thinking(Memory { status, to, current: true });
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
                        let _ = world.effect(self.bug, step, memory.to);
                        if answer == Answer::LostAfterTwoEffects {
                            let _ = world.effect(self.bug, step, memory.to);
                        }
                        (Outcome::Unknown, memory.to)
                    }
                    Answer::Comes => match world.effect(self.bug, step, memory.to) {
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
            Property::always("the stable name leads to a version that the journal knows", |_, world: &World| {
                world.primary == 0 || world.to == Some(world.primary)
            }),
            Property::always("what is promoted was proven", |_, world: &World| {
                world.primary == 0 || world.proven.contains(&world.primary)
            }),
            Property::always("the intent is in the journal before its effect", |_, world: &World| {
                let phase = world.status.phase;
                (world.made.is_empty() || phase != Phase::Planned)
                    && (world.primary == 0 || !matches!(phase, Phase::Planned | Phase::Creating | Phase::Created))
            }),
            Property::always("at the end every version is known", |_, world: &World| {
                let known = world.to.into_iter().chain(world.twins.iter().copied()).collect::<BTreeSet<_>>();
                world.status.phase != Phase::Settled || known == world.made
            }),
            Property::eventually("it settles, and the stable name leads to the new version", |_, world: &World| {
                world.status.phase == Phase::Settled && world.to == Some(world.primary)
            }),
        ]
    }
}

#[test]
fn no_order_of_crashes_lost_answers_and_takeovers_breaks_a_rotation() {
    let checker = REALISTIC.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(
        checker.unique_state_count() > 10_000,
        "{} states are too few to mean anything",
        checker.unique_state_count()
    );
    println!("{} states", checker.unique_state_count());
}

#[test]
fn the_model_finds_each_planted_bug() {
    let bugs = [
        Bug::CallBeforeIntent,
        Bug::RepeatWithoutProbe,
        Bug::PromoteUnproven,
        Bug::NoFencing,
        Bug::LateCalls,
        Bug::ForgetTwins,
    ];
    for bug in bugs {
        let planted = Rotation { bug, ..REALISTIC };
        let checker = planted.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        assert!(!checker.discoveries().is_empty(), "{bug:?} goes unnoticed");
    }
}
