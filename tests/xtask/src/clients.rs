//! Clients of other languages, which the tests and the demo run: each is installed from its own registry, pinned, and used by a script of `tests/clients`.

use std::path::PathBuf;
use std::process::Command;

use testbed::cache;

use crate::build::{copied, require, root, step};

/// What npm has: a client, and the servers by which AI agents use a cluster.
pub(crate) fn node() -> anyhow::Result<()> {
    installed("node", "clients of JavaScript", |folder| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-fund", "--no-audit", "--loglevel", "error"]).current_dir(folder);
        vec![npm]
    })
}

/// What PyPI has: three clients, and a terminal to look at.
pub(crate) fn python() -> anyhow::Result<()> {
    installed("python", "clients of Python", |folder| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "venv"]).current_dir(folder);
        let mut pip = Command::new(folder.join("venv/bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]).current_dir(folder);
        vec![venv, pip]
    })
}

/// What Maven has: fabric8.
pub(crate) fn java() -> anyhow::Result<()> {
    require("javac", "install a JDK of Java 17 or newer, on Debian `apt-get install openjdk-17-jdk-headless`")?;
    require("mvn", "install Maven, on Debian `apt-get install maven`")?;
    installed("java", "a client of Java", |folder| {
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "package"]).current_dir(folder);
        vec![maven]
    })
}

/// Copies a folder of `tests/clients` to the cache and installs there what it asks for, unless that was done for the same files.
fn installed(name: &str, what: &str, commands: impl FnOnce(&PathBuf) -> Vec<Command>) -> anyhow::Result<()> {
    let folder = cache().join("clients").join(name);
    let inputs = copied(&root().join("tests/clients").join(name), &folder)?;
    let stamp = folder.join(".installed-from");
    if std::fs::read(&stamp).is_ok_and(|known| known == inputs) {
        return Ok(());
    }
    for command in commands(&folder) {
        step(what, command)?;
    }
    Ok(std::fs::write(stamp, inputs)?)
}
