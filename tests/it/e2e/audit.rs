//! The audit log as an auditor meets it, and the locks.

use serde_json::{Value, json};

use super::{NIGHTLY, NOON, Sandbox};

const APPLY: &[&str] = &["apply", "--auto-approve"];
const NIGHT: &str = "2026-03-02 02:00:10";

fn rotated() -> Sandbox {
    let sandbox = Sandbox::with("", NIGHTLY);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at(NIGHT, APPLY).exits(0);
    sandbox
}

#[test]
fn every_change_is_listed_with_who_when_and_at_which_commit() {
    let sandbox = rotated();
    let commit = sandbox.git(&["rev-parse", "HEAD"]).trim().to_owned();
    let list = sandbox.at(NIGHT, &["audit", "list", "--tenant", "acme", "--format", "json"]).exits(0).json();
    let entries = list["entries"].as_array().unwrap();
    let actions: Vec<&Value> = entries.iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["key.rotated", "key.created", "policy.created"]);
    assert!(entries.iter().all(|entry| entry["commit"] == commit && entry["actor"] == "ada@laptop"), "{list:#}");
    let of_policy = ["audit", "list", "--object", "acme/Nightly", "--format", "json"];
    assert_eq!(sandbox.at(NIGHT, &of_policy).exits(0).json()["entries"].as_array().map(Vec::len), Some(1));
    let few = sandbox.at(NIGHT, &["audit", "list", "--limit", "1", "--format", "json"]).exits(0).json();
    assert_eq!((few["entries"].as_array().map(Vec::len), &few["truncated"]), (Some(1), &json!(true)));
    sandbox.at(NIGHT, &["audit", "list", "--since", "2026-03-02T00:00:00Z"]).exits(0).says("key.rotated acme/patients");
}

#[test]
fn a_filter_that_names_what_nobody_knows_is_a_mistake_and_one_that_finds_nothing_is_none() {
    let sandbox = rotated();
    let list = |filter: &[&str]| sandbox.at(NIGHT, &[&["audit", "list"], filter].concat());
    let unknown = list(&["--tenant", "acne"]).exits(1).error("names/unknown-tenant");
    assert!(unknown.stderr.contains("did you mean \"acme\"?"), "{}", unknown.stderr);
    let unknown = list(&["--object", "acme/patient"]).exits(1).error("names/unknown");
    assert!(unknown.stderr.contains("did you mean \"acme/patients\"?"), "{}", unknown.stderr);
    list(&["--tenant", "acme", "--since", "2026-03-02T03:00:00Z"]).exits(0).says("Nothing is recorded that matches.");
    // What is gone is known by its entries, though none of them is of this time.
    sandbox.git(&["rm", "-rq", "policies/acme"]);
    sandbox.write("policies/globex/tenant.yaml", "apiVersion: keywheel/v1\nkind: Tenant\ntenant_id: globex\n");
    sandbox.commit_all("acme has left");
    sandbox.at("2026-03-02 04:00:00", APPLY).exits(0);
    let later = ["--since", "2026-03-02T05:00:00Z"];
    list(&[&["--tenant", "acme"], &later[..]].concat()).exits(0).says("Nothing is recorded that matches.");
    list(&[&["--object", "acme/patients"], &later[..]].concat()).exits(0).says("Nothing is recorded that matches.");
}

#[test]
fn an_edit_of_the_log_is_found_and_named() {
    let sandbox = rotated();
    sandbox.at(NIGHT, &["audit", "verify"]).exits(0).says("Whole: 4 entries in 2 chains.");
    sandbox.tamper("DROP TRIGGER audit_log_is_never_changed");
    sandbox.tamper("UPDATE audit_log SET actor = 'nobody' WHERE tenant_id = 'acme' AND seq = 2");
    sandbox.at(NIGHT, &["audit", "verify"]).exits(1).says("Broken: entry 2 of acme");
    let check = sandbox.at(NIGHT, &["audit", "verify", "--format", "json"]).exits(1).json();
    assert_eq!((&check["broken"]["tenant_id"], &check["broken"]["seq"]), (&json!("acme"), &json!(2)));
}

#[test]
fn the_export_is_every_entry_as_a_cloud_event() {
    let sandbox = rotated();
    let events = sandbox.at(NIGHT, &["audit", "export"]).exits(0).json_lines();
    let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["/1", "acme/1", "acme/2", "acme/3"]);
    for event in &events {
        assert_eq!((&event["specversion"], &event["datacontenttype"]), (&json!("1.0"), &json!("application/json")));
        assert!(event["source"].as_str().unwrap().starts_with("urn:keywheel:"), "{event}");
        assert_eq!(event["time"], event["data"]["at"]);
        assert_eq!(event["type"], format!("keywheel.{}", event["data"]["action"].as_str().unwrap()));
    }
}

