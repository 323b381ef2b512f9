//! Tables without lines: a bold header, and columns that wrap where the terminal is narrow.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use super::View;
use super::style::{self, paint};

/// Draws rows below a header.
#[must_use]
pub fn draw(header: &[&str], rows: impl Iterator<Item = Vec<String>>, view: View) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if let Some(width) = view.width.and_then(|width| u16::try_from(width).ok()) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.add_row(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        text += &if index == 0 { paint(style::HEADING, line) } else { line.to_owned() };
        text.push('\n');
    }
    text
}
