//! Masks: what a policy wants hidden, applied to objects byte by byte.
//!
//! [`path`] is the language masks are written in, [`plan`] what one operation's masks compile to, [`scan`] the single pass that
//! applies them, [`sweep`] what hides the same values elsewhere, and [`placeholder`] how a hidden value is written and
//! recognised when it comes back.

pub mod path;
pub mod placeholder;
pub mod plan;
mod raw;
mod scan;
mod sweep;

pub use placeholder::TokenKey;
pub use plan::{Condition, Mask, Plan, Report, Selector, Transform};
pub use raw::member;
pub use scan::{RowObject, Unreadable};
