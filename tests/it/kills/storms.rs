//! Faults instead of kills: a proxy before moto answers as a network and a service in trouble do, and one before
//! PostgreSQL cuts connections, from one seed. It is applied until everything is done, and then everything must hold.
//!
//! What becomes of a request depends on the seed, on its operation and on how often that was asked for, so that a seed
//! that failed fails again. `KEYWHEEL_SEEDS=N` tries so many, and `KEYWHEEL_SEED=N` begins with that one.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::hostile::{Reply, Request};

use super::fleet::{Kind, Member, REGIONS, documents};
use super::world::{APPLY, Database, LEASE, World};

/// How many requests go wrong, until the weather is fair again.
const FAULTS: usize = 80;

/// How many connections to the database are cut.
const CUTS: u64 = 20;

/// Longer than any pause between the attempts at a failed rotation.
const PAUSE: i64 = 7 * 3600;

#[test]
fn sqlite_a_network_in_trouble_loses_nothing() {
    seeds(1, 3, Database::Sqlite);
}

#[test]
fn postgres_a_network_in_trouble_loses_nothing() {
    seeds(1001, 2, Database::Postgres);
}

fn seeds(first: u64, count: u64, database: Database) {
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, count) = (number("KEYWHEEL_SEED").unwrap_or(first), number("KEYWHEEL_SEEDS").unwrap_or(count));
    for seed in first..first + count {
        // So that it is said whichever way a seed fails.
        println!("seed {seed}");
        storm(seed, database);
    }
}

fn storm(seed: u64, database: Database) {
    let faults = Arc::new(AtomicUsize::new(0));
    let had = faults.clone();
    let mut world = World::behind(database, "60s", move |endpoint, request| {
        let reply = weather(seed, endpoint, request);
        let is_fault = !matches!(reply, Reply::Forward(_));
        if is_fault && had.fetch_add(1, Ordering::SeqCst) >= FAULTS {
            return Reply::Forward(endpoint.to_owned());
        }
        reply
    });
    if let Some(proxy) = &world.cuts {
        proxy.cut_after((0..CUTS).map(|cut| 30 + u32::try_from(draw(seed, "cut", cut) % 100).unwrap()));
    }
    let mut fleet = vec![
        Member::new("key-a", Kind::Symmetric, REGIONS[0]),
        Member::new("key-b", Kind::Mac, REGIONS[1]),
        Member::new("key-c", Kind::Symmetric, REGIONS[2]),
        Member::new("key-d", Kind::Local, ""),
    ];
    let made = world.kms(fleet[2].region).create(&fleet[2].alias(), &json!({}));
    fleet[2].adopted = Some(made);
    world.sandbox.commit(&documents(&fleet, 10));
    until_done(&mut world, &fleet);
    let is_fair = |world: &World| {
        let cuts = world.cuts.as_ref().map_or(CUTS, |proxy| proxy.count().into());
        faults.load(Ordering::SeqCst) >= FAULTS && cuts >= CUTS
    };
    while !is_fair(&world) {
        world.pass(10 * 24 * 3600);
        until_done(&mut world, &fleet);
    }
    let versions = world.sql("SELECT id FROM key_versions").len();
    assert!(versions > fleet.len(), "they rotated in the storm");
    println!("seed {seed}: {versions} versions, {} requests", world.proxy.requests().len());
    world.check(&fleet);
}

/// Applies until nothing is left to do, and uses the keys meanwhile.
fn until_done(world: &mut World, fleet: &[Member]) {
    let mut said = String::new();
    for _ in 0..20 {
        let done = world.run(APPLY).ends();
        said = format!("{}\n{}", done.stdout, done.stderr);
        assert!(!said.contains("panicked"), "{said}");
        world.proxy.settle();
        world.seal(&fleet[..3]);
        match done.status {
            Some(0) => return,
            Some(7) => world.pass(PAUSE),
            // The database was out of reach: the lock is still held.
            Some(1) => {
                assert!(done.stderr.contains("help: "), "{said}");
                world.pass(LEASE);
            }
            other => panic!("{other:?}: {said}"),
        }
        for parked in world.sql("SELECT key_name AS name FROM encryption_keys WHERE state = 'parked'") {
            let address = format!("acme/{}", parked["name"].as_str().unwrap());
            world.run(&["resume", &address, "--reason", "a test", "--auto-approve"]).ends();
        }
    }
    panic!("it does not come to an end: {said}");
}

/// What becomes of a request: three of ten go wrong.
fn weather(seed: u64, endpoint: &str, request: &Request) -> Reply {
    let drawn = draw(seed, &request.operation, request.earlier as u64);
    let endpoint = endpoint.to_owned();
    match drawn % 100 {
        0..3 => Reply::Hangup,
        3..8 => Reply::ActAndHangup(endpoint),
        8..11 => Reply::ActAndTruncate(endpoint),
        11..16 => Reply::error(400, "ThrottlingException"),
        16..20 => Reply::error(500, "KMSInternalException"),
        20..22 => Reply::page(200),
        22..24 => Reply::Answer(200, "application/x-amz-json-1.1", r#"{"KeyMetadata":[],"Keys":{}}"#.to_owned()),
        24..27 => Reply::Drip(endpoint, Duration::from_millis(drawn / 100 % 400)),
        // The last ones come when nobody waits for them any more.
        27..30 => Reply::Late(endpoint, Duration::from_millis(drawn / 100 % 1500)),
        _ => Reply::Forward(endpoint),
    }
}

/// A number that only these decide: FNV-1a of the text, mixed as `SplitMix64` does.
fn draw(seed: u64, text: &str, number: u64) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut mixed = hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
