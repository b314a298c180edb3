//! What stands between a gateway and the API server in some tests: it keeps all that passes, and can be slow, go away, or answer itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::binary;
use crate::cluster::{Cluster, kubeconfig};
use crate::process::{Process, free_port, wait_until, write_whole};

/// A running relay. Dropping it ends it.
pub struct Between {
    directory: PathBuf,
    port: u16,
    command: Vec<String>,
    process: Option<Process>,
}

/// One request that reached the API server.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Between {
    /// Starts one before a cluster.
    pub fn start(cluster: &Cluster, directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("passed"))?;
        let directory = directory.canonicalize()?;
        let port = free_port()?;
        let file = |name: &str| cluster.directory.join(name).display().to_string();
        let command = vec![
            format!("--listen=127.0.0.1:{port}"),
            format!("--upstream=127.0.0.1:{}", cluster.port),
            format!("--cert={}", file("apiserver.crt")),
            format!("--key={}", file("apiserver.key")),
            format!("--node=127.0.0.1:{}", cluster.node_port),
            format!("--ca={}", file("ca.crt")),
            format!("--client-cert={}", file("gateway.crt")),
            format!("--client-key={}", file("gateway.key")),
            format!("--directory={}", directory.display()),
        ];
        let mut this = Self { directory, port, command, process: None };
        this.come_back()?;
        Ok(this)
    }

    /// A kubeconfig by which a gateway goes through here.
    pub fn kubeconfig(&self, cluster: &Cluster) -> anyhow::Result<PathBuf> {
        let file = self.directory.join("kubeconfig");
        let ca = std::fs::read_to_string(cluster.directory.join("ca.crt"))?;
        let user =
            json!({"client-certificate": cluster.directory.join("gateway.crt"), "client-key": cluster.directory.join("gateway.key")});
        write_whole(&file, &kubeconfig(&format!("https://127.0.0.1:{}", self.port), &ca, &user))?;
        Ok(file)
    }

    /// Ends it, as an API server that is restarted goes away.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port.
    pub fn come_back(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(binary("between"));
        command.args(&self.command);
        self.process = Some(Process::start("between", command, &self.directory.join("between.log"))?);
        wait_until("the relay listens", Duration::from_secs(10), || Ok(std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()))
    }

    /// Holds back what the API server answers, or no longer.
    pub fn hold(&self, held: bool) -> anyhow::Result<()> {
        let file = self.directory.join("hold");
        if held {
            std::fs::write(file, "")?;
        } else {
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    /// Answers every request with these bytes instead of the API server.
    pub fn answer(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let partial = self.directory.join("answer.partial");
        std::fs::write(&partial, bytes)?;
        Ok(std::fs::rename(partial, self.directory.join("answer"))?)
    }

    /// Every byte that came from the gateway.
    pub fn passed(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.directory.join("passed"))? {
            all.push(std::fs::read(entry?.path())?);
        }
        Ok(all)
    }

    /// The heads of all requests that came from the gateway.
    pub fn seen(&self) -> anyhow::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for bytes in self.passed()? {
            let text = String::from_utf8_lossy(&bytes);
            // A body may end where the next request begins, without a line of its own.
            let begins = text.match_indices(" HTTP/1.1\r\n").filter_map(|(end, _)| {
                let (target_at, target) = text[..end].rsplit_once(' ').map(|(before, target)| (before.len(), target))?;
                let method: String = text[..target_at].chars().rev().take_while(char::is_ascii_uppercase).collect();
                let head = text[end + 11..].split("\r\n\r\n").next()?;
                let headers = head.lines().filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
                Some(Seen { method: method.chars().rev().collect(), target: target.to_owned(), headers })
            });
            seen.extend(begins);
        }
        Ok(seen)
    }
}
