//! JSON followed far enough to know what stands where; nothing is built of it.
//!
//! [`check`] and [`at`] read as the parser does, `walk` finds its way in a text that is all there, [`Pieces`] and [`Frame`] in one that comes in pieces, however it is cut. Who needs to know that a text is
//! what `kube-apiserver` would read, and nothing else, asks `postern_wire::json`.

mod pieces;
mod tree;
pub(crate) mod walk;

pub use pieces::{Array, Frame, Pieces};
pub use tree::{at, check};
pub use walk::member;

/// Deepest nesting read. kube-apiserver's own objects are far below.
pub(crate) const DEEPEST: usize = 256;

/// A body a mask must read and cannot. It is an error, never passed unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON.
    #[error("it is not JSON")]
    Malformed,
    /// Nested deeper than 256 levels.
    #[error("it is nested too deep")]
    TooDeep,
    /// One object is larger than `limits.object`; that is noticed where answers are cut into objects.
    #[error("one object is over limits.object; ask for less, or raise the limit")]
    TooLarge,
    /// To search one object with the regular expressions of masks took over a second.
    #[error("what its masks of text look for takes too long in one object; see to the patterns of the policy")]
    TooCostly,
}
