//! `keywheel version`.

use clap::Args;

use crate::render::json::VersionDocument;

use super::args::FormatArg;
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;

/// Show the version of keywheel and of the tz database in it
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  keywheel version --format json")]
pub struct Version {
    #[command(flatten)]
    format: FormatArg,
}

impl Version {
    /// Runs it.
    pub fn run(&self) -> Result<ExitStatus, CliError> {
        let document = VersionDocument::default();
        if self.format.is_json() {
            output::json(&document)?;
        } else {
            let VersionDocument { version, tz_version, plan_format_version, .. } = document;
            output::text(&format!(
                "keywheel {version}\ntz database {tz_version}\nplan format {plan_format_version}\n"
            ))?;
        }
        Ok(ExitStatus::Done)
    }
}
