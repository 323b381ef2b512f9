//! A real LocalStack server: AWS KMS over HTTP on a loopback port, with key states, paging and dates as AWS has them.

use std::env;
use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::rerun;

/// A running server, which ends with this value.
pub struct LocalStack {
    process: Child,
    endpoint: String,
    /// Its files and its output.
    _folder: tempfile::TempDir,
}

impl LocalStack {
    /// Starts a server on a free port, and waits until it says that it is ready.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let output = File::create(&log).unwrap();
        // It takes no port 0: the one that the system gave us just now is free.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut process = Command::new(python())
            .args(["-m", "localstack.runtime.main"])
            .env("GATEWAY_SERVER", "hypercorn")
            .env("GATEWAY_LISTEN", &address)
            .env("DNS_ADDRESS", "0")
            .env("DISABLE_EVENTS", "1")
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("LOCALSTACK_VOLUME_DIR", folder.path())
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        if !lines.by_ref().any(|line| line == "Ready.") {
            let _ = process.kill();
            let _ = process.wait();
            let mut said = String::new();
            File::open(log).unwrap().read_to_string(&mut said).unwrap();
            panic!("LocalStack did not start:\n{said}");
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        let endpoint = format!("http://{address}");
        Self { process, endpoint, _folder: folder }
    }

    /// Its address, as `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the test `name` against a server of its own, as [`super::moto::test`] does.
pub fn test<F: Future<Output = ()>>(name: &str, test: impl FnOnce(String) -> F) {
    let start = || {
        let localstack = LocalStack::start();
        let endpoint = localstack.endpoint().to_owned();
        (localstack, endpoint)
    };
    rerun::against(name, start, test);
}

/// The Python that `tests/run` installed it for.
fn python() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("localstack/bin/python");
    assert!(python.is_file(), "{} is missing: tests/run installs it where Python is 3.13 or newer", python.display());
    python
}
