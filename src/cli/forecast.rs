//! `keywheel forecast`.

use clap::{Args, ValueEnum};

use crate::engine::{self, ForecastOptions, Versioned};
use crate::model::{Name, Timestamp};
use crate::plan::forecast::MAX_DAYS;
use crate::render;

use super::args::{Global, StateArg, instant, whole};
use super::error::CliError;
use super::exit::ExitStatus;
use super::output;
use super::runtime::block_on;

/// Show what is to come: rotations, disablings and destructions
///
/// Lets time pass over the documents and the record, as if each thing were done when it can be: rotations and the next ones after
/// them, what policies ask of the versions that they leave, freezes and windows, slots that are missed, applies that go over a limit, bursts that take
/// long at AWS's quotas, what old versions cost. No key manager is asked, and nothing is written. Days and instants are UTC's.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ForecastCommand {
    /// How many days
    #[arg(long, value_name = "NUMBER", default_value_t = 90, value_parser = whole(1..=MAX_DAYS, "a whole number of days from 1 to 3660"))]
    days: u32,
    /// Only keys of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<Name>,
    /// Take the documents of this commit, branch or tag instead of the work tree
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Begin at another instant than now
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    as_of: Option<Timestamp>,
    #[command(flatten)]
    state: StateArg,
    /// Write the result to standard output as text, json, markdown, html (a page to read and to print) or ics (iCalendar, for
    /// the calendars of people)
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    format: Form,
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
    Markdown,
    Html,
    Ics,
}

const EXAMPLES: &str = "\
Examples:
  keywheel forecast --days 30
  keywheel forecast --ref feature --days 365      what would this branch bring?
  keywheel forecast --days 365 --format html >forecast.html
  keywheel forecast --tenant healthcare-org-123 --format ics >rotations.ics
  keywheel forecast --format json | jq '.problems[].message'";

impl ForecastCommand {
    /// Runs it.
    pub fn run(&self, global: &Global) -> Result<ExitStatus, CliError> {
        let options = ForecastOptions {
            days: self.days,
            tenant_id: self.tenant.clone(),
            as_of: self.as_of,
            state: self.state.state.clone(),
        };
        let forecast = block_on(engine::forecast(&global.workspace(self.reference.as_deref()), &options))?;
        match self.format {
            Form::Text => output::text(&render::forecast::draw(&forecast, global.view()))?,
            Form::Json => output::json(&Versioned::new(&forecast))?,
            Form::Markdown => output::bytes(render::forecast::markdown::draw(&forecast).as_bytes())?,
            Form::Html => output::bytes(render::forecast::page::draw(&forecast).as_bytes())?,
            Form::Ics => output::bytes(render::forecast::calendar::draw(&forecast).as_bytes())?,
        }
        Ok(ExitStatus::Partly.when(!forecast.left_out.is_empty()))
    }
}
