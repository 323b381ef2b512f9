//! `keywheel history`.

use clap::Args;

use crate::engine::{self, HistoryFilter, Versioned, clock};
use crate::model::{Address, Name};
use crate::render;

use super::args::{FormatArg, Global, LimitArg, Since, StateArg};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Show the rotations that were, the newest first
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  keywheel history --tenant healthcare-org-123 --limit 50
  keywheel history --key healthcare-org-123/patient-data-encryption-key -v
  keywheel history --since 30d --format json | jq '.rotations[] | select(.error)'")]
pub struct History {
    /// Only of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<Name>,
    /// Only of this key
    #[arg(long, value_name = "TENANT/KEY")]
    key: Option<Address>,
    /// Only those begun since: a span such as 30d, an instant or a date
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    #[command(flatten)]
    limit: LimitArg,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl History {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let filter = HistoryFilter {
            tenant_id: self.tenant.clone(),
            key: self.key.clone(),
            since: self.since.map(|since| since.at(clock::now())),
            limit: Some(self.limit.limit),
            ..HistoryFilter::default()
        };
        let history = block_on(engine::history(&global.workspace(None), self.state.state.as_deref(), &filter))?;
        if self.format.is_json() {
            output::json(&Versioned::new(&history))?;
        } else {
            output::text(&render::status::history(&history, global.view()))?;
        }
        Ok(ExitStatus::Done)
    }
}
