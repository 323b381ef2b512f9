//! Applies whose database goes for good while a key manager does what it was asked for.

use std::fs;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{APPLY, discreet};
use crate::e2e::aws_sandbox;
use crate::support::hostile::{Hostile, Reply};
use crate::support::kms::Kms;
use crate::support::moto::Moto;
use crate::support::postgres::Server;
use crate::support::sandbox::{Done, Sandbox};

/// Keys to be made in an emulator of AWS KMS, and a server that ends as soon as it is asked for the last of them.
struct Scene {
    sandbox: Sandbox,
    server: Server,
    is_gone: Arc<AtomicBool>,
    moto: Moto,
    _proxy: Hostile,
}

impl Scene {
    fn new(keys: usize) -> Self {
        let (moto, server, is_gone) = (Moto::start(), Server::start(""), Arc::new(AtomicBool::new(false)));
        let (endpoint, stopping, gone) = (moto.endpoint().to_owned(), server.clone(), is_gone.clone());
        let proxy = Hostile::start(move |request| {
            // Each is asked for once its intent is recorded.
            if request.operation == "CreateKey" && request.earlier + 1 < keys {
                return Reply::Late(endpoint.clone(), Duration::from_secs(6));
            }
            if request.operation == "CreateKey" && request.earlier + 1 == keys {
                stopping.stop("immediate");
                gone.store(true, Ordering::SeqCst);
            }
            Reply::Forward(endpoint.clone())
        });
        let mut sandbox = aws_sandbox(proxy.endpoint());
        sandbox.write("keywheel.yaml", &(sandbox.read("keywheel.yaml") + "state: ${KEYWHEEL_STATE}\n"));
        sandbox.set("KEYWHEEL_STATE", &server.url("postgres"));
        let key = |number| {
            format!(
                "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: key-{number}\n\
                 key_type: phi_data\nkms_provider: aws_kms\nkms_alias: alias/key-{number}\n"
            )
        };
        sandbox.commit(&(0..keys).map(key).collect::<String>());
        Self { sandbox, server, is_gone, moto, _proxy: proxy }
    }

    /// Begins an apply, which waits for so many seconds for a server.
    fn apply(&self, patience: Option<&str>) -> Child {
        let mut run = self.sandbox.keywheel(APPLY);
        run.command.envs(patience.map(|seconds| ("KEYWHEEL_PATIENCE", seconds)));
        run.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run.command.spawn().unwrap()
    }

    /// The file with what was lost, once it is there.
    fn file(&self) -> Option<String> {
        let entries = fs::read_dir(self.sandbox.path(".keywheel")).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.find(|name| name.starts_with("recovery-")).map(|name| format!(".keywheel/{name}"))
    }

    /// How many rotations that file has.
    fn kept(&self, file: &str) -> usize {
        let content: Value = serde_json::from_str(&self.sandbox.read(file)).unwrap();
        content["lost"]["rotations"].as_array().unwrap().len()
    }

    /// Fails unless the apply ended in naming the file, and what that has is taken back and gone on with once the server is
    /// there again.
    fn is_taken_back(&self, child: Child, keys: usize) {
        let done = discreet(Done::from(child.wait_with_output().unwrap())).error("state/unreachable");
        assert_eq!(done.status, Some(1), "{done:?}");
        let file = self.file().expect("no file was written");
        assert_eq!(self.kept(&file), keys);
        let said = format!("could not be recorded, and is in {}", self.sandbox.path(&file).display());
        assert!(done.stderr.contains(&said), "{}", done.stderr);

        self.server.start_again(&[]);
        // The lock frees itself in time: the test does not wait for it.
        let expired = "UPDATE leases SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL";
        self.server.query("postgres", expired).unwrap();
        let recorded = format!("Recorded: {keys} rotation");
        self.sandbox.keywheel(&["state", "recover", &file, "--auto-approve"]).exits(0).says(&recorded);
        self.sandbox.keywheel(APPLY).exits(0);
        self.sandbox.keywheel(&["plan", "--detailed-exitcode"]).exits(0).says("No changes");
        assert_eq!(Kms::new(self.moto.endpoint()).keys().len(), keys, "a key was made twice");
        self.sandbox.keywheel(&["audit", "verify"]).exits(0);
    }
}

#[test]
fn what_was_done_is_in_a_file_while_the_rest_still_works_and_is_taken_back() {
    let scene = Scene::new(2);
    let mut child = scene.apply(Some("1"));
    let file = loop {
        match scene.file() {
            Some(file) => break file,
            None => assert!(child.try_wait().unwrap().is_none(), "it ended without a file"),
        }
        std::thread::yield_now();
    };
    assert_eq!(scene.kept(&file), 1);
    assert!(child.try_wait().unwrap().is_none(), "the file came with the end");
    scene.is_taken_back(child, 2);
}

#[test]
fn a_server_that_is_gone_is_waited_for_once_and_not_once_for_each_call() {
    let scene = Scene::new(1);
    let began = Instant::now();
    let child = scene.apply(Some("10"));
    let done = child.wait_with_output().unwrap();
    let took = began.elapsed();
    // It does not begin a pause that would outlast its patience.
    assert!(took > Duration::from_secs(7), "it was not waited for: {took:?}\n{done:?}");
    assert!(took < Duration::from_secs(19), "{took:?}\n{done:?}");
}

#[test]
fn a_signal_ends_the_wait_for_a_server_and_what_was_done_is_kept() {
    let scene = Scene::new(1);
    let mut child = scene.apply(None);
    while !scene.is_gone.load(Ordering::SeqCst) {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::yield_now();
    }
    let began = Instant::now();
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    child.wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    scene.is_taken_back(child, 1);
}
