//! Streams into containers: exec, attach and port-forward, read as they flow.
//!
//! [`carry`] moves the bytes both ways, as [`wire`](crate::wire) reads them; [`filter`] is what is done with text on its way, [`messages`] a watch or a log that
//! is told over WebSocket, and [`end`] what ends them from outside.

pub mod carry;
pub mod end;
pub mod filter;
pub mod messages;
