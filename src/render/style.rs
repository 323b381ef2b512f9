//! The colours. Text is always written with them; the stream at the end takes them out where they are not wanted.

use anstyle::{AnsiColor, Style};

/// Something new.
pub const ADD: Style = AnsiColor::Green.on_default();
/// Something that changes.
pub const CHANGE: Style = AnsiColor::Yellow.on_default();
/// Something that leaves.
pub const REMOVE: Style = AnsiColor::Red.on_default();
/// Something that is adopted or linked.
pub const LINK: Style = AnsiColor::Cyan.on_default();
/// Something that rotates.
pub const ROTATE: Style = AnsiColor::Magenta.on_default();
/// A heading.
pub const HEADING: Style = Style::new().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();
/// An error.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// A warning.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What to do.
pub const HELP: Style = AnsiColor::Cyan.on_default().bold();
/// That all is well.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();

/// `text` in a style.
#[must_use]
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}
