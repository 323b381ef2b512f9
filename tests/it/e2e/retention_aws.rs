//! The end of old versions in AWS KMS: what `GetKeyLastUsage` shows, and deletion with its waiting period. No emulator
//! has that operation, so that a server in front of one answers it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::providers::documents;
use super::{Kms, Moto, NOON, Sandbox, actions, aws_sandbox};
use crate::support::hostile::{Hostile, Reply};

const APPLY: &[&str] = &["apply", "--auto-approve"];
const PLAN: &[&str] = &["plan", "--format", "json"];
/// Three days after the rotation by hand.
const RETAINED: &str = "2026-03-05 12:01:00";

/// An emulator, and what is answered in its place.
struct World {
    sandbox: Sandbox,
    kms: Kms,
    hostile: Hostile,
    last_use: Arc<Mutex<Vec<Reply>>>,
    /// Are first answers about deletions lost?
    loses_answers: Arc<AtomicBool>,
    /// The key that is gone.
    gone: Arc<Mutex<Option<String>>>,
    first: String,
    _moto: Moto,
}

/// One key, rotated by hand on 2 March at noon, whose first version is under these terms.
fn world(terms: &str) -> World {
    let moto = Moto::start();
    let (last_use, gone) = (Arc::new(Mutex::new(vec![reply(501, "")])), Arc::new(Mutex::new(None::<String>)));
    let (answers, missing, endpoint) = (last_use.clone(), gone.clone(), moto.endpoint().to_owned());
    let loses_answers = Arc::new(AtomicBool::new(false));
    let is_losing = loses_answers.clone();
    let hostile = Hostile::start(move |request| {
        if ["ScheduleKeyDeletion", "CancelKeyDeletion"].contains(&&*request.operation)
            && is_losing.load(Ordering::SeqCst)
        {
            // AWS KMS does neither twice.
            return match request.earlier {
                0 => Reply::ActAndHangup(endpoint.clone()),
                _ => Reply::error(400, "KMSInvalidStateException"),
            };
        }
        if request.operation == "GetKeyLastUsage" {
            let mut answers = answers.lock().unwrap();
            return if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        }
        match &*missing.lock().unwrap() {
            Some(key) if request.operation == "DescribeKey" && request.body_has(key) => {
                Reply::error(400, "NotFoundException")
            }
            _ => Reply::Forward(endpoint.clone()),
        }
    });
    let sandbox = aws_sandbox(hostile.endpoint());
    let daily = "rotation_interval_days: 1\n";
    let terms = format!("rotation_interval_days: 90\nenable_rollback: false\nretain_old_keys_days: 3\n{terms}");
    sandbox.commit(&documents(1).replace(daily, &terms));
    sandbox.at(NOON, APPLY).exits(0);
    let rotate = ["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"];
    let first = sandbox.sql("SELECT provider_ref FROM key_versions")[0]["provider_ref"].as_str().unwrap().to_owned();
    sandbox.at("2026-03-02 12:00:00", &rotate).exits(0);
    let kms = Kms::new(moto.endpoint());
    World { sandbox, kms, hostile, last_use, loses_answers, gone, first, _moto: moto }
}

fn reply(status: u16, body: &str) -> Reply {
    Reply::Answer(status, "application/x-amz-json-1.1", body.to_owned())
}

/// Its use has been counted since February, and the last one was at an instant.
fn used(at: Option<&str>) -> Reply {
    let seconds = |at: &str| at.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp();
    let usage = at.map(|at| json!({"Timestamp": seconds(at), "Operation": "Decrypt"}));
    let answer =
        json!({"TrackingStartDate": seconds("2026-02-01T00:00:00Z"), "KeyLastUsage": usage.unwrap_or(json!({}))});
    reply(200, &answer.to_string())
}

impl World {
    fn aws_says(&self, replies: &[Reply]) {
        *self.last_use.lock().unwrap() = replies.to_vec();
    }

    fn plan(&self, at: &str) -> Value {
        self.sandbox.at(at, PLAN).exits(0).json()
    }

    fn asked(&self, operation: &str) -> usize {
        self.hostile.requests().iter().filter(|request| request.operation == operation).count()
    }

