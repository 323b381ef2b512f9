//! Receivers that are dead, slow or unwilling, and senders that are killed.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::receivers::{SECRET, body, told_to, willing};
use super::{APPLY, NOON, TOLD, by_hand, told};
use crate::support::hostile::{Hostile, Reply, header, nobody};
use crate::support::sandbox::Sandbox;

/// What the outbox says of the webhook's first message.
fn webhook(sandbox: &Sandbox) -> Value {
    let columns = "attempt, next_attempt_at, error, sent_at IS NOT NULL AS sent, given_up_at IS NOT NULL AS given_up";
    let query = format!("SELECT {columns} FROM outbox WHERE channel = 'webhook' ORDER BY created_at LIMIT 1");
    sandbox.sql(&query).remove(0)
}

#[test]
fn a_receiver_that_hangs_or_is_dead_delays_an_apply_by_seconds_and_keeps_nobody_else_waiting() {
    let (hanging, slack) = (Hostile::start(|_| Reply::Never), willing());
    let sandbox = told_to(hanging.endpoint(), slack.endpoint());
    let began = Instant::now();
    let park = sandbox.at(NOON, &by_hand("park")).exits(0).says("no answer within 4 s");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}\n{}", began.elapsed(), park.stdout);
    assert_eq!(slack.requests().len(), 1);
    let waits = webhook(&sandbox);
    assert_eq!((&waits["attempt"], &waits["given_up"]), (&json!(1), &json!(0)), "{waits}");

    // More messages to it: it is asked once for all of them.
    for (hour, command) in (13..).zip(["resume", "park", "resume", "park"]) {
        let run = sandbox.at(&format!("2026-03-01 {hour}:00:00"), &by_hand(command));
        run.env("HOOK", &nobody()).exits(0);
    }
    assert_eq!(slack.requests().len(), 3);
    let asked = hanging.requests().len();
    let began = Instant::now();
    let apply = sandbox.at("2026-03-03 12:00:00", APPLY).exits(0);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}\n{}", began.elapsed(), apply.stdout);
    assert_eq!(hanging.requests().len(), asked + 1);

    // Once it is back it gets them all, in their order.
    let back = willing();
    sandbox.at("2026-03-06 12:00:00", APPLY).env("HOOK", back.endpoint()).exits(0);
    let times: Vec<String> =
        back.requests().iter().map(|request| body(request)["time"].as_str().unwrap().to_owned()).collect();
    assert!(times.len() >= 3 && times.is_sorted(), "{times:?}");
    assert_eq!(webhook(&sandbox)["sent"], json!(1));
}

/// Puts a thousand messages to the webhook before all others.
const A_THOUSAND: &str = "
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000)
    INSERT INTO outbox (id, channel, receiver, tenant_id, payload, signed_with, created_at, next_attempt_at)
    SELECT printf('00000000-0000-8000-8000-%012d', n), channel, receiver, tenant_id,
        json_set(payload, '$.id', printf('00000000-0000-8000-8000-%012d', n), '$.at', '2026-02-28T12:00:00Z'),
        signed_with, '2026-02-28T12:00:00.000000Z', '2026-02-28T12:00:00.000000Z'
    FROM outbox, numbers WHERE channel = 'webhook'";

#[test]
fn a_thousand_messages_to_a_receiver_that_hangs_or_is_dead_are_in_nobody_elses_way() {
    let hanging = Hostile::start(|_| Reply::Never);
    let refusing = Hostile::start(|_| Reply::page(500));
    for receiver in [&hanging, &refusing] {
        let slack = willing();
        let sandbox = told_to(receiver.endpoint(), slack.endpoint());
        sandbox.at(NOON, &by_hand("park")).env("HOOK", "").env("SLACK", "").exits(0);
        sandbox.tamper(A_THOUSAND);
        sandbox.at("2026-03-01 12:10:00", APPLY).exits(0);
        assert_eq!(slack.requests().len(), 1);
        // They fill more than a page, and it is asked once for all of them.
        assert_eq!(receiver.requests().len(), 1);
        let list = sandbox.at("2026-03-01 12:10:00", &["outbox", "list", "--limit", "1", "--format", "json"]);
        assert_eq!(list.exits(0).json()["undelivered"], json!({"waiting": 1001, "given_up": 0}));
    }
}

