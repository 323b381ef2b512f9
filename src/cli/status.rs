//! `keywheel status`.

use clap::Args;

use crate::engine::{self, Standing, StatusFilter, StatusOrder, Versioned};
use crate::model::Name;
use crate::render;

use super::args::{FormatArg, Global};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Show every key: its state, primary version, age, last and next rotation, and policy
///
/// Reads the state database alone; `drift` asks the key managers too.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  keywheel status --tenant healthcare-org-123
  keywheel status --sort next              what rotates first?
  keywheel status --state parked           what needs a person?
  keywheel status --format json | jq '.keys[] | select(.state == \"overdue\") | .key_name'")]
pub struct StatusCommand {
    /// Only keys of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<Name>,
    /// Only keys that rotate by a policy of this name
    #[arg(long, value_name = "POLICY")]
    policy: Option<Name>,
    /// Only keys that stand like this: pending, active, waiting, due, overdue, held or parked
    #[arg(long, value_name = "STATE", value_parser = standing)]
    state: Option<Standing>,
    /// The order: by name, age, last or next rotation
    #[arg(long, value_name = "BY", default_value_t = StatusOrder::Name)]
    sort: StatusOrder,
    /// Another state database than keywheel.yaml names, as sqlite:PATH
    #[arg(long, value_name = "URL")]
    state_url: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// Reads how keys stand. Elsewhere `--state` is a database, and who means that is told what it is called here.
fn standing(text: &str) -> Result<Standing, String> {
    text.parse().map_err(|error: String| {
        if text.contains([':', '$', '/']) {
            format!("{error}; another state database is --state-url here")
        } else {
            error
        }
    })
}

impl StatusCommand {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let filter = StatusFilter {
            tenant_id: self.tenant.clone(),
            policy: self.policy.clone(),
            state: self.state,
            order: self.sort,
        };
        let status = block_on(engine::status(&global.workspace(None), self.state_url.as_deref(), &filter))?;
        if self.format.is_json() {
            output::json(&Versioned::new(&status))?;
        } else {
            output::text(&render::status::draw(&status, global.view()))?;
        }
        Ok(ExitStatus::Done)
    }
}
