//! The policies in force: [`directory`] watches what is to be, [`change`] tells it from what was, `origin` says where a module comes from and whose it is, and [`report`] tells what is in force.
//!
//! What loads modules and calls them is a crate of its own, whose names are here too.

pub mod change;
mod counters;
pub mod directory;
mod origin;
pub mod report;

pub use counters::SqliteCounters;
pub use directory::{Broken, Directory, PolicySet};
pub use postern_policy::*;

#[cfg(test)]
mod rules_tests;
