//! Where text goes: results to standard output, everything else to standard error.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use serde::Serialize;

use crate::render::{View, github};

use super::error::CliError;

/// How text on standard output is laid out.
pub fn view(full: bool) -> View {
    let width = if io::stdout().is_terminal() { terminal_columns() } else { None };
    View { width, full }
}

/// The columns for running text on standard error.
pub fn error_columns() -> usize {
    View { width: terminal_columns(), full: false }.columns()
}

/// Writes a result.
///
/// A closed pipe is no error: whoever reads has seen enough.
pub fn text(text: &str) -> Result<(), CliError> {
    shown(text).map(|_| ())
}

/// Writes a result, and says whether anybody was there to read it.
pub fn shown(text: &str) -> Result<bool, CliError> {
    written(|| {
        let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
        stdout.write_all(for_log(text).as_bytes())?;
        stdout.flush()
    })
}

/// Text for people, as it may stand in the log of whoever runs this.
fn for_log(text: &str) -> Cow<'_, str> {
    let is_github = std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
    if is_github { Cow::Owned(github::inert(text)) } else { Cow::Borrowed(text) }
}

/// Writes bytes as they are.
pub fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    written(|| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    })
    .map(|_| ())
}

/// Writes one JSON document, on one line.
pub fn json(document: &impl Serialize) -> Result<(), CliError> {
    json_line(document).map(|_| ())
}

/// Writes one JSON document on one line, and says whether anybody was there to read it.
pub fn json_line(document: &impl Serialize) -> Result<bool, CliError> {
    written(|| {
        let mut stdout = BufWriter::new(io::stdout().lock());
        serde_json::to_writer(&mut stdout, document)?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    })
}

/// Tells a person something that is no result.
pub fn note(text: &str) {
    // Where standard error is closed, nobody is told.
    let _ = anstream::stderr().write_all(format!("{}\n", for_log(text)).as_bytes());
}

/// The width of the terminal that either stream is on.
fn terminal_columns() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Did it reach its reader? A closed pipe is told from a failure.
fn written(write: impl FnOnce() -> io::Result<()>) -> Result<bool, CliError> {
    match write() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::new("cli/output", format!("cannot write to standard output: {error}"))),
    }
}
