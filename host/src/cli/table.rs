//! Columns that fit what is in them.

use std::time::Duration;

use comfy_table::{Table, presets};

use crate::cli::terminal::{self, say};
use crate::clock::timestamp_of;

/// Prints rows, the first of them the heads, each column as wide as its widest cell; on a terminal no wider than that.
pub(super) fn print_cut(rows: &[Vec<String>]) {
    lines(rows, terminal::width());
}

/// The same, as wide as it is.
pub(super) fn print(rows: &[Vec<String>]) {
    lines(rows, None);
}

fn lines(rows: &[Vec<String>], width: Option<usize>) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.trim_fmt().lines() {
        say!("{}", shortened(line, width));
    }
}

/// A line no wider than a terminal; elsewhere it is whole.
pub(super) fn shortened(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => line.chars().take(width.saturating_sub(1)).chain(['\u{2026}']).collect(),
        _ => line.to_owned(),
    }
}

/// So much of a digest as tells it from others.
pub(super) fn short(digest: &str) -> String {
    const DIGITS: usize = 12;
    printable(digest).trim_start_matches("sha256:").chars().take(DIGITS).collect()
}

/// A time in Unix seconds as RFC 3339 has it, to the second.
pub(super) fn time(second: u64) -> String {
    let text = timestamp_of(Duration::from_secs(second));
    format!("{}Z", text.get(..19).unwrap_or(&text))
}

/// A row of texts.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(printable).into()
}

/// A text of one line without what would steer a terminal.
pub(super) fn printable(text: &str) -> String {
    terminal::visible(text).chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}
