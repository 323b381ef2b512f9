//! The Python that the second opinions are written in.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A script of `tests/oracle` that answers JSON lines with JSON lines; it ends with this value.
pub struct Script {
    process: Child,
    /// None once it has nothing more to answer.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Script {
    /// Starts it.
    pub fn start(name: &str) -> Self {
        let python = python();
        let mut process = Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name))
            // Nothing: the tz database is to be that of the package `tzdata`, not the machine's.
            .env("PYTHONTZPATH", "")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}: run tests/run, which installs it", python.display()));
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, questions, answers }
    }

    /// Asks it, and waits for the answer.
    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions.as_mut().unwrap(), "{question}").expect("the script reads");
        self.answer()
    }

    /// The next line that it says.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the script answers");
        assert!(!line.is_empty(), "the script died: its error is above; if a package is missing, run tests/run");
        serde_json::from_str(&line).expect("an answer in JSON")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It ends with its input, and ends what it started itself.
        drop(self.questions.take());
        let _ = self.process.wait();
    }
}

/// `KEYWHEEL_TEST_PYTHON`, or the virtual environment that `tests/run` makes.
pub fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("KEYWHEEL_TEST_PYTHON") {
        return python.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run tests/run, which makes it", python.display());
    python
}
