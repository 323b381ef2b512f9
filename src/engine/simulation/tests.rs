//! The campaigns: every seed comes to a good end, the world is as rough as it says, and each planted bug is found.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bugs::Bug;
use super::{Outcome, invariants, play};

/// How many seeds a run of the tests plays, in so many parts, so that they share the machine's cores.
const SEEDS: u64 = 20_000;
const PARTS: u64 = 8;

/// What a thousand seeds must meet, and how often at least: a simulation in which nothing goes wrong finds nothing.
const ROUGH: &[(&str, u64)] = &[
    ("clock jump", 150),
    ("crash after a request", 100),
    ("crash before a request", 100),
    ("crash during a call", 60),
    ("crash during a commit", 40),
    ("creation settled", 150),
    ("denied", 5),
    ("destruction scheduled", 100),
    ("duplicate", 50),
    ("effect after the timeout", 50),
    ("fact told", 300),
    ("foreign move", 15),
    ("key parked", 1),
    ("lost answer", 50),
    ("lost request", 50),
    ("old version destroyed", 30),
    ("old version disabled", 100),
    ("old version given back", 20),
    ("rollback settled", 20),
    ("rotation settled", 400),
    ("saved plan", 100),
    ("slow request", 500),
    ("stall", 150),
    ("takeover", 200),
    ("throttled", 80),
    ("twin found", 20),
    ("unreachable", 200),
];

/// Names the seed when something panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was seed {0}: KEYWHEEL_SEED={0} tells every step", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays the seeds of a part, and says what was met.
fn part(part: u64) {
    let all = number("KEYWHEEL_SEEDS").unwrap_or(SEEDS);
    campaign(part * all / PARTS..(part + 1) * all / PARTS);
}

fn campaign(seeds: Range<u64>) {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut broken = String::new();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let _named = Named(seed);
        let Outcome { met, violation, steps } = play(seed, None, false);
        for (what, times) in met {
            *all.entry(what).or_insert(0) += times;
        }
        if let Some(violation) = violation {
            if broken.is_empty() {
                eprintln!("{}", steps.join("\n"));
            }
            broken.push_str(&format!("\nseed {seed}: {}: {}", violation.invariant, violation.what));
        }
    }
    println!("{count} seeds: {all:#?}");
    assert!(broken.is_empty(), "KEYWHEEL_SEED=n tells every step of a seed{broken}");
    for (what, in_a_thousand) in ROUGH.iter().filter(|_| count >= 1000) {
        let times = all.get(what).copied().unwrap_or(0);
        assert!(times * 1000 >= in_a_thousand * count, "{what}: only {times} times in {count} seeds");
    }
}

#[test]
fn one_seed_tells_every_step() {
    let seed = number("KEYWHEEL_SEED");
    let Outcome { violation, steps, .. } = play(seed.unwrap_or(0), None, seed.is_some());
    assert!(violation.is_none(), "{violation:?}");
    assert!(!steps.is_empty());
}

#[test]
fn a_seed_gives_the_same_steps_again() {
    for seed in 0..20 {
        assert_eq!(play(seed, None, false).steps, play(seed, None, false).steps, "seed {seed}");
    }
}

macro_rules! parts {
    ($($name:ident $number:literal)+) => {
        $(
            #[test]
            fn $name() {
                part($number);
            }
        )+
    };
}

mod no_seed_breaks_a_promise {
    use super::part;

    parts! { part_1 0  part_2 1  part_3 2  part_4 3  part_5 4  part_6 5  part_7 6  part_8 7 }
}

/// Plays seeds until the bug breaks the promise that it should, at most as many as a run of the tests plays.
fn find(bug: Bug, broken: &str) {
    let found = (0..SEEDS).find_map(|seed| {
        let violation = play(seed, Some(bug), false).violation?;
        (violation.invariant == broken).then_some((seed + 1, violation))
    });
    let (seeds, violation) = found.unwrap_or_else(|| panic!("{bug:?} goes unnoticed, or breaks something else"));
    println!("{bug:?}: found after {seeds} seeds, because {}: {}", violation.invariant, violation.what);
}

macro_rules! planted {
    ($($name:ident $bug:ident $broken:ident)+) => {
        mod a_planted_bug_is_found {
            use super::{Bug, find, invariants};

            $(
                #[test]
                fn $name() {
                    find(Bug::$bug, invariants::$broken);
                }
            )+
        }
    };
}

planted! {
    intent_after_call IntentAfterCall INTENT_FIRST
    adoption_unannounced AdoptionUnannounced INTENT_FIRST
    twin_unannounced TwinUnannounced INTENT_FIRST
    no_fencing NoFencing FENCED
    lease_held_twice LeaseHeldTwice ONE_HOLDER
    heartbeat_pretends HeartbeatPretends NO_LATE_CALL
    retry_without_probing RetryWithoutProbing ALL_KNOWN
    retry_without_waiting RetryWithoutWaiting ALL_KNOWN
    twins_forgotten TwinsForgotten ALL_KNOWN
    no_mark NoMark ALL_KNOWN
    no_answer_is_failure NoAnswerIsFailure ALL_KNOWN
    promote_before_verify PromoteBeforeVerify PROVEN
    promote_without_looking PromoteWithoutLooking LEFT_ALONE
    alias_deleted_and_created AliasDeletedAndCreated LEADS
    settled_without_the_key SettledWithoutTheKey KNOWN_TARGET
    audit_afterwards AuditAfterwards AUDITED
    message_afterwards MessageAfterwards TOLD
    disable_inside_retention DisableInsideRetention RETAINED_LONG
    destroy_inside_retention DestroyInsideRetention RETAINED_LONG
    last_use_forgotten LastUseForgotten UNNEEDED
    freezes_forgotten FreezesForgotten FROZEN
    saved_plan_put_aside SavedPlanPutAside SUBSET
}
