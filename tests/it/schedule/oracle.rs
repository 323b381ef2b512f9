//! The Python process that answers.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use keywheel::schedule::TZ_VERSION;
use serde_json::Value;

pub struct Oracle {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub fn start() -> Self {
        let python = python();
        let mut process = Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/schedule.py"))
            // Nothing: the tz database is to be that of the package `tzdata`, not the machine's.
            .env("PYTHONTZPATH", "")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}: run tests/run, which installs it", python.display()));
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut oracle = Self { process, questions, answers };
        let version = oracle.answer();
        assert_eq!(
            version["tz_version"], TZ_VERSION,
            "tests/requirements.txt must name the `tzdata` of the tz database that chrono-tz has compiled in"
        );
        oracle
    }

    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").expect("the oracle reads");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the oracle answers");
        assert!(!line.is_empty(), "the oracle died: its error is above; if a package is missing, run tests/run");
        serde_json::from_str(&line).expect("an answer in JSON")
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends with its input; killing it first saves it from complaining about a closed pipe.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `KEYWHEEL_TEST_PYTHON`, or the virtual environment that `tests/run` makes.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("KEYWHEEL_TEST_PYTHON") {
        return python.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run tests/run, which makes it", python.display());
    python
}
