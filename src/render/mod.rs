//! Plans, reports and findings as text and as JSON.
//!
//! Everything here makes a string of a value; nothing is printed. Text carries colours ([`style`]), and the stream that
//! prints it takes them out where they are not wanted. Whatever came from a document or a provider goes through
//! [`text::safe`] first.
//!
//! Must not know: which command asked, where the text goes.

pub mod audit;
pub mod compliance;
pub mod drift;
pub mod events;
pub mod explain;
pub mod findings;
pub mod forecast;
pub mod github;
pub mod gitlab;
pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod notices;
pub mod outbox;
pub mod plan;
pub mod report;
pub mod sarif;
pub mod schemas;
pub mod state;
pub mod status;
pub mod style;
pub mod table;
pub mod test;
pub mod text;
pub mod time;
pub mod usage;

/// How a text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The columns of the terminal; none where lines may be of any length.
    pub width: Option<usize>,
    /// Show every object in full?
    pub full: bool,
}

/// The fewest columns that a text is laid out for.
const NARROWEST: usize = 40;

/// The columns that running text is wrapped to where lines may be of any length.
const COMFORTABLE: usize = 120;

impl View {
    /// The columns for running text.
    #[must_use]
    pub fn columns(self) -> usize {
        self.width.unwrap_or(COMFORTABLE).max(NARROWEST)
    }
}