#[test]
fn why_tells_the_primary_at_an_instant_and_what_made_it_so() {
    let sandbox = rotated();
    let why = |at: &str| {
        sandbox.at(NIGHT, &["audit", "why", "acme/patients", "--at", at, "--format", "json"]).exits(0).json()
    };
    let refs = sandbox.sql("SELECT provider_ref FROM key_versions ORDER BY number");
    let (before, after) = (why("2026-03-01T20:00:00Z"), why("2026-03-02T03:00:00Z"));
    assert_eq!((&before["primary"], &after["primary"]), (&refs[0]["provider_ref"], &refs[1]["provider_ref"]));
    assert_eq!(
        (&before["made_primary_by"]["action"], &after["made_primary_by"]["action"]),
        (&json!("key.created"), &json!("key.rotated"))
    );
    sandbox.at(NIGHT, &["audit", "why", "acme/patients"]).exits(0).says("What made it primary");
    let early = ["audit", "why", "acme/patients", "--at", "2026-02-01T00:00:00Z"];
    sandbox.at(NIGHT, &early).exits(1).error("audit/unknown-key");
}

/// One key under a policy that destroys old versions soon.
const SHORT_LIVED: &str = "apiVersion: keywheel/v1
kind: RotationPolicy
tenant_id: acme
policy_name: Quarterly
key_type: phi_data
rotation_interval_days: 90
enable_rollback: false
retain_old_keys_days: 3
old_key_disposition: destroy
destroy_after_disabled_days: 2
data_max_age_days: 3
---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: patients
key_type: phi_data
rotation_policy: Quarterly
";

#[test]
fn why_names_the_primary_and_the_policy_through_the_end_of_old_versions_a_link_a_rename_and_the_end_of_the_key() {
    let sandbox = Sandbox::with("", SHORT_LIVED);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at("2026-03-02 12:00:00", &["rotate", "acme/patients", "--reason", "an audit", "--auto-approve"]).exits(0);
    // Disabled, scheduled, destroyed.
    for at in ["2026-03-05 12:01:00", "2026-03-07 12:02:00", "2026-04-06 12:03:00"] {
        sandbox.at(at, APPLY).exits(0);
    }
    let other = SHORT_LIVED.split_once("---\n").unwrap().0.replace("Quarterly", "Other");
    let linked = SHORT_LIVED.replace("rotation_policy: Quarterly", "rotation_policy: Other");
    sandbox.commit(&format!("{other}---\n{linked}"));
    sandbox.at("2026-04-07 12:00:00", APPLY).exits(0);
    let renamed = linked.replace("key_name: patients", "key_name: people\nprevious_name: patients");
    sandbox.commit(&format!("{other}---\n{renamed}"));
    sandbox.at("2026-04-08 12:00:00", APPLY).exits(0);

    let refs = sandbox.sql("SELECT provider_ref FROM key_versions ORDER BY number");
    let (first, second) = (&refs[0]["provider_ref"], &refs[1]["provider_ref"]);
    let quarterly = json!("Quarterly");
    let story = [
        ("2026-03-01T13:00:00Z", first, "key.created", &quarterly, "key.created"),
        ("2026-03-02T13:00:00Z", second, "key.rotated", &quarterly, "key.rotated"),
        ("2026-03-06T00:00:00Z", second, "key.rotated", &quarterly, "version.disabled"),
        ("2026-03-08T00:00:00Z", second, "key.rotated", &quarterly, "version.destruction_scheduled"),
        ("2026-04-06T13:00:00Z", second, "key.rotated", &quarterly, "version.destroyed"),
        ("2026-04-07T13:00:00Z", second, "key.rotated", &json!("Other"), "key.linked"),
        ("2026-04-08T13:00:00Z", second, "key.rotated", &json!("Other"), "key.renamed"),
    ];
    let told = |now: &str, at: &str, (primary, made, policy, newest): (&Value, Value, &Value, &str)| {
        let why = ["audit", "why", "acme/people", "--at", at, "--format", "json"];
        let why = sandbox.at(now, &why).exits(0).json();
        assert_eq!((&why["primary"], &why["made_primary_by"]["action"]), (primary, &made), "{at}: {why:#}");
        assert_eq!((&why["policy"], &why["key_entry"]["action"]), (policy, &json!(newest)), "{at}: {why:#}");
        let name = if policy.is_null() { policy } else { &why["policy_entry"]["object"]["name"] };
        assert_eq!(name, policy, "{at}: {why:#}");
    };
    for (at, primary, made, policy, newest) in story {
        told("2026-04-09 12:00:00", at, (primary, json!(made), policy, newest));
    }
    sandbox.at("2026-04-09 12:00:00", &["audit", "why", "acme/people"]).exits(0).says("  policy   Other\n");

    sandbox.commit(&format!("{other}---\n{}", SHORT_LIVED.split_once("---\n").unwrap().0));
    sandbox.at("2026-04-10 12:00:00", APPLY).exits(0);
    for (at, primary, made, policy, newest) in story {
        told("2026-04-11 12:00:00", at, (primary, json!(made), policy, newest));
    }
    told("2026-04-11 12:00:00", "2026-04-11T00:00:00Z", (&Value::Null, Value::Null, &Value::Null, "key.forgotten"));
}

