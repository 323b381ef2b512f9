//! Time and chance of a simulated world, both from its seed: nothing happens but what was put on the timeline, and time
//! passes by going to the next thing on it.
//!
//! The engine meets it in [`super::super::clock`] alone. Each thread has one timeline at most; without one the functions
//! give nothing, and the engine's clock is the machine's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::engine::fixture;
use crate::model::Timestamp;

/// Something that happens at its time.
type Happening = Box<dyn FnOnce() + Send>;

struct Timeline {
    elapsed: Duration,
    /// By time; what happens at one instant happens in an order that the dice choose.
    ahead: BTreeMap<(Duration, u64, u64), Happening>,
    dice: Dice,
    made: u64,
    /// How far the clock of the machine that is at work is off, in seconds.
    skew: i64,
}

thread_local! {
    static TIMELINE: RefCell<Option<Timeline>> = const { RefCell::new(None) };
}

/// A generator of numbers that gives the same ones for the same seed: `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to `sides`, which is left out.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// So many times in a thousand.
    pub fn in_thousand(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// Starts the thread's timeline, so long after [`fixture::NOW`].
pub fn begin(seed: u64, elapsed: Duration) {
    let mut dice = Dice::new(seed);
    let made = dice.next() >> 20;
    let timeline = Timeline { elapsed, ahead: BTreeMap::new(), dice, made, skew: 0 };
    TIMELINE.set(Some(timeline));
}

/// Ends it, and forgets what was still to happen.
pub fn end() {
    // What is dropped may look at the timeline.
    let ended = TIMELINE.take();
    drop(ended);
}

fn with<T>(look: impl FnOnce(&mut Timeline) -> T) -> Option<T> {
    TIMELINE.with_borrow_mut(|timeline| timeline.as_mut().map(look))
}

/// The clock of the machine that is at work.
pub fn now() -> Option<Timestamp> {
    with(|timeline| instant_of(timeline) + chrono::Duration::seconds(timeline.skew))
}

/// The clock that is right: the database's and the provider's.
pub fn true_now() -> Timestamp {
    with(|timeline| instant_of(timeline)).unwrap()
}

fn instant_of(timeline: &Timeline) -> Timestamp {
    at(timeline.elapsed)
}

/// The instant so long after [`fixture::NOW`].
pub fn at(elapsed: Duration) -> Timestamp {
    fixture::at(fixture::NOW) + chrono::Duration::from_std(elapsed).unwrap()
}

/// How long after [`fixture::NOW`] it is.
pub fn elapsed() -> Duration {
    with(|timeline| timeline.elapsed).unwrap()
}

/// Goes to a later time of a quiet world, on which nothing happens before it.
pub fn skip_to(elapsed: Duration) {
    with(|timeline| timeline.elapsed = timeline.elapsed.max(elapsed));
}

pub fn new_id() -> Option<Uuid> {
    with(|timeline| {
        timeline.made += 1;
        let millis = u64::try_from(instant_of(timeline).timestamp_millis()).unwrap();
        let mut random = [0; 10];
        random[2..].copy_from_slice(&timeline.made.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    })
}

pub fn instant() -> Option<Instant> {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    with(|timeline| *FIRST.get_or_init(Instant::now) + timeline.elapsed)
}

/// Is told once the time has passed.
pub fn sleep(duration: Duration) -> Option<oneshot::Receiver<()>> {
    let (wake, awake) = oneshot::channel();
    with(|timeline| {
        put(
            timeline,
            duration,
            Box::new(move || {
                let _ = wake.send(());
            }),
        );
        awake
    })
}

/// Lets something happen later.
pub fn after(delay: Duration, happening: impl FnOnce() + Send + 'static) {
    with(|timeline| put(timeline, delay, Box::new(happening)));
}

fn put(timeline: &mut Timeline, delay: Duration, happening: Happening) {
    timeline.made += 1;
    let place = (timeline.elapsed + delay, timeline.dice.next(), timeline.made);
    timeline.ahead.insert(place, happening);
}

/// Goes to the next thing that happens. False if there is none.
pub fn go_on() -> bool {
    let next = with(|timeline| {
        let ((at, ..), happening) = timeline.ahead.pop_first()?;
        // What a skip has passed over happens late.
        timeline.elapsed = timeline.elapsed.max(at);
        Some(happening)
    });
    let Some(happening) = next.flatten() else { return false };
    happening();
    true
}

/// Sets how far the clock of the machine that is at work is off.
pub fn skew(seconds: i64) {
    with(|timeline| timeline.skew = seconds);
}

/// Throws the world's dice.
pub fn dice<T>(throw: impl FnOnce(&mut Dice) -> T) -> T {
    with(|timeline| throw(&mut timeline.dice)).unwrap()
}
