//! Masks: what a policy wants hidden, applied to objects byte by byte.
//!
//! [`path`] is the language masks are written in, [`plan`] what one operation's masks compile to ([`PlanCache`] keeps them), `scan` the single pass that
//! applies them, [`json`] what it finds its way with, `rows` what a Table needs beside it, `sweep` what hides the same values elsewhere, `managed` in `managedFields` too, `text` hides values in
//! text that flows, `restore` puts right what comes back, [`placeholder`] is how a hidden value is written and
//! recognised when it comes back, and `token` how equal ones are told from different ones.

pub mod json;
mod literals;
mod managed;
pub mod path;
pub mod placeholder;
pub mod plan;
mod plan_cache;
mod restore;
mod rows;
mod scan;
mod sweep;
mod text;
mod token;

pub use json::{Unreadable, member};
pub use literals::Literals;
pub use placeholder::{MARKER, Transform};
pub use plan::{Condition, InvalidMask, Mask, MaskCounts, Plan, Selector};
pub use plan_cache::PlanCache;
pub use restore::{Stored, Unrestorable};
pub use rows::RowObject;
pub use sweep::Hidden;
pub use text::{TextMask, TextRules};
pub use token::{Scope, TokenKey};
