//! `keywheel data encrypt` and `keywheel data decrypt`.

use std::io::{IsTerminal as _, Read as _};

use clap::{Args, Subcommand};

use crate::engine;
use crate::model::Address;

use super::args::{Global, StateArg};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Encrypt or decrypt with a key: try it out, or check that old data is still readable
#[derive(Debug, Args)]
pub struct Data {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Encrypt standard input (up to 64 MiB) to standard output, under the key's primary version
    #[command(
        after_long_help = "Example:\n  echo hello | keywheel data encrypt healthcare-org-123/patient-data-encryption-key > hello.enc"
    )]
    Encrypt {
        /// The key, as TENANT/NAME
        #[arg(value_name = "TENANT/KEY")]
        key: Address,
        #[command(flatten)]
        state: StateArg,
    },
    /// Decrypt standard input to standard output, whichever version encrypted it
    #[command(after_long_help = "Example:\n  keywheel data decrypt < hello.enc")]
    Decrypt {
        /// The key, as TENANT/NAME; by default the one that the data names
        #[arg(value_name = "TENANT/KEY")]
        key: Option<Address>,
        #[command(flatten)]
        state: StateArg,
    },
}

/// The most that is encrypted: it is held in memory, and much larger data is not for a key manager.
const MAX_PLAINTEXT: u64 = 64 << 20;

/// The most that is decrypted: what that plaintext comes to, in Base64.
const MAX_SEALED: u64 = 2 * MAX_PLAINTEXT;

impl Data {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let workspace = global.workspace(None);
        let most = match &self.command {
            DataCommand::Encrypt { .. } => MAX_PLAINTEXT,
            DataCommand::Decrypt { .. } => MAX_SEALED,
        };
        let input = input(most)?;
        let output = match &self.command {
            DataCommand::Encrypt { key, state } => {
                block_on(engine::data::encrypt(&workspace, state.state.as_deref(), key, &input))?
            }
            DataCommand::Decrypt { key, state } => {
                block_on(engine::data::decrypt(&workspace, state.state.as_deref(), key.as_ref(), &input))?
            }
        };
        output::bytes(&output)?;
        Ok(ExitStatus::Done)
    }
}

fn input(most: u64) -> Result<Vec<u8>, CliError> {
    if std::io::stdin().is_terminal() {
        output::note("reading standard input; Ctrl-D ends it");
    }
    let mut input = Vec::new();
    std::io::stdin()
        .lock()
        .take(most + 1)
        .read_to_end(&mut input)
        .map_err(|error| CliError::new("data/input", format!("cannot read standard input: {error}")))?;
    if input.len() as u64 > most {
        return Err(CliError::new("data/input", format!("standard input has more than {} MiB", most >> 20))
            .help("encrypt large data under a data key of its own, and that key with this one"));
    }
    Ok(input)
}
