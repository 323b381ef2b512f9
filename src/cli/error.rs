//! The one place that prints an error and picks the exit status.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use crate::engine::EngineError;
use crate::render::json::StreamError;
use crate::render::style::{self, paint};
use crate::render::text::safe;

use super::exit::ExitStatus;
use super::output;

/// Why a command could not do what was asked.
#[derive(Debug)]
pub struct CliError {
    status: ExitStatus,
    code: Cow<'static, str>,
    message: String,
    help: Option<String>,
}

impl CliError {
    /// An error with status 1.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: ExitStatus::Error, code: code.into(), message: message.into(), help: None }
    }

    /// With what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With another status.
    #[must_use]
    pub const fn status(mut self, status: ExitStatus) -> Self {
        self.status = status;
        self
    }

    /// A file that could not be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::new("cli/file", format!("cannot {doing} {}: {error}", path.display()))
    }

    /// `error[code]: what`, and what to do.
    fn drawn(&self) -> String {
        let Self { code, message, help, .. } = self;
        let mut drawn = format!("{}: {}\n", paint(style::ERROR, &format!("error[{code}]")), safe(message));
        if let Some(help) = help {
            let _ = writeln!(drawn, "{}: {}", paint(style::HELP, "help"), safe(help));
        }
        drawn
    }

    /// Prints it on standard error, and says how to exit.
    pub fn report(&self) -> ExitStatus {
        output::note(self.drawn().trim_end_matches('\n'));
        self.status
    }

    /// The last line of a stream of JSON lines that ends in it.
    pub fn stream_line(&self) -> StreamError<'_> {
        StreamError::new(&self.code, &self.message, self.help.as_deref())
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        let EngineError { kind, code, message, help } = error;
        Self { status: kind.into(), code: code.into(), message, help }
    }
}
