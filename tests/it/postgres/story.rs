//! The life of two keys, with the clocks of the server and of keywheel moved together.

use serde_json::json;

use super::{APPLY, discreet, documents};
use crate::support::postgres::{PASSWORD, Server};
use crate::support::sandbox::{Sandbox, faked};

const NOON: &str = "2026-03-01 12:00:00";
const NIGHT: &str = "2026-03-02 02:00:10";

#[test]
fn keys_are_made_rotate_at_night_and_still_decrypt() {
    let server = Server::start("");
    let move_to = |instant| {
        server.stop("fast");
        server.start_again(&faked(instant));
    };
    move_to(NOON);
    let mut sandbox = Sandbox::with("state: ${KEYWHEEL_STATE}\n", &documents(2));
    sandbox.set("KEYWHEEL_STATE", &server.url("postgres"));
    let run = |instant: &str, arguments: &[&str], status| discreet(sandbox.at(instant, arguments).exits(status));
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    run(NOON, &["plan", "--out", "plan.json"], 0);
    assert_eq!(server.query("postgres", tables).unwrap(), "0", "a plan makes no table");
    run(NOON, &["apply", "plan.json"], 0);
    run(NOON, &["plan", "--detailed-exitcode"], 0).says("No changes");
    let ciphertext =
        sandbox.at(NOON, &["data", "encrypt", "acme/key-000"]).input(b"a patient's record").exits(0).stdout;

    // Another clock than the server's starts nothing.
    let clock = run(NIGHT, APPLY, 3).error("apply/clock");
    assert!(clock.stderr.contains(" hours ahead of that of the state database"), "{}", clock.stderr);
    move_to(NIGHT);
    let due = run(NIGHT, &["plan", "--detailed-exitcode", "--format", "json"], 2).json();
    assert_eq!(due["changes"].as_array().unwrap().len(), 2, "{due:#}");
    let report = run(NIGHT, &["apply", "--auto-approve", "--format", "json"], 0).report();
    assert_eq!(report["policies"][0]["rotated_keys"], 2, "{report:#}");
    let history = run(NIGHT, &["history", "--format", "json"], 0).json();
    let rotation = &history["rotations"][0];
    assert_eq!((&rotation["status"], &rotation["cause"]), (&json!("settled"), &json!("due")), "{history:#}");
    assert_eq!(rotation["correlation_id"], report["correlation_id"]);
    run(NIGHT, &["status"], 0).says("key-001");
    run(NIGHT, APPLY, 0).says("No changes");
    let decrypted = sandbox.at(NIGHT, &["data", "decrypt", "acme/key-000"]).input(ciphertext.as_bytes()).exits(0);
    assert_eq!(decrypted.stdout, "a patient's record");

    let policy = "SELECT next_rotation_at AT TIME ZONE 'UTC', last_modified_by_author FROM key_rotation_policies";
    assert_eq!(server.query("postgres", policy).unwrap(), "2026-03-03 02:00:00|Ada <ada@example.org>");

    run(NIGHT, &["rollback", "acme/key-000", "--reason", "a test", "--auto-approve"], 0);
    let versions = "SELECT number, key_versions.state FROM key_versions JOIN encryption_keys AS k ON k.id = key_id
                    WHERE key_name = 'key-000' ORDER BY number";
    assert_eq!(server.query("postgres", versions).unwrap(), "1|active\n2|deactivated");
    for file in ["plan.json", "keywheel.yaml"] {
        assert!(!sandbox.read(file).contains(PASSWORD), "{file}");
    }
    assert!(!sandbox.database().exists(), "no SQLite file is made beside it");
}
