//! `keywheel usage`.

use clap::{Args, Subcommand};

use crate::engine::{self, UsageOptions, Versioned};
use crate::model::Address;
use crate::render;

use super::args::{FormatArg, Global, StateArg, version, whole};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Report how often a key was used, for policies with `max_usage_count` or `usage_threshold_warning`
///
/// Key managers do not count: whoever uses a key does. The next apply rotates a key whose primary version was used as often
/// as `max_usage_count` says, all sources together; `status` and `plan` warn from `usage_threshold_warning` on.
#[derive(Debug, Args)]
pub struct Usage {
    #[command(subcommand)]
    command: UsageCommand,
}

#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Record how often one source has used a version in all
    ///
    /// The number is the total since that version was made, and never an increment: a report that comes twice, late or out
    /// of order changes nothing. Counting begins anew with each version; `--version-number` says which one was counted.
    #[command(
        after_long_help = "Examples:\n  keywheel usage report healthcare-org-123/patient-data-encryption-key --source billing --total 914000\n  keywheel usage report healthcare-org-123/patient-data-encryption-key --source archive --total 120 --version-number 3"
    )]
    Report {
        /// The key, as TENANT/NAME
        #[arg(value_name = "TENANT/KEY")]
        key: Address,
        /// Who counts: a service, a host
        #[arg(long, value_name = "NAME", value_parser = source)]
        source: String,
        /// How often it has used the version in all
        #[arg(long, value_name = "NUMBER", value_parser = whole(0..=i64::MAX.unsigned_abs(), "how often in all, as a whole number"))]
        total: u64,
        /// The number of the version that was counted, as `keywheel explain` shows it; by default the primary
        #[arg(long, value_name = "NUMBER", value_parser = version)]
        version_number: Option<u32>,
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
}

impl Usage {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let UsageCommand::Report { key, source, total, version_number, state, format } = &self.command;
        let options = UsageOptions {
            key: key.clone(),
            version: *version_number,
            source: source.clone(),
            total: *total,
            state: state.state.clone(),
        };
        let report = block_on(engine::report_usage(&global.workspace(None), &options))?;
        if format.is_json() {
            output::json(&Versioned::new(&report))?;
        } else {
            output::text(&render::usage::reported(&report))?;
        }
        Ok(ExitStatus::Done)
    }
}

/// A source's name.
fn source(text: &str) -> Result<String, String> {
    let is_name = (1..=128).contains(&text.chars().count()) && !text.trim().is_empty();
    if is_name && !text.chars().any(char::is_control) {
        Ok(text.trim().to_owned())
    } else {
        Err("write a name of 1 to 128 characters".to_owned())
    }
}
