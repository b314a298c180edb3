//! Postern: a policy gateway in front of the Kubernetes API server.
//!
//! A request passes the stages in this order, each a module of its own: [`listen`], [`identify`], [`classify`], [`decide`],
//! [`approve`], [`forward`], [`respond`], [`record`]. [`gateway`] calls them one after another.

pub mod api;
pub mod approve;
pub mod body;
pub mod classify;
pub mod cli;
pub mod config;
pub mod decide;
pub mod drain;
pub mod executor;
pub mod fetch;
pub mod forward;
pub mod gateway;
pub mod identify;
pub mod listen;
pub mod metrics;
pub mod operations;
pub mod policy;
pub mod record;
pub mod rehearse;
pub mod respond;
pub mod share;
pub mod status;
pub mod store;
pub mod stream;
pub mod support;
pub mod telemetry;
pub mod words;

// Crates of their own: they build and are tested without the gateway.
pub use postern_ground::{clock, digest, files, slots, written};
pub use postern_mask as mask;
pub use postern_wire as wire;
