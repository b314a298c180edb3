//! Columns that fit what is in them.

use comfy_table::{Table, presets};

use crate::cli::terminal::say;

/// Prints rows, the first of them the heads, each column as wide as its widest cell.
pub(super) fn print(rows: &[Vec<String>]) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.trim_fmt().lines() {
        say!("{line}");
    }
}

/// A row of texts.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(printable).into()
}

/// A text of one line without what would steer a terminal.
pub(super) fn printable(text: &str) -> String {
    super::terminal::visible(text).chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}
