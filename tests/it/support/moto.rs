//! A real moto server: the AWS API over HTTP on a loopback port.

use std::env;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::rerun;
use super::sandbox::faked;

/// A running server, which ends with this value: when its test ends, a failed one too.
pub struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    /// Starts a server on a free port, and waits until it answers there.
    pub fn start() -> Self {
        Self::spawn(&[])
    }

    /// Starts a server for which it is another time, as `2026-03-01 12:00:00` in UTC: keys are as old as a test wants.
    pub fn start_at(instant: &str) -> Self {
        Self::spawn(&faked(instant))
    }

    fn spawn(variables: &[(&str, String)]) -> Self {
        let mut process = Command::new(program())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .args(["-H", "127.0.0.1", "-p", "0"])
            // Unbuffered: the line with the port is waited for.
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let endpoint = lines.by_ref().find_map(|line| {
            said.push_str(&line);
            said.push('\n');
            let (_, address) = line.split_once("Running on ")?;
            Some(address.trim().trim_end_matches('/').to_owned())
        });
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(endpoint) = endpoint else {
            let _ = process.kill();
            let _ = process.wait();
            panic!("the moto server did not start:\n{said}");
        };
        Self { process, endpoint }
    }

    /// Its address, as `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the test `name` against a server of its own, in a process of its own with AWS credentials; `test` is given the
/// server's endpoint.
pub fn test<F: Future<Output = ()>>(name: &str, test: impl FnOnce(String) -> F) {
    let start = || {
        let moto = Moto::start();
        let endpoint = moto.endpoint().to_owned();
        (moto, endpoint)
    };
    rerun::against(name, start, test);
}

/// The server's program: beside the test runner's Python, or where `tests/run` installs it.
fn program() -> PathBuf {
    let beside_python =
        env::var_os("KEYWHEEL_TEST_PYTHON").and_then(|python| Some(Path::new(&python).parent()?.join("moto_server")));
    let in_environment = env::var_os("VIRTUAL_ENV").map(|venv| Path::new(&venv).join("bin/moto_server"));
    let in_target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/moto_server");
    let candidates = beside_python.into_iter().chain(in_environment).chain([in_target]);
    let found = candidates.into_iter().find(|program| program.is_file());
    found.expect("moto_server is not installed: run tests/run, which installs what the tests need")
}
