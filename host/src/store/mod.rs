//! What outlives the process: the directory the gateway's data lies in, the embedded database, and the object store recordings go to.
//!
//! Rows belong to the stage that knows what they mean: each says as a trait which whole steps it does with them, and implements it for each database in a
//! file beside. What is here opens the database, brings its tables up to date and runs those steps, off the threads that serve.

mod database;
mod directory;
mod objects;

pub use database::{Database, Durability, Worker, tables};
pub use directory::{DataDirectory, take};
pub use objects::Objects;
pub use postern_ground::steps::{Rows, wait};
