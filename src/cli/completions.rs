//! `keywheel completions`.

use clap::Args;
use clap_complete::Shell;

use super::error::CliError;
use super::exit::ExitStatus;
use super::output;

/// Write the completions of a shell to standard output
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  keywheel completions bash > ~/.local/share/bash-completion/completions/keywheel
  keywheel completions zsh > ~/.zfunc/_keywheel
  keywheel completions fish > ~/.config/fish/completions/keywheel.fish")]
pub struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    /// Runs it.
    pub fn run(&self) -> Result<ExitStatus, CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "keywheel", &mut script);
        output::bytes(&script)?;
        Ok(ExitStatus::Done)
    }
}
