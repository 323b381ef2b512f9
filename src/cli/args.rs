//! Options that several commands share, and the words that they take.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use chrono::{Duration, NaiveDate, NaiveTime};
use clap::{Args, ValueEnum};

use crate::engine::{Selection, Workspace};
use crate::model::Timestamp;
use crate::render::View;

use super::output;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The policy repository, or a folder in it
    #[arg(short = 'C', long, global = true, value_name = "DIR", default_value = ".", help_heading = "Global options")]
    pub dir: PathBuf,
    /// Use colours auto (on a terminal, unless `NO_COLOR` is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub color: Color,
    /// Show objects in full and tell more; -vv for every detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Write log lines to standard error as text or json
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub log_format: Format,
}

impl Global {
    /// The documents that a command means.
    pub fn workspace(&self, reference: Option<&str>) -> Workspace {
        let selection = reference.map_or(Selection::WorkTree, |reference| Selection::Ref(reference.to_owned()));
        Workspace { dir: self.dir.clone(), selection }
    }

    /// How text on standard output is laid out.
    pub fn view(&self) -> View {
        output::view(self.verbose > 0)
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// Text or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// `--format`.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormatArg {
    /// Write the result to standard output as text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub format: Format,
}

impl FormatArg {
    /// Is it JSON?
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

/// `--state`.
#[derive(Debug, Clone, Args)]
pub struct StateArg {
    /// Another state database than keywheel.yaml names, as sqlite:PATH, a postgres:// URL without a password, or '${NAME}' of an
    /// environment variable that holds either
    #[arg(long, visible_alias = "state-url", value_name = "URL")]
    pub state: Option<String>,
}

/// How many entries of a list are shown.
#[derive(Debug, Args)]
pub struct LimitArg {
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = whole(1..=u32::MAX, "a whole number from 1"))]
    pub limit: u32,
}

/// A reader of whole numbers in a range; `what` says what to write.
pub fn whole<T: FromStr + PartialOrd + Clone>(
    range: RangeInclusive<T>,
    what: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| format!("write {what}"))
}

/// Reads the number of a version.
pub fn version(text: &str) -> Result<u32, String> {
    whole(1..=u32::MAX, "the number of a version, such as 3: `keywheel explain TENANT/KEY` shows them")(text)
}

/// Reads an instant: RFC 3339, or a date, which means its first instant in UTC.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|_| "write an instant as 2026-12-24T18:00:00Z, or a date as 2026-12-24".to_owned())
}

/// How far back: a span of time before now, or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Span(Duration),
    /// Since this instant.
    Instant(Timestamp),
}

impl Since {
    /// The instant that it means at `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Instant(at) => at,
            Self::Span(span) => now.checked_sub_signed(span).unwrap_or(Timestamp::MIN_UTC),
        }
    }
}

impl FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(span) = span(text) {
            return Ok(Self::Span(span));
        }
        instant(text).map(Self::Instant).map_err(|_| {
            "write a span as 30d, 12h or 2w, an instant as 2026-12-24T18:00:00Z, or a date as 2026-12-24".to_owned()
        })
    }
}

/// Reads a waiting time in whole seconds: `30s`, `5m`, `0s`.
pub fn seconds(text: &str) -> Result<u32, String> {
    span(text)
        .and_then(|span| u32::try_from(span.num_seconds()).ok())
        .ok_or_else(|| "write a time as 30s, 5m or 1h".to_owned())
}

/// A number and a unit: `30s`, `5m`, `12h`, `30d`, `2w`.
fn span(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|number| *number >= 0)?;
    match unit {
        's' => Duration::try_seconds(number),
        'm' => Duration::try_minutes(number),
        'h' => Duration::try_hours(number),
        'd' => Duration::try_days(number),
        'w' => Duration::try_weeks(number),
        _ => None,
    }
}

/// A reason: what is recorded must say something.
pub fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("write a reason: it is recorded for whoever asks later".to_owned()),
        reason => Ok(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_rfc_3339_or_a_date() {
        assert_eq!(instant("2026-12-24T18:00:00+01:00").unwrap().to_rfc3339(), "2026-12-24T17:00:00+00:00");
        assert_eq!(instant("2026-12-24").unwrap().to_rfc3339(), "2026-12-24T00:00:00+00:00");
        assert!(instant("tomorrow").is_err());
    }

    #[test]
    fn since_is_a_span_or_an_instant() {
        let now = instant("2026-12-24").unwrap();
        let since = |text: &str| text.parse::<Since>().map(|since| since.at(now).to_rfc3339());
        assert_eq!(since("30d").unwrap(), "2026-11-24T00:00:00+00:00");
        assert_eq!(since("2026-01-01").unwrap(), "2026-01-01T00:00:00+00:00");
        assert!(since("-3d").is_err());
        assert!(since("99999999999999999d").is_err());
        assert!(since("鍵").is_err());
    }

    #[test]
    fn a_number_that_is_none_is_answered_by_what_to_write() {
        for wrong in ["", "abc", "1.5", "-1", "0", "99999999999"] {
            assert!(version(wrong).unwrap_err().starts_with("write the number of a version, such as 3"), "{wrong}");
        }
        assert_eq!(version("3"), Ok(3));
        assert_eq!(whole(0..=u64::MAX, "a number")("0"), Ok(0));
    }

    #[test]
    fn a_waiting_time_has_a_unit() {
        assert_eq!(seconds("5m"), Ok(300));
        assert!(seconds("5").is_err());
    }
}