#[test]
fn a_receiver_that_fails_gets_the_same_message_again_after_a_growing_while() {
    let webhook_server = Hostile::start(|request| Reply::page(if request.earlier < 2 { 500 } else { 200 }));
    let sandbox = told_to(webhook_server.endpoint(), willing().endpoint());
    sandbox.at(NOON, &by_hand("park")).exits(0).says("127.0.0.1: it answered 500");
    sandbox.at("2026-03-01 12:00:30", APPLY).exits(0);
    assert_eq!(webhook_server.requests().len(), 1);
    sandbox.at("2026-03-01 12:01:30", &["outbox", "send"]).exits(7).says("it answered 500");
    sandbox.at("2026-03-01 12:05:30", APPLY).exits(0);
    assert_eq!(webhook_server.requests().len(), 2);
    // Whoever sends by hand does not wait.
    sandbox.at("2026-03-01 12:05:40", &["outbox", "send"]).exits(0).says("Sent: 1.");
    let requests = webhook_server.requests();
    let ids: Vec<_> = requests.iter().map(|request| header(&request.head, "webhook-id")).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| id == &ids[0]), "{ids:?}");
    let times: Vec<_> = requests.iter().map(|request| header(&request.head, "webhook-timestamp")).collect();
    assert!(times[0] != times[1] && times[1] != times[2], "each attempt is signed anew: {times:?}");
}

#[test]
fn a_receiver_that_asks_for_rest_gets_it() {
    let busy = Hostile::start(|_| Reply::With(429, "Retry-After", "7200".to_owned()));
    let sandbox = told_to(busy.endpoint(), willing().endpoint());
    sandbox.at(NOON, &by_hand("park")).exits(0);
    let next = webhook(&sandbox)["next_attempt_at"].as_str().unwrap().to_owned();
    assert!(next.starts_with("2026-03-01T14:00:"), "{next}");
    sandbox.at("2026-03-01 13:30:00", APPLY).exits(0);
    assert_eq!(busy.requests().len(), 1);
}

#[test]
fn a_receiver_that_wants_nothing_is_asked_once_and_everybody_is_told_so() {
    for status in [410, 404, 401] {
        let gone = Hostile::start(move |_| Reply::page(status));
        let sandbox = told_to(gone.endpoint(), willing().endpoint());
        sandbox.at(NOON, &by_hand("park")).exits(0).says("outbox/given-up");
        sandbox.at("2026-03-01 20:00:00", APPLY).exits(0).says("outbox/given-up");
        assert_eq!(gone.requests().len(), 1, "{status}");
        sandbox.at("2026-03-01 20:00:00", &["status"]).exits(0).says("1 message given up");
        let list = sandbox.at("2026-03-01 19:30:00", &["outbox", "list", "--undelivered"]).exits(0);
        list.says(&format!("it answered {status}")).says("given up 7 hours ago").says("Given up: 1 message;");
        // A person who has put that right has it tried again.
        let willing = willing();
        let send = sandbox.at("2026-03-01 20:00:00", &["outbox", "send", "--given-up"]).env("HOOK", willing.endpoint());
        send.exits(0).says("Sent: 1. Nothing waits.");
        assert_eq!(body(&willing.requests()[0])["type"], "keywheel.key_parked");
    }
}

#[test]
fn a_receiver_that_never_comes_back_is_given_up_after_ten_attempts_and_not_in_silence() {
    let dead = nobody();
    let sandbox = told_to(&dead, willing().endpoint());
    sandbox.at(NOON, &by_hand("park")).exits(0);
    for day in 2..=10 {
        assert_eq!(webhook(&sandbox)["given_up"], json!(0));
        sandbox.at(&format!("2026-03-{day:02} 13:{:02}:00", day + 10), &["outbox", "send"]).exits(7);
    }
    let row = webhook(&sandbox);
    assert_eq!((&row["attempt"], &row["given_up"]), (&json!(10), &json!(1)), "{row}");
    sandbox.at("2026-03-10 14:00:00", &["status"]).exits(0).says("given up");
}

#[test]
fn a_redirection_is_not_followed() {
    let elsewhere = willing();
    let target = format!("{}/collect", elsewhere.endpoint());
    let redirecting = Hostile::start(move |_| Reply::With(307, "Location", target.clone()));
    let sandbox = told_to(redirecting.endpoint(), willing().endpoint());
    sandbox.at(NOON, &by_hand("park")).exits(0).says("redirections are not followed");
    assert_eq!((redirecting.requests().len(), elsewhere.requests().len()), (1, 0));
}

