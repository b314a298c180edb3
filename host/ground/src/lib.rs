//! What everything in Postern stands on, and what stands on nothing of it.

pub mod clock;
pub mod digest;
pub mod files;
pub mod quantity;
pub mod slots;
pub mod steps;
pub mod written;
