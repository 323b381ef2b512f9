//! AWS KMS out of reach, unwilling, or not what the database thinks: nothing is changed there or here.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Kms, Moto, NOON, Sandbox, aws, aws_sandbox};
use crate::support::hostile::{Hostile, Reply, Request, nobody};

const APPLY: &[&str] = &["apply", "--auto-approve"];
const NIGHT: &str = "2026-03-02 02:00:10";

/// A policy with keys that keywheel makes.
pub fn documents(count: usize) -> String {
    let policy = super::NIGHTLY.split_once("---").unwrap().0.replace("key_type", "kms_provider: aws_kms\nkey_type");
    let key = |number| {
        format!(
            "---
apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: acme
key_name: key-{number}
key_type: phi_data
kms_provider: aws_kms
kms_alias: alias/key-{number}
rotation_policy: Nightly
"
        )
    };
    (0..count).fold(policy, |documents, number| documents + &key(number))
}

/// A repository with one key in an emulator, applied at noon.
fn applied(endpoint: &str) -> Sandbox {
    let sandbox = aws_sandbox(endpoint);
    sandbox.commit(&documents(1));
    sandbox.at(NOON, APPLY).exits(0);
    sandbox
}

/// The same repository, whose endpoint is another one from now on.
fn moved_to(sandbox: &Sandbox, endpoint: &str) {
    sandbox.write("keywheel.yaml", &format!("apiVersion: keywheel/v1\nkind: Config\n{}", aws(endpoint)));
    sandbox.commit_all("another endpoint");
}

/// Does a request change anything?
fn writes(request: &Request) -> bool {
    !["Describe", "List", "Get"].iter().any(|verb| request.operation.starts_with(verb))
}

#[test]
fn who_has_an_alias_in_the_record_keeps_it() {
    let moto = Moto::start();
    let sandbox = applied(moto.endpoint());
    let thief = "apiVersion: keywheel/v1
kind: EncryptionKey
tenant_id: globex
key_name: not-yours
key_type: phi_data
kms_provider: aws_kms
kms_alias: alias/key-0
";
    sandbox.write("policies/globex/keys.yaml", thief);
    sandbox.write("policies/acme/keys.yaml", &documents(2));
    sandbox.commit_all("another tenant claims the alias");
    // By the documents alone nobody can tell whose it is.
    let findings = sandbox.keywheel(&["validate"]).exits(1);
    assert_eq!(
        findings.stdout.matches("set/alias-taken").count() + findings.stderr.matches("set/alias-taken").count(),
        2,
        "{findings:?}"
    );
    // The record can: the owner goes on.
    let plan = sandbox.at(NIGHT, &["plan", "--format", "json"]).exits(7).json();
    assert_eq!(super::actions(&plan), ["create key-1"], "{plan:#}");
    assert_eq!(plan["left_out"].as_object().unwrap().keys().collect::<Vec<_>>(), ["globex"], "{plan:#}");
    sandbox.at(NIGHT, APPLY).exits(7);
    assert_eq!(sandbox.sql("SELECT tenant_id FROM encryption_keys WHERE tenant_id <> 'acme'"), Vec::<Value>::new());
}

