//! Canaries: secrets that a run is given wherever one enters, and that stand in nothing that it says, writes or sends.
//!
//! Every command runs, on both databases, with every log line that there is; the list of commands is the binary's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{NIGHTLY, SECRET_ACCESS_KEY, Sandbox, aws};
use crate::support::canary::{Canary, Searched, materials};
use crate::support::hostile::{Hostile, Reply, Request, header};
use crate::support::moto::Moto;
use crate::support::postgres::{self, Database};
use crate::support::sandbox::Done;

/// Thirty-two bytes.
const ROOT_KEY: &[u8; 32] = b"canary-of-the-root-key-32-bytes!";
const LITERAL: &str = "canaryOfTheLiteralHook01";
const EDITED: &str = "canaryOfTheOtherHook0002";
const SLACK: &str = "canaryOfTheSlackHook0003";
const WEBHOOK: &str = "canaryOfTheWebhooksToken";
const SIGNING: &str = "canary-of-the-signing-secret!";
const SESSION_TOKEN: &str = "canary-of-the-session-token";
const PLAINTEXT: &str = "canary-of-a-patients-record";
const MISTYPED: &str = "canary of a typing mistake";
const OTHER_PASSWORD: &str = "canary-of-a-wrong-password";
const IN_A_FILE: &str = "canary/of/the/credentials+file";
const OF_A_PROXY: &str = "canary-of-the-proxys-password";
const OF_THE_REMOTE: &str = "canary-of-the-remotes-token";
const OF_CI: &str = "canary-of-the-token-of-ci";

#[test]
fn no_secret_is_said_or_written_or_sent_with_sqlite() {
    World::new(None).lives();
}

#[test]
fn no_failure_shows_a_secret_with_sqlite() {
    World::new(None).suffers();
}

#[test]
fn no_failure_shows_a_secret_with_postgresql() {
    World::new(Some(postgres::database())).suffers();
}

#[test]
fn no_secret_is_said_or_written_or_sent_with_postgresql() {
    World::new(Some(postgres::database())).lives();
}

/// A repository with a secret wherever one can be given, and all that was said so far.
struct World {
    sandbox: Sandbox,
    postgres: Option<Database>,
    /// Behind `aws`, and gone with it.
    _moto: Moto,
    aws: Hostile,
    receivers: [Hostile; 2],
    canaries: Vec<Canary>,
    said: String,
    commands: BTreeSet<String>,
    leaks: Vec<String>,
}

impl World {
    fn new(postgres: Option<Database>) -> Self {
        let moto = Moto::start();
        let aws = echoing(moto.endpoint());
        let receivers = [willing(), willing()];
        let sandbox = sandbox(&aws, &receivers, postgres.as_ref());
        let canaries = [
            ("the root key", STANDARD.encode(ROOT_KEY)),
            ("the root key's bytes", String::from_utf8(ROOT_KEY.to_vec()).unwrap()),
            ("the literal webhook", LITERAL.to_owned()),
            ("the edited webhook", EDITED.to_owned()),
            ("Slack's webhook", SLACK.to_owned()),
            ("the webhook's URL", WEBHOOK.to_owned()),
            ("the signing secret", SIGNING.to_owned()),
            ("the database's password", postgres::PASSWORD.to_owned()),
            ("a wrong password", OTHER_PASSWORD.to_owned()),
            ("AWS's secret key", SECRET_ACCESS_KEY.to_owned()),
            ("AWS's session token", SESSION_TOKEN.to_owned()),
            ("a plaintext", PLAINTEXT.to_owned()),
            ("a mistyped root key", MISTYPED.to_owned()),
            ("a credentials file", IN_A_FILE.to_owned()),
            ("a proxy's password", OF_A_PROXY.to_owned()),
            ("the git remote's token", OF_THE_REMOTE.to_owned()),
            ("the CI system's token", OF_CI.to_owned()),
        ];
        let mut canaries: Vec<Canary> = canaries.into_iter().map(|(name, secret)| Canary::new(name, secret)).collect();
        canaries.push(Canary::new("the SSH key", ssh_key(&given(&sandbox).join("ssh"))));
        Self {
            sandbox,
            postgres,
            _moto: moto,
            aws,
            receivers,
            canaries,
            said: String::new(),
            commands: BTreeSet::new(),
            leaks: Vec::new(),
        }
    }

