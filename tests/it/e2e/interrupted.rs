//! An apply that is stopped in the middle of a call: by a signal, or by somebody who breaks its lock.

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::providers::documents;
use super::{Kms, Moto, NOON, Sandbox, aws_sandbox};
use crate::support::hostile::{Hostile, Reply, Request};

const STREAM: &[&str] = &["apply", "--auto-approve", "--format", "json", "--lock-timeout", "0s"];

/// A server in front of another that holds the first request for an operation back until it is told to let it through.
struct Gate {
    hostile: Hostile,
    comes: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    fn at(endpoint: &str, operation: &'static str) -> Self {
        let ((has_come, comes), (open, opened)) = (channel(), channel());
        let (endpoint, opened) = (endpoint.to_owned(), Mutex::new(opened));
        let hostile = Hostile::start(move |request| {
            if request.operation == operation && request.earlier == 0 {
                has_come.send(()).unwrap();
                opened.lock().unwrap().recv().unwrap();
            }
            Reply::Forward(endpoint.clone())
        });
        Self { hostile, comes, open }
    }

    /// Starts an apply, which is at that request then.
    fn reached_by(&self, sandbox: &Sandbox) -> Child {
        let mut run = sandbox.at(NOON, STREAM);
        let child = run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.comes.recv().unwrap();
        child
    }

    fn asked_for(&self, operation: &str) -> usize {
        self.hostile.requests().iter().filter(|request| request.operation == operation).count()
    }
}

/// A key in AWS KMS that is to be made, and a gate before that.
fn one_key() -> (Moto, Gate, Sandbox) {
    let moto = Moto::start_at(NOON);
    let gate = Gate::at(moto.endpoint(), "CreateKey");
    let sandbox = aws_sandbox(gate.hostile.endpoint());
    sandbox.commit(&documents(1));
    (moto, gate, sandbox)
}

/// Waits until it says something like this on its standard error.
fn says(child: &mut Child, text: &str) {
    let mut notes = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(notes.any(|note| note.contains(text)), "it does not say {text:?}");
}

/// Sends SIGTERM, as a CI system does that cancels a job.
fn terminate(child: &Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
}

/// How it ended, and what it had to say.
fn ended(mut child: Child) -> (Option<i32>, Vec<Value>, String) {
    let (mut out, mut errors) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut errors).unwrap();
    }
    let lines = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (child.wait().unwrap().code(), lines, errors)
}

/// Every key in AWS KMS is a recorded version, and there are so many.
fn complete(sandbox: &Sandbox, kms: &Kms, keys: usize) {
    let recorded = sandbox.sql("SELECT provider_ref AS arn FROM key_versions ORDER BY provider_ref");
    let recorded: Vec<&str> = recorded.iter().map(|row| row["arn"].as_str().unwrap()).collect();
    assert_eq!(kms.keys(), recorded);
    assert_eq!(recorded.len(), keys);
    assert!(sandbox.sql("SELECT * FROM rotations WHERE phase <> 'settled'").is_empty());
}

#[test]
fn the_first_signal_stops_an_apply_after_the_call_that_is_under_way_and_says_what_is_unfinished() {
    let (moto, gate, sandbox) = one_key();
    let mut child = gate.reached_by(&sandbox);
    terminate(&child);
    // It has taken notice before the call ends.
    says(&mut child, "stopping");
    gate.open.send(()).unwrap();
    let (status, lines, _) = ended(child);
    assert_eq!(status, Some(7), "{lines:#?}");
    let report = lines.last().unwrap();
    assert_eq!(report["interrupted"], true, "{report:#}");
    let failed = report["failed"].as_array().unwrap();
    assert_eq!(
        (failed.len(), &failed[0]["object"]["name"], &failed[0]["resumable"]),
        (1, &"key-0".into(), &true.into())
    );
    assert_eq!(gate.asked_for("CreateAlias"), 0, "no step is begun after the signal");
    let open = sandbox.sql("SELECT * FROM rotations WHERE phase <> 'settled'");
    assert_eq!(open.len(), 1);
    sandbox.at("2026-03-01 12:00:30", STREAM).exits(0);
    complete(&sandbox, &Kms::new(moto.endpoint()), 1);
}

#[test]
fn a_second_signal_ends_an_apply_at_once_and_loses_nothing() {
    let (moto, gate, sandbox) = one_key();
    let mut child = gate.reached_by(&sandbox);
    terminate(&child);
    says(&mut child, "stopping");
    terminate(&child);
    let (status, ..) = ended(child);
    assert_eq!(status, Some(130), "it ends while its call is held back");
    // The request is carried out, and nobody hears of it.
    gate.open.send(()).unwrap();
    let kms = Kms::new(moto.endpoint());
    while kms.keys().is_empty() {}
    sandbox.at("2026-03-01 12:02:00", STREAM).exits(0);
    complete(&sandbox, &kms, 1);
}

