//! How the gateway's own log is written: an event is one line, and nothing of it that others wrote steers a terminal or looks like another event.

use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

use crate::written::in_a_line;

/// How the fields of an event are written.
pub fn fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    debug_fn(|to, field, value| {
        let shown = in_a_line(&format!("{value:?}"));
        if field.name() == "message" { write!(to, "{shown}") } else { write!(to, "{field}={shown}") }
    })
    .delimited(" ")
}
