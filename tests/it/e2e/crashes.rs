//! The binary is killed in the middle of its work. The next apply finishes it: nothing is lost, nothing is made twice, and
//! what a lost answer left behind is found.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::providers::documents;
use super::{Kms, Moto, NOON, Sandbox, aws_sandbox, with_keys};
use crate::support::hostile::{Hostile, Reply, forward};

const STREAM: &[&str] = &["apply", "--auto-approve", "--format", "json"];
const NIGHT: &str = "2026-03-02 02:00:10";
/// Later than the lock of a process that died frees itself.
const LATER: &str = "2026-03-02 02:10:00";

/// SIGKILL, and nothing that could still be said.
fn kill(mut child: Child) {
    let _ = child.kill();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "it had come to its end already: {status}");
}

/// Starts an apply and kills it as soon as it has told of so many finished changes.
fn killed_after(sandbox: &Sandbox, instant: &str, changes: usize) {
    let mut run = sandbox.at(instant, STREAM);
    let mut child = run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut done = 0;
    for line in lines {
        let line: Value = serde_json::from_str(&line).unwrap();
        done += usize::from(line["type"] == "change_done");
        if done >= changes && line["type"] != "version" {
            break;
        }
    }
    kill(child);
}

/// The work is done: each key has so many versions, one of them active, and nothing is left to do.
fn complete(sandbox: &Sandbox, keys: usize, versions: usize) {
    let counts = sandbox.sql(
        "SELECT count(*) AS versions, sum(state = 'active') AS active FROM key_versions GROUP BY key_id ORDER BY key_id",
    );
    assert_eq!(counts, vec![json!({"versions": versions, "active": 1}); keys]);
    let open = "SELECT * FROM rotations WHERE phase <> 'settled'";
    assert!(sandbox.sql(open).is_empty());
    sandbox.at("2026-03-02 02:20:00", &["drift", "--detailed-exitcode"]).exits(0);
    sandbox.at("2026-03-02 02:20:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
}

#[test]
fn keys_of_the_keystore_are_made_and_rotated_once_however_often_apply_is_killed() {
    const KEYS: usize = 40;
    let sandbox = Sandbox::with("", &with_keys(KEYS - 1));
    killed_after(&sandbox, "2026-03-01 10:00:00", 0);
    killed_after(&sandbox, "2026-03-01 11:00:00", 1);
    sandbox.at(NOON, STREAM).exits(0);
    complete_at(&sandbox, "2026-03-01 12:01:00");
    let sealed = sandbox.at(NOON, &["data", "encrypt", "acme/key-007"]).input(b"a patient").exits(0).stdout;
    killed_after(&sandbox, NIGHT, 0);
    killed_after(&sandbox, "2026-03-02 02:03:00", 1);
    killed_after(&sandbox, "2026-03-02 02:06:00", 1);
    sandbox.at(LATER, STREAM).exits(0);
    complete(&sandbox, KEYS, 2);
    let opened = sandbox.at("2026-03-02 02:20:00", &["data", "decrypt"]).input(sealed.as_bytes()).exits(0);
    assert_eq!(opened.stdout, "a patient");
}

fn complete_at(sandbox: &Sandbox, instant: &str) {
    sandbox.at(instant, &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
}

/// When the process dies, as seen from AWS KMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The request is never acted on.
    BeforeIt,
    /// AWS KMS acts, and nobody hears of it.
    AfterIt,
}

/// A server in front of `endpoint` that lets its client die at the next request for an operation: it says when the
/// request has come, and goes on once it is told that the client is dead.
struct Deadly {
    hostile: Hostile,
    next: Arc<Mutex<Option<(&'static str, Moment)>>>,
    comes: Receiver<()>,
    is_dead: Sender<()>,
    /// AWS KMS has acted, if it is to: a later apply must not overtake it.
    is_over: Receiver<()>,
}

impl Deadly {
    fn before(endpoint: String) -> Self {
        let ((has_come, comes), (is_dead, dies), (over, is_over)) = (channel(), channel(), channel());
        let (next, dies) = (Arc::new(Mutex::new(None)), Mutex::new(dies));
        let armed: Arc<Mutex<Option<(&'static str, Moment)>>> = next.clone();
        let hostile = Hostile::start(move |request| {
            let at = armed.lock().unwrap().take_if(|(operation, _)| request.operation == *operation);
            let Some((_, moment)) = at else { return Reply::Forward(endpoint.clone()) };
            has_come.send(()).unwrap();
            dies.lock().unwrap().recv().unwrap();
            if moment == Moment::AfterIt {
                forward(&endpoint, request);
            }
            over.send(()).unwrap();
            Reply::Hangup
        });
        Self { hostile, next, comes, is_dead, is_over }
    }

    /// Starts an apply that is killed at a request.
    fn kills(&self, sandbox: &Sandbox, instant: &str, operation: &'static str, moment: Moment) {
        self.kills_a(STREAM, sandbox, instant, operation, moment);
    }

    /// Starts a command that is killed at a request.
    fn kills_a(&self, command: &[&str], sandbox: &Sandbox, instant: &str, operation: &'static str, moment: Moment) {
        *self.next.lock().unwrap() = Some((operation, moment));
        let mut run = sandbox.at(instant, command);
        let child = run.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.comes.recv().unwrap();
        kill(child);
        self.is_dead.send(()).unwrap();
        self.is_over.recv().unwrap();
    }
}

#[test]
fn keys_of_aws_kms_have_no_orphan_wherever_apply_was_killed() {
    let moto = Moto::start_at(NOON);
    let kms = Kms::new(moto.endpoint());
    let deadly = Deadly::before(moto.endpoint().to_owned());
    let sandbox = aws_sandbox(deadly.hostile.endpoint());
    sandbox.commit(&documents(1));
    deadly.kills(&sandbox, "2026-03-01 11:50:00", "CreateKey", Moment::AfterIt);
    sandbox.at(NOON, STREAM).exits(0);
    assert_eq!(kms.keys().len(), 1);
    let (ciphertext, _) = kms.encrypt("alias/key-0", "a patient");

    let crashes = [
        ("CreateKey", Moment::BeforeIt),
        ("CreateKey", Moment::AfterIt),
        ("Encrypt", Moment::AfterIt),
        ("UpdateAlias", Moment::BeforeIt),
        ("UpdateAlias", Moment::AfterIt),
    ];
    for (night, (operation, moment)) in (2..).zip(crashes) {
        let at = |minute| format!("2026-03-{night:02} 02:{minute:02}:10");
        deadly.kills(&sandbox, &at(0), operation, moment);
        sandbox.at(&at(10), STREAM).exits(0);
        let recorded = sandbox.sql("SELECT provider_ref AS arn FROM key_versions ORDER BY provider_ref");
        let recorded: Vec<&str> = recorded.iter().map(|row| row["arn"].as_str().unwrap()).collect();
        assert_eq!(kms.keys(), recorded, "{operation} {moment:?}: each key in AWS KMS is a recorded version");
        assert_eq!(recorded.len(), night, "{operation} {moment:?}: one successor a night");
        assert_eq!(kms.decrypt(&ciphertext), "a patient");
    }
    sandbox.at("2026-03-06 02:20:00", &["plan", "--detailed-exitcode"]).exits(0).says("No changes");
}

#[test]
fn a_rollback_is_finished_and_its_key_held_wherever_it_was_killed() {
    let moto = Moto::start_at(NOON);
    let kms = Kms::new(moto.endpoint());
    let deadly = Deadly::before(moto.endpoint().to_owned());
    let sandbox = aws_sandbox(deadly.hostile.endpoint());
    sandbox.commit(&documents(1));
    sandbox.at(NOON, STREAM).exits(0);
    let by_hand = |command| [command, "acme/key-0", "--reason", "a test", "--auto-approve", "--format", "json"];
    let crashes = [
        ("Encrypt", Moment::BeforeIt),
        ("Encrypt", Moment::AfterIt),
        ("UpdateAlias", Moment::BeforeIt),
        ("UpdateAlias", Moment::AfterIt),
    ];
    for (hour, (operation, moment)) in (13..).zip(crashes) {
        let at = |minute: u32| format!("2026-03-01 {hour}:{minute:02}:10");
        sandbox.at(&at(0), &by_hand("rotate")).exits(0);
        let first =
            sandbox.sql("SELECT from_ref FROM rotations ORDER BY started_at DESC LIMIT 1")[0]["from_ref"].clone();
        let keys = kms.keys().len();
        deadly.kills_a(&by_hand("rollback"), &sandbox, &at(10), operation, moment);
        sandbox.at(&at(20), STREAM).exits(0);
        assert_eq!(kms.describe("alias/key-0")["Arn"], first, "{operation} {moment:?}");
        assert_eq!(kms.keys().len(), keys, "{operation} {moment:?}: a rollback makes no key");
        let held = sandbox.sql("SELECT state, state_reason FROM encryption_keys");
        assert_eq!(held, [json!({"state": "held", "state_reason": "a test"})], "{operation} {moment:?}");
        let active = "SELECT count(*) AS n FROM key_versions WHERE state = 'active'";
        assert_eq!(sandbox.sql(active), [json!({"n": 1})], "{operation} {moment:?}");
        sandbox.at(&at(30), &by_hand("release")).exits(0);
    }
}