    fn lives(mut self) {
        self.works();
        let leaves = leaves(&self.sandbox, &mut Vec::new());
        let missing: Vec<&String> = leaves.difference(&self.commands).collect();
        assert!(missing.is_empty(), "commands that no canary was given to: {missing:?}");
        assert!(self.receivers.iter().all(|receiver| !receiver.requests().is_empty()), "a receiver was told nothing");
        self.keeps_its_secrets();
    }

    fn suffers(mut self) {
        self.exits(&["apply", "--auto-approve"], &[0]);
        self.fails();
        self.keeps_its_secrets();
    }

    fn keeps_its_secrets(mut self) {
        let root = self.sandbox.dir().parent().unwrap().to_owned();
        let keys = materials(&self.sandbox.path(".keywheel/keystore"), ROOT_KEY);
        assert!(keys.len() > 1, "the keystore has keys");
        self.canaries.extend(keys.iter().map(|key| Canary::new("a key of the keystore", key)));

        let said = std::mem::take(&mut self.said);
        self.search("the output", said.as_bytes(), &[]);
        for (name, bytes) in files(&root) {
            self.search(&name, &bytes, &[]);
        }
        for (table, rows) in self.tables() {
            self.search(&table, rows.as_bytes(), &[]);
        }
        for requests in self.receivers.each_ref().map(Hostile::requests) {
            for request in requests {
                // Its first line is the address, which is the receiver's own secret.
                let headers = request.head.split_once("\r\n").unwrap().1.as_bytes().to_vec();
                self.search("a message", &[&headers, request.body()].concat(), &[]);
            }
        }
        for request in self.aws.requests() {
            let sent = [request.head.as_bytes(), request.body()].concat();
            self.search("a request to AWS", &sent, &["AWS's session token", "a plaintext"]);
        }
        assert!(self.leaks.is_empty(), "{} leaks\n{}", self.leaks.len(), self.leaks.join("\n\n"));
    }

