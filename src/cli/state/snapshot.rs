//! `keywheel state snapshot`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::{FormatArg, Global, StateArg};
use crate::cli::error::CliError;
use crate::cli::exit::ExitStatus;
use crate::cli::out;
use crate::cli::output;
use crate::cli::runtime::block_on;
use crate::engine;
use crate::render;

/// Write the keys' ages to a file, for reviews on machines without the database
///
/// `keywheel plan --base REF --state FILE` then knows which keys become due by a change, and when. The file has the keys'
/// names, policies, states, ages and numbers of old versions: no settings, no names at a key manager, nothing secret. Its
/// digest shows when it was altered.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  keywheel state snapshot --out ages.json\n  keywheel plan --base origin/main --state ages.json\n  keywheel state snapshot --format json | jq '.keys | length'"
)]
pub struct Snapshot {
    /// The file; an older snapshot that is there is replaced, and no other file
    #[arg(long, value_name = "FILE", required_unless_present = "format")]
    out: Option<PathBuf>,
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Snapshot {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        out::check(self.out.as_deref())?;
        let snapshot = block_on(engine::snapshot_state(&global.workspace(None), self.state.state.as_deref()))?;
        if let Some(path) = &self.out {
            out::save(path, |writer| snapshot.write(writer))?;
        }
        if self.format.is_json() {
            output::json(&snapshot)?;
        } else if let Some(path) = &self.out {
            output::text(&render::state::snapshot(&snapshot, path))?;
        }
        Ok(ExitStatus::Done)
    }
}
