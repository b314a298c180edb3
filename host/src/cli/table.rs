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

/// Shortens the cells of a column where that has the rows fit on the terminal, or come nearer to it: their ends are kept.
pub(super) fn narrow(rows: &mut [Vec<String>], column: usize) {
    if let Some(width) = terminal::width() {
        narrowed(rows, column, width);
    }
}

fn narrowed(rows: &mut [Vec<String>], column: usize, width: usize) {
    /// So much of a name is left.
    const LEAST: usize = 16;
    const BETWEEN: usize = 2;
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let others: usize = (0..columns).filter(|other| *other != column).map(|other| widest(other) + BETWEEN).sum();
    let most = width.saturating_sub(others).max(LEAST);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
        *cell = ending(cell, most);
    }
}

/// A name in so many characters: its end tells more than its beginning, as of a ServiceAccount's.
pub(super) fn ending(name: &str, most: usize) -> String {
    match name.chars().count() {
        length if length > most => std::iter::once('\u{2026}').chain(name.chars().skip(length - most + 1)).collect(),
        _ => name.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_names_gives_way_and_keeps_the_ends() {
        let rows = || vec![row(["CLEAR", "CALLER", "SESSION"]), row(["1", "system:serviceaccount:postern:caller", "60795f605b8f0523"])];
        let mut fitting = rows();
        narrowed(&mut fitting, 1, 45);
        assert_eq!(fitting[1][1], "\u{2026}ount:postern:caller");
        assert_eq!((fitting[0][1].as_str(), fitting[1][2].as_str()), ("CALLER", "60795f605b8f0523"));
        let mut tiny = rows();
        narrowed(&mut tiny, 1, 10);
        assert_eq!(tiny[1][1].chars().count(), 16, "something of it is left");
        let mut wide = rows();
        narrowed(&mut wide, 1, 200);
        assert_eq!(wide, rows());
    }
}
