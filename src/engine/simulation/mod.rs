//! A simulated world in which the engine's own code runs: two machines, a network, a database, a key manager and people,
//! all from one seed, so that any failure comes again from its seed.
//!
//! - [`timeline`]: time and chance
//! - [`world`]: requests, and what goes wrong with them
//! - [`database`], [`kms`], [`cloud`]: the other ends
//! - [`script`]: what people want, from round to round
//! - [`scheduler`]: processes that work, stall and die
//! - [`invariants`]: what must hold after each step, and at rest
//! - [`bugs`]: planted mistakes, each of which must be found
//!
//! A seed takes a script and some of its rounds, plays them with faults, lets the faults stop and everything come to
//! rest, and compares the end with that of the same rounds without faults.
//!
//! `KEYWHEEL_SEED=n` plays one seed and tells every step; `KEYWHEEL_SEEDS=n` makes a campaign of another length.

mod bugs;
mod cloud;
mod database;
mod invariants;
mod kms;
mod scheduler;
mod script;
#[cfg(test)]
mod tests;
pub(super) mod timeline;
mod world;

pub(super) use scheduler::manager;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use self::bugs::Bug;
use self::cloud::Cloud;
use self::invariants::SAME_END;
use self::scheduler::Play;
use self::script::{LEGACY, SCRIPTS, Script};
use self::timeline::Dice;
use self::world::{Violation, Weather, World, locked};
use crate::model::{Phase, RotationRecord, Workflow};
use crate::store::memory::Tables;

/// A script, and what it comes to when nothing goes wrong.
struct Known {
    script: Rc<Script>,
    /// The world before each round.
    before: Vec<Snapshot>,
    /// The end of each round.
    ends: Vec<String>,
}

struct Snapshot {
    tables: Tables,
    cloud: Cloud,
    elapsed: Duration,
}

/// What a seed came to.
struct Outcome {
    met: BTreeMap<&'static str, u64>,
    violation: Option<Violation>,
    /// The last steps.
    steps: Vec<String>,
}

/// Plays a seed.
fn play(seed: u64, bug: Option<Bug>, aloud: bool) -> Outcome {
    let known = known(seed % SCRIPTS);
    let mut dice = Dice::new(seed);
    let rounds = known.script.rounds.len();
    let first = usize::try_from(dice.below(rounds as u64)).unwrap();
    // Most seeds play one round, some all that follow it.
    let last = if dice.in_thousand(100) { rounds - 1 } else { first };
    let Snapshot { tables, cloud, elapsed } = &known.before[first];
    timeline::begin(seed, *elapsed);
    let world = World::new(tables.clone(), cloud.clone(), &known.script, bug, aloud);
    let weather = Weather::of(&mut dice);
    let mut play = Play::new(world.clone(), known.script.clone());
    wait_for(async {
        for round in first..=last {
            play.round(round, Some(weather)).await;
        }
    });
    let end = end(&world);
    if world.log().violation.is_none() && end != known.ends[last] {
        world.violated(SAME_END, difference(&known.ends[last], &end));
    }
    drop(play);
    timeline::end();
    let mut log = world.log();
    Outcome { met: std::mem::take(&mut log.met), violation: log.violation.take(), steps: log.steps.drain(..).collect() }
}