#[test]
fn a_slow_account_delays_no_other() {
    let moto = Moto::start();
    let silent =
        Hostile::start(|request| if writes(request) { Reply::Never } else { Reply::error(400, "NotFoundException") });
    let config = format!(
        "providers:\n  aws_kms:\n    {{region: us-east-1, endpoint_url: \"{}\", consistency_delay: 0s, operation_timeout: 5s,\n     \
         tenants: {{acme: {{endpoint_url: \"{}\"}}}}}}\n",
        moto.endpoint(),
        silent.endpoint()
    );
    let mut sandbox = Sandbox::new(&config);
    sandbox.set("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000");
    sandbox.set("AWS_SECRET_ACCESS_KEY", super::SECRET_ACCESS_KEY);
    // More than run side by side in one place, and first in the plan's order.
    sandbox.write("policies/acme/keys.yaml", &documents(300));
    sandbox.write("policies/umbrella/keys.yaml", &documents(1).replace("acme", "umbrella"));
    sandbox.commit_all("two accounts");
    let mut run = sandbox.at(NOON, &["apply", "--auto-approve", "--format", "json"]);
    let mut child = run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let first = events.find(|event| {
        event["type"] == "change_failed"
            || (event["type"] == "change_done" && event["object"]["kind"] == "EncryptionKey")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(first.unwrap()["object"]["tenant_id"], "umbrella", "it waited for the account that does not answer");
}

/// Two accounts. What becomes of a request to that of acme goes by the mode; none is as it should be.
struct Accounts {
    sandbox: Sandbox,
    acme: Hostile,
    mode: Arc<AtomicUsize>,
    _moto: Moto,
}

/// Further fields of acme's account, and what becomes of requests there.
fn two_accounts(fields: &str, behave: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> Accounts {
    let moto = Moto::start_at(NOON);
    // Its first answer takes long.
    Kms::new(moto.endpoint()).keys();
    let (endpoint, mode) = (moto.endpoint().to_owned(), Arc::new(AtomicUsize::new(0)));
    let current = mode.clone();
    let acme = Hostile::start(move |request| {
        behave(request, current.load(Ordering::SeqCst)).unwrap_or_else(|| Reply::Forward(endpoint.clone()))
    });
    let config = format!(
        "providers:\n  aws_kms:\n    {{region: us-east-1, endpoint_url: \"{}\", consistency_delay: 0s, operation_timeout: 9s,\n     \
         tenants: {{acme: {{endpoint_url: \"{}\"{fields}}}}}}}\n",
        moto.endpoint(),
        acme.endpoint()
    );
    let mut sandbox = Sandbox::new(&config);
    sandbox.set("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000");
    sandbox.set("AWS_SECRET_ACCESS_KEY", super::SECRET_ACCESS_KEY);
    Accounts { sandbox, acme, mode, _moto: moto }
}

impl Accounts {
    /// So many keys of each, changed alike.
    fn commit(&self, acme: usize, umbrella: usize, change: impl Fn(String) -> String) {
        self.sandbox.write("policies/acme/keys.yaml", &change(documents(acme)));
        let theirs = documents(umbrella).replace("acme", "umbrella").replace("alias/", "alias/umbrella-");
        self.sandbox.write("policies/umbrella/keys.yaml", &change(theirs));
        self.sandbox.commit_all("two accounts");
    }

    /// What became of keys in an apply, in the order in which it did, as `umbrella create done`; and the requests to acme's
    /// account meanwhile.
    fn applied(&self, at: &str, mode: usize, status: i32) -> (Vec<String>, Vec<Request>) {
        self.mode.store(mode, Ordering::SeqCst);
        let before = self.acme.requests().len();
        let done = self.sandbox.at(at, &["apply", "--auto-approve", "--format", "json"]).exits(status);
        eprintln!("{}", done.stderr);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let what = |event: &Value| {
            let outcome = text(&event["type"]).strip_prefix("change_").filter(|word| *word != "started")?.to_owned();
            let is_key = event["object"]["kind"] == "EncryptionKey";
            is_key.then(|| format!("{} {} {outcome}", text(&event["object"]["tenant_id"]), text(&event["action"])))
        };
        (done.json_lines().iter().filter_map(what).collect(), self.acme.requests().split_off(before))
    }
}

/// More than are under way at once in one place.
const KEYS: usize = 10;

/// The attempts of as many calls as are under way at once in one place, and of those that come between these: half of what
/// three tries for each of ten keys would be.
const MOST_WHERE_NOBODY_ANSWERS: usize = 8 * 6;

#[test]
fn edits_in_an_account_that_does_not_answer_delay_no_other() {
    let accounts = two_accounts("", |request, mode| (mode > 0 && writes(request)).then_some(Reply::Never));
    accounts.commit(KEYS, 1, |documents| documents);
    accounts.applied(NOON, 0, 0);
    accounts.commit(KEYS, 1, |documents| documents.replace("kms_alias", "description: of patients\nkms_alias"));
    let (changes, _) = accounts.applied("2026-03-01 12:10:00", 1, 7);
    assert_eq!(changes[0], "umbrella update done", "it waited for the account that does not answer: {changes:?}");
    assert_eq!(changes.iter().filter(|change| *change == "acme update failed").count(), KEYS, "{changes:?}");
    // Nobody says that they were made.
    let (changes, _) = accounts.applied("2026-03-01 12:20:00", 0, 0);
    assert_eq!(changes, ["acme update done"; KEYS]);
}

#[test]
fn reads_in_an_account_that_does_not_answer_are_not_waited_for_key_by_key() {
    let accounts = two_accounts("", |_, mode| (mode > 0).then_some(Reply::Never));
    accounts.commit(KEYS, 1, |documents| documents);
    accounts.applied(NOON, 0, 0);
    let (changes, requests) = accounts.applied(NIGHT, 1, 7);
    assert_eq!(changes, ["umbrella rotate done"]);
    assert!(requests.len() <= MOST_WHERE_NOBODY_ANSWERS, "{} requests", requests.len());
}

/// Creations that could not be proven are left; then the account does not answer any more.
fn left_over_where_nobody_answers(fields: &str) -> Vec<Request> {
    let accounts = two_accounts(fields, |request, mode| match mode {
        1 if request.operation == "Encrypt" => Some(Reply::error(400, "AccessDeniedException")),
        2 => Some(Reply::Never),
        _ => None,
    });
    accounts.commit(KEYS, 1, |documents| documents);
    let (changes, _) = accounts.applied(NOON, 1, 7);
    assert_eq!(changes.iter().filter(|change| *change == "acme create failed").count(), KEYS, "{changes:?}");
    accounts.commit(KEYS, 2, |documents| documents);
    let (mut changes, requests) = accounts.applied("2026-03-01 12:10:00", 2, 7);
    changes.sort();
    assert_eq!(changes.pop().unwrap(), "umbrella create done");
    assert_eq!(changes, ["acme finish failed"; KEYS]);
    let (mut changes, _) = accounts.applied("2026-03-01 12:20:00", 0, 0);
    changes.sort();
    assert_eq!(changes, ["acme finish done"; KEYS], "not one was parked or made twice");
    requests
}

#[test]
fn what_is_left_over_in_an_account_that_does_not_answer_is_not_waited_for_key_by_key() {
    let requests = left_over_where_nobody_answers("");
    // The keys of a place that was silent are not asked for by the plan either.
    assert!(requests.len() <= MOST_WHERE_NOBODY_ANSWERS, "{} requests", requests.len());
}

#[test]
fn credentials_that_do_not_come_are_waited_for_once_in_a_run() {
    let requests = left_over_where_nobody_answers(", role_arn: \"arn:aws:iam::123456789012:role/keywheel\"");
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].body_has("AssumeRole"));
}

#[test]
fn throttling_for_longer_than_a_call_may_take_is_no_failure_of_a_key() {
    let moto = Moto::start_at(NOON);
    // Its first answer takes long.
    Kms::new(moto.endpoint()).keys();
    let (proxy, is_throttled) =
        Hostile::that_breaks("Encrypt", Reply::error(400, "ThrottlingException"), moto.endpoint());
    let mut sandbox = aws_sandbox(proxy.endpoint());
    sandbox.set("HOOK", &nobody());
    sandbox.write("keywheel.yaml", &(sandbox.read("keywheel.yaml") + "secrets: {acme: [HOOK]}\n"));
    let told = "key_type: phi_data\nnotification_settings: {webhook_url: \"${HOOK}\"}\nrotation_interval";
    sandbox.commit(&documents(1).replace("key_type: phi_data\nrotation_interval", told));
    sandbox.at(NOON, APPLY).exits(0);
    is_throttled.store(true, Ordering::SeqCst);
    sandbox.at(NIGHT, APPLY).exits(7).says("ThrottlingException").says("the next apply goes on with it");
    let key = "SELECT state, failures, retry_at FROM encryption_keys";
    assert_eq!(sandbox.sql(key), [json!({"state": "active", "failures": 0, "retry_at": null})]);
    assert_eq!(sandbox.sql("SELECT payload FROM outbox"), Vec::<Value>::new(), "nobody is told of a failure");
    is_throttled.store(false, Ordering::SeqCst);
    sandbox.at("2026-03-02 02:30:10", APPLY).exits(0);
    assert_eq!(proxy.count("CreateKey"), 2);
    sandbox.at("2026-03-02 02:31:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
}

/// How many requests for an operation came within so many seconds, at the most.
fn most_within(proxy: &Hostile, operation: &str, seconds: u64) -> usize {
    let requests = proxy.requests();
    let at: Vec<_> =
        requests.iter().filter(|request| request.operation == operation).map(|request| request.at).collect();
    let window = |begin: Instant| {
        at.iter().filter(|at| **at >= begin && at.duration_since(begin) < Duration::from_secs(seconds)).count()
    };
    at.iter().map(|begin| window(*begin)).max().unwrap_or(0)
}

#[test]
fn many_keys_at_once_keep_to_the_quota_of_each_operation() {
    const KEYS: usize = 24;
    let moto = Moto::start();
    let endpoint = moto.endpoint().to_owned();
    let proxy = Hostile::start(move |_| Reply::Forward(endpoint.clone()));
    let sandbox = aws_sandbox(proxy.endpoint());
    sandbox.commit(&documents(KEYS));
    sandbox.keywheel(APPLY).exits(0);
    // AWS allows five a second of each ("Request quotas" in the AWS KMS Developer Guide). Over three seconds, since a busy
    // machine delivers a few late.
    for operation in ["CreateKey", "CreateAlias"] {
        assert_eq!(proxy.count(operation), KEYS);
        let most = most_within(&proxy, operation, 3);
        assert!(most <= 15 + 3, "{most} {operation} within three seconds");
    }
}

#[test]
fn throttling_slows_a_run_down_and_fails_nothing() {
    let moto = Moto::start();
    let endpoint = moto.endpoint().to_owned();
    // The first request of every operation, and the second one of those that make or change something.
    let proxy = Hostile::start(move |request| {
        let tries = 1 + usize::from(writes(request));
        if request.earlier < tries {
            Reply::error(400, "ThrottlingException")
        } else {
            Reply::Forward(endpoint.clone())
        }
    });
    let sandbox = aws_sandbox(proxy.endpoint());
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&["rotate", "acme/key-0", "--reason", "a test", "--auto-approve"]).exits(0);
    let versions = sandbox.sql("SELECT count(*) AS versions, sum(orphan) AS orphans FROM key_versions");
    assert_eq!(versions, [json!({"versions": 2, "orphans": 0})]);
    assert_eq!(Kms::new(moto.endpoint()).keys().len(), 2);
    assert_eq!(proxy.count("CreateKey"), 4, "two were throttled, and made nothing");
}

#[test]
fn a_proof_that_never_gets_a_usable_answer_ends_the_run_and_is_done_by_the_next() {
    let moto = Moto::start();
    let (proxy, broken) = Hostile::that_breaks("Encrypt", Reply::page(200), moto.endpoint());
    broken.store(true, Ordering::SeqCst);
    let sandbox = aws_sandbox(proxy.endpoint());
    sandbox.commit(&documents(1));
    sandbox.at(NOON, APPLY).exits(7).says("the next apply goes on with it");
    assert!(proxy.count("Encrypt") <= 12, "{} tries", proxy.count("Encrypt"));
    broken.store(false, Ordering::SeqCst);
    sandbox.at(NOON, APPLY).exits(0);
    assert_eq!(proxy.count("CreateKey"), 1);
}

#[test]
fn an_aws_that_gives_no_usable_answer_is_left_alone() {
    type Behaviour = fn(&Request) -> Reply;
    let behaviours: [(&str, Behaviour); 4] = [
        ("throttles for ever", |_| Reply::error(400, "ThrottlingException")),
        ("denies access", |_| Reply::error(400, "AccessDeniedException")),
        ("answers with a page", |_| Reply::page(200)),
        ("hangs up", |_| Reply::Hangup),
    ];
    for (what, behaviour) in behaviours {
        let hostile = Hostile::start(behaviour);
        let sandbox = aws_sandbox(hostile.endpoint());
        sandbox.commit(&documents(2));
        let before = sandbox.state();
        let plan = sandbox.keywheel(&["plan", "--format", "json"]).exits(7).json();
        assert_eq!(plan["changes"].as_array().map(Vec::len), Some(1), "{what}: keywheel.yaml alone\n{plan:#}");
        assert!(plan["left_out"]["acme"].as_str().is_some_and(|why| why.contains("no usable answer")), "{plan:#}");
        assert!(sandbox.state() == before, "{what}: a plan wrote");
        sandbox.keywheel(APPLY).exits(7);
        assert_eq!(sandbox.sql("SELECT id FROM encryption_keys"), Vec::<serde_json::Value>::new(), "{what}");
        let written: Vec<_> = hostile.requests().into_iter().filter(writes).collect();
        assert!(written.is_empty(), "{what}: {written:?}");
    }
}

#[test]
fn a_key_about_which_no_answer_comes_waits_alone_and_is_no_success() {
    let moto = Moto::start();
    let endpoint = moto.endpoint().to_owned();
    let proxy = Hostile::start(move |request| {
        if request.operation == "DescribeKey" && request.body_has("alias/key-0") {
            return Reply::page(200);
        }
        Reply::Forward(endpoint.clone())
    });
    let sandbox = aws_sandbox(proxy.endpoint());
    sandbox.commit(&documents(2));
    sandbox.keywheel(&["plan"]).exits(7).says("key-0");
    sandbox.keywheel(APPLY).exits(7).says("no answer about 1 key");
    let made = sandbox.sql("SELECT key_name FROM encryption_keys");
    assert_eq!(made, [json!({"key_name": "key-1"})]);
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    let sandbox = aws_sandbox(&nobody());
    sandbox.commit(&documents(1));
    sandbox.keywheel(&["plan"]).exits(7).says("endpoint_url");
}

#[test]
fn a_database_that_was_lost_is_no_first_run() {
    let moto = Moto::start_at(NOON);
    let sandbox = applied(moto.endpoint());
    let kms = Kms::new(moto.endpoint());
    let keys = kms.keys();
    std::fs::rename(sandbox.database(), sandbox.dir().join(".keywheel/lost.db")).unwrap();
    for arguments in [&["plan"][..], APPLY] {
        sandbox.at(NIGHT, arguments).exits(3).error("state/unknown-keys");
    }
    assert_eq!(kms.keys(), keys);
    std::fs::rename(sandbox.dir().join(".keywheel/lost.db"), sandbox.database()).unwrap();
    sandbox.at(NIGHT, APPLY).exits(0);
    assert_eq!(kms.keys().len(), 2);
}

#[test]
fn a_ci_job_whose_state_goes_with_it_is_refused_unless_told() {
    let moto = Moto::start();
    let sandbox = aws_sandbox(moto.endpoint());
    sandbox.commit(&documents(1));
    sandbox.keywheel(APPLY).env("CI", "true").exits(3).error("apply/ephemeral-state");
    assert!(sandbox.state().is_empty());
    assert_eq!(Kms::new(moto.endpoint()).keys(), [""; 0]);
    let outside = ["apply", "--auto-approve", "--state", "sqlite:../elsewhere.db"];
    sandbox.keywheel(&outside).env("CI", "true").exits(0);
    let other = aws_sandbox(moto.endpoint());
    other.commit(&documents(1).replace("key-0", "key-1"));
    other.keywheel(&["apply", "--auto-approve", "--ephemeral-state"]).env("CI", "true").exits(3);
}

#[test]
fn a_rotation_that_fails_for_one_key_goes_on_for_the_others() {
    let moto = Moto::start_at(NOON);
    let sandbox = aws_sandbox(moto.endpoint());
    sandbox.commit(&documents(3));
    sandbox.at(NOON, APPLY).exits(0);
    let kms = Kms::new(moto.endpoint());
    let before = kms.keys();
    // One promotion is denied, however often it is asked for, until somebody allows it.
    let (endpoint, is_allowed) = (moto.endpoint().to_owned(), Arc::new(AtomicBool::new(false)));
    let allowed = is_allowed.clone();
    let proxy = Hostile::start(move |request| {
        let denied = request.operation == "UpdateAlias" && request.body_has("alias/key-1");
        if denied && !allowed.load(Ordering::SeqCst) {
            return Reply::error(400, "AccessDeniedException");
        }
        Reply::Forward(endpoint.clone())
    });
    moved_to(&sandbox, proxy.endpoint());
    sandbox.at("2026-03-01 13:00:00", APPLY).exits(0);
    let report = sandbox.at(NIGHT, &["apply", "--auto-approve", "--format", "json"]).exits(7).report();
    let policy = &report["policies"][0];
    assert_eq!(
        (&policy["status"], &policy["rotated_keys"], &policy["failed_keys"]),
        (&json!("partial"), &json!(2), &json!(1))
    );
    assert_eq!(report["failed"][0]["object"]["name"], "key-1", "{report:#}");
    assert_eq!(kms.describe("alias/key-1")["Arn"], json!(arn_of(&sandbox, "key-1")), "the alias was not moved");
    assert_eq!(kms.keys().len(), before.len() + 3, "its successor is made, and waits");

    // Once it is allowed, the same successor is promoted.
    is_allowed.store(true, Ordering::SeqCst);
    sandbox.at("2026-03-02 02:30:00", APPLY).exits(0);
    assert_eq!(kms.keys().len(), before.len() + 3);
    assert_eq!(kms.describe("alias/key-1")["Arn"], json!(arn_of(&sandbox, "key-1")));
    sandbox.at("2026-03-02 02:31:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
}

/// The recorded primary of a key.
fn arn_of(sandbox: &Sandbox, key: &str) -> Value {
    let query = format!(
        "SELECT provider_ref AS arn FROM encryption_keys JOIN key_versions ON key_versions.id = primary_version_id
         WHERE key_name = '{key}'"
    );
    sandbox.sql(&query)[0]["arn"].clone()
}
