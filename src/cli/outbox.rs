//! `keywheel outbox`.

use clap::{Args, Subcommand};

use crate::engine::{self, OutboxFilter, Versioned};
use crate::model::Name;
use crate::render;

use super::args::{FormatArg, Global, LimitArg, StateArg};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Show the messages about keys that need somebody, and send those that wait
///
/// Failed rotations and other changes, parked, held and overdue keys, versions that were made twice, key managers that give
/// no usable answer, and changes that wait for approvals are told to whom the policy names in `notification_settings`. Every
/// apply sends what waits; `outbox send` does it in between.
#[derive(Debug, Args)]
pub struct Outbox {
    #[command(subcommand)]
    command: OutboxCommand,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Show messages, the newest first
    #[command(
        after_long_help = "Examples:\n  keywheel outbox list --undelivered\n  keywheel outbox list --tenant healthcare-org-123 --format json"
    )]
    List {
        /// Only of this tenant
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Name>,
        /// Only those that no receiver has taken
        #[arg(long)]
        undelivered: bool,
        #[command(flatten)]
        limit: LimitArg,
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Send what is due; exits with 7 if a receiver did not take it
    #[command(after_long_help = "Examples:\n  keywheel outbox send\n  keywheel outbox send --given-up")]
    Send {
        /// Try again what was given up, too
        #[arg(long)]
        given_up: bool,
        #[command(flatten)]
        state: StateArg,
        #[command(flatten)]
        format: FormatArg,
    },
}

impl Outbox {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let workspace = global.workspace(None);
        match &self.command {
            OutboxCommand::List { tenant, undelivered, limit, state, format } => {
                let filter =
                    OutboxFilter { tenant_id: tenant.clone(), undelivered: *undelivered, limit: Some(limit.limit) };
                let report = block_on(engine::outbox(&workspace, state.state.as_deref(), &filter))?;
                if format.is_json() {
                    output::json(&Versioned::new(&report))?;
                } else {
                    output::text(&render::outbox::list(&report, global.view()))?;
                }
                Ok(ExitStatus::Done)
            }
            OutboxCommand::Send { given_up, state, format } => {
                let report = block_on(engine::send_outbox(&workspace, state.state.as_deref(), *given_up))?;
                if format.is_json() {
                    output::json(&Versioned::new(&report))?;
                } else {
                    output::text(&render::outbox::sent(&report))?;
                }
                Ok(ExitStatus::Partly.when(!report.failed.is_empty() || report.undelivered.given_up > 0))
            }
        }
    }
}
