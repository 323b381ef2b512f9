//! The machine that a job runs on: an environment of its own, and the scripts of its steps one after the other.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::sandbox::{Done, Sandbox};

/// A machine with a checkout on it.
pub struct Machine<'s> {
    pub sandbox: &'s Sandbox,
    temp: tempfile::TempDir,
    has_keywheel: bool,
    /// What every script finds in its environment.
    pub variables: BTreeMap<String, String>,
}

impl<'s> Machine<'s> {
    /// One on which keywheel is installed, or not.
    pub fn new(sandbox: &'s Sandbox, has_keywheel: bool) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_keywheel"));
        let mut machine = Self { sandbox, temp, has_keywheel, variables: BTreeMap::new() };
        let path = |first: &Path| format!("{}:/usr/local/bin:/usr/bin:/bin", first.display());
        let first = if has_keywheel { path(binary.parent().unwrap()) } else { path(machine.temp.path()) };
        machine.set("PATH", &first);
        let home = machine.temp.path().to_str().unwrap().to_owned();
        machine.set("HOME", &home);
        machine.set("KEYWHEEL_STATE", &format!("sqlite:{}", sandbox.path("../state.db").display()));
        machine.set("KEYWHEEL_URL", &format!("file://{}", binary.display()));
        machine.set("KEYWHEEL_SHA256", &sha256(&binary));
        machine
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Lets keywheel, and it alone, see another time from now on.
    pub fn at(&mut self, instant: &str) {
        let path = self.file("at/keywheel");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let variables = crate::support::sandbox::faked(instant);
        let settings: Vec<String> = variables.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        let binary = env!("CARGO_BIN_EXE_keywheel");
        fs::write(&path, format!("#!/bin/sh\nexec env {} {binary} \"$@\"\n", settings.join(" "))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        // Whether it is installed already or comes from elsewhere.
        let old = self.variables["PATH"].split(':').skip(1).collect::<Vec<_>>().join(":");
        if self.has_keywheel {
            self.set("PATH", &format!("{}:{old}", path.parent().unwrap().display()));
        }
        self.set("KEYWHEEL_URL", &format!("file://{}", path.display()));
        self.set("KEYWHEEL_SHA256", &sha256(&path));
    }

    /// A file outside the checkout.
    pub fn file(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// What such a file says; nothing where it is not there.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// Runs a script in the checkout.
    pub fn run(&self, script: &str, variables: &BTreeMap<String, String>) -> Done {
        let path = self.file("script");
        fs::write(&path, script).unwrap();
        let mut command = Command::new("bash");
        // As GitHub calls it, and GitLab's runner in effect.
        command.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(&path).current_dir(self.sandbox.dir());
        command.env_clear().envs(&self.variables).envs(variables);
        command.output().unwrap().into()
    }
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Asks a program in JSON.
pub fn ask(command: &mut Command, question: &Value) -> Value {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
