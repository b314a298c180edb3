//! Real clients, a gateway, and a real API server.

mod approvals;
mod attacks;
mod capabilities;
mod changes;
mod clients;
mod encodings;
mod failures;
mod guide;
mod identity;
mod informers;
mod issuers;
mod life;
mod objects;
mod pack;
mod parity;
mod policies;
mod rights;
mod sandbox;
mod sessions;
mod sharing;
mod streams;
mod tool;
mod upstream;
mod verdicts;
mod watches;
mod writes;
