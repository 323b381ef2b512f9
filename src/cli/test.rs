//! `keywheel test`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::engine::{self, Versioned};
use crate::render;

use super::args::Global;
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;

/// Run your own cases: with these documents and ages, at this instant, the plan must hold that
///
/// A file of tests ends in .test.yaml and holds documents of `kind: Test`, each with cases. Without PATHS, those under tests/
/// and policies/ are run. The planner is the one that `apply` uses; no database, no key manager and no clock is asked, so
/// that a case that holds today holds tomorrow. Exit status 1 means that a case does not hold.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct TestCommand {
    /// Files of tests, and folders with everything in them
    #[arg(value_name = "PATHS")]
    paths: Vec<PathBuf>,
    /// Write the result to standard output as text, json or junit
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    format: TestForm,
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TestForm {
    Text,
    Json,
    Junit,
}

const EXAMPLES: &str = "\
Examples:
  keywheel test
  keywheel test tests/freezes.test.yaml
  keywheel test --format junit > cases.xml

A case:
  apiVersion: keywheel/v1
  kind: Test
  name: Card data keys
  recorded:
    keys:
      - key: acme-payments/card-vault
        rotated_at: \"2026-09-01T02:00:00Z\"
  cases:
    - name: rotates after ninety days
      now: \"2026-12-05T02:00:00Z\"
      expect:
        changes:
          - {action: rotate, object: key acme-payments/card-vault}";

impl TestCommand {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let report = engine::run_tests(&global.workspace(None), &self.paths)?;
        match self.format {
            TestForm::Text => output::text(&render::test::draw(&report, global.view()))?,
            TestForm::Json => output::json(&Versioned::new(&report))?,
            TestForm::Junit => output::bytes(render::test::junit(&report).as_bytes())?,
        }
        Ok(ExitStatus::Error.when(!report.is_good()))
    }
}
