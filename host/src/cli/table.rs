//! Columns that fit what is in them.

use crate::cli::terminal::say;
/// Prints rows, the first of them the heads, each column as wide as its widest cell. The last is left as it is.
pub(super) fn print(rows: &[Vec<String>]) {
    for row in rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let widest = rows.iter().filter_map(|r| r.get(index)).map(|c| c.chars().count()).max().unwrap_or(0);
            line += &if index + 1 == row.len() { cell.clone() } else { format!("{cell:<widest$}  ") };
        }
        say!("{}", line.trim_end());
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
