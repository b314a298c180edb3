//! Streams into containers, as far as the gateway speaks their protocols itself.

pub mod websocket;
