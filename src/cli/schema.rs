//! `keywheel schema`.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::render::schemas;

use super::error::CliError;
use super::exit::ExitStatus;
use super::output;

/// Show the JSON schema of the documents, or write every schema into DIR
///
/// keywheel.v1.json is the schema of the documents, for editors; the others are those of the JSON outputs.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  keywheel schema > keywheel.v1.json\n  keywheel schema --write schema/")]
pub struct Schema {
    /// Where to write all schemas
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

impl Schema {
    /// Runs it.
    pub fn run(&self) -> Result<ExitStatus, CliError> {
        let Some(dir) = &self.write else {
            output::text(&schemas::text(&crate::document::schema()))?;
            return Ok(ExitStatus::Done);
        };
        fs::create_dir_all(dir).map_err(|error| CliError::file("make", dir, &error))?;
        for (name, schema) in schemas::all() {
            let path = dir.join(name);
            fs::write(&path, schemas::text(&schema)).map_err(|error| CliError::file("write", &path, &error))?;
            output::note(&format!("wrote {}", path.display()));
        }
        Ok(ExitStatus::Done)
    }
}
