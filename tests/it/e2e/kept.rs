//! A repository whose state is in a database of either kind, for what must hold for both.

use serde_json::Value;

use super::{Sandbox, with_keys};
use crate::support::postgres::{Database, database};
use crate::support::sandbox::Run;

const APPLY: &[&str] = &["apply", "--auto-approve"];
const SQLITE: &str = "sqlite:.keywheel/state.db";

/// A repository with three local keys, one of which has rotated, and its state in a database of either kind.
pub struct Kept {
    pub sandbox: Sandbox,
    pub postgres: Option<Database>,
}

impl Kept {
    /// In SQLite.
    pub fn in_sqlite() -> Self {
        Self::begin(None)
    }

    /// In PostgreSQL.
    pub fn in_postgres() -> Self {
        Self::begin(Some(database()))
    }

    fn begin(postgres: Option<Database>) -> Self {
        let mut sandbox = Sandbox::with("state: ${KEYWHEEL_STATE}\n", &with_keys(2));
        sandbox.set("KEYWHEEL_STATE", postgres.as_ref().map_or(SQLITE, |database| &database.url));
        sandbox.keywheel(APPLY).exits(0);
        sandbox.keywheel(&["rotate", "acme/patients", "--reason", "a test", "--auto-approve"]).exits(0);
        Self { sandbox, postgres }
    }

    /// Changes the database behind keywheel's back.
    pub fn tamper(&self, sql: &str) {
        match &self.postgres {
            Some(database) => drop(database.query(sql).unwrap()),
            None => self.sandbox.tamper(sql),
        }
    }

    /// The binary, with its state in another database.
    pub fn with_state(&self, url: &str, arguments: &[&str]) -> Run {
        self.sandbox.keywheel(arguments).env("KEYWHEEL_STATE", url)
    }

    /// The history and the audit log, as a person sees them in a database.
    pub fn story(&self, url: &str) -> (Value, String) {
        let history = self.with_state(url, &["history", "--format", "json"]).exits(0).json();
        (history["rotations"].clone(), self.with_state(url, &["audit", "export"]).exits(0).stdout)
    }

    /// Where the database is.
    pub fn url(&self) -> &str {
        self.postgres.as_ref().map_or(SQLITE, |database| &database.url)
    }

    /// The codes that `state verify` finds, without repetition.
    pub fn codes(&self, arguments: &[&str], status: i32) -> Vec<String> {
        let arguments = [&["state", "verify", "--format", "json"], arguments].concat();
        let report = self.sandbox.keywheel(&arguments).exits(status).json();
        let findings = report["findings"].as_array().unwrap().iter();
        let mut codes: Vec<_> = findings.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect();
        codes.dedup();
        codes
    }
}

/// Makes a test of each for each kind of database.
macro_rules! on_both {
    ($($name:ident)+) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&$crate::e2e::kept::Kept::in_sqlite()); })+
        }
        mod postgres {
            $(#[test] fn $name() { super::$name(&$crate::e2e::kept::Kept::in_postgres()); })+
        }
    };
}
pub(super) use on_both;
