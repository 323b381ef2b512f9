//! The time rules, held against a second implementation: `tests/oracle/schedule.py`, which finds every answer by walking
//! through time.
//!
//! The cases are made here, from a seed, so that they are the same at each run: every zone of the tz database in turn, and
//! most of them around an instant at which its clocks change. More of them, and others:
//!
//! ```text
//! KEYWHEEL_ORACLE_CASES=50000 KEYWHEEL_ORACLE_SEED=7 cargo nextest run -E 'test(/schedule::/)'
//! ```

mod cases;
mod draw;
mod oracle;

use keywheel::model::{Freeze, RotationPolicy, Timestamp};
use keywheel::schedule::{Decision, Hold, Timing};
use serde_json::{Value, json};

use self::cases::Case;
use self::draw::Draw;
use self::oracle::Oracle;

/// The compiled-in tz database ends there: chrono-tz has no daylight saving from 2100 on.
const END_OF_RULES: i64 = 4_102_444_800;

#[test]
fn slots_around_clock_changes_are_those_of_the_second_implementation() {
    compare(1, 1_500, cases::slots);
}

#[test]
fn decisions_by_interval_are_those_of_the_second_implementation() {
    compare(2, 1_200, cases::intervals);
}

#[test]
fn decisions_by_cron_are_those_of_the_second_implementation() {
    compare(3, 700, cases::crons);
}

#[test]
fn windows_freezes_and_spread_are_those_of_the_second_implementation() {
    compare(4, 900, cases::openings);
}

#[test]
fn cron_expressions_are_accepted_and_refused_as_by_the_second_implementation() {
    let mut oracle = Oracle::start();
    let mut draw = Draw::new(seed() + 5);
    for _ in 0..cases(500) {
        let schedule = cases::schedule(&mut draw);
        let policy = json!({"tenant_id": "t", "policy_name": "p", "key_type": "k", "rotation_schedule": schedule});
        let policy: RotationPolicy = serde_json::from_value(policy).unwrap();
        let refused = Timing::new(&policy).err().map(|problems| problems[0].code);
        assert_eq!(json!({"refused": refused}), oracle.ask(&json!({"schedule": schedule})), "{schedule:?}");
    }
}

/// Asks both implementations for as many cases as are wanted.
fn compare(stream: u64, count: usize, make: fn(&mut Draw, usize) -> Case) {
    let mut oracle = Oracle::start();
    let mut draw = Draw::new(seed() + stream);
    let mut compared = 0;
    for number in 0..cases(count) {
        let case = make(&mut draw, number);
        let ours = answer(&case);
        if latest(&ours) < END_OF_RULES {
            assert_eq!(ours, oracle.ask(&case.json()), "case {number}: {:#}", case.json());
            compared += 1;
        }
    }
    assert!(compared * 10 >= cases(count) * 9, "only {compared} cases lie before the year 2100");
}

fn cases(usual: usize) -> usize {
    std::env::var("KEYWHEEL_ORACLE_CASES")
        .map_or(usual, |count| count.parse().expect("KEYWHEEL_ORACLE_CASES is a number"))
}

fn seed() -> u64 {
    std::env::var("KEYWHEEL_ORACLE_SEED").map_or(0, |seed| seed.parse().expect("KEYWHEEL_ORACLE_SEED is a number"))
}

/// What keywheel says about a case, in the oracle's form.
fn answer(case: &Case) -> Value {
    let policy: RotationPolicy = serde_json::from_value(case.policy.clone()).expect("a policy");
    let timing = Timing::new(&policy).unwrap_or_else(|problems| panic!("{problems:?}: {:#}", case.json()));
    let freezes: Vec<Freeze> =
        case.freezes.iter().cloned().map(|freeze| serde_json::from_value(freeze).unwrap()).collect();
    let freezes: Vec<&Freeze> = freezes.iter().collect();
    let decision = match timing.decide(&case.key, &case.history, &freezes, case.now) {
        Decision::Unscheduled => json!({"is": "unscheduled"}),
        Decision::NotDue { slot, starts_at } => {
            json!({"is": "not due", "slot": slot.timestamp(), "starts_at": seconds(starts_at)})
        }
        Decision::Due { slot, overdue_since } => {
            json!({"is": "due", "slot": slot.timestamp(), "overdue_since": seconds(overdue_since)})
        }
        Decision::Waiting { slot, hold, starts_at } => {
            json!({"is": "waiting", "slot": slot.timestamp(), "hold": words(&hold), "starts_at": seconds(starts_at)})
        }
    };
    let open = match timing.open_at(&freezes, case.now) {
        Ok(()) => json!({"hold": null, "until": null}),
        Err((hold, until)) => json!({"hold": words(&hold), "until": seconds(until)}),
    };
    let upcoming = timing.upcoming(&case.key, &case.history, &freezes, case.now, case.upcoming);
    let upcoming: Vec<i64> = upcoming.into_iter().map(|at| at.timestamp()).collect();
    json!({"decision": decision, "open": open, "upcoming": upcoming})
}

fn seconds(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.timestamp())
}

fn words(hold: &Hold) -> Value {
    match hold {
        Hold::Spread => json!(["spread"]),
        Hold::MinimumGap => json!(["gap"]),
        Hold::Window => json!(["window"]),
        Hold::Freeze(name) => json!(["freeze", name]),
        Hold::FirstSlotAfterAdoption => json!(["adoption"]),
    }
}

/// The latest instant of an answer.
fn latest(answer: &Value) -> i64 {
    match answer {
        Value::Number(number) => number.as_i64().unwrap_or(0),
        Value::Array(items) => items.iter().map(latest).max().unwrap_or(0),
        Value::Object(fields) => fields.values().map(latest).max().unwrap_or(0),
        _ => 0,
    }
}