    /// What succeeds.
    fn works(&mut self) {
        self.commands.insert("init".to_owned());
        let begun = self.sandbox.dir().with_file_name("begun");
        fs::create_dir(&begun).unwrap();
        self.run(&["init", "-C", begun.to_str().unwrap()]);
        self.everywhere();
        self.exits(&["plan", "--out", "plan.json", "-vv"], &[0]);
        self.run(&["apply", "plan.json", "-vvv"]);
        self.exits(&["apply", "--auto-approve", "--format", "json", "-vvv", "--log-format", "json"], &[0, 7]);
        for key in ["acme/patients", "acme/by-variable", "globex/patients"] {
            let sealed = self.run_with(&["data", "encrypt", key, "-vvv"], PLAINTEXT.as_bytes(), &[]);
            assert_eq!(sealed.status, Some(0), "{}", sealed.stderr);
            let opened =
                self.sandbox.keywheel(&["data", "decrypt", key, "-vvv"]).input(sealed.stdout.as_bytes()).ends();
            // The one place where a plaintext belongs.
            assert_eq!(opened.stdout, PLAINTEXT, "{}", opened.stderr);
            self.hear("data decrypt", &Done { stdout: String::new(), ..opened });
        }
        self.act(&["rotate", "acme/patients"], &[0]);
        self.act(&["rotate", "globex/patients", "--compromised", "--incident", "INC-1", "-vvv"], &[0]);
        self.act(&["rollback", "acme/patients", "-vvv"], &[0]);
        self.act(&["release", "acme/patients", "-vvv"], &[0]);
        self.act(&["park", "acme/by-variable", "-vvv"], &[0]);
        self.exits(&["outbox", "send", "-vvv"], &[0, 7]);
        self.act(&["resume", "acme/by-variable", "-vvv"], &[0]);
        self.act(&["attest", "acme/patients", "1", "rewrapped"], &[0, 1, 3]);
        self.exits(&["state", "reclaim", "acme/patients", "--reason", "a test", "--auto-approve", "-vvv"], &[0, 7]);
        self.exits(&["usage", "report", "acme/patients", "--source", "billing", "--total", "12", "-vvv"], &[0]);
        self.act(&["enable", "acme/patients", "1"], &[0, 1, 3]);
        self.act(&["destroy", "acme/patients", "1"], &[0, 1, 3]);
        // An edit of the literal shows that it changed, and neither what from nor what to.
        let documents = self.sandbox.read("policies/acme/keys.yaml").replace(LITERAL, EDITED);
        self.sandbox.write("policies/acme/keys.yaml", &documents);
        self.run(&["plan", "-vvv"]);
        self.sandbox.commit_all("another webhook");
        self.everywhere();
        self.exits(&["apply", "--auto-approve", "-vvv"], &[0, 7]);
        let key = given(&self.sandbox).join("ssh");
        self.exits(&["approve", "plan.json", "--sign-with", key.to_str().unwrap(), "--auto-approve", "-vvv"], &[0]);
        self.exits(
            &["audit", "checkpoint", "--sign-with", key.to_str().unwrap(), "--out", "kept/audit.json", "-vvv"],
            &[0],
        );
        for format in ["text", "json", "markdown", "html", "csv"] {
            let report = ["compliance", "report", "--framework", "HIPAA", "--format", format, "-vvv"];
            self.exits(&report, &[0]);
        }
        for format in ["text", "json", "markdown", "html", "ics"] {
            self.exits(&["forecast", "--format", format, "-vvv"], &[0, 7]);
        }
        self.exits(&["state", "backup", "backup.db", "-vvv"], &[0]);
        self.exits(&["state", "copy", "${KEYWHEEL_STATE}", "sqlite:copied.db", "-vvv"], &[0]);
        self.exits(&["state", "snapshot", "--out", "ages.json", "-vvv"], &[0]);
        self.exits(&["plan", "--base", "HEAD~1", "--state", "ages.json", "-vvv"], &[0]);
        self.exits(&["plan", "--base", "HEAD~1", "--format", "json", "-vvv"], &[0]);
        self.exits(&["state", "migrate", "-vvv"], &[0]);
        self.run(&["state", "recover", "plan.json", "--auto-approve"]);
        self.act(&["state", "forget", "acme/patients"], &[0, 1, 3]);
        self.run(&["test", "-vvv"]);
        self.run(&["lock", "break", "1", "--reason", "a test"]);
        self.exits(&["completions", "bash"], &[0]);
        self.exits(&["man", "manual"], &[0]);
        self.exits(&["schema", "--write", "schemas"], &[0]);
        self.exits(&["version", "-vvv"], &[0]);
        self.exits(&["fmt", "-vvv"], &[0]);
    }

    /// What only reads, in every form that it has.
    fn everywhere(&mut self) {
        const PLAIN: &[&[&str]] =
            &[&["fmt", "--check"], &["schema"], &["man"], &["audit", "export"], &["lock", "list"]];
        const FORMATTED: &[&[&str]] = &[
            &["validate"],
            &["plan"],
            &["status"],
            &["history"],
            &["explain", "acme/Nightly"],
            &["explain", "acme/By variable"],
            &["explain", "globex/patients"],
            &["drift"],
            &["audit", "list"],
            &["audit", "verify"],
            &["audit", "why", "acme/patients"],
            &["outbox", "list"],
            &["state", "verify"],
            &["show", "plan.json"],
        ];
        for arguments in PLAIN {
            self.run(&[arguments, &["-vvv"][..]].concat());
        }
        for arguments in FORMATTED {
            self.run(&[arguments, &["-vvv", "--color", "always"][..]].concat());
            self.run(&[arguments, &["--format", "json", "-v", "--log-format", "json"][..]].concat());
        }
    }

