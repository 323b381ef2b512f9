//! `keywheel compliance`.

use chrono::Days;
use clap::{Args, Subcommand, ValueEnum};

use crate::engine::{self, ComplianceOptions, Versioned};
use crate::model::{Name, Timestamp};
use crate::render::{self, compliance};

use super::args::{Global, StateArg, instant};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Evidence for an auditor
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_long_help = "Examples:\n  keywheel compliance report --framework HIPAA --format html >hipaa.html"
)]
pub struct Compliance {
    #[command(subcommand)]
    command: ComplianceCommand,
}

#[derive(Debug, Subcommand)]
enum ComplianceCommand {
    Report(Report),
}

/// Report what was recorded of the keys under a framework's tag, over a period
///
/// For each key: the policy in force, each rotation with its time, commit, approvers, duration and result, and the gaps: where it was
/// more than a day behind its policy, or nothing made it due by time. Then the waivers, the framework's rules as they are kept now, the
/// rate, and the heads of the audit log, verified. It reads the record alone; a key belongs to a framework by
/// `compliance_tags` of its policy. It supports an assessment, and does not make one.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
struct Report {
    /// The framework: NIST-800-57, PCI-DSS, HIPAA, SOC2 or ISO27001
    #[arg(long, value_name = "FRAMEWORK")]
    framework: String,
    /// The first day, or instant, of the period; by default a year before its end
    #[arg(long, value_name = "DATE", value_parser = instant)]
    from: Option<Timestamp>,
    /// The last day of the period, as a date, or the first instant after it; by default now
    #[arg(long, value_name = "DATE", value_parser = end)]
    to: Option<Timestamp>,
    /// Only keys of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<Name>,
    #[command(flatten)]
    state: StateArg,
    /// Write the result to standard output as text, json, markdown, html (a page to read and to print) or csv
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    format: Form,
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
    Markdown,
    Html,
    Csv,
}

const EXAMPLES: &str = "\
Examples:
  keywheel compliance report --framework HIPAA
  keywheel compliance report --framework PCI-DSS --from 2026-01-01 --to 2026-12-31 --format html >pci.html
  keywheel compliance report --framework SOC2 --tenant healthcare-org-123 --format csv >soc2.csv";

/// The end of a period: a date means the whole of it.
fn end(text: &str) -> Result<Timestamp, String> {
    match text.parse::<chrono::NaiveDate>() {
        Ok(date) => date
            .checked_add_days(Days::new(1))
            .map(|next| next.and_time(chrono::NaiveTime::MIN).and_utc())
            .ok_or_else(|| "there is no day after it".to_owned()),
        Err(_) => instant(text),
    }
}

impl Compliance {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let ComplianceCommand::Report(Report { framework, from, to, tenant, state, format }) = &self.command;
        let options = ComplianceOptions {
            framework: framework.clone(),
            tenant_id: tenant.clone(),
            from: *from,
            until: *to,
            state: state.state.clone(),
        };
        let report = block_on(engine::compliance(&global.workspace(None), &options))?;
        match format {
            Form::Text => output::text(&render::compliance::draw(&report, global.view()))?,
            Form::Json => output::json(&Versioned::new(&report))?,
            Form::Markdown => output::bytes(compliance::markdown::draw(&report).as_bytes())?,
            Form::Html => output::bytes(compliance::page::draw(&report).as_bytes())?,
            Form::Csv => output::bytes(compliance::csv::draw(&report).as_bytes())?,
        }
        // Evidence that rests on a broken log is none.
        Ok(ExitStatus::Error.when(!report.audit.whole))
    }
}
