//! Postern: a policy gateway in front of the Kubernetes API server.
//!
//! A request passes the stages in this order, each a module of its own: [`listen`], [`identify`], [`classify`], [`decide`],
//! [`approve`], [`forward`], [`respond`], [`record`]. [`gateway`] calls them one after another.

pub mod api;
pub mod approve;
pub mod body;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decide;
pub mod digest;
pub mod drain;
pub mod executor;
pub mod fetch;
pub mod files;
pub mod forward;
pub mod gateway;
pub mod identify;
pub mod json;
pub mod listen;
pub mod metrics;
pub mod operations;
pub mod policy;
pub mod protobuf;
pub mod record;
pub mod rehearse;
pub mod respond;
pub mod share;
pub mod slots;
pub mod status;
pub mod store;
pub mod stream;
pub mod support;
pub mod telemetry;
pub mod words;
pub mod written;

// A crate of its own: it builds and is tested without the gateway.
pub use postern_mask as mask;
