//! A policy repository on disk, and the binary run in it as a user runs it: with an environment of its own, and at a time
//! of the test's choosing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder with a git repository, a home and an environment.
pub struct Sandbox {
    root: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Sandbox {
    /// An empty folder, without git.
    pub fn empty() -> Self {
        let sandbox = Self { root: tempfile::tempdir().unwrap(), variables: BTreeMap::new() };
        for folder in ["repo", "home"] {
            fs::create_dir(sandbox.root.path().join(folder)).unwrap();
        }
        sandbox
    }

    /// What `init` writes, committed.
    pub fn with_policies() -> Self {
        let sandbox = Self::empty();
        sandbox.keywheel(&["init"]).exits(0);
        sandbox.git(&["init", "-q"]);
        sandbox.commit_all("policies");
        sandbox
    }

    /// A repository on branch `main` without a commit; `config` is what `keywheel.yaml` says after its first two lines.
    pub fn new(config: &str) -> Self {
        let sandbox = Self::empty();
        sandbox.git(&["init", "-q"]);
        sandbox.write("keywheel.yaml", &format!("apiVersion: keywheel/v1\nkind: Config\n{config}"));
        sandbox.write(".gitignore", ".keywheel/\n*.json\n");
        sandbox
    }

    /// The same, with these documents committed as `policies/acme/keys.yaml`.
    pub fn with(config: &str, documents: &str) -> Self {
        let sandbox = Self::new(config);
        sandbox.commit(documents);
        sandbox
    }

    /// Sets a variable of the binary's environment, which is empty otherwise.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The repository.
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("repo")
    }

    /// A path in the repository.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir().join(path)
    }

    /// Writes a file of the repository.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file of the repository.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Writes `policies/acme/keys.yaml` and commits everything.
    pub fn commit(&self, documents: &str) {
        self.write("policies/acme/keys.yaml", documents);
        self.commit_all("change keys");
    }

    /// Commits everything.
    pub fn commit_all(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", message]);
    }

    /// Runs git.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(self.dir(), arguments)
    }

    /// The binary, ready to run now.
    pub fn keywheel(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keywheel"));
        command.current_dir(self.dir()).args(arguments).env_clear();
        command.env("HOME", self.root.path().join("home")).env("USER", "ada").env("HOSTNAME", "laptop");
        command.env("AWS_EC2_METADATA_DISABLED", "true").envs(&self.variables);
        Run { command, input: Vec::new() }
    }

    /// The binary, ready to run at an instant, as `2026-03-01 12:00:00` in UTC.
    pub fn at(&self, instant: &str, arguments: &[&str]) -> Run {
        let mut run = self.keywheel(arguments);
        run.command.envs(faked(instant));
        run
    }

    /// The state database.
    pub fn database(&self) -> PathBuf {
        self.path(".keywheel/state.db")
    }

    /// What a plain SQLite client reads: the rows of a query as JSON objects.
    pub fn sql(&self, query: &str) -> Vec<Value> {
        let output = Command::new("sqlite3").args(["-readonly", "-json"]).arg(self.database()).arg(query).output();
        let output = output.expect("sqlite3 is not installed: run tests/run, which installs what the tests need");
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        // No rows are no text.
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Changes the database behind keywheel's back.
    pub fn tamper(&self, statement: &str) {
        let output = Command::new("sqlite3").arg(self.database()).arg(statement).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Every file below `.keywheel`, with its content. Of the database it is what its tables say, but for the lease: to
    /// take the lock and to give it back is no change.
    pub fn state(&self) -> BTreeMap<OsString, Vec<u8>> {
        let entries = fs::read_dir(self.path(".keywheel")).into_iter().flatten().map(Result::unwrap);
        let content = |path: &Path| if path == self.database() { self.dump() } else { fs::read(path).unwrap() };
        entries.map(|entry| (entry.file_name(), content(&entry.path()))).collect()
    }

    fn dump(&self) -> Vec<u8> {
        let output = Command::new("sqlite3").arg("-readonly").arg(self.database()).arg(".dump").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let is_lock = |line: &&str| {
            ["leases", "lease_scopes", "sqlite_sequence"]
                .iter()
                .any(|table| line.starts_with(&format!("INSERT INTO {table}")))
        };
        let lines = text.lines().filter(|line| !is_lock(line));
        lines.collect::<Vec<_>>().join("\n").into_bytes()
    }
}

/// The binary with its arguments, not yet running.
pub struct Run {
    /// For what a single test wants otherwise.
    pub command: Command,
    input: Vec<u8>,
}

impl Run {
    /// With a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With something on standard input.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Runs it to its end, which must have this exit status.
    pub fn exits(self, status: i32) -> Done {
        let command = format!("{:?}", self.command);
        let done = self.ends();
        assert_eq!(done.status, Some(status), "{command}\n{}\n{}", done.stdout, done.stderr);
        done
    }

    /// Runs it to its end.
    pub fn ends(mut self) -> Done {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        // A binary that refuses need not have read its input.
        let _ = child.stdin.take().unwrap().write_all(&self.input);
        child.wait_with_output().unwrap().into()
    }
}

/// What a run said.
#[derive(Debug, Clone)]
pub struct Done {
    /// The exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Done {
    /// Standard output, which is one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}", self.stdout))
    }

    /// Standard output, which is one JSON document a line.
    pub fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}\n{line}"))).collect()
    }

    /// The last line of a stream of JSON lines.
    pub fn report(&self) -> Value {
        self.json_lines().pop().unwrap()
    }

    /// Fails unless standard output has this text.
    pub fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless it ended in the error with this code, and with help.
    pub fn error(self, code: &str) -> Self {
        assert!(self.stderr.contains(&format!("error[{code}]: ")), "no {code} in\n{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains("help: "), "no help in\n{}", self.stderr);
        self
    }
}

/// Runs git with an identity, and without the machine's settings.
fn git(dir: impl AsRef<Path>, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The variables under which a program's clock is so many seconds ahead, or behind.
pub fn shifted(seconds: i64) -> Vec<(&'static str, String)> {
    let mut variables = faked("");
    variables.iter_mut().filter(|(name, _)| *name == "FAKETIME").for_each(|(_, value)| *value = format!("{seconds:+}"));
    variables
}

/// The variables under which a program sees another time, by libfaketime. Its monotonic clock stays as it is.
pub fn faked(instant: &str) -> Vec<(&'static str, String)> {
    let folders = ["/usr/lib", "/usr/local/lib"].into_iter().flat_map(fs::read_dir).flatten().map(Result::unwrap);
    let library = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
    let library = library.expect("libfaketime is not installed: run tests/run, which installs what the tests need");
    vec![
        ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
        ("FAKETIME", format!("@{instant}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("TZ", "UTC".to_owned()),
    ]
}