/// Plays a script without faults, once a thread.
fn known(number: u64) -> Rc<Known> {
    thread_local! {
        static KNOWN: RefCell<BTreeMap<u64, Rc<Known>>> = const { RefCell::new(BTreeMap::new()) };
    }
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&number).cloned()) {
        return known;
    }
    let script = Rc::new(Script::of(number));
    timeline::begin(number, Duration::ZERO);
    let mut cloud = Cloud::default();
    cloud.foreign(LEGACY.0, Some(LEGACY.1));
    cloud.straggles_until = script.straggles_until;
    let world = World::new(Tables::default(), cloud, &script, None, false);
    let (mut before, mut ends) = (Vec::new(), Vec::new());
    let mut play = Play::new(world.clone(), script.clone());
    for round in 0..script.rounds.len() {
        let (tables, cloud) = (world.memory.tables().clone(), locked(&world.cloud).clone());
        before.push(Snapshot { tables, cloud, elapsed: timeline::elapsed() });
        wait_for(play.round(round, None));
        let violation = world.log().violation.take();
        if let Some(Violation { invariant, what }) = violation {
            let steps: Vec<_> = world.log().steps.drain(..).collect();
            panic!("script {number} without faults: {invariant}: {what}\n{}", steps.join("\n"));
        }
        ends.push(end(&world));
    }
    drop(play);
    timeline::end();
    let known = Rc::new(Known { script, before, ends });
    KNOWN.with_borrow_mut(|all| all.insert(number, known.clone()));
    known
}

/// Runs a play to its end. No driver is there: whatever asked for the machine's time or network would panic.
fn wait_for<T>(play: impl Future<Output = T>) -> T {
    // Every task that can go on does so before the play is asked again.
    let runtime = tokio::runtime::Builder::new_current_thread().event_interval(u32::MAX).build().unwrap();
    runtime.block_on(play)
}

/// The end of a round, without what differs from run to run: identities and instants.
fn end(world: &World) -> String {
    let tables = world.memory.tables();
    let cloud = locked(&world.cloud);
    let mut text = String::new();
    let mut keys: Vec<_> = tables.keys().collect();
    keys.sort_by_key(crate::model::KeyRecord::address);
    for key in keys {
        writeln!(text, "key {}: {} {:?}", key.address(), key.state, key.key).unwrap();
        writeln!(
            text,
            "  policy {}, slot {:?}, {} failures",
            key.rotation_policy_id.is_some(),
            key.last_slot,
            key.failures
        )
        .unwrap();
        let mut versions: Vec<_> =
            tables.versions.values().filter(|version| version.key_id == key.id && !version.orphan).collect();
        versions.sort_by_key(|version| version.number);
        for version in versions {
            let primary = key.primary_version.as_ref().is_some_and(|primary| primary.id == version.id);
            let made = cloud.versions.get(&version.provider_ref);
            let is_enabled = made.is_some_and(cloud::Version::is_enabled);
            // What an edit changed at the primary, before or after it was succeeded, is the old one's own.
            let made = made.filter(|_| primary).map(|made| (&made.description, &made.tags));
            let marks = [version.compromised_at, version.needed_at, version.rewrapped_at].map(|at| at.is_some());
            writeln!(text, "  {} enabled {is_enabled}, marks {marks:?}: {made:?}", version.state).unwrap();
        }
        let mut settled: Vec<&RotationRecord> = tables
            .rotations
            .values()
            .map(|rotation| &**rotation)
            .filter(|rotation| rotation.key_id == key.id && rotation.phase == Phase::Settled)
            .collect();
        // The clocks of two machines may disagree about which of two came first; the journal does not.
        settled.sort_by_key(|rotation| tables.steps.iter().position(|step| step.rotation_id == rotation.id));
        // Between the old versions of a key no order is promised, nor between them and its rotations.
        settled.sort_by_key(|rotation| (!rotation.workflow.leads()).then(|| rotation.workflow.as_str()));
        for RotationRecord { workflow, cause, slot, .. } in settled {
            let slot = slot.filter(|_| *workflow == Workflow::Rotate);
            writeln!(text, "  {workflow} {cause} {slot:?}").unwrap();
        }
    }
    text
}

/// The first line that differs.
fn difference(expected: &str, found: &str) -> String {
    let mut lines = expected.lines().zip(found.lines());
    match lines.find(|(expected, found)| expected != found) {
        Some((expected, found)) => format!("expected {expected:?}, found {found:?}"),
        None => format!("expected {} lines, found {}", expected.lines().count(), found.lines().count()),
    }
}
