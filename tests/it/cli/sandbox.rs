//! A folder with a git repository in it, and the binary with nothing of this machine's settings.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder of its own, gone at the end.
pub struct Sandbox {
    dir: TempDir,
}

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub bytes: Vec<u8>,
    pub stderr: String,
}

impl Run {
    /// Its standard output, of a run that ended with 0.
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

impl Sandbox {
    /// An empty folder, without git.
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir }
    }

    /// What `init` writes, committed.
    pub fn with_policies() -> Self {
        let sandbox = Self::empty();
        sandbox.run(&["init"]).ok();
        sandbox.git(&["init", "--quiet", "--initial-branch=main"]);
        sandbox.git(&["add", "."]);
        sandbox.git(&["commit", "--quiet", "--message=policies"]);
        sandbox
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// The binary with arguments, in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keywheel"));
        self.isolate(&mut command);
        command.args(arguments);
        command
    }

    /// Runs the binary with nothing on its standard input.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, b"")
    }

    /// Runs the binary with something on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads nothing may have closed it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Run {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        self.isolate(&mut command);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn isolate(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.org")
            .env("GIT_COMMITTER_NAME", "Ada")
            .env("GIT_COMMITTER_EMAIL", "ada@example.org")
            .stdin(Stdio::null())
            .current_dir(self.path(""));
    }
}
