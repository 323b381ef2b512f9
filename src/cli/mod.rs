//! The command line: one file a command, thin over the engine.
//!
//! [`run`] reads the arguments, runs the command, prints its error if it has one ([`error`]), and gives the exit status
//! ([`exit`]). A command asks the engine for a value, and `render` for its text; it decides nothing about keys.
//!
//! Must not know: git, the state database, key managers.

mod apply;
mod approve;
mod args;
mod attest;
mod audit;
mod completions;
mod compliance;
mod data;
mod destroy;
mod drift;
mod enable;
mod error;
mod exit;
mod explain;
mod fmt;
mod forecast;
mod forms;
mod history;
mod init;
mod lock;
mod logging;
mod man;
mod manual;
mod out;
mod outbox;
mod output;
mod park;
mod plan;
mod progress;
mod release;
mod resume;
mod rollback;
mod rotate;
mod runtime;
mod schema;
mod show;
mod state;
mod status;
mod test;
mod usage;
mod validate;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use args::{Color, Global};
use error::CliError;
use exit::ExitStatus;

/// Keeps encryption keys rotated the way Terraform keeps infrastructure in shape
///
/// Rotation policies live as YAML in a git repository. `plan` shows what differs between them, the state database and
/// the key managers; `apply` makes it so, and rotates every key that is due. Begin with `keywheel init`.
#[derive(Debug, Parser)]
#[command(name = "keywheel", version, after_long_help = exit::HELP, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Validate(validate::Validate),
    Test(test::TestCommand),
    Fmt(fmt::Fmt),
    Schema(schema::Schema),
    Plan(plan::PlanCommand),
    Show(show::Show),
    Approve(approve::Approve),
    Apply(apply::Apply),
    Rotate(rotate::Rotate),
    Rollback(rollback::Rollback),
    Release(release::Release),
    Park(park::Park),
    Resume(resume::Resume),
    Attest(attest::Attest),
    Usage(usage::Usage),
    Enable(enable::Enable),
    Destroy(destroy::Destroy),
    Forecast(forecast::ForecastCommand),
    Status(status::StatusCommand),
    History(history::History),
    Explain(explain::Explain),
    Drift(drift::DriftCommand),
    Audit(audit::Audit),
    Compliance(compliance::Compliance),
    Lock(lock::Lock),
    Outbox(outbox::Outbox),
    State(state::State),
    Data(data::Data),
    Completions(completions::Completions),
    Man(man::Man),
    Version(version::Version),
}

/// Runs the command that the process's arguments name.
pub fn run() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(status) => return status.into(),
    };
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    logging::start(&cli.global);
    dispatch(&cli).unwrap_or_else(|error| error.report()).into()
}

/// Reads the arguments. Help and version are shown here; a wrong command line is an error like any other.
fn parse() -> Result<Cli, ExitStatus> {
    command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        // A reader that has gone has seen enough of the help.
        let _ = error.print();
        ExitStatus::Error.when(error.use_stderr())
    })
}

/// The whole command line, for help, completions and the man page.
fn command() -> clap::Command {
    Cli::command()
}

fn dispatch(cli: &Cli) -> Result<ExitStatus, CliError> {
    let global = &cli.global;
    match &cli.command {
        Command::Init(command) => command.run(global),
        Command::Validate(command) => command.run(global),
        Command::Test(command) => command.run(global),
        Command::Fmt(command) => command.run(global),
        Command::Schema(command) => command.run(),
        Command::Plan(command) => command.run(global),
        Command::Show(command) => command.run(global),
        Command::Approve(command) => command.run(global),
        Command::Apply(command) => command.run(global),
        Command::Rotate(command) => command.run(global),
        Command::Rollback(command) => command.run(global),
        Command::Release(command) => command.run(global),
        Command::Park(command) => command.run(global),
        Command::Resume(command) => command.run(global),
        Command::Attest(command) => command.run(global),
        Command::Usage(command) => command.run(global),
        Command::Enable(command) => command.run(global),
        Command::Destroy(command) => command.run(global),
        Command::Forecast(command) => command.run(global),
        Command::Status(command) => command.run(global),
        Command::History(command) => command.run(global),
        Command::Explain(command) => command.run(global),
        Command::Drift(command) => command.run(global),
        Command::Audit(command) => command.run(global),
        Command::Compliance(command) => command.run(global),
        Command::Lock(command) => command.run(global),
        Command::Outbox(command) => command.run(global),
        Command::State(command) => command.run(global),
        Command::Data(command) => command.run(global),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Version(command) => command.run(),
    }
}
