//! The binary is killed with SIGKILL at each of its fault points in turn (`src/engine/fault_points.rs`), on SQLite and on
//! PostgreSQL, with its keys in a real moto and in a keystore; then at the fault points of what finishes its work.
//!
//! Afterwards no key in AWS KMS is unknown, no alias leads to a wrong key, nothing was made twice, and everything that was
//! encrypted, signed or authenticated between any two kills is still good. With `KEYWHEEL_KILLS=N` each campaign begins
//! again until it has killed so often.

use std::fs;
use std::path::Path;

use serde_json::json;

use self::fleet::{Kind, Member, REGIONS, documents, with_terms};
use self::world::{APPLY, Database, World};

mod checks;
mod fleet;
mod sealed;
mod storms;
mod world;

/// Tests of campaigns: on which database, which campaign, and how many kills it has at least.
macro_rules! campaigns {
    ($($name:ident: $database:ident, $campaign:ident, $least:literal;)+) => {
        $(
            #[test]
            fn $name() {
                told(&$campaign(Database::$database), $least);
            }
        )+
    };
}

campaigns! {
    sqlite_keys_that_rotate_in_aws_and_in_a_keystore: Sqlite, two_places, 80;
    sqlite_keys_that_rotate_in_two_regions: Sqlite, two_regions, 90;
    sqlite_keys_that_are_made: Sqlite, made, 60;
    sqlite_keys_that_are_adopted: Sqlite, adopted, 30;
    sqlite_a_rollback_and_a_release: Sqlite, rolled_back, 60;
    sqlite_keys_that_appear_late: Sqlite, late, 50;
    sqlite_old_versions_that_come_to_their_end: Sqlite, retired, 45;
    postgres_keys_that_rotate_in_aws_and_in_a_keystore: Postgres, two_places, 80;
    postgres_keys_that_are_made: Postgres, made, 60;
    postgres_keys_that_are_adopted: Postgres, adopted, 30;
    postgres_a_rollback_and_a_release: Postgres, rolled_back, 60;
    postgres_old_versions_that_come_to_their_end: Postgres, retired, 45;
}

/// Says how it went, and fails if it was too easy.
fn told(world: &World, least: usize) {
    let kills = world.kills();
    println!("{kills} kills:");
    world.died.iter().for_each(|(point, times)| println!("{times:5} {point}"));
    assert!(kills >= least, "{kills} kills");
    assert_eq!(one_sided(world), [""; 0], "it never died there");
}

/// The points at which it never died, though it did on the other side of the same call.
fn one_sided(world: &World) -> Vec<String> {
    let other_side = |point: &String| {
        let (when, what) = point.split_once(' ').unwrap();
        format!("{} {what}", if when == "before" { "after" } else { "before" })
    };
    world.died.keys().map(other_side).filter(|point| !world.died.contains_key(point)).collect()
}

/// Kills a command at its first point, then at its second, until it comes to its end; `prepare` is done before each. What
/// finishes its work is killed once as well, a point later each time; what looks for a version that may have been made,
/// around just that.
fn in_turn(world: &mut World, command: &[&str], mut prepare: impl FnMut(&mut World) -> Vec<Member>) {
    let mut again = 1;
    for number in 1.. {
        let fleet = prepare(world);
        world.seal(&fleet);
        let Some(point) = world.dies(&number.to_string(), command) else { break };
        world.seal(&fleet);
        if point.ends_with("create_version") {
            for point in ["before find_created", "after find_created"] {
                world.dies(point, APPLY).expect("nobody looked for the version");
            }
        }
        again = if world.dies(&again.to_string(), APPLY).is_some() { again + 1 } else { 1 };
        world.ends(APPLY);
    }
    // How many points there are depends on which writes share a commit: the last ones may have been missed.
    for point in ["before release", "after release", "before claim", "after claim"] {
        prepare(world);
        world.dies(point, command).expect("it gave no lock back, or looked for no messages");
        world.ends(APPLY);
    }
}

/// Keys rotate side by side, night after night.
fn nights(database: Database, consistency_delay: &str, fleet: &[Member]) -> World {
    let mut world = World::new(database, consistency_delay);
    world.sandbox.commit(&documents(fleet, 1));
    world.ends(APPLY);
    world.seal(fleet);
    let in_aws: Vec<_> = fleet.iter().filter(|member| member.kind != Kind::Local).cloned().collect();
    while {
        in_turn(&mut world, APPLY, |world| {
            world.next_night();
            in_aws.clone()
        });
        !world.is_enough()
    } {}
    world.check(fleet);
    world
}

fn two_places(database: Database) -> World {
    nights(database, "0s", &[Member::new("key-a", Kind::Symmetric, REGIONS[0]), Member::new("key-b", Kind::Local, "")])
}

fn two_regions(database: Database) -> World {
    nights(
        database,
        "0s",
        &[Member::new("key-a", Kind::Mac, REGIONS[1]), Member::new("key-b", Kind::Signing, REGIONS[2])],
    )
}

