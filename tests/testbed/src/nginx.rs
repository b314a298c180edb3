//! nginx as a plain TLS proxy before the API server: what everything is compared with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::cluster::Cluster;
use crate::process::{Process, free_port, write_whole};

/// A running nginx. Dropping it ends it.
pub struct Nginx {
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// Its process; the workers are its children.
    pub process: Process,
}

/// Where nginx is: Debian's place, the PATH, or where the testbed unpacked it.
pub fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).map(|directory| directory.join("nginx")).collect();
    places.extend(["/usr/sbin/nginx".into(), crate::cache().join("nginx/usr/sbin/nginx")]);
    places.into_iter().find(|file| file.is_file())
}

impl Nginx {
    /// Starts nginx before a cluster, with the cluster's own serving certificate.
    pub fn start(cluster: &Cluster, directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let port = free_port()?;
        let config = directory.join("nginx.conf");
        write_whole(&config, &configuration(cluster, &directory, port))?;
        let mut command = Command::new(nginx().context("nginx is not installed")?);
        command.arg("-c").arg(&config).arg("-p").arg(&directory).args(["-e", "stderr"]);
        let log = directory.join("nginx.log");
        let process = Process::start_ended_by("TERM", "nginx", command, &log)?.listening(port, &log)?;
        Ok(Self { address: format!("127.0.0.1:{port}"), process })
    }
}

/// Plain proxying as one would write it for an API server: kept connections, certificates verified, nothing logged, nothing
/// buffered on disk, events passed on as they come.
fn configuration(cluster: &Cluster, directory: &Path, port: u16) -> String {
    let file = |name: &str| cluster.directory.join(name).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("  {what}_temp_path {}/{what};\n", directory.display()))
        .concat();
    format!(
        "daemon off;
worker_processes auto;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
{temporary}  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream apiserver {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    keepalive_requests 1000000;
    client_max_body_size 3m;
    location / {{
      proxy_pass https://apiserver;
      proxy_http_version 1.1;
      proxy_set_header Host 127.0.0.1:{upstream};
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_buffering off;
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 64k;
      proxy_read_timeout 1h;
    }}
  }}
}}
",
        directory = directory.display(),
        upstream = cluster.port,
        certificate = file("apiserver.crt"),
        key = file("apiserver.key"),
        ca = file("ca.crt"),
    )
}