    fn recorded(&self) -> Value {
        self.sandbox.sql("SELECT state FROM key_versions WHERE number = 1").remove(0)["state"].take()
    }
}

#[test]
fn unknown_is_not_unused_and_recent_use_keeps_a_version() {
    let world = world("old_key_disposition: disable\n");
    let waits = |replies: &[Reply], why: &str| {
        world.aws_says(replies);
        let plan = world.plan(RETAINED);
        assert!(actions(&plan).is_empty(), "{plan:#}");
        let waiting = &plan["waiting"][0]["reason"];
        assert_eq!(waiting["code"], "no_evidence", "{plan:#}");
        assert!(waiting["message"].as_str().unwrap().contains(why), "{plan:#}");
        plan
    };
    waits(&[reply(501, "")], "does not say when it was used last");
    let plan = waits(&[Reply::error(400, "AccessDeniedException")], "does not say when it was used last");
    assert_eq!(plan["diagnostics"][0]["code"], "retention/last-use-unknown", "{plan:#}");
    assert!(plan["diagnostics"][0]["help"].as_str().unwrap().contains("`keywheel attest`"), "{plan:#}");
    waits(&[used(Some("2026-03-04T12:00:00Z"))], "it was used on 2026-03-04T12:00:00Z, within the last 3 days");
    let since_today = r#"{"TrackingStartDate": 1772712000, "KeyLastUsage": {}}"#;
    waits(&[reply(200, since_today)], "its use is known since 2026-03-05T12:00:00Z only");
    world.sandbox.at(RETAINED, APPLY).exits(0);
    assert_eq!(world.asked("DisableKey"), 0);

    world.aws_says(&[used(Some("2026-03-01T12:30:00Z"))]);
    let plan = world.plan(RETAINED);
    assert_eq!(actions(&plan), ["disable key-0"], "{plan:#}");
    assert!(plan["changes"][0]["reason"]["message"].as_str().unwrap().contains("last used on 2026-03-01T12:30:00Z"));
    // Between the plan and the call it is used: what was shown does not hold any more.
    world.aws_says(&[used(None), used(Some("2026-03-05T12:00:59Z"))]);
    let report = world.sandbox.at(RETAINED, APPLY).exits(7);
    assert!(report.stdout.contains("it was used on 2026-03-05T12:00:59Z"), "{}\n{}", report.stdout, report.stderr);
    assert_eq!((world.asked("DisableKey"), world.recorded()), (0, json!("deactivated")));
    world.aws_says(&[used(None)]);
    world.sandbox.at(RETAINED, APPLY).exits(0);
    assert_eq!((world.asked("DisableKey"), world.recorded()), (1, json!("disabled")));
    assert_eq!(world.kms.describe(&world.first)["KeyState"], "Disabled");
    world.sandbox.at(RETAINED, &["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_key_is_scheduled_for_deletion_cancelled_and_at_last_gone() {
    let world = world("old_key_disposition: destroy\ndestroy_after_disabled_days: 2\ndata_max_age_days: 3\n");
    let state = || world.kms.describe(&world.first)["KeyState"].clone();
    world.sandbox.at(RETAINED, APPLY).exits(0);
    assert_eq!(state(), "Disabled");
    // Somebody enabled it meanwhile, used it, and disabled it again: it is not destroyed.
    world.aws_says(&[used(Some("2026-03-06T00:00:00Z"))]);
    world.sandbox.at("2026-03-07 12:02:00", APPLY).exits(7);
    assert_eq!((state(), world.recorded()), (json!("Disabled"), json!("disabled")));
    world.aws_says(&[used(None)]);
    world.sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    assert_eq!(state(), "PendingDeletion");
    let window = world.kms.describe(&world.first)["PendingDeletionWindowInDays"].clone();
    assert!(window.is_null() || window == 30, "{window}");
    let enable = ["enable", "acme/key-0", "1", "--reason", "an archive needs it", "--auto-approve"];
    world.sandbox.at("2026-03-08 12:00:00", &enable).exits(0);
    assert_eq!((state(), world.recorded()), (json!("Enabled"), json!("deactivated")));

    // Again for the second version, to its end.
    let rotate = ["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"];
    world.sandbox.at("2026-03-09 12:00:00", &rotate).exits(0);
    world.sandbox.at("2026-03-12 12:01:00", APPLY).exits(0);
    world.sandbox.at("2026-03-14 12:02:00", APPLY).exits(0);
    let row = world.sandbox.sql("SELECT provider_ref, state, destroy_at FROM key_versions WHERE number = 2").remove(0);
    assert_eq!(row["state"], "pending_destruction");
    let second = row["provider_ref"].as_str().unwrap();
    // AWS's own clock says when: here it is the machine's.
    let end = row["destroy_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let after = (end + chrono::Duration::hours(1)).format("%Y-%m-%d %H:%M:%S").to_string();
    // It is due to rotate by then: done first, so that nothing else is left.
    world.sandbox.at(&after, APPLY).exits(0);
    let plan = world.plan(&after);
    assert!(!actions(&plan).contains(&"destroy key-0".to_owned()), "AWS has not deleted it yet: {plan:#}");
    *world.gone.lock().unwrap() = Some(second.to_owned());
    let plan = world.plan(&after);
    assert_eq!(actions(&plan), ["destroy key-0"], "{plan:#}");
    assert!(plan["changes"][0]["reason"]["message"].as_str().unwrap().contains("the key manager has destroyed it"));
    world.sandbox.at(&after, APPLY).exits(0);
    let row = world.sandbox.sql("SELECT state FROM key_versions WHERE number = 2").remove(0);
    assert_eq!(row["state"], "destroyed");
    world.sandbox.at(&after, &["plan", "--detailed-exitcode"]).exits(0);
    assert_eq!(world.asked("CreateKey"), 4, "no key was made that nobody asked for");
}

#[test]
fn a_deletion_whose_first_answer_is_lost_is_scheduled_and_cancelled_once() {
    let world = world("old_key_disposition: destroy\ndestroy_after_disabled_days: 2\ndata_max_age_days: 3\n");
    world.loses_answers.store(true, Ordering::SeqCst);
    world.sandbox.at(RETAINED, APPLY).exits(0);
    world.sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    assert_eq!(world.asked("ScheduleKeyDeletion"), 2, "the answer to the first was lost");
    assert_eq!(world.kms.describe(&world.first)["KeyState"], "PendingDeletion");
    let row = world.sandbox.sql("SELECT state, destroy_at FROM key_versions WHERE number = 1").remove(0);
    assert_eq!(row["state"], "pending_destruction");
    let recorded = row["destroy_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let at_aws = world.kms.describe(&world.first)["DeletionDate"].to_string();
    assert!(at_aws.starts_with(&recorded.timestamp().to_string()), "{recorded} is not {at_aws}");

    // The policy changes its mind.
    let policy = world.sandbox.read("policies/acme/keys.yaml");
    let kept =
        policy.replace("old_key_disposition: destroy\ndestroy_after_disabled_days: 2\n", "old_key_disposition: keep\n");
    world.sandbox.commit(&kept);
    let plan = world.plan("2026-03-08 12:00:00");
    // Kept means readable: it is cancelled, and the key enabled.
    assert_eq!(actions(&plan), ["update Nightly", "enable key-0"], "{plan:#}");
    world.sandbox.at("2026-03-08 12:00:00", APPLY).exits(0);
    assert_eq!(world.asked("CancelKeyDeletion"), 2, "the answer to the first was lost");
    assert_eq!(
        (&world.kms.describe(&world.first)["KeyState"], world.recorded()),
        (&json!("Enabled"), json!("deactivated"))
    );
    let audited =
        world.sandbox.sql("SELECT action, count(*) AS times FROM audit_log WHERE action LIKE 'version.%' GROUP BY 1");
    let once = |action: &str| json!({"action": action, "times": 1});
    let expected = ["version.destruction_scheduled", "version.disabled", "version.enabled"];
    assert_eq!(audited, expected.map(once));
}

#[test]
fn who_may_not_ask_for_the_last_use_needs_other_evidence() {
    let denied = Reply::error(400, "AccessDeniedException");
    let world = world("old_key_disposition: disable\n");
    world.aws_says(std::slice::from_ref(&denied));
    let plan = world.plan(RETAINED);
    assert!(actions(&plan).is_empty(), "{plan:#}");
    let said = &plan["diagnostics"][0];
    assert_eq!(said["code"], "retention/last-use-unknown", "{plan:#}");
    assert!(said["help"].as_str().unwrap().contains("kms:GetKeyLastUsage"), "{plan:#}");
    // It was allowed when the plan was made, and is the evidence.
    world.aws_says(&[used(None), denied.clone()]);
    world.sandbox.at(RETAINED, APPLY).exits(7).says("AccessDeniedException").says("kms:GetKeyLastUsage");
    assert_eq!((world.asked("DisableKey"), world.recorded()), (0, json!("deactivated")));

    world.aws_says(std::slice::from_ref(&denied));
    let policy = world.sandbox.read("policies/acme/keys.yaml");
    world.sandbox.commit(&policy.replace(
        "old_key_disposition: disable\n",
        "old_key_disposition: destroy\ndestroy_after_disabled_days: 2\ndata_max_age_days: 3\n",
    ));
    world.sandbox.at(RETAINED, APPLY).exits(0);
    assert_eq!((world.asked("DisableKey"), world.recorded()), (1, json!("disabled")));
    world.sandbox.at("2026-03-07 12:02:00", APPLY).exits(0);
    assert_eq!(world.recorded(), json!("pending_destruction"));
}

#[test]
fn a_use_that_is_known_speaks_against_other_evidence() {
    let world = world("old_key_disposition: disable\ndata_max_age_days: 3\n");
    world.aws_says(&[used(Some("2026-03-05T12:00:30Z"))]);
    let done = world.sandbox.at(RETAINED, APPLY).exits(7);
    assert!(done.stderr.contains("but it was used on 2026-03-05T12:00:30Z"), "{}", done.stderr);
    assert_eq!((world.asked("DisableKey"), world.recorded()), (0, json!("deactivated")));
}

#[test]
fn questions_about_the_last_use_in_an_account_that_does_not_answer_delay_no_other() {
    let moto = Moto::start_at(NOON);
    // Its first answer takes long.
    Kms::new(moto.endpoint()).keys();
    let account = |last_use: Reply| {
        let endpoint = moto.endpoint().to_owned();
        Hostile::start(move |request| match request.operation.as_str() {
            "GetKeyLastUsage" => last_use.clone(),
            _ => Reply::Forward(endpoint.clone()),
        })
    };
    let (silent, answers) = (account(Reply::Never), account(used(None)));
    let sandbox = aws_sandbox(answers.endpoint());
    let config = sandbox.read("keywheel.yaml").replace(
        "operation_timeout: 9s",
        &format!("operation_timeout: 9s, tenants: {{acme: {{endpoint_url: \"{}\"}}}}", silent.endpoint()),
    );
    sandbox.write("keywheel.yaml", &config);
    let terms =
        "rotation_interval_days: 30\nenable_rollback: false\nretain_old_keys_days: 3\nold_key_disposition: disable\n";
    let policies = documents(3).replace("rotation_interval_days: 1\n", terms);
    let theirs = documents(1).replace("rotation_interval_days: 1\n", terms);
    let theirs = theirs.replace("acme", "umbrella").replace("alias/", "alias/umbrella-");
    sandbox.write("policies/umbrella/keys.yaml", &theirs);
    sandbox.commit(&policies);
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at("2026-03-31 12:00:10", APPLY).exits(0);
    let retained = "2026-04-03 12:01:00";
    let plan = sandbox.at(retained, PLAN).exits(0).json();
    assert_eq!(actions(&plan), ["disable key-0"], "{plan:#}");
    assert_eq!(plan["changes"][0]["object"]["tenant_id"], "umbrella", "{plan:#}");
    let waiting: Vec<_> = plan["waiting"].as_array().unwrap().iter().map(|it| &it["reason"]["code"]).collect();
    assert_eq!(waiting, ["no_evidence"; 3], "no answer is no evidence");
    assert_eq!(silent.count("GetKeyLastUsage"), 3, "the attempts of one call");
    sandbox.at(retained, APPLY).exits(0);
    let disabled = "SELECT tenant_id FROM key_versions JOIN encryption_keys ON encryption_keys.id = key_id \
                    WHERE key_versions.state = 'disabled'";
    assert_eq!(sandbox.sql(disabled), [json!({"tenant_id": "umbrella"})]);
}