    /// What fails, and could say with what.
    fn fails(&mut self) {
        let unreachable = format!("postgres://ada:{OTHER_PASSWORD}@127.0.0.1:9/keywheel");
        let in_query = format!("postgres://127.0.0.1:9/keywheel?user=ada&password={OTHER_PASSWORD}");
        let wrong = self
            .postgres
            .as_ref()
            .map_or_else(|| unreachable.clone(), |database| database.url.replace(postgres::PASSWORD, OTHER_PASSWORD));
        let broken = format!("postgres://ada:{OTHER_PASSWORD}/@host/keywheel");
        let file = given(&self.sandbox).join("credentials");
        let file = file.to_str().unwrap();
        let proxy = format!("http://ada:{OF_A_PROXY}@127.0.0.1:9");
        let variables: &[&[(&str, &str)]] = &[
            &[("KEYWHEEL_ROOT_KEY", MISTYPED)],
            &[("KEYWHEEL_ROOT_KEY", "c29tZWJvZHkgZWxzZSdzIHJvb3Qga2V5LCAzMiBieXQ=")],
            &[("KEYWHEEL_STATE", &unreachable)],
            &[("KEYWHEEL_STATE", &in_query)],
            &[("KEYWHEEL_STATE", &wrong)],
            &[("KEYWHEEL_STATE", &broken)],
            &[("KEYWHEEL_STATE", OTHER_PASSWORD)],
            &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_SHARED_CREDENTIALS_FILE", file)],
            &[("AWS_PROFILE", "damaged"), ("AWS_ACCESS_KEY_ID", ""), ("AWS_SHARED_CREDENTIALS_FILE", file)],
            &[("HTTP_PROXY", &proxy), ("HTTPS_PROXY", &proxy), ("ALL_PROXY", &proxy)],
            &[("SLACK_WEBHOOK_URL", MISTYPED), ("WEBHOOK_URL", MISTYPED), ("WEBHOOK_SECRET", MISTYPED)],
            &[("WEBHOOK_SECRET", &format!("whsec_{MISTYPED}"))],
        ];
        for variables in variables {
            self.run_with(&["plan", "-vvv"], b"", variables);
            self.run_with(&["status", "--format", "json", "-v", "--log-format", "json"], b"", variables);
            self.run_with(&["park", "acme/by-variable", "--reason", "a test", "--auto-approve"], b"", variables);
            self.run_with(&["outbox", "send", "--given-up", "-vvv"], b"", variables);
            self.run_with(&["resume", "acme/by-variable", "--reason", "a test", "--auto-approve"], b"", variables);
        }
        for url in [&unreachable, &in_query, &broken] {
            self.run(&["plan", "--state", url]);
            self.run(&["history", "--state", url]);
            self.run(&["state", "copy", url, "sqlite:never.db"]);
        }
        // What AWS refuses with all that it was sent.
        let echo = NIGHTLY
            .replace("key_type: phi_data\n", "key_type: phi_data\nkms_provider: aws_kms\n")
            .replace("rotation_policy:", "kms_alias: alias/echo\nrotation_policy:")
            .replace("acme", "initech");
        self.sandbox.write("policies/initech/keys.yaml", &echo);
        self.sandbox.commit_all("a key that is refused");
        self.run(&["plan", "-vvv"]);
        self.run(&["plan", "-vvv", "--format", "json"]);
        self.run(&["apply", "--auto-approve", "-vvv", "--log-format", "json"]);
        assert!(self.said.contains("initech") && self.said.contains("AccessDeniedException"));
        // A password in a file of the repository, and documents that do not read.
        let config = self.sandbox.read("keywheel.yaml");
        self.sandbox.write("keywheel.yaml", &config.replace("${KEYWHEEL_STATE}", &unreachable));
        self.run(&["validate", "-vvv"]);
        self.run(&["status"]);
        self.sandbox.write("keywheel.yaml", &config);
        for broken in [
            format!("slack_webhook: [{LITERAL}]"),
            format!("slack_webhook: \"{LITERAL}"),
            format!("slack_webhok: {LITERAL}"),
        ] {
            let hook = format!("slack_webhook: \"https://hooks.slack.com/services/T0CANARY1/B0CANARY1/{LITERAL}\"");
            let documents = self.sandbox.read("policies/acme/keys.yaml");
            assert!(documents.contains(&hook), "{documents}");
            self.sandbox.write("policies/acme/keys.yaml", &documents.replace(&hook, &broken));
            self.run(&["validate", "-vvv"]);
            self.run(&["validate", "--format", "json"]);
            self.sandbox.write("policies/acme/keys.yaml", &documents);
        }
    }

