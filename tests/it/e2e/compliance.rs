//! `compliance report`: a year of a key's life, as an auditor reads it.

use serde_json::{Value, json};

use super::approvals::House;
use super::{NOON, Sandbox};
use crate::support::python;

const APPLY: &[&str] = &["apply", "--auto-approve"];

fn documents(fields: &str) -> String {
    format!(
        "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: Monthly\nkey_type: phi_data\n\
         compliance_tags: [HIPAA]\n{fields}---\n\
         apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: patients\nkey_type: phi_data\n\
         rotation_policy: Monthly\n---\n\
         apiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: lunch-menu\nkey_type: phi_data\n"
    )
}

const THIRTY: &str = "rotation_interval_days: 30\nrotation_time_of_day: \"02:00:00\"\n";

fn report(sandbox: &Sandbox, at: &str, more: &[&str]) -> Value {
    let command = ["compliance", "report", "--framework", "HIPAA", "--format", "json"];
    sandbox.at(at, &[&command, more].concat()).exits(0).json()
}

fn gaps(report: &Value) -> Vec<String> {
    let gaps = report["keys"][0]["gaps"].as_array().unwrap().iter();
    gaps.map(|gap| format!("{} {} {}", text(&gap["code"]), &text(&gap["from"])[..16], &text(&gap["until"])[..16]))
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_key_that_rotates_in_time_has_no_gap_and_every_rotation_is_there() {
    let sandbox = Sandbox::with("", &documents(THIRTY));
    sandbox.at(NOON, APPLY).exits(0);
    // Late by hours, and by just under the day that is allowed.
    for at in ["2026-03-31 08:00:00", "2026-05-01 01:59:00"] {
        sandbox.at(at, APPLY).exits(0);
    }
    let before = sandbox.state();
    let said = report(&sandbox, "2026-05-20 12:00:00", &[]);
    assert!(sandbox.state() == before, "a report writes nothing");
    assert_eq!(said["keys"].as_array().unwrap().len(), 1, "{said:#}");
    let key = &said["keys"][0];
    assert_eq!((&key["key_name"], &key["gaps"]), (&json!("patients"), &json!([])), "{said:#}");
    assert_eq!((&said["summary"]["rate_percent"], &said["summary"]["untagged_keys"]), (&json!(100.0), &json!(1)));
    assert_eq!((&key["days"], &key["days_within"]), (&json!(80.0), &json!(80.0)));
    let rotations = key["rotations"].as_array().unwrap();
    let history = sandbox.at("2026-05-20 12:00:00", &["history", "--format", "json"]).exits(0).json();
    let history = history["rotations"].as_array().unwrap();
    assert_eq!(rotations.len(), 2);
    for rotation in rotations {
        let known = history.iter().find(|known| known["rotation_id"] == rotation["rotation_id"]).unwrap();
        for field in ["started_at", "duration_ms", "correlation_id", "commit", "cause", "from_ref", "to_ref"] {
            assert_eq!(known[field], rotation[field], "{field}");
        }
        assert_eq!(rotation["result"], "settled");
    }
    let verified = sandbox.at("2026-05-20 12:00:00", &["audit", "verify", "--format", "json"]).exits(0).json();
    assert_eq!((&said["audit"]["heads"], &said["audit"]["whole"]), (&verified["heads"], &json!(true)), "{verified:#}");
}

#[test]
fn a_gap_lasts_from_a_day_after_the_slot_until_the_rotation() {
    let sandbox = Sandbox::with("", &documents(THIRTY));
    sandbox.at(NOON, APPLY).exits(0);
    // Due on 31 March at two; parked, and rotated ten days later.
    let park = ["park", "acme/patients", "--reason", "an outage", "--auto-approve"];
    sandbox.at("2026-03-15 12:00:00", &park).exits(0);
    let resume = ["resume", "acme/patients", "--reason", "it is over", "--auto-approve"];
    sandbox.at("2026-04-10 12:00:00", &resume).exits(0);
    sandbox.at("2026-04-10 12:00:00", APPLY).exits(0);
    let said = report(&sandbox, "2026-04-20 12:00:00", &[]);
    assert_eq!(gaps(&said), ["late 2026-04-01T02:00 2026-04-10T12:00"], "{said:#}");
    let gap = &said["keys"][0]["gaps"][0];
    assert_eq!(
        (&gap["meanwhile"], &gap["message"]),
        (&json!(["it was parked"]), &json!("it was due on 2026-03-31T02:00:00Z"))
    );
    let rate = said["summary"]["rate_percent"].as_f64().unwrap();
    // Nine days and ten hours of fifty.
    assert!((rate - 81.16).abs() < 0.02, "{rate}");
    assert_eq!(said["summary"]["keys_without_gap"], 0);
    // A period that ends before knows of none, and one that begins within it counts its own part alone.
    assert!(gaps(&report(&sandbox, "2026-04-20 12:00:00", &["--to", "2026-03-31"])).is_empty());
    let within = report(&sandbox, "2026-04-20 12:00:00", &["--from", "2026-04-05", "--to", "2026-04-06"]);
    assert_eq!(gaps(&within), ["late 2026-04-05T00:00 2026-04-07T00:00"]);
    assert_eq!((&within["summary"]["rate_percent"], &within["keys"][0]["days"]), (&json!(0.0), &json!(2.0)));
}

#[test]
fn what_was_in_force_counts_and_not_what_the_documents_say_today() {
    let sandbox = Sandbox::with("", &documents("rotation_interval_days: 90\n"));
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.commit(&documents("rotation_interval_days: 90\nstatus: suspended\n"));
    sandbox.at("2026-04-01 12:00:00", APPLY).exits(0);
    sandbox.commit(&documents("rotation_trigger: manual\n"));
    sandbox.at("2026-04-11 12:00:00", APPLY).exits(0);
    sandbox.commit(&documents(THIRTY));
    sandbox.at("2026-04-21 12:00:00", APPLY).exits(0);
    sandbox.at("2026-04-22 12:00:00", APPLY).exits(0);
    let said = report(&sandbox, "2026-04-23 12:00:00", &[]);
    let expected = ["suspended 2026-04-01T12:00 2026-04-11T12:00", "unscheduled 2026-04-11T12:00 2026-04-21T12:00"];
    let found = gaps(&said);
    assert_eq!(&found[..2], expected, "{said:#}");
    let versions = said["policies"][0]["versions"].as_array().unwrap();
    let asks: Vec<_> =
        versions.iter().map(|version| format!("{} {}", text(&version["status"]), text(&version["asks"]))).collect();
    assert_eq!(
        asks,
        ["active every 90 days", "suspended every 90 days", "active by a person's hand", "active every 30 days"]
    );
    let commits = sandbox.git(&["log", "--format=%H", "-1"]);
    assert_eq!(text(&versions[3]["commit"]), commits.trim());
}

#[test]
fn rules_waivers_and_approvers_stand_in_it() {
    let waived = "rotation_trigger: manual\nwaivers:\n- {rule: guardrail/hipaa-164-312-rotation-by-time, until: \"2026-12-31\", \
                  reason: a device without a clock, approver: ada@example.org}\n";
    let sandbox = Sandbox::with("", &documents(waived));
    sandbox.at(NOON, APPLY).exits(0);
    let said = report(&sandbox, "2026-03-10 12:00:00", &[]);
    let rule = said["rules"]
        .as_array()
        .unwrap()
        .iter()
        .find(|rule| rule["code"] == "guardrail/hipaa-164-312-rotation-by-time");
    assert_eq!(rule.unwrap()["waived"], json!(["acme/Monthly until 2026-12-31 by ada@example.org"]), "{said:#}");
    assert_eq!(said["policies"][0]["waivers"][0]["reason"], "a device without a clock");
    // Nobody was asked.
    sandbox.commit(&documents(THIRTY));
    sandbox.at("2026-03-11 12:00:00", APPLY).exits(0);
    sandbox.at("2026-04-20 12:00:00", APPLY).exits(0);
    assert_eq!(report(&sandbox, "2026-04-21 12:00:00", &[])["keys"][0]["rotations"][0]["approvers"], json!([]));
}

#[test]
fn a_key_whose_document_was_removed_stays_in_the_evidence_with_its_gap() {
    let sandbox = Sandbox::with("", &documents(THIRTY));
    sandbox.write("policies/globex/keys.yaml", &super::NIGHTLY.replace("acme", "globex"));
    sandbox.commit_all("another tenant");
    sandbox.at(NOON, APPLY).exits(0);
    // Due on 31 March, never rotated, and gone on 10 April.
    let park = ["park", "acme/patients", "--reason", "an outage", "--auto-approve"];
    sandbox.at("2026-03-15 12:00:00", &park).exits(0);
    let all = documents(THIRTY);
    let mut parts: Vec<&str> = all.split("---\n").collect();
    let patients = parts.remove(1);
    sandbox.commit(&parts.join("---\n"));
    sandbox.at("2026-04-10 12:00:00", APPLY).exits(0);
    let gone = |said: &Value| {
        let key = &said["keys"][0];
        assert_eq!(gaps(said), ["late 2026-04-01T02:00 2026-04-10T12:00"], "{said:#}");
        assert_eq!((&key["key_name"], &key["state"]), (&json!("patients"), &json!("forgotten")));
        assert_eq!(&text(&key["removed_at"])[..16], "2026-04-10T12:00");
        assert_eq!((&key["days"], &key["days_within"]), (&json!(40.0), &json!(30.58)));
        assert_eq!(said["summary"]["rate_percent"], 76.45);
    };
    gone(&report(&sandbox, "2026-04-20 12:00:00", &["--tenant", "acme"]));
    // A later key of its name is another one, and on time.
    sandbox.commit(&[&parts[..], &[patients]].concat().join("---\n"));
    sandbox.at("2026-04-20 12:00:00", APPLY).exits(0);
    let both = report(&sandbox, "2026-04-30 12:00:00", &["--tenant", "acme"]);
    let keys = both["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "{both:#}");
    assert_eq!((&keys[0]["days"], &keys[1]["days"], &keys[1]["gaps"]), (&json!(40.0), &json!(10.0), &json!([])));
    // Its tenant may be gone, too.
    std::fs::remove_file(sandbox.path("policies/acme/keys.yaml")).unwrap();
    sandbox.commit_all("all of acme");
    sandbox.at("2026-04-30 12:00:00", APPLY).exits(0);
    let period = ["--tenant", "acme", "--to", "2026-04-19"];
    gone(&report(&sandbox, "2026-05-20 12:00:00", &period));
    assert_eq!(report(&sandbox, "2026-05-20 12:00:00", &["--from", "2026-05-02"])["keys"], json!([]));
}

#[test]
fn whoever_approved_a_rotation_is_named_beside_it() {
    let key = |tenant: &str, name: &str| {
        format!(
            "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: {tenant}\nkey_name: {name}\nkey_type: phi_data\n\
             rotation_policy: Monthly\n"
        )
    };
    let monthly = documents(THIRTY).split_once("---\n").unwrap().0.to_owned();
    let of_tenant = |tenant: &str, names: &[&str]| {
        let keys: String = names.iter().map(|name| key(tenant, name)).collect();
        monthly.replace("tenant_id: acme", &format!("tenant_id: {tenant}")) + &keys
    };
    let approved = |house: &House, by: &str| {
        let due = "2026-04-20 12:00:00";
        house.sandbox.at(due, &["plan", "--out", "plan.json"]).exits(0).says("are more than");
        house.approve(due, by);
        house.apply(due, 0);
        let said = report(&house.sandbox, "2026-04-21 12:00:00", &[]);
        let keys = said["keys"].as_array().unwrap().iter();
        let of = |key: &Value| {
            let last = key["rotations"].as_array().unwrap().last().unwrap();
            format!("{}/{} {}", text(&key["tenant_id"]), text(&key["key_name"]), last["approvers"])
        };
        keys.map(of).collect::<Vec<_>>()
    };
    let config = "approvals: {required: 1, rotations_over: 1}\n";
    // Two of one tenant: its owners are asked.
    let house = House::with(config, &of_tenant("acme", &["cards", "patients"]));
    assert_eq!(approved(&house, "ben"), [r#"acme/cards ["ben@example.org"]"#, r#"acme/patients ["ben@example.org"]"#]);
    // One each of two: the repository's are, and they approved for both.
    let house = House::with(config, &of_tenant("acme", &["patients"]));
    house.sandbox.write("policies/globex/keys.yaml", &of_tenant("globex", &["cards"]));
    house.sandbox.commit_all("another tenant");
    house.sandbox.at("2026-03-03 12:00:00", APPLY).exits(0);
    assert_eq!(
        approved(&house, "root"),
        [r#"acme/patients ["root@example.org"]"#, r#"globex/cards ["root@example.org"]"#]
    );
}

#[test]
fn waivers_that_held_in_the_period_stand_in_it_whatever_became_of_them() {
    let waiver = |reason: &str, until: &str| {
        format!(
            "waivers:\n- {{rule: guardrail/hipaa-164-312-rotation-by-time, until: \"{until}\", reason: {reason}, approver: ada@example.org}}\n"
        )
    };
    let by_hand = |more: &str| documents(&format!("rotation_trigger: manual\n{more}"));
    let sandbox = Sandbox::with("", &by_hand(&waiver("no clock", "2026-12-31")));
    sandbox.at(NOON, APPLY).exits(0);
    // It is edited beside the waiver, which goes on.
    let edited = by_hand(&format!("description: Pumps\n{}", waiver("no clock", "2026-12-31")));
    sandbox.commit(&edited);
    sandbox.at("2026-03-05 12:00:00", APPLY).exits(0);
    sandbox.commit(&documents(THIRTY));
    sandbox.at("2026-03-11 12:00:00", APPLY).exits(0);
    let waivers = |more: &[&str]| {
        let said = report(&sandbox, "2026-04-20 12:00:00", more);
        let policies = said["policies"].as_array().unwrap().clone();
        let all: Vec<Value> = policies.iter().flat_map(|it| it["waivers"].as_array().unwrap().clone()).collect();
        let date = |value: &Value| value.as_str().map_or_else(|| "-".to_owned(), |text| text[..10].to_owned());
        let told = |it: &Value| {
            format!("{} {} {} {}", text(&it["reason"]), date(&it["from"]), date(&it["until"]), date(&it["removed_at"]))
        };
        all.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(waivers(&[]), ["no clock 2026-03-01 2026-12-31 2026-03-11"]);
    assert!(waivers(&["--from", "2026-03-12"]).is_empty(), "it was taken out before");
    // One of a policy that is removed.
    sandbox.commit(&by_hand(&waiver("a strike", "2026-03-20")).replace("Monthly", "Pumps"));
    sandbox.at("2026-03-12 12:00:00", APPLY).exits(0);
    sandbox.commit(&documents(THIRTY));
    sandbox.at("2026-03-25 12:00:00", APPLY).exits(0);
    assert_eq!(waivers(&[]), ["no clock 2026-03-01 2026-12-31 2026-03-11", "a strike 2026-03-12 2026-03-20 -"]);
    assert!(waivers(&["--from", "2026-03-21"]).is_empty(), "its last day was over");
    assert_eq!(waivers(&["--from", "2026-03-20"]), ["a strike 2026-03-12 2026-03-20 -"]);
}

#[test]
fn a_report_of_one_tenant_names_no_other() {
    let sandbox = Sandbox::with("", &documents(THIRTY));
    sandbox.write("policies/globex/keys.yaml", &super::NIGHTLY.replace("acme", "globex"));
    sandbox.commit_all("another tenant");
    sandbox.at(NOON, APPLY).exits(0);
    for form in ["json", "text", "markdown", "html", "csv"] {
        let command = ["compliance", "report", "--framework", "HIPAA", "--tenant", "acme", "--format", form];
        let said = sandbox.at("2026-03-20 12:00:00", &command).exits(0).stdout;
        assert!(said.contains("acme") && !said.contains("globex"), "{form}: {said}");
    }
    let heads = |more: &[&str]| {
        let said = report(&sandbox, "2026-03-20 12:00:00", more);
        let heads = said["audit"]["heads"].as_array().unwrap().iter();
        (said["audit"]["entries"].as_u64().unwrap(), heads.map(|head| head["tenant_id"].clone()).collect::<Vec<_>>())
    };
    let (entries, of_acme) = heads(&["--tenant", "acme"]);
    assert_eq!(of_acme, [Value::Null, json!("acme")]);
    let (all, of_all) = heads(&[]);
    assert_eq!(of_all, [Value::Null, json!("acme"), json!("globex")]);
    assert!(entries < all, "{entries} {all}");
    // What is broken elsewhere is no evidence about this one, and its own is.
    let broken = |tenant: &str| {
        sandbox.tamper(&format!("UPDATE audit_log SET actor = 'nobody' WHERE seq = 2 AND tenant_id = '{tenant}'"));
    };
    sandbox.tamper("DROP TRIGGER audit_log_is_never_changed");
    broken("globex");
    report(&sandbox, "2026-03-20 12:00:00", &["--tenant", "acme"]);
    let command = ["compliance", "report", "--framework", "HIPAA"];
    sandbox.at("2026-03-20 12:00:00", &command).exits(1).says("THE AUDIT LOG IS BROKEN");
    broken("acme");
    let command = [&command[..], &["--tenant", "acme"]].concat();
    sandbox.at("2026-03-20 12:00:00", &command).exits(1).says("THE AUDIT LOG IS BROKEN");
}

#[test]
fn spreadsheets_people_and_printers_read_it() {
    let sandbox = Sandbox::with("", &documents(THIRTY));
    sandbox.at(NOON, APPLY).exits(0);
    let rotate = ["rotate", "acme/patients", "--reason", "=HYPERLINK(\"http://evil\")", "--auto-approve"];
    sandbox.at("2026-03-10 12:00:00", &rotate).exits(0);
    let form = |form: &str| {
        sandbox
            .at("2026-03-20 12:00:00", &["compliance", "report", "--framework", "hipaa", "--format", form])
            .exits(0)
            .stdout
    };
    let rows = python::Script::start("csv_file.py").ask(&json!(form("csv")));
    let rows = rows.as_array().unwrap();
    let rotation = rows.iter().find(|row| row["record"] == "rotation").unwrap();
    assert_eq!((&rotation["object"], &rotation["result"]), (&json!("acme/patients"), &json!("settled")), "{rows:#?}");
    assert_eq!(rotation["message"], "'=HYPERLINK(\"http://evil\")", "no spreadsheet runs it");
    assert!(
        rows.iter().any(|row| row["record"] == "audit" && row["digest"].as_str().unwrap().len() == 64),
        "{rows:#?}"
    );
    let supports = "Key rotation evidence that supports an assessment under HIPAA";
    for (name, text) in ["text", "markdown", "html"].map(|name| (name, form(name))) {
        assert!(text.contains(supports) && text.contains("acme/patients"), "{name}: {text}");
        assert!(!text.contains("certif") && !text.contains(" meets "), "{name} claims nothing: {text}");
    }
}

#[test]
fn mistakes_are_told_and_a_broken_log_is_no_evidence() {
    let sandbox = Sandbox::with("", &documents(THIRTY));
    sandbox.at(NOON, APPLY).exits(0);
    let at = "2026-03-20 12:00:00";
    let ask = |more: &[&str]| sandbox.at(at, &[&["compliance", "report"], more].concat());
    ask(&["--framework", "GDPR"]).exits(1).error("compliance/framework");
    ask(&["--framework", "HIPAA", "--tenant", "acm"]).exits(1).error("names/unknown-tenant");
    ask(&["--framework", "HIPAA", "--from", "2026-03-19", "--to", "2026-03-18"]).exits(1).error("compliance/period");
    ask(&["--framework", "HIPAA", "--from", "2027-01-01"]).exits(1).error("compliance/period");
    ask(&["--framework", "PCI-DSS"])
        .exits(0)
        .says("No key was under a policy with the tag PCI-DSS")
        .says("compliance_tags");
    sandbox.tamper("DROP TRIGGER audit_log_is_never_changed");
    sandbox.tamper("UPDATE audit_log SET actor = 'nobody' WHERE seq = 2 AND tenant_id = 'acme'");
    ask(&["--framework", "HIPAA"]).exits(1).says("THE AUDIT LOG IS BROKEN");
}

#[test]
fn a_key_that_is_renamed_and_moves_to_another_policy_keeps_its_past() {
    let sandbox = Sandbox::with("", &documents(THIRTY));
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at("2026-03-31 08:00:00", APPLY).exits(0);
    let by_hand = |at: &str, command: &str| {
        sandbox.at(at, &[command, "acme/patients", "--reason", "an old client", "--auto-approve"]).exits(0);
    };
    by_hand("2026-03-31 20:00:00", "rollback");
    by_hand("2026-04-05 12:00:00", "release");
    sandbox.at("2026-04-05 12:00:00", APPLY).exits(0);
    let fortnightly = documents("rotation_interval_days: 14\n");
    let fortnightly = fortnightly.split_once("---\n").unwrap().0.replace("Monthly", "Fortnightly");
    let moved = documents(THIRTY)
        .replace("key_name: patients\n", "key_name: records\nprevious_name: patients\n")
        .replace("rotation_policy: Monthly", "rotation_policy: Fortnightly");
    sandbox.commit(&format!("{moved}---\n{fortnightly}"));
    sandbox.at("2026-04-10 12:00:00", APPLY).exits(0);
    let said = report(&sandbox, "2026-04-11 12:00:00", &[]);
    let key = &said["keys"][0];
    assert_eq!((&key["key_name"], said["keys"].as_array().unwrap().len()), (&json!("records"), 1), "{said:#}");
    let rotations = key["rotations"].as_array().unwrap().iter();
    let told = |it: &Value| format!("{} {} {}", text(&it["workflow"]), text(&it["key_name"]), text(&it["result"]));
    assert_eq!(
        rotations.map(told).collect::<Vec<_>>(),
        ["rotate patients settled", "rollback patients settled", "rotate patients settled"]
    );
    assert_eq!(gaps(&said), ["late 2026-04-01T02:00 2026-04-05T12:00"], "{said:#}");
    assert_eq!(key["gaps"][0]["meanwhile"], json!(["it was held after a rollback"]));
    let spans = key["in_force"].as_array().unwrap().iter();
    let spans = spans.map(|span| format!("{} {}", text(&span["policy_name"]), &text(&span["from"])[..13]));
    assert_eq!(spans.collect::<Vec<_>>(), ["Monthly 2026-03-01T12", "Fortnightly 2026-04-10T12"]);
}
