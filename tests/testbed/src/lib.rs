//! A real Kubernetes API server, etcd and kubelet endpoint, with a Postern in front, for the tests, the demo and the bench.

mod between;
mod certificates;
mod cluster;
mod collector;
mod gateway;
mod nginx;
mod process;
mod registry;
mod s3;

use std::path::{Path, PathBuf};

pub use between::{Between, Seen};
pub use cluster::Cluster;
pub use collector::Collector;
pub use gateway::{AUDIENCE, Gateway, GatewayOptions};
pub use nginx::{Nginx, nginx};
pub use process::{Process, free_port, wait_until};
pub use registry::{Registry, docker_registry};
pub use s3::S3;

/// Where built binaries, caches and running testbeds are kept: outside the clone, `~/.cache/postern` unless `POSTERN_CACHE` says
/// otherwise.
pub fn cache() -> PathBuf {
    match std::env::var_os("POSTERN_CACHE") {
        Some(path) => path.into(),
        None => Path::new(&std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache/postern"),
    }
}

/// A binary the testbed built.
pub fn binary(name: &str) -> PathBuf {
    cache().join("bin").join(name)
}

/// A folder of `tests/clients`, with what it asks for installed.
pub fn clients(language: &str) -> PathBuf {
    cache().join("clients").join(language)
}

/// The gateway's binary: the one that was built last, unless `POSTERN_PROGRAM` names another.
pub fn postern() -> PathBuf {
    std::env::var_os("POSTERN_PROGRAM").map_or_else(|| built("postern"), PathBuf::from)
}

/// A program of this workspace.
pub fn built(name: &str) -> PathBuf {
    cache().join("target/release").join(name)
}

/// A policy of the pack, built.
pub fn policy(name: &str) -> PathBuf {
    cache().join("policies").join(format!("{name}.wasm"))
}
