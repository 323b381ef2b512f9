//! `keywheel forecast`: what it says is to come is what plans of those instants have, and what then happens.

use serde_json::{Value, json};

use super::{NOON, Sandbox, actions};
use crate::support::python;

const APPLY: &[&str] = &["apply", "--auto-approve"];

fn forecast(sandbox: &Sandbox, at: &str, more: &[&str]) -> Value {
    sandbox.at(at, &[&["forecast", "--format", "json"], more].concat()).exits(0).json()
}

fn policy(name: &str, fields: &str) -> String {
    format!(
        "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: {name}\nkey_type: phi_data\n{fields}---\n\
         apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: of-{name}\nkey_type: phi_data\n\
         rotation_policy: {name}\n---\n"
    )
}

fn entries<'a>(forecast: &'a Value, action: &str) -> Vec<&'a Value> {
    forecast["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == action).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// An instant as libfaketime takes it.
fn clock(instant: &str) -> String {
    instant.replace('T', " ").trim_end_matches('Z').to_owned()
}

#[test]
fn what_is_to_come_is_what_plans_of_those_instants_have() {
    let kinds = [
        policy("Daily", "rotation_interval_days: 1\nrotation_time_of_day: \"02:30:00\"\ntimezone: Europe/Berlin\n"),
        policy("Monthly", "rotation_schedule: \"0 2 * * MON#1\"\ntimezone: America/New_York\n"),
        policy("Spread", "rotation_interval_days: 7\nrotation_spread_minutes: 240\n"),
        policy(
            "Windowed",
            "rotation_interval_days: 3\nrotation_windows:\n- {days: [sat], start: \"01:00\", end: \"05:00\"}\n",
        ),
        policy("Frozen", "rotation_interval_days: 30\n").replace("phi_data", "frozen_data"),
    ];
    let freeze = "apiVersion: keywheel/v1\nkind: Freeze\nname: Spring\nreason: an audit\nkey_types: [frozen_data]\n\
                  from: \"2026-03-25T00:00:00\"\nuntil: \"2026-04-08T12:00:00\"\n";
    let sandbox = Sandbox::with("", &kinds.concat());
    sandbox.write("policies/freezes.yaml", freeze);
    sandbox.commit_all("a freeze");
    sandbox.at(NOON, APPLY).exits(0);
    let before = sandbox.state();
    let said = forecast(&sandbox, NOON, &["--days", "60"]);
    assert!(sandbox.state() == before, "a forecast writes nothing");
    for name in ["Daily", "Monthly", "Spread", "Windowed", "Frozen"] {
        let key = format!("of-{name}");
        let first = entries(&said, "rotate").into_iter().find(|it| it["policy_name"] == name).unwrap();
        assert_eq!(first["keys"], json!([key]));
        let at: chrono::DateTime<chrono::Utc> = text(&first["at"]).parse().unwrap();
        let planned = |at: chrono::DateTime<chrono::Utc>| {
            let instant = at.to_rfc3339();
            let plan = sandbox.at(NOON, &["plan", "--format", "json", "--as-of", &instant]).exits(0).json();
            actions(&plan).contains(&format!("rotate {key}"))
        };
        assert!(planned(at), "{name}: a plan for {at} has it");
        assert!(!planned(at - chrono::Duration::seconds(1)), "{name}: a plan of a second before has it not");
    }
    let frozen = entries(&said, "rotate").into_iter().find(|it| it["policy_name"] == "Frozen").unwrap();
    assert_eq!((&frozen["held_by"], text(&frozen["at"])), (&json!("freeze \"Spring\""), "2026-04-08T12:00:00Z"));
    let daily = entries(&said, "rotate").into_iter().filter(|it| it["policy_name"] == "Daily").count();
    assert_eq!(daily, 60);
    let problems: Vec<_> = said["problems"].as_array().unwrap().iter().map(|it| text(&it["code"])).collect();
    assert!(problems.contains(&"forecast/frozen") && problems.contains(&"forecast/slot-missed"), "{problems:?}");
}

#[test]
fn what_a_late_rotation_waits_for_is_what_makes_it_late() {
    // On Monday it serves Sunday's slot at two, and Monday's comes half an hour later: too soon after, until the window is closed.
    let fields = "rotation_interval_days: 1\nrotation_time_of_day: \"02:30:00\"\ntimezone: Europe/Berlin\nrotation_windows:\n\
                  - {days: [mon, tue, wed, thu, fri], start: \"02:00\", end: \"06:00\"}\n";
    let sandbox = Sandbox::with("", &policy("Weekdays", fields));
    sandbox.at(NOON, APPLY).exits(0);
    let said = forecast(&sandbox, NOON, &["--days", "14"]);
    let late: Vec<_> = entries(&said, "rotate").into_iter().filter(|it| !it["held_by"].is_null()).collect();
    assert!(!late.is_empty(), "{said:#}");
    assert!(late.iter().all(|it| it["held_by"] == "window"), "{late:#?}");
    // At ten it serves the slot of two, and that of fourteen is too soon after, whatever the window.
    let sandbox = Sandbox::with("", &policy("Twice", "rotation_schedule: \"0 2,14 * * *\"\n"));
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at("2026-03-02 10:00:00", APPLY).exits(0);
    let later = "2026-03-02 10:01:00";
    let said = forecast(&sandbox, later, &["--days", "3"]);
    let held = |it: &Value| (it["at"].as_str().unwrap_or_default()[..16].to_owned(), it["held_by"].clone());
    let first = entries(&said, "rotate").first().map(|it| held(it));
    assert_eq!(first, Some(("2026-03-02T16:00".to_owned(), "minimum_gap".into())), "{said:#}");
    let shown = sandbox.at(later, &["forecast", "--days", "3"]).exits(0).stdout;
    let table = shown.lines().skip_while(|line| !line.starts_with("WHEN")).take_while(|line| !line.is_empty());
    let columns: std::collections::BTreeSet<_> = table.map(|line| line.find("WHOSE").or(line.find("acme/"))).collect();
    assert!(columns.len() == 1 && !columns.contains(&None), "{shown}");
}

#[test]
fn the_end_of_old_versions_comes_when_it_was_said() {
    let terms = "rotation_interval_days: 90\nenable_rollback: false\nretain_old_keys_days: 3\n\
                 old_key_disposition: destroy\ndestroy_after_disabled_days: 2\ndata_max_age_days: 5\n";
    let sandbox = Sandbox::with("", &policy("Short", terms));
    sandbox.at(NOON, APPLY).exits(0);
    let said = forecast(&sandbox, NOON, &["--days", "150"]);
    let first = |action| text(&entries(&said, action)[0]["at"]).to_owned();
    let steps = ["rotate", "disable", "schedule_destruction", "destroy"];
    // Old enough after five days, which is later than retained; then two days, and thirty of waiting.
    let instants = steps.map(first);
    assert_eq!(instants.each_ref().map(|at| &at[..10]), ["2026-05-30", "2026-06-04", "2026-06-06", "2026-07-06"]);
    for (index, (step, at)) in steps.iter().zip(&instants).enumerate() {
        // Each step takes a moment, and the next one counts from its end.
        let at = &at.replace(":00Z", &format!(":{}0Z", index + 1));
        let plan = sandbox.at(&clock(at), &["plan", "--format", "json"]).exits(0).json();
        assert!(actions(&plan).contains(&format!("{step} of-Short")), "{step} at {at}: {plan:#}");
        sandbox.at(&clock(at), APPLY).exits(0);
        // What remains is forecast as before.
        let later = forecast(&sandbox, &clock(at), &["--days", "20"]);
        for entry in later["entries"].as_array().unwrap() {
            let is_known = |known: &Value| {
                text(&known["at"])[..16] == text(&entry["at"])[..16] && known["action"] == entry["action"]
            };
            let beyond = text(&entry["at"]) >= text(&said["until"]);
            assert!(beyond || said["entries"].as_array().unwrap().iter().any(is_known), "after {step}: {entry:#}");
        }
    }
    assert_eq!(sandbox.sql("SELECT state FROM key_versions WHERE number = 1")[0]["state"], "destroyed");
}

#[test]
fn nothing_comes_for_keys_that_wait_for_a_person_and_it_says_why() {
    let documents = [
        policy("Parked", "rotation_interval_days: 1\n"),
        policy("Held", "rotation_interval_days: 1\n"),
        policy("ByHand", "rotation_trigger: manual\n"),
        policy("Suspended", "rotation_interval_days: 1\nstatus: suspended\n"),
        policy("Never", "rotation_interval_days: 1\n").replace("rotation_policy: Never\n", ""),
    ];
    let mut sandbox = Sandbox::with("", &documents.concat());
    sandbox.at(NOON, APPLY).exits(0);
    let by_hand = |command: &str, key: &str| {
        sandbox.at("2026-03-01 13:00:00", &[command, key, "--reason", "a test", "--auto-approve"]).exits(0);
    };
    by_hand("park", "acme/of-Parked");
    by_hand("rotate", "acme/of-Held");
    by_hand("rollback", "acme/of-Held");
    let idle = |said: &Value| -> Vec<String> {
        let idle = said["idle"].as_array().unwrap().iter();
        idle.map(|it| format!("{} {}", text(&it["code"]), text(&it["keys"][0]))).collect()
    };
    let said = forecast(&sandbox, "2026-03-01 14:00:00", &[]);
    let expected = [
        "held acme/of-Held",
        "no_policy acme/of-Never",
        "not_scheduled acme/of-ByHand",
        "parked acme/of-Parked",
        "suspended acme/of-Suspended",
    ];
    assert_eq!(idle(&said), expected, "{said:#}");
    assert_eq!(said["entries"], json!([]));
    sandbox.at("2026-03-01 14:00:00", &["forecast"]).exits(0).says("Nothing comes for").says("held until `release`");
    sandbox.set("KEY_ROTATION_ENABLED", "false");
    assert_eq!(idle(&forecast(&sandbox, "2026-03-01 14:00:00", &[])), ["switched_off acme/of-ByHand"]);
}

#[test]
fn what_an_apply_would_be_refused_for_and_what_takes_too_long_is_said_before() {
    let keys = |count: usize| -> String {
        let key = |number| {
            format!(
                "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: key-{number}\nkey_type: phi_data\nkms_provider: aws_kms\nkms_region: us-east-1\nkms_alias: alias/key-{number}\nrotation_policy: Night\n"
            )
        };
        (0..count).map(key).collect()
    };
    let policy = "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Night\nkey_type: phi_data\n\
                  kms_provider: aws_kms\nrotation_interval_days: 30\nrotation_time_of_day: \"02:00:00\"\n\
                  rotation_windows:\n- {start: \"02:00\", end: \"02:01\"}\n";
    let sandbox = Sandbox::with("limits: {max_rotations: 350}\n", &format!("{policy}{}", keys(351)));
    let said = forecast(&sandbox, NOON, &["--days", "61"]);
    assert_eq!((&said["keys"], &said["not_applied"]), (&json!(351), &json!(351)));
    assert_eq!(said["totals"], json!({"rotate": 702}));
    assert_eq!(said["usd_a_month"], 702, "a successor is a key of its own");
    let problems: Vec<_> = said["problems"].as_array().unwrap().iter().collect();
    let of = |code: &str| *problems.iter().find(|it| it["code"] == code).unwrap_or_else(|| panic!("{code}: {said:#}"));
    assert!(text(&of("forecast/limit")["message"]).contains("351 rotations are due within 15 minutes"), "{said:#}");
    assert_eq!(of("forecast/limit")["times"], 2);
    assert!(text(&of("forecast/burst")["message"]).contains("take 71 seconds"), "{said:#}");
    assert!(text(&of("forecast/window-too-short")["message"]).contains("acme/Night closes at"), "{said:#}");
    // One key less than the limit, and quick enough.
    sandbox.commit(&format!("{policy}{}", keys(300)));
    assert_eq!(forecast(&sandbox, NOON, &["--days", "61"])["problems"], json!([]));
    assert_eq!(forecast(&sandbox, NOON, &["--tenant", "acme"])["keys"], 300);
    sandbox.at(NOON, &["forecast", "--tenant", "acm"]).exits(1).error("names/unknown-tenant");
}

#[test]
fn versions_that_nothing_will_ever_show_to_be_unneeded_are_named() {
    let terms =
        "rotation_interval_days: 10\nenable_rollback: false\nretain_old_keys_days: 3\nold_key_disposition: disable\n";
    let sandbox = Sandbox::with("", &policy("Endless", terms));
    sandbox.at(NOON, APPLY).exits(0);
    let said = forecast(&sandbox, NOON, &["--days", "30"]);
    assert_eq!(said["problems"][0]["code"], "forecast/no-evidence", "{said:#}");
    assert!(entries(&said, "disable").is_empty());
}

#[test]
fn a_tenant_with_errors_is_left_out_and_said() {
    let sandbox = Sandbox::with("", &policy("Daily", "rotation_interval_days: 1\n"));
    sandbox.write("policies/globex/keys.yaml", "apiVersion: keywheel/v1\nkind: Nonsense\n");
    sandbox.commit_all("nonsense");
    let said = sandbox.at(NOON, &["forecast", "--format", "json"]).exits(7).json();
    assert_eq!((&said["left_out"], &said["keys"]), (&json!(["globex"]), &json!(1)));
    sandbox.write("keywheel.yaml", "apiVersion: keywheel/v1\nkind: Config\nlimts: {}\n");
    sandbox.at(NOON, &["forecast"]).exits(1).error("forecast/documents");
}

#[test]
fn calendars_of_people_read_it_and_read_it_again() {
    let sandbox =
        Sandbox::with("", &policy("Daily", "rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"\n"));
    sandbox.at(NOON, APPLY).exits(0);
    let ics = |at: &str| sandbox.at(at, &["forecast", "--days", "10", "--format", "ics"]).exits(0).stdout;
    let mut script = python::Script::start("calendar_file.py");
    let mut read = |text: &str| script.ask(&json!(text));
    let first = ics(NOON);
    let calendar = read(&first);
    let events = calendar["events"].as_array().unwrap();
    assert_eq!((&calendar["version"], events.len()), (&json!("2.0"), 10), "{calendar:#}");
    assert_eq!(events[0]["at"], "2026-03-02T02:00:00+00:00");
    assert_eq!(events[0]["summary"], "acme: rotate 1 key");
    assert!(first.lines().all(|line| line.len() <= 75), "RFC 5545, 3.1");
    // An hour later, everything is where it was, and is the same.
    let later = read(&ics("2026-03-01 13:00:00"));
    let identities = |calendar: &Value| {
        calendar["events"].as_array().unwrap().iter().map(|it| it["uid"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(identities(&calendar), identities(&later));
    assert_eq!(first, ics(NOON), "the same inputs, the same bytes");
    // With another key of the policy, and a freeze that moves a rotation, every slot is still itself.
    let daily = policy("Daily", "rotation_interval_days: 1\nrotation_time_of_day: \"02:00:00\"\n");
    let another = daily.split("---\n").nth(1).unwrap().replace("of-Daily", "another");
    sandbox.commit(&format!("{daily}---\n{another}"));
    let freeze = "apiVersion: keywheel/v1\nkind: Freeze\nname: Audit\nreason: an audit\nfrom: \"2026-03-05T00:00:00\"\nuntil: \"2026-03-05T06:00:00\"\n";
    sandbox.write("policies/guardrails.yaml", freeze);
    sandbox.commit_all("a freeze");
    sandbox.at(NOON, APPLY).exits(0);
    let moved = read(&ics(NOON));
    assert_eq!(moved["events"][0]["summary"], "acme: rotate 2 keys");
    let at =
        |calendar: &Value| calendar["events"].as_array().unwrap().iter().map(|it| it["at"].clone()).collect::<Vec<_>>();
    assert_ne!(at(&calendar), at(&moved));
    assert_eq!(identities(&calendar), identities(&moved));
    // What is not in it is said in it.
    sandbox.write("policies/globex/keys.yaml", "apiVersion: keywheel/v1\nkind: Nonsense\n");
    let partial = sandbox.at(NOON, &["forecast", "--days", "10", "--format", "ics"]).exits(7).stdout;
    let partial = read(&partial);
    let told = partial["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["summary"] == "The forecast of key rotations is not whole");
    assert!(told.is_some(), "{partial:#}");
}

#[test]
fn what_goes_on_at_once_clashes_and_what_needs_approval_waits_and_costs_are_told() {
    // Two policies of AWS keys at one instant, each within the quotas of a minute, together not.
    let keys = |policy: &str, count: usize| -> String {
        let head = format!(
            "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: {policy}\nkey_type: phi_data\nkms_provider: aws_kms\nkms_region: us-east-1\n"
        );
        let head =
            head.replace("kms_region: us-east-1\n", "rotation_interval_days: 30\nrotation_time_of_day: \"02:00:00\"\n");
        let key = |number| {
            format!(
                "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: {policy}-{number}\nkey_type: phi_data\nkms_provider: aws_kms\nkms_region: us-east-1\nkms_alias: alias/{policy}-{number}\nrotation_policy: {policy}\n"
            )
        };
        head + &(0..count).map(key).collect::<String>()
    };
    let config = "limits: {max_rotations: 10000}\napprovals: {required: 2, rotations_over: 300}\n";
    let sandbox = Sandbox::with(config, &format!("{}---\n{}", keys("One", 200), keys("Other", 200)));
    let said = forecast(&sandbox, NOON, &["--days", "40"]);
    let problem = |code: &str| said["problems"].as_array().unwrap().iter().find(|it| it["code"] == code).cloned();
    let clash = problem("forecast/clash").unwrap_or_else(|| panic!("{:#}", said["problems"]));
    assert!(clash["message"].as_str().unwrap().contains("2 policies (acme/One, acme/Other)"), "{clash:#}");
    assert_eq!(problem("forecast/burst"), None);
    let approval = problem("forecast/approvals").unwrap();
    assert!(approval["message"].as_str().unwrap().starts_with("400 rotations due from"), "{approval:#}");
    let first = entries(&said, "rotate")[0].clone();
    assert_eq!((&first["count"], &first["key_count"], &first["usd_a_month"]), (&json!(200), &json!(200), &json!(200)));
    let shown = sandbox.at(NOON, &["forecast", "--days", "40"]).exits(0).stdout;
    assert!(shown.contains("and 195 more (+200 USD a month)"), "{shown}");
    // One policy alone that takes too long is no clash.
    sandbox.commit(&keys("One", 400));
    let said = forecast(&sandbox, NOON, &["--days", "40"]);
    let codes: Vec<&str> = said["problems"].as_array().unwrap().iter().filter_map(|it| it["code"].as_str()).collect();
    assert!(codes.contains(&"forecast/burst") && !codes.contains(&"forecast/clash"), "{codes:?}");
}

#[test]
fn a_database_that_is_not_where_it_is_said_to_be_is_no_empty_one() {
    let sandbox = Sandbox::with("", &policy("Daily", "rotation_interval_days: 1\n"));
    sandbox.at(NOON, &["forecast"]).exits(0);
    sandbox.at(NOON, &["forecast", "--state", "sqlite:nowhere/state.db"]).exits(1).error("state/missing");
}

#[test]
fn people_read_it_on_a_terminal_in_a_wiki_and_on_paper() {
    let terms = "rotation_interval_days: 1\nenable_rollback: false\nretain_old_keys_days: 3\nold_key_disposition: disable\ndata_max_age_days: 3\n";
    let sandbox = Sandbox::with("", &policy("Daily", terms));
    sandbox.at(NOON, APPLY).exits(0);
    let shown = sandbox.at(NOON, &["forecast", "--days", "400"]).exits(0);
    for said in [
        "400 days from 2026-03-01T12:00:00Z on: 1 key",
        "Mar",
        "Jan 2027",
        "Mon",
        "rotations a day:",
        "× something stops decrypting",
    ] {
        assert!(shown.stdout.contains(said), "no {said:?}: {}", shown.stdout);
    }
    assert!(shown.stdout.lines().all(|line| line.chars().count() <= 120), "{}", shown.stdout);
    let markdown = sandbox.at(NOON, &["forecast", "--format", "markdown"]).exits(0);
    assert!(markdown.stdout.contains("| week of | rotations |"), "{}", markdown.stdout);
    let page = sandbox.at(NOON, &["forecast", "--format", "html"]).exits(0);
    assert!(
        page.stdout.starts_with("<!DOCTYPE html>") && page.stdout.contains("class=\"level4 loss\""),
        "{}",
        page.stdout
    );
}
