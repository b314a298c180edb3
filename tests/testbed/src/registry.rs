//! A real OCI registry: Debian's docker-registry, over TLS and with a password.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::certificates::Ca;
use crate::process::{Process, free_port};

/// A running registry. Dropping it ends it.
pub struct Registry {
    /// Its directory.
    pub directory: PathBuf,
    port: u16,
    process: Option<Process>,
}

/// `user` and `password-of-the-registry`, as `htpasswd -B` writes them.
const HTPASSWD: &str = "user:$2y$05$rpRy3LR6iviu3IysRT4R7eqDDlZjeLcT8VqEGSmdIf031U60wRnJy\n";

impl Registry {
    /// Starts one with nothing in it.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("data"))?;
        let directory = directory.canonicalize()?;
        Ca::new("registry-ca", &directory)?.issue("registry", "registry", &[])?;
        let mut this = Self { directory, port: free_port()?, process: None };
        let at = |name: &str| this.directory.join(name).display().to_string();
        std::fs::write(at("htpasswd"), HTPASSWD)?;
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\nhttp: {{addr: '127.0.0.1:{}', tls: {{certificate: {}, key: {}}}}}\n",
            at("data"),
            at("htpasswd"),
            this.port,
            at("registry.crt"),
            at("registry.key")
        );
        std::fs::write(at("config.yml"), config)?;
        let auth = "dXNlcjpwYXNzd29yZC1vZi10aGUtcmVnaXN0cnk=";
        std::fs::write(at("config.json"), format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}", this.host()))?;
        this.resume()?;
        Ok(this)
    }

    /// Starts it again after [`Self::stop`].
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let log = self.directory.join("registry.log");
        let mut command = Command::new(docker_registry().context("docker-registry is not there; `cargo xtask test` installs it")?);
        command.arg("serve").arg(self.directory.join("config.yml"));
        self.process = Some(Process::start("docker-registry", command, &log)?.listening(self.port, &log)?);
        Ok(())
    }

    /// Ends it; what it stores stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The CA of its certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("registry-ca.crt")
    }
}

/// docker-registry, installed or unpacked from Debian's package.
pub fn docker_registry() -> Option<PathBuf> {
    [PathBuf::from("/usr/bin/docker-registry"), crate::cache().join("docker-registry/usr/bin/docker-registry")]
        .into_iter()
        .find(|file| file.exists())
}
