//! `keywheel explain`.

use clap::Args;

use crate::engine::{self, Versioned};
use crate::model::Address;
use crate::render;

use super::args::{FormatArg, Global, StateArg};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Explain a policy or a key: its values and where they come from, when it rotates, and what would stop it
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  keywheel explain healthcare-org-123/patient-data-encryption-key
  keywheel explain \"healthcare-org-123/Daily PHI Key Rotation\"")]
pub struct Explain {
    /// The policy or key, as TENANT/NAME
    #[arg(value_name = "TENANT/NAME")]
    address: Address,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Explain {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let explained = block_on(engine::explain(&global.workspace(None), self.state.state.as_deref(), &self.address))?;
        if self.format.is_json() {
            output::json(&Versioned::new(&explained))?;
        } else {
            output::text(&render::explain::draw(&explained, global.view()))?;
        }
        Ok(ExitStatus::Done)
    }
}
