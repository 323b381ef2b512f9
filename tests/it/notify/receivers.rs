//! What receivers get: signed, escaped, over TLS, and without a secret.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{APPLY, NOON, SECRETS, TOLD, by_hand, told};
use crate::support::hostile::{Hostile, Reply, Request, header};
use crate::support::postgres;
use crate::support::sandbox::Sandbox;

pub const SECRET: &str = "whsec_Y2FuYXJ5LW9mLXRoZS1zaWduaW5nLXNlY3JldCE=";

/// A receiver that takes everything.
pub fn willing() -> Hostile {
    Hostile::start(|_| Reply::Answer(200, "text/plain", "ok".to_owned()))
}

/// A repository whose key is told of to these two.
pub fn told_to(webhook: &str, slack: &str) -> Sandbox {
    let mut sandbox = told();
    sandbox.set("HOOK", webhook);
    sandbox.set("HOOK_SECRET", SECRET);
    sandbox.set("SLACK", slack);
    sandbox
}

/// The content, as JSON.
pub fn body(request: &Request) -> Value {
    serde_json::from_slice(request.body()).unwrap()
}

/// Another implementation's opinion of a signature: that of Python's standard library.
fn is_signed(request: &Request) -> bool {
    let script = "
import base64, hashlib, hmac, json, sys
it = json.load(sys.stdin)
secret = base64.b64decode(it['secret'].removeprefix('whsec_'))
signed = f\"{it['id']}.{it['timestamp']}.\".encode() + bytes(it['body'])
want = 'v1,' + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
sys.exit(not hmac.compare_digest(want, it['signature']))
";
    let of = |name| header(&request.head, name).unwrap();
    let input = json!({
        "secret": SECRET, "id": of("webhook-id"), "timestamp": of("webhook-timestamp"),
        "signature": of("webhook-signature"), "body": request.body(),
    });
    let mut python = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    python.wait().unwrap().success()
}

#[test]
fn a_webhook_gets_a_signed_cloud_event_and_slack_an_escaped_line() {
    let (webhook, slack) = (willing(), willing());
    let sandbox = told_to(&format!("{}/in?token=t", webhook.endpoint()), slack.endpoint());
    let park = ["park", "acme/patients", "--reason", "<!channel> & \"friends\"", "--auto-approve", "--format", "json"];
    let report = sandbox.at(NOON, &park).exits(0).report();
    assert_eq!(report["warnings"], json!([]));

    let [request] = &webhook.requests()[..] else { panic!("{:?}", webhook.requests()) };
    assert!(request.head.starts_with("POST /in?token=t HTTP/1.1"), "{}", request.head);
    assert!(is_signed(request), "{}", request.head);
    let timestamp: i64 = header(&request.head, "webhook-timestamp").unwrap().parse().unwrap();
    assert!((timestamp - 1_772_366_400).abs() < 60, "{timestamp} is not at {NOON}");
    let event = body(request);
    let lineage = &sandbox.sql("SELECT lineage FROM meta")[0]["lineage"];
    assert_eq!(event["id"].as_str(), header(&request.head, "webhook-id"));
    assert_eq!(
        json!([event["specversion"], event["type"], event["subject"], event["source"]]),
        json!([
            "1.0",
            "keywheel.key_parked",
            "EncryptionKey acme/patients",
            format!("urn:keywheel:{}", lineage.as_str().unwrap())
        ])
    );
    assert_eq!(event["data"]["details"]["reason"], "<!channel> & \"friends\"");
    assert_eq!(event["data"]["correlation_id"], report["correlation_id"]);

    let [request] = &slack.requests()[..] else { panic!("{:?}", slack.requests()) };
    assert_eq!(header(&request.head, "webhook-signature"), None);
    let text = "keywheel: acme/patients is parked, and does not rotate until `keywheel resume`: \
                &lt;!channel&gt; &amp; \"friends\"";
    assert_eq!(body(request)["text"], text);
    assert_eq!(body(request)["mrkdwn"], json!(false));
}

#[test]
fn a_fact_comes_once_to_each_receiver_over_ten_applies() {
    let (webhook, slack) = (willing(), willing());
    let sandbox = told_to(webhook.endpoint(), slack.endpoint());
    sandbox.at(NOON, &by_hand("park")).exits(0);
    for minute in 10..20 {
        sandbox.at(&format!("2026-03-01 12:{minute}:00"), APPLY).exits(0);
    }
    assert_eq!((webhook.requests().len(), slack.requests().len()), (1, 1));
    let list = sandbox.at("2026-03-01 12:20:00", &["outbox", "list", "--format", "json"]).exits(0).json();
    assert_eq!(list["undelivered"], json!({"waiting": 0, "given_up": 0}));
    assert!(list["messages"].as_array().unwrap().iter().all(|message| !message["sent_at"].is_null()), "{list:#}");
    sandbox.at("2026-03-01 12:20:00", &["outbox", "list", "--undelivered"]).exits(0).says("No message matches.");
}

#[test]
fn a_plan_sends_nothing() {
    let (webhook, slack) = (willing(), willing());
    let sandbox = told_to(webhook.endpoint(), slack.endpoint());
    let silent = [("HOOK", ""), ("SLACK", "")];
    let park = sandbox.at(NOON, &by_hand("park"));
    silent.into_iter().fold(park, |run, (name, value)| run.env(name, value)).exits(0);
    sandbox.at("2026-03-02 12:00:00", &["plan"]).exits(0);
    sandbox.at("2026-03-02 12:00:00", &["status"]).exits(0);
    assert_eq!((webhook.requests().len(), slack.requests().len()), (0, 0));
    sandbox.at("2026-03-02 12:00:00", &["outbox", "send"]).exits(0).says("Sent: 2. Nothing waits.");
    assert_eq!((webhook.requests().len(), slack.requests().len()), (1, 1));
}

