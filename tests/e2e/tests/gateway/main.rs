//! The gateway between real clients and a real API server.

mod approvals;
mod attacks;
mod identity;
mod parity;
mod policies;
mod verdicts;