    /// Runs a command that changes something.
    fn act(&mut self, arguments: &[&str], statuses: &[i32]) {
        self.exits(&[arguments, &["--reason", "a test", "--auto-approve"]].concat(), statuses);
    }

    fn exits(&mut self, arguments: &[&str], statuses: &[i32]) {
        let done = self.run(arguments);
        assert!(done.status.is_some_and(|status| statuses.contains(&status)), "{arguments:?}: {done:?}");
    }

    fn run(&mut self, arguments: &[&str]) -> Done {
        self.run_with(arguments, b"", &[])
    }

    fn run_with(&mut self, arguments: &[&str], input: &[u8], variables: &[(&str, &str)]) -> Done {
        let run = self.sandbox.keywheel(arguments).input(input);
        let done = variables.iter().fold(run, |run, (name, value)| run.env(name, value)).ends();
        self.hear(&arguments.join(" "), &done);
        done
    }

    fn hear(&mut self, command: &str, done: &Done) {
        assert!(!done.stderr.contains("\nUsage: "), "no such command: {command}\n{}", done.stderr);
        assert!(done.status.is_some_and(|status| status < 100), "{command}: {done:?}");
        let words: Vec<&str> = command.split(' ').take(2).collect();
        self.commands.extend([words[0].to_owned(), words.join(" ")]);
        // What the test itself says on a command line is not keywheel's.
        self.said.push_str(&format!("\n\n$ keywheel {}\n{}{}", words.join(" "), done.stdout, done.stderr));
    }

    fn search(&mut self, place: &str, bytes: &[u8], allowed: &[&str]) {
        let searched = Searched::new(bytes);
        for canary in self.canaries.iter().filter(|canary| !allowed.contains(&canary.name.as_str())) {
            if let Some((form, around)) = canary.found_in(&searched) {
                self.leaks.push(format!("{} ({form}) stands in {place}:\n{around}", canary.name));
            }
        }
    }

    /// Every row of every table.
    fn tables(&self) -> Vec<(String, String)> {
        let Some(database) = &self.postgres else {
            let dump = Command::new("sqlite3").arg("-readonly").arg(self.sandbox.database()).arg(".dump").output();
            return vec![("the dump".to_owned(), String::from_utf8(dump.unwrap().stdout).unwrap())];
        };
        let names = database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").unwrap();
        assert!(names.lines().count() > 5, "{names}");
        let rows = |name: &str| database.query(&format!("SELECT t::text FROM \"{name}\" AS t")).unwrap();
        names.lines().map(|name| (format!("the table {name}"), rows(name))).collect()
    }
}

/// A key manager that refuses what it hears of one alias, and says all that it has heard; moto answers the rest.
fn echoing(moto: &str) -> Hostile {
    let moto = moto.to_owned();
    Hostile::start(move |request: &Request| {
        if !request.body_has("alias/echo") {
            return Reply::Forward(moto.clone());
        }
        let token = header(&request.head, "x-amz-security-token").unwrap();
        let heard = format!("not with x-amz-security-token: {token} {}", request.head);
        let body = serde_json::json!({"__type": "AccessDeniedException", "message": heard});
        Reply::Answer(400, "application/x-amz-json-1.1", body.to_string())
    })
}

/// A receiver of messages that takes everything.
fn willing() -> Hostile {
    Hostile::start(|_| Reply::Answer(200, "text/plain", "ok".to_owned()))
}

/// Files that a secret belongs in; they are not searched.
fn given(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.dir().with_file_name("given")
}