#[test]
fn the_address_of_a_receiver_is_in_no_output_log_or_table() {
    const CANARY: &str = "canary-of-the-token-in-the-url";
    let (webhook, slack) = (Hostile::start(|_| Reply::page(500)), crate::support::hostile::nobody());
    let mut sandbox =
        told_to(&format!("{}/{CANARY}/in?token={CANARY}", webhook.endpoint()), &format!("{slack}/services/{CANARY}"));
    sandbox.set("RUST_LOG", "trace");
    let mut said = String::new();
    for (at, arguments) in [
        (NOON, &["park", "acme/patients", "--reason", "a test", "--auto-approve", "-vv"][..]),
        ("2026-03-01 12:10:00", &["apply", "--auto-approve", "--format", "json", "--log-format", "json"]),
        ("2026-03-01 13:10:00", &["outbox", "send", "-vv"]),
        ("2026-03-01 23:10:00", &["outbox", "send", "--format", "json"]),
        ("2026-03-01 23:11:00", &["outbox", "list", "-vv"]),
        ("2026-03-01 23:11:00", &["outbox", "list", "--format", "json"]),
        ("2026-03-01 23:11:00", &["status", "--format", "json"]),
    ] {
        let done = sandbox.at(at, arguments).ends();
        said.push_str(&format!("$ keywheel {}\n{}{}\n", arguments.join(" "), done.stdout, done.stderr));
    }
    // An address that cannot be used is not repeated either.
    for unusable in [format!("http://example.org/{CANARY}"), CANARY.to_owned(), format!("https://u:{CANARY}@a/")] {
        let send = sandbox.at("2026-03-03 12:00:00", &["outbox", "send", "--given-up"]).env("HOOK", &unusable);
        let done = send.env("HOOK_SECRET", CANARY).exits(7);
        said.push_str(&format!("{}{}", done.stdout, done.stderr));
    }
    assert!(said.contains("127.0.0.1: it answered 500") && said.contains("127.0.0.1: it cannot be reached"), "{said}");
    let (request, tables) = (&webhook.requests()[0], sandbox.state());
    assert!(request.head.contains(CANARY), "the receiver was not asked");
    assert!(!request.body_has(CANARY));
    let hidden = [CANARY, "canary-of-the-signing-secret", SECRET];
    for canary in hidden {
        assert!(!said.contains(canary), "{}", said.lines().find(|line| line.contains(canary)).unwrap());
        for (file, content) in &tables {
            assert!(!String::from_utf8_lossy(content).contains(canary), "{canary} is in {}", file.display());
        }
    }
}

/// A server that ends with its test.
struct Served(std::process::Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_receiver_over_tls_is_told_if_its_certificate_is_trusted_and_otherwise_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key.pem"), "-out", &path("certificate.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let script = "
import http.server, ssl, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        open(sys.argv[3], 'ab').write(body + b'\\n')
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";
    let mut server = Served(
        Command::new("python3")
            .args(["-c", script, &path("certificate.pem"), &path("key.pem"), &path("received")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut port = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.0.stdout.take().unwrap()), &mut port).unwrap();
    // The certificate is of today, and so is the test.
    let mut sandbox = Sandbox::with(SECRETS, TOLD);
    sandbox.set("HOOK", &format!("https://localhost:{}/in", port.trim()));
    sandbox.set("HOOK_SECRET", SECRET);
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&by_hand("park")).exits(0).says("certificate");
    let received = || std::fs::read_to_string(path("received")).unwrap_or_default();
    assert_eq!(received(), "");
    sandbox.tamper("UPDATE outbox SET next_attempt_at = created_at");
    sandbox.set("SSL_CERT_FILE", &path("certificate.pem"));
    sandbox.keywheel(&["outbox", "send"]).exits(7).says("${SLACK}: it is not set in the environment").says("Sent: 1.");
    assert!(received().contains("keywheel.key_parked"), "{}", received());
}

#[test]
fn word_gets_out_from_postgresql_too_and_the_same_message_again_after_a_failure() {
    let database = postgres::database();
    let webhook = Hostile::start(|request| Reply::page(if request.earlier == 0 { 503 } else { 200 }));
    let mut sandbox = Sandbox::with(&format!("state: ${{KEYWHEEL_STATE}}\n{SECRETS}"), TOLD);
    sandbox.set("KEYWHEEL_STATE", &database.url);
    sandbox.set("HOOK", webhook.endpoint());
    sandbox.set("HOOK_SECRET", SECRET);
    sandbox.keywheel(APPLY).exits(0);
    sandbox.keywheel(&by_hand("park")).exits(0).says("127.0.0.1: it answered 503");
    sandbox.keywheel(APPLY).exits(0);
    assert_eq!(webhook.requests().len(), 1, "it is left alone for a while");
    database.query("UPDATE outbox SET next_attempt_at = now() - interval '1 s'").unwrap();
    sandbox.keywheel(APPLY).exits(0);
    let ids: Vec<_> =
        webhook.requests().iter().map(|request| header(&request.head, "webhook-id").unwrap().to_owned()).collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    let sent = database.query("SELECT channel, attempt FROM outbox WHERE sent_at IS NOT NULL").unwrap();
    assert!(sent.contains("webhook") && sent.contains('2'), "{sent}");
}