#[test]
fn a_lock_whose_process_is_gone_from_this_host_says_so() {
    let sandbox = rotated();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let hold = |who: &str, pid: u32| {
        sandbox.tamper(&format!("UPDATE leases SET who = '{who}', pid = {pid}, acquired_at = '2026-03-02T02:00:00.000000Z', expires_at = '2099-01-01T00:00:00.000000Z'"));
        let list = sandbox.at(NIGHT, &["lock", "list", "--format", "json"]).exits(0).json();
        let says =
            sandbox.at(NIGHT, &["lock", "list"]).exits(0).stdout.contains("this host has no such process any more");
        assert_eq!(says, list["ended"] == json!([list["locks"][0]["token"]]), "{list:#}");
        says
    };
    assert!(hold("ada@laptop", gone.id()));
    assert!(!hold("ada@laptop", std::process::id()), "it is there");
    assert!(!hold("ada@another", gone.id()), "nobody knows that here");
    // A lock goes by the clock all the same.
    hold("ada@laptop", gone.id());
    sandbox.at(NIGHT, &["apply", "--auto-approve", "--lock-timeout", "0s"]).exits(5).error("state/locked");
}

#[test]
fn a_lock_is_shown_and_can_be_taken_away_from_who_will_not_come_back() {
    let sandbox = rotated();
    sandbox.at(NIGHT, &["lock", "list"]).exits(0).says("Nobody holds a lock.");
    sandbox.tamper("UPDATE leases SET who = 'ci@gone', pid = 7, acquired_at = '2026-03-02T02:00:00.000000Z', expires_at = '2099-01-01T00:00:00.000000Z'");
    let locked = ["apply", "--auto-approve", "--lock-timeout", "0s"];
    let refused = sandbox.at(NIGHT, &locked).exits(5).error("state/locked").stderr;
    let refused = refused.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(refused.contains("`keywheel lock list`") && refused.contains("`keywheel lock break ID`"), "{refused}");
    let list = sandbox.at(NIGHT, &["lock", "list", "--format", "json"]).exits(0).json();
    assert_eq!((&list["locks"][0]["who"], &list["locks"][0]["pid"]), (&json!("ci@gone"), &json!(7)), "{list:#}");
    let token = list["locks"][0]["token"].as_i64().unwrap();
    let take = |id: &str| sandbox.at(NIGHT, &["lock", "break", id, "--reason", "the runner is gone"]);
    take(&(token + 1).to_string()).exits(1).error("lock/unknown");
    let broken = take(&token.to_string()).exits(0);
    assert!(broken.stderr.contains("is free for others at"), "{}", broken.stderr);
    // A call of its holder may be on its way: nobody gets it before that has ended, and breaking it again changes nothing.
    sandbox.at(NIGHT, &locked).exits(5).error("state/locked");
    take(&(token + 1).to_string()).exits(3).error("lock/broken");
    let until = &sandbox.sql("SELECT expires_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+61 seconds') AS soon FROM leases WHERE expires_at IS NOT NULL");
    assert_eq!(until[0]["soon"], 1, "{until:?}");
    sandbox.tamper("UPDATE leases SET expires_at = '2026-03-02T02:00:00.000000Z' WHERE expires_at IS NOT NULL");
    sandbox.at(NIGHT, &locked).exits(0);
    let said = sandbox.sql("SELECT after FROM audit_log WHERE action = 'lock.broken'");
    assert!(said[0]["after"].as_str().unwrap().contains("the runner is gone"), "{said:?}");
}