fn sandbox(aws_kms: &Hostile, receivers: &[Hostile; 2], postgres: Option<&Database>) -> Sandbox {
    let config = aws(aws_kms.endpoint()).replace("apply_from: refs/heads/main\n", "");
    let names = "secrets: {acme: [SLACK_WEBHOOK_URL, WEBHOOK_URL, WEBHOOK_SECRET]}\n";
    let mut sandbox = Sandbox::new(&format!("state: ${{KEYWHEEL_STATE}}\n{names}{config}"));
    let [slack, webhook] = receivers;
    let files = given(&sandbox);
    fs::create_dir_all(sandbox.dir().with_file_name("temporary")).unwrap();
    fs::create_dir_all(&files).unwrap();
    let credentials = format!(
        "[default]\naws_access_key_id = AKIAKEYWHEELTESTS001\naws_secret_access_key = {IN_A_FILE}\n\
         [damaged]\naws_access_key_id = AKIAKEYWHEELTESTS002\naws_secret_access_key {IN_A_FILE}\n"
    );
    fs::write(files.join("credentials"), credentials).unwrap();
    let temporary = sandbox.dir().with_file_name("temporary").to_str().unwrap().to_owned();
    let state = postgres.map_or("sqlite:.keywheel/state.db", |database| &database.url);
    for (name, value) in [
        ("KEYWHEEL_STATE", state),
        ("KEYWHEEL_ROOT_KEY", &STANDARD.encode(ROOT_KEY)),
        ("SLACK_WEBHOOK_URL", &format!("{}/services/T0CANARY3/B0CANARY3/{SLACK}", slack.endpoint())),
        ("WEBHOOK_URL", &format!("{}/hook?token={WEBHOOK}", webhook.endpoint())),
        ("WEBHOOK_SECRET", &format!("whsec_{}", STANDARD.encode(SIGNING))),
        ("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000"),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
        ("GITHUB_TOKEN", OF_CI),
        ("CI_JOB_TOKEN", OF_CI),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", OF_CI),
        ("TMPDIR", &temporary),
        ("RUST_LOG", "trace"),
    ] {
        sandbox.set(name, value);
    }
    sandbox.git(&["remote", "add", "origin", &format!("https://ada:{OF_THE_REMOTE}@git.example.org/policies.git")]);
    let notify = |settings: &str| format!("key_type: phi_data\nnotification_settings: {{{settings}}}\nrotation_i");
    let literal = format!("slack_webhook: \"https://hooks.slack.com/services/T0CANARY1/B0CANARY1/{LITERAL}\"");
    let literal = NIGHTLY.replace("key_type: phi_data\nrotation_i", &notify(&literal));
    let variables = "slack_webhook: \"${SLACK_WEBHOOK_URL}\", webhook_url: \"${WEBHOOK_URL}\", webhook_secret: \"${WEBHOOK_SECRET}\"";
    let variables = NIGHTLY
        .replace("key_type: phi_data\nrotation_i", &notify(variables))
        .replace("Nightly", "By variable")
        .replace("patients", "by-variable");
    let in_aws = NIGHTLY
        .replace("key_type: phi_data\n", "key_type: phi_data\nkms_provider: aws_kms\n")
        .replace("rotation_policy:", "kms_alias: alias/patients\nrotation_policy:")
        .replace("acme", "globex");
    sandbox.write("policies/acme/more.yaml", &variables);
    sandbox.write("policies/globex/keys.yaml", &in_aws);
    sandbox.commit(&literal);
    sandbox
}

/// Makes an SSH key, and gives its secret half: the seed, before the public half, in the last of its fields of 64 bytes.
fn ssh_key(path: &Path) -> Vec<u8> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-C", "", "-N", "", "-f"]).arg(path);
    assert!(command.status().expect("ssh-keygen is not installed: tests/run installs it").success());
    let text = fs::read_to_string(path).unwrap();
    let bytes = STANDARD.decode(text.lines().filter(|line| !line.starts_with("---")).collect::<String>()).unwrap();
    let at = bytes.windows(4).rposition(|field| field == [0, 0, 0, 64]).unwrap() + 4;
    bytes[at..at + 32].to_vec()
}

/// Every command that has none below it, as the binary's help names them.
fn leaves(sandbox: &Sandbox, above: &mut Vec<String>) -> BTreeSet<String> {
    let arguments: Vec<&str> = above.iter().map(String::as_str).chain(["--help"]).collect();
    let help = sandbox.keywheel(&arguments).exits(0).stdout;
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<String> = names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect();
    if names.is_empty() {
        return BTreeSet::from([above.join(" ")]);
    }
    let mut leaves = BTreeSet::new();
    for name in names {
        above.push(name);
        leaves.extend(self::leaves(sandbox, above));
        above.pop();
    }
    leaves
}

/// Every file below a folder, but for those that a secret was put into.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if [".git", "given", "policies"].iter().any(|given| name == *given) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}
