//! The one writer of what is shown: much of it others wrote, and none of that steers the terminal it is shown on.

use std::io::Write;

/// A text in which what moves a cursor, sets a title, turns the direction of writing or has no width is written as JSON would escape it, so that JSON stays
/// JSON. Line ends and tabs are for the layout: in a cell `table::printable` takes them out.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown += &format!("\\u{unit:04x}")),
            false => shown.push(c),
        }
    }
    shown
}

/// C0 and C1 controls, line and paragraph separators, bidirectional controls, and what has no width.
fn steers(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Writes to standard output. A reader who has had enough, as `head` does, is nobody's error.
pub(super) fn out(text: &str) {
    let _ = std::io::stdout().lock().write_all(visible(text).as_bytes());
}

/// Writes a line to standard output, as `println!` does.
macro_rules! say {
    ($($part:tt)*) => {
        $crate::cli::terminal::out(&(format!($($part)*) + "\n"))
    };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal_and_json_stays_json() {
        let text = "a\u{1b}]0;t\u{7}\u{9b}2J\u{202e}b\u{2066}\u{200b}\u{feff}c\nd\te é 雪 😀";
        let shown = visible(text);
        assert_eq!(shown, "a\\u001b]0;t\\u0007\\u009b2J\\u202eb\\u2066\\u200b\\ufeffc\nd\te é 雪 😀");
        let value = serde_json::json!({ "x": text });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&visible(&value.to_string())).unwrap(), value);
    }
}