/// AWS KMS needs a while until a key can be seen: what finishes a creation waits for as long.
fn late(database: Database) -> World {
    nights(database, "101s", &[Member::new("key-a", Kind::Symmetric, REGIONS[0])])
}

/// Each time there is one more key.
fn more_keys(database: Database, member: impl Fn(&World, usize) -> Member) -> World {
    let mut world = World::new(database, "0s");
    let mut fleet: Vec<Member> = Vec::new();
    while {
        in_turn(&mut world, APPLY, |world| {
            let member = member(world, fleet.len());
            fleet.push(member.clone());
            world.sandbox.commit(&documents(&fleet, 90));
            vec![member]
        });
        !world.is_enough()
    } {}
    world.check(&fleet);
    world
}

fn made(database: Database) -> World {
    more_keys(database, |_, number| Member::new(&format!("key-{number:03}"), Kind::Symmetric, REGIONS[number % 3]))
}

/// They are given a description, too.
fn adopted(database: Database) -> World {
    more_keys(database, |world, number| {
        let mut member = Member::new(&format!("key-{number:03}"), Kind::Symmetric, REGIONS[number % 3]);
        member.adopted = Some(world.kms(member.region).create(&member.alias(), &json!({})));
        member
    })
}

/// A command about the one key, with a reason.
fn by_hand(command: &'static str) -> [&'static str; 5] {
    [command, "acme/key-a", "--reason", "a test", "--auto-approve"]
}

fn rolled_back(database: Database) -> World {
    let mut world = World::new(database, "0s");
    let fleet = [Member::new("key-a", Kind::Symmetric, REGIONS[0])];
    world.sandbox.commit(&documents(&fleet, 90));
    world.ends(APPLY);
    let is_held = |world: &World| world.sql("SELECT state FROM encryption_keys")[0]["state"] == "held";
    while {
        in_turn(&mut world, &by_hand("rollback"), |world| {
            if is_held(world) {
                world.ends(&by_hand("release"));
            }
            world.ends(&by_hand("rotate"));
            fleet.to_vec()
        });
        in_turn(&mut world, &by_hand("release"), |world| {
            if !is_held(world) {
                world.ends(&by_hand("rotate"));
                world.ends(&by_hand("rollback"));
            }
            fleet.to_vec()
        });
        !world.is_enough()
    } {}
    world.check(&fleet);
    world
}

/// Every two weeks each key gets another version, the one before is disabled, the destruction of the one before that is
/// scheduled, and in the keystore the oldest are destroyed.
fn retired(database: Database) -> World {
    const TERMS: &str = "enable_rollback: false\nretain_old_keys_days: 1\nold_key_disposition: destroy\n\
                         destroy_after_disabled_days: 1\ndata_max_age_days: 1\n";
    let mut world = World::new(database, "0s");
    let fleet = [Member::new("key-a", Kind::Symmetric, REGIONS[0]), Member::new("key-b", Kind::Local, "")];
    world.sandbox.commit(&with_terms(&fleet, 36500, TERMS));
    world.ends(APPLY);
    let two_weeks = |world: &mut World| {
        for key in ["acme/key-a", "acme/key-b"] {
            world.ends(&["rotate", key, "--reason", "a test", "--auto-approve"]);
        }
        world.pass(15 * 24 * 60 * 60);
    };
    // Until the oldest is destroyed.
    for _ in 0..3 {
        two_weeks(&mut world);
        world.ends(APPLY);
    }
    while {
        two_weeks(&mut world);
        // What a dead one leaves, the next dies over as well, a point later.
        for number in 1..50 {
            if world.dies(&number.to_string(), APPLY).is_none() {
                two_weeks(&mut world);
            }
        }
        world.ends(APPLY);
        for step in ["disable", "schedule_destruction", "destroy"] {
            for point in ["before", "after"].map(|when| format!("{when} {step}")) {
                two_weeks(&mut world);
                world.dies(&point, APPLY).expect(&point);
                world.ends(APPLY);
            }
        }
        !world.is_enough()
    } {}
    for point in one_sided(&world) {
        two_weeks(&mut world);
        world.dies(&point, APPLY).expect(&point);
        world.ends(APPLY);
    }
    world.check(&fleet);
    world.check_retired(&fleet[0]);
    world
}

#[test]
fn a_release_build_has_no_fault_points() {
    const GATE: &str = "#[cfg(debug_assertions)]";
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.clone()];
    let mut uses = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let Ok(text) = fs::read_to_string(&entry) else { continue };
            let is_module = entry == source.join("engine/fault_points.rs");
            assert!(is_module || !text.contains("KEYWHEEL_DIE_AT"), "{}", entry.display());
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for pair in lines.windows(2).filter(|pair| !is_module && pair[1].contains("fault_points")) {
                assert_eq!(pair[0], GATE, "before {:?} in {}", pair[1], entry.display());
                uses += 1;
            }
        }
    }
    assert!(uses >= 4, "the module, the state, the managers, the observers: {uses}");
}