#[test]
fn a_sender_that_is_killed_before_it_can_mark_a_message_leaves_it_to_the_next_one() {
    let sender: Arc<Mutex<Option<u32>>> = Arc::default();
    let victim = sender.clone();
    let webhook_server = Hostile::start(move |_| match victim.lock().unwrap().take() {
        Some(process) => {
            let killed = Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
            assert!(killed.success());
            Reply::Never
        }
        None => Reply::page(200),
    });
    let sandbox = told_to(webhook_server.endpoint(), willing().endpoint());
    sandbox.at(NOON, &by_hand("park")).env("HOOK", "").exits(0);
    {
        // The receiver waits until it knows whom to kill.
        let mut process = sender.lock().unwrap();
        let mut run = sandbox.at("2026-03-01 12:10:00", &["outbox", "send"]);
        run.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = run.command.spawn().unwrap();
        *process = Some(child.id());
        drop(process);
        assert!(!child.wait().unwrap().success());
    }
    // It is claimed still, and then it is anybody's.
    sandbox.at("2026-03-01 12:10:30", APPLY).exits(0);
    assert_eq!(webhook_server.requests().len(), 1);
    sandbox.at("2026-03-01 12:12:00", &["outbox", "send"]).exits(0).says("Sent: 1. Nothing waits.");
    let requests = webhook_server.requests();
    let ids: Vec<_> = requests.iter().map(|request| header(&request.head, "webhook-id")).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[test]
fn an_apply_that_is_killed_at_any_point_of_its_sending_loses_no_message() {
    for (point, asked) in [("before claim", 1), ("after claim", 1), ("before conclude", 2), ("after conclude", 1)] {
        let webhook_server = willing();
        let mut sandbox = told();
        sandbox.set("HOOK", webhook_server.endpoint());
        sandbox.set("HOOK_SECRET", SECRET);
        // One delivery, so that each point is passed once.
        sandbox.tamper(
            "CREATE TRIGGER no_slack AFTER INSERT ON outbox WHEN NEW.channel = 'slack'
            BEGIN DELETE FROM outbox WHERE channel = 'slack'; END",
        );
        let killed = sandbox.at(NOON, &by_hand("park")).env("KEYWHEEL_DIE_AT", point).ends();
        assert_eq!(killed.status, None, "{point}: {}\n{}", killed.stdout, killed.stderr);
        sandbox.at("2026-03-01 12:02:00", APPLY).exits(0);
        let requests = webhook_server.requests();
        let ids: Vec<_> = requests.iter().map(|request| header(&request.head, "webhook-id")).collect();
        assert!(ids.len() == asked && ids.iter().all(|id| id == &ids[0]), "{point}: {ids:?}");
        assert_eq!(webhook(&sandbox)["sent"], json!(1), "{point}");
    }
}

#[test]
fn a_machine_without_the_variables_leaves_the_messages_to_one_that_has_them() {
    let (webhook_server, slack) = (willing(), willing());
    let sandbox = told_to(webhook_server.endpoint(), slack.endpoint());
    let park = sandbox.at(NOON, &by_hand("park")).env("HOOK", "").env("SLACK", "").exits(0);
    park.says("${HOOK}: it is not set in the environment").says("${SLACK}: it is not set in the environment");
    sandbox
        .at("2026-03-01 12:10:00", APPLY)
        .env("HOOK_SECRET", "too short")
        .exits(0)
        .says("${HOOK_SECRET}: it has 9 bytes");
    assert_eq!((webhook_server.requests().len(), slack.requests().len()), (0, 1));
    sandbox.at("2026-03-01 12:20:00", &["outbox", "send", "--given-up"]).env("HOOK_SECRET", SECRET).exits(0);
    assert_eq!(webhook_server.requests().len(), 1);
}

#[test]
fn many_messages_are_few_posts_to_slack_and_one_each_to_a_webhook() {
    let (webhook_server, slack) = (willing(), willing());
    let sandbox = told_to(webhook_server.endpoint(), slack.endpoint());
    let key = TOLD.split_once("---").unwrap().1;
    let more = (0..60).map(|number| format!("---{}", key.replace("patients", &format!("key-{number:03}"))));
    sandbox.commit(&format!("{TOLD}{}", more.collect::<String>()));
    sandbox.at(NOON, APPLY).exits(0);
    sandbox.at("2026-03-05 12:00:00", APPLY).exits(0);
    sandbox.at("2026-03-05 12:05:00", &["outbox", "send"]).exits(0).says("Nothing waits.");
    assert_eq!(webhook_server.requests().len(), 61);
    let posts = slack.requests();
    assert!(posts.len() < 10, "{} posts", posts.len());
    let lines: usize = posts.iter().map(|post| body(post)["text"].as_str().unwrap().lines().count()).sum();
    assert_eq!(lines, 61);
}

#[test]
fn a_proxy_is_used_for_receivers_elsewhere_and_not_for_this_machine() {
    let (proxy, slack) = (Hostile::start(|_| Reply::page(502)), willing());
    let mut sandbox = told_to("https://receiver.invalid/in?token=canary", slack.endpoint());
    let address = proxy.endpoint().replace("http://", "http://somebody:something@");
    sandbox.set("HTTPS_PROXY", &address);
    sandbox.set("HTTP_PROXY", &address);
    sandbox.at(NOON, &by_hand("park")).exits(0).says("receiver.invalid: it cannot be reached");
    let [request] = &proxy.requests()[..] else { panic!("{:?}", proxy.requests()) };
    assert!(request.head.starts_with("CONNECT receiver.invalid:443 HTTP/1.1"), "{}", request.head);
    let credentials = header(&request.head, "proxy-authorization");
    assert_eq!(credentials, Some("Basic c29tZWJvZHk6c29tZXRoaW5n"));
    assert!(!request.head.contains("canary"), "{}", request.head);
    assert_eq!(slack.requests().len(), 1);
}

#[test]
fn an_apply_that_fails_sends_all_the_same() {
    let (webhook_server, slack) = (willing(), willing());
    let sandbox = told_to(webhook_server.endpoint(), slack.endpoint());
    // Overdue, and the plan goes over a limit.
    sandbox.write("keywheel.yaml", &format!("{}limits: {{max_rotations: 0}}\n", sandbox.read("keywheel.yaml")));
    sandbox.commit_all("limits");
    sandbox.at("2026-03-01 13:00:00", APPLY).exits(0);
    sandbox.at("2026-03-05 12:00:00", APPLY).exits(3).error("apply/limits");
    assert_eq!(body(&webhook_server.requests()[0])["type"], "keywheel.key_overdue");
    assert_eq!(slack.requests().len(), 1);
}

#[test]
fn whose_secrets_may_be_named_is_for_the_record_to_say_where_a_commit_was_refused() {
    let (hook, other) = (willing(), willing());
    let mut sandbox = told_to(hook.endpoint(), "");
    sandbox.set("OTHER", other.endpoint());
    let config = sandbox.read("keywheel.yaml");
    sandbox.write("keywheel.yaml", &format!("{config}limits: {{max_rotations: 0}}\n"));
    sandbox.commit_all("limits");
    sandbox.at("2026-03-01 12:10:00", APPLY).exits(0);
    for command in ["park", "resume"] {
        sandbox.at("2026-03-01 13:00:00", &by_hand(command)).env("HOOK", "").exits(0);
    }
    // Due, and over the limit: one name is taken away, and another one added and used.
    sandbox.write("keywheel.yaml", &config.replace("[HOOK, HOOK_SECRET, SLACK]", "[OTHER]"));
    let receivers = TOLD.find("  webhook_url").unwrap()..TOLD.find("---").unwrap();
    let mut documents = TOLD.to_owned();
    documents.replace_range(receivers, "  slack_webhook: ${OTHER}\n");
    sandbox.commit(&documents);
    sandbox.at("2026-03-05 12:00:00", APPLY).exits(3).error("apply/limits");
    assert_eq!(body(&hook.requests()[0])["type"], "keywheel.key_parked", "what waits still goes there");
    assert_eq!(other.requests().len(), 0, "nobody has agreed to that yet");
    let refused = sandbox.sql("SELECT error FROM outbox WHERE receiver = 'OTHER'");
    let error = "${OTHER}: `secrets` in keywheel.yaml does not let the tenant name it";
    assert_eq!(refused, [json!({"error": error})]);
}
