//! The one writer of what is shown: much of it others wrote, and none of that steers the terminal it is shown on.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

pub use crate::written::visible;

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

/// What the terminal was before a pager took its place.
static BEFORE: OnceLock<(bool, Option<usize>)> = OnceLock::new();

/// Remembers what the terminal is like.
pub(super) fn remember() {
    let _ = BEFORE.set((has_colours(), width()));
}

/// Whether standard output is a terminal that is to have colours (https://no-color.org).
pub(super) fn has_colours() -> bool {
    if let Some((has_colours, _)) = BEFORE.get() {
        return *has_colours;
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How many columns the terminal has that standard output is; none where it is none.
pub(super) fn width() -> Option<usize> {
    if let Some((_, width)) = BEFORE.get() {
        return *width;
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
