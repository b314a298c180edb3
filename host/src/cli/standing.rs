//! What `serve` says when it begins: what stands, what is missing, and what comes next.

use std::path::Path;

use crate::cli::table::{printable, short};
use crate::cli::terminal::say;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::policy::PolicySet;

/// Says what a gateway that serves at an address stands on. What cannot be reached is told in the log when that is known.
pub(super) fn tell(gateway: &Gateway, address: &str, file: Option<&Path>) {
    let config = gateway.config();
    say!("postern {} serves https://{address}", env!("CARGO_PKG_VERSION"));
    for listed in gateway.clusters().all() {
        let shown = match listed.cluster() {
            Ok(cluster) => cluster.upstream().address().to_owned(),
            Err(why) => format!("NOT SET UP, and nothing of it passes: {}", printable(why)),
        };
        say!("  cluster   {}  {shown}", listed.name());
    }
    say!("  callers   {}", callers(config));
    for (owner, directory) in gateway.directories() {
        let of = owner.map(|name| format!(" (of {name})")).unwrap_or_default();
        say!("  policies{of}  {}", policies(&directory.current()));
    }
    if gateway.directories().is_empty() {
        say!("  policies  none (policies.directory): whatever the cluster lets callers do passes, and is recorded");
    }
    say!("  data      {}, with the audit log {}", config.data_directory.display(), config.audit_file().display());
    match &config.listen.certificate_file {
        Some(file) => say!("  TLS       {}", file.display()),
        None => say!("  TLS       a certificate of its own, by the CA {}", config.data_directory.join("ca.crt").display()),
    }
    if let Some(file) = file {
        say!("for a caller: postern kubeconfig --config {} --token-file TOKEN > caller.kubeconfig", file.display());
    }
}

/// Who is let in.
fn callers(config: &Config) -> String {
    let issuers = config.authentication.jwt.iter().map(|jwt| format!("tokens of {}", jwt.issuer.url));
    let certificates = config.authentication.client_ca_file.iter().map(|file| format!("client certificates of {}", file.display()));
    let all: Vec<String> = issuers.chain(certificates).collect();
    if all.is_empty() { "NOBODY is let in (authentication): name an issuer or a client CA".into() } else { all.join(", ") }
}

/// Which policies are in force, and which should be and are not.
fn policies(set: &PolicySet) -> String {
    let mut parts: Vec<String> = set
        .policies
        .iter()
        .map(|policy| {
            let mode = if policy.mode == crate::policy::Mode::Observe { " (observed)" } else { "" };
            format!("{} {}{mode}", policy.name, short(&policy.digest))
        })
        .collect();
    if parts.is_empty() {
        parts.push("none in force".into());
    }
    let broken = |broken: &crate::policy::Broken| {
        let goes_on = if broken.serving_last_good { "its last good version serves" } else { "it is not in force" };
        format!("{} DOES NOT LOAD, {goes_on}: {}", printable(&broken.name), printable(&broken.error))
    };
    parts.extend(set.broken.iter().map(broken));
    if !set.missing.is_empty() {
        parts.push(format!("REQUIRED AND MISSING, so that nothing passes: {}", set.missing.join(", ")));
    }
    parts.join(", ")
}
