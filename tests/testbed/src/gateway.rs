//! A Postern in front of a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::cluster::{Cluster, kubeconfig, kubectl};
use crate::process::{Process, tail, wait_until, write_whole};
use crate::{binary, policy, postern};

/// The audience of tokens for the gateway.
pub const AUDIENCE: &str = "postern";

/// A running gateway. Dropping it ends it.
pub struct Gateway {
    /// Its directory.
    pub directory: PathBuf,
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// Its process.
    pub process: Process,
    environment: Vec<(&'static str, &'static str)>,
}

/// What a gateway is started with.
#[derive(Default)]
pub struct GatewayOptions {
    /// Policies: file name without extension, name of the policy in the pack, settings file.
    pub policies: Vec<(&'static str, &'static str, String)>,
    /// Further lines of the configuration.
    pub config: String,
    /// As whom callers reach the cluster; a ServiceAccount that may everything when empty.
    pub access: String,
    /// Further entries of `authentication.jwt`, indented by two.
    pub issuers: String,
    /// Further settings of `policies`.
    pub guard: String,
    /// Further settings of `listen`.
    pub listen: String,
    /// Further settings of `cluster`.
    pub cluster: String,
    /// Several clusters, as `clusters` of a configuration; the caller's issuers are those of `issuers` alone then.
    pub clusters: String,
    /// How the gateway reaches the cluster; the cluster's own kubeconfig for it when none.
    pub kubeconfig: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Another build of the gateway; the one that was built last when none.
    pub program: Option<PathBuf>,
    /// Where other builds of the policies are; those that were built last when none.
    pub policies_from: Option<PathBuf>,
}

impl Gateway {
    /// Starts a gateway in a directory of its own.
    pub fn start(cluster: &Cluster, directory: &Path, options: &GatewayOptions) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("policies.d"))?;
        let directory = directory.canonicalize()?;
        for (file, name, settings) in &options.policies {
            let module = options.policies_from.as_ref().map_or_else(|| policy(name), |from| from.join(format!("{name}.wasm")));
            std::fs::copy(module, directory.join("policies.d").join(format!("{file}.wasm")))
                .with_context(|| format!("the policy {name} is not built"))?;
            if !settings.is_empty() {
                std::fs::write(directory.join("policies.d").join(format!("{file}.yaml")), settings)?;
            }
        }
        write_whole(&directory.join("postern.yaml"), &Self::configuration(cluster, options)?)?;
        let address_file = directory.join("address");
        let _ = std::fs::remove_file(&address_file);
        let mut command = Command::new(options.program.clone().unwrap_or_else(postern));
        command.arg("serve").arg("--config").arg(directory.join("postern.yaml")).arg("--address-file").arg(&address_file);
        command.envs(options.environment.iter().copied());
        let log = directory.join("postern.log");
        // One that counts how often its functions run writes that down when it ends by itself.
        let signal = if std::env::var_os("LLVM_PROFILE_FILE").is_some() { "TERM" } else { "KILL" };
        let mut process = Process::start_ended_by(signal, "postern", command, &log)?;
        wait_until("the gateway listens", Duration::from_secs(60), || {
            process.check().with_context(|| tail(&log))?;
            Ok(address_file.exists())
        })?;
        let address = std::fs::read_to_string(&address_file)?;
        Ok(Self { directory, address, process, environment: options.environment.clone() })
    }

    fn configuration(cluster: &Cluster, options: &GatewayOptions) -> anyhow::Result<String> {
        let GatewayOptions { listen, guard, issuers, config, clusters, .. } = options;
        if !clusters.is_empty() {
            return Ok(format!(
                "listen: {{address: '127.0.0.1:0', drain: 10{listen}}}\nclusters:\n{clusters}authentication:\n  jwt:\n{issuers}policies: {{directory: policies.d{guard}}}\ndataDirectory: data\n{config}"
            ));
        }
        let access = match options.access.as_str() {
            "" => "[{as: {serviceAccount: {namespace: postern, name: acts-as}}}]",
            access => access,
        };
        let kubeconfig = options.kubeconfig.clone().map_or_else(|| cluster.gateway_kubeconfig(), Ok)?;
        Ok(format!(
            "listen: {{address: '127.0.0.1:0', drain: 10{listen}}}\ncluster: {{name: testbed, kubeconfig: '{}'{}}}\nauthentication:\n  clientCaFile: '{}'\n  jwt:\n  - issuer: {{url: '{}', audiences: [{AUDIENCE}]}}\n    claimMappings:\n      username: {{claim: sub, prefix: ''}}\n      groups: {{expression: \"['postern:' + claims['kubernetes.io'].serviceaccount.name]\"}}\n{issuers}access: {access}\npolicies: {{directory: policies.d{guard}}}\ndataDirectory: data\n{config}",
            kubeconfig.display(),
            options.cluster,
            cluster.directory.join("ca.crt").display(),
            cluster.issuer(),
        ))
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("postern.log")).unwrap_or_default()
    }

    /// The gateway's CA.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("data/ca.crt")
    }

    /// The audit log.
    pub fn audit(&self) -> PathBuf {
        self.directory.join("data/audit.jsonl")
    }

    /// A kubeconfig of the gateway with a token.
    pub fn kubeconfig(&self, name: &str, token: &str) -> anyhow::Result<PathBuf> {
        self.kubeconfig_for(name, &json!({"token": token}))
    }

    /// A kubeconfig of the gateway for a user entry.
    pub fn kubeconfig_for(&self, name: &str, user: &serde_json::Value) -> anyhow::Result<PathBuf> {
        self.kubeconfig_at(name, &format!("https://{}", self.address), user)
    }

    /// The same, for a server address of one's own choice.
    pub fn kubeconfig_at(&self, name: &str, server: &str, user: &serde_json::Value) -> anyhow::Result<PathBuf> {
        let file = self.directory.join(format!("{name}.kubeconfig"));
        let ca = std::fs::read_to_string(self.ca())?;
        write_whole(&file, &kubeconfig(server, &ca, user))?;
        Ok(file)
    }

    /// Runs kubectl with a kubeconfig.
    pub fn kubectl(kubeconfig: &Path, args: &[&str]) -> anyhow::Result<Output> {
        kubectl(kubeconfig, args)
    }

    /// Runs helm with a kubeconfig.
    pub fn helm(kubeconfig: &Path, args: &[&str]) -> anyhow::Result<Output> {
        Ok(Command::new(binary("helm"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(args)
            .env("HOME", kubeconfig.with_extension("home"))
            .output()?)
    }

    /// Runs `postern session` on its recordings, with what it has in its environment.
    pub fn session(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(postern());
        command.arg("session").args(args).arg("--config").arg(self.directory.join("postern.yaml"));
        Ok(command.envs(self.environment.iter().copied()).output()?)
    }

    /// Runs the gateway's own command line.
    pub fn postern(args: &[&str]) -> anyhow::Result<Output> {
        Ok(Command::new(postern()).args(args).output()?)
    }
}