/// An apply of so many new keys before a server that answers so; a signal once an operation was asked for so often. How
/// soon it ended, its report, and how often that operation was asked for.
fn stopped_in_between(
    keys: usize,
    (operation, times): (&'static str, usize),
    behave: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Duration, Value, usize) {
    let moto = Moto::start_at(NOON);
    let ((has_come, comes), endpoint) = (channel(), moto.endpoint().to_owned());
    let hostile = Hostile::start(move |request| {
        if request.operation == operation && request.earlier + 1 == times {
            has_come.send(()).unwrap();
        }
        behave(request).unwrap_or_else(|| Reply::Forward(endpoint.clone()))
    });
    let sandbox = aws_sandbox(hostile.endpoint());
    let config = sandbox.read("keywheel.yaml").replace("operation_timeout: 9s", "operation_timeout: 60s");
    sandbox.write("keywheel.yaml", &config);
    sandbox.commit(&documents(keys));
    let mut run = sandbox.at(NOON, STREAM);
    let child = run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    comes.recv().unwrap();
    terminate(&child);
    let begin = Instant::now();
    let (status, lines, _) = ended(child);
    let report = lines.last().unwrap().clone();
    assert_eq!((status, &report["interrupted"]), (Some(7), &true.into()), "{lines:#?}");
    let unfinished = ["failed", "not_started"].map(|field| report[field].as_array().unwrap().len());
    assert!(unfinished.iter().sum::<usize>() > 0, "{report:#}");
    // What was not done is nobody's failure.
    assert!(sandbox.sql("SELECT * FROM outbox").is_empty());
    (begin.elapsed(), report, hostile.count(operation))
}

#[test]
fn a_signal_ends_the_wait_before_a_throttled_creation_is_tried_again() {
    let throttled =
        |request: &Request| (request.operation == "CreateKey").then(|| Reply::error(400, "ThrottlingException"));
    // After the fourth it waits for eight seconds.
    let (took, report, tries) = stopped_in_between(1, ("CreateKey", 4), throttled);
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(tries, 4);
    let failed = &report["failed"][0];
    assert_eq!((&failed["resumable"], &failed["error"]), (&true.into(), &"stopped before create, as asked".into()));
}

#[test]
fn a_signal_ends_the_attempts_at_a_throttled_call() {
    let throttled =
        |request: &Request| (request.operation == "Encrypt").then(|| Reply::error(400, "ThrottlingException"));
    // Its attempts would go on for a minute.
    let (took, report, tries) = stopped_in_between(1, ("Encrypt", 4), throttled);
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(tries <= 5, "{tries}");
    assert_eq!(report["failed"][0]["resumable"], true, "{report:#}");
}

#[test]
fn what_waits_for_its_turn_at_a_quota_is_not_sent_after_a_signal() {
    // Five a second: the last would be sent after twelve seconds.
    let (_, report, made) = stopped_in_between(60, ("CreateKey", 1), |_| None);
    assert!(made < 30, "{made} keys were made after the signal");
    assert!(report["failed"].as_array().unwrap().iter().all(|failed| failed["resumable"] == true), "{report:#}");
}

#[test]
fn a_signal_ends_the_wait_for_a_lock() {
    let (_moto, gate, sandbox) = one_key();
    let holder = gate.reached_by(&sandbox);
    let mut run = sandbox.at(NOON, &["apply", "--auto-approve", "--lock-timeout", "1h"]);
    let mut waiting = run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    says(&mut waiting, "waiting");
    terminate(&waiting);
    assert_eq!(waiting.wait().unwrap().code(), Some(5));
    gate.open.send(()).unwrap();
    assert_eq!(ended(holder).0, Some(0));
}

#[test]
fn a_worker_whose_lock_is_broken_ends_without_a_word_in_the_record_and_nobody_comes_before_its_call_can_have_ended() {
    let (moto, gate, sandbox) = one_key();
    let holder = gate.reached_by(&sandbox);
    let locks = sandbox.at(NOON, &["lock", "list", "--format", "json"]).exits(0).json();
    let token = locks["locks"][0]["token"].as_i64().unwrap();
    let take = ["lock", "break", &token.to_string(), "--reason", "a test"];
    sandbox.at(NOON, &take).exits(0);
    sandbox.at(NOON, STREAM).exits(5).error("state/locked");
    gate.open.send(()).unwrap();
    let (status, lines, errors) = ended(holder);
    assert_ne!(status, Some(0), "{lines:#?}");
    assert!(errors.contains("another worker"), "{errors}");
    assert_eq!(gate.asked_for("CreateAlias"), 0, "no call is begun by somebody whose lock was broken");
    sandbox.at(NOON, STREAM).exits(5).error("state/locked");
    sandbox.at("2026-03-01 12:01:01", STREAM).exits(0);
    complete(&sandbox, &Kms::new(moto.endpoint()), 1);
    sandbox.at("2026-03-01 12:01:01", &["audit", "verify"]).exits(0);
}
