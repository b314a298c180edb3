//! etcd, kube-apiserver and one node.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use serde_json::json;

use crate::binary;
use crate::certificates::Ca;
use crate::process::{Process, free_port, tail, wait_until, write_whole};

/// The API server: of the version that is tested, unless `POSTERN_KUBERNETES` names another that was built.
fn api_server() -> String {
    std::env::var("POSTERN_KUBERNETES").map_or_else(|_| "kube-apiserver".into(), |version| format!("kube-apiserver-{version}"))
}

/// A running cluster. Dropping it ends it.
pub struct Cluster {
    /// Its directory.
    pub directory: PathBuf,
    /// The API server's port.
    pub port: u16,
    ca: Ca,
    pub(crate) node_port: u16,
    etcd_port: u16,
    /// Further flags of the API server.
    flags: Vec<String>,
    api_server: Option<Process>,
    processes: Vec<Process>,
}

impl Cluster {
    /// Starts a cluster in a directory of its own.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_with(directory, &[])
    }

    /// The same, with further flags of the API server.
    pub fn start_with(directory: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let ca = Ca::new("ca", &directory)?;
        ca.issue("apiserver", "kube-apiserver", &[])?;
        ca.issue("kubelet-client", "kube-apiserver", &["system:masters"])?;
        ca.issue("node", "system:node:node-1", &["system:nodes"])?;
        ca.issue("admin", "admin", &["system:masters"])?;
        ca.issue("gateway", "postern", &["postern:gateways"])?;
        ca.issue("service-account", "service-account", &[])?;
        let mut this = Self {
            port: free_port()?,
            node_port: free_port()?,
            etcd_port: free_port()?,
            ca,
            directory,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            api_server: None,
            processes: Vec::new(),
        };
        write_whole(&this.admin_kubeconfig(), &this.kubeconfig(&this.certificate("admin")))?;
        this.start_etcd()?;
        this.start_node()?;
        this.start_api_server()?;
        this.furnish()?;
        Ok(this)
    }

    /// Has the API server do nothing any more, and say nothing, or go on.
    pub fn hang_api_server(&self, hangs: bool) -> anyhow::Result<()> {
        let id = self.api_server.as_ref().context("no API server runs")?.id().to_string();
        let signal = if hangs { "-STOP" } else { "-CONT" };
        Command::new("kill").args([signal, &id]).status()?;
        Ok(())
    }

    /// Ends the API server as a crash does.
    pub fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Ends the API server as a crash does, and starts it again.
    pub fn restart_api_server(&mut self) -> anyhow::Result<()> {
        self.api_server = None;
        self.start_api_server()
    }

    /// Issues a client certificate of the cluster's CA with a subject of one's own; its files are `NAME.crt` and `NAME.key`.
    pub fn issue(&self, name: &str, subject: &[(rcgen::DnType, rcgen::DnValue)]) -> anyhow::Result<()> {
        self.ca.issue_for(name, subject).map(drop)
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn start_etcd(&mut self) -> anyhow::Result<()> {
        let (client, peer) = (self.etcd_port, free_port()?);
        let mut etcd = Command::new(binary("etcd"));
        etcd.args(["--name=testbed", "--unsafe-no-fsync", "--log-level=warn"]).args([
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=testbed=http://127.0.0.1:{peer}"),
        ]);
        self.processes.push(Process::start("etcd", etcd, &self.directory.join("etcd.log"))?);
        Ok(())
    }

    fn start_api_server(&mut self) -> anyhow::Result<()> {
        let issuer = format!("https://localhost:{}", self.port);
        let mut command = Command::new(binary(&api_server()));
        command.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        ]);
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", self.file("apiserver.crt")),
            format!("--tls-private-key-file={}", self.file("apiserver.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            format!("--service-account-key-file={}", self.file("service-account.crt")),
            format!("--service-account-signing-key-file={}", self.file("service-account.key")),
            format!("--service-account-issuer={issuer}"),
            format!("--api-audiences={issuer}"),
            format!("--kubelet-client-certificate={}", self.file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", self.file("kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", self.file("ca.crt")),
            format!("--cert-dir={}", self.file("run")),
        ]);
        command.args(&self.flags);
        let log = self.directory.join("apiserver.log");
        let mut process = Process::start("kube-apiserver", command, &log)?;
        let (admin, processes) = (self.directory.join("admin.kubeconfig"), &mut self.processes);
        wait_until("the API server is ready", Duration::from_secs(60), || {
            for process in processes.iter_mut().chain([&mut process]) {
                process.check().with_context(|| tail(&log))?;
            }
            Ok(kubectl(&admin, &["get", "--raw", "/readyz"]).is_ok_and(|o| o.status.success()))
        })?;
        self.api_server = Some(process);
        Ok(())
    }

    fn start_node(&mut self) -> anyhow::Result<()> {
        let mut node = Command::new(binary("testbed-node"));
        node.args([
            format!("--listen=127.0.0.1:{}", self.node_port),
            format!("--cert={}", self.file("node.crt")),
            format!("--key={}", self.file("node.key")),
            format!("--client-ca={}", self.file("ca.crt")),
            format!("--environments={}", self.file("environments")),
        ]);
        std::fs::create_dir_all(self.directory.join("environments"))?;
        self.processes.push(Process::start("node", node, &self.directory.join("node.log"))?);
        Ok(())
    }

    /// A Ready node, the right to read the issuer's keys, and accounts for callers and the gateway.
    fn furnish(&self) -> anyhow::Result<()> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}))?;
        self.patch_status(
            "node",
            "node-1",
            "default",
            &json!({"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.node_port}},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Testbed", "message": "ready"}]}}),
        )?;
        let role = |name: &str, rules: serde_json::Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
        let bind = |name: &str, role: &str, subject: serde_json::Value| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [subject]})
        };
        let group = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name});
        self.apply(&bind("issuer-discovery", "system:service-account-issuer-discovery", group("system:unauthenticated")))?;
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "postern"}}))?;
        for account in ["caller", "approver", "agent", "acts-as"] {
            self.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "postern"}}))?;
        }
        // What the gateway itself may: ask for tokens, impersonate, and read what policies declare they need.
        self.apply(&role(
            "postern-gateway",
            json!([
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
            {"nonResourceURLs": ["/.well-known/openid-configuration"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["users", "groups", "serviceaccounts"], "verbs": ["impersonate"]},
            {"apiGroups": ["", "apps"], "resources": ["namespaces", "pods", "configmaps", "secrets", "deployments"], "verbs": ["get"]}]),
        ))?;
        self.apply(&bind("postern-gateway", "postern-gateway", group("postern:gateways")))?;
        self.apply(&bind("postern-acts-as", "cluster-admin", json!({"kind": "ServiceAccount", "name": "acts-as", "namespace": "postern"})))
    }

    /// What etcd itself holds under a prefix, all values one after another.
    pub fn stored_under(&self, prefix: &str) -> anyhow::Result<Vec<u8>> {
        let base64 = base64::engine::general_purpose::STANDARD;
        // The first key that does not begin with it, for prefixes that end in a slash.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let found = self.etcd("range", &json!({"key": base64.encode(prefix), "range_end": base64.encode(end)}))?;
        let values = found["kvs"].as_array().cloned().unwrap_or_default();
        Ok(values.iter().flat_map(|kv| base64.decode(kv["value"].as_str().unwrap_or_default()).unwrap_or_default()).collect())
    }

    /// Puts into this cluster what another has under a prefix of etcd's keys, as it is there: the same names and the same uids.
    pub fn take_from(&self, other: &Self, prefix: &str) -> anyhow::Result<()> {
        let base64 = base64::engine::general_purpose::STANDARD;
        let found = other.etcd("range", &json!({"key": base64.encode(prefix), "range_end": base64.encode(format!("{prefix}0"))}))?;
        for kv in found["kvs"].as_array().into_iter().flatten() {
            self.etcd("put", &json!({"key": kv["key"], "value": kv["value"]}))?;
        }
        Ok(())
    }

    /// Makes etcd forget what was before now.
    pub fn forget_history(&self) -> anyhow::Result<()> {
        let now = self.etcd("range", &json!({"key": "AA=="}))?["header"]["revision"].clone();
        self.etcd("compaction", &json!({"revision": now, "physical": true})).map(drop)
    }

    /// Asks etcd itself (`etcd/api/v3/etcdserverpb/rpc.proto`, by its JSON gateway).
    fn etcd(&self, what: &str, ask: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
        use std::io::{Read, Write};
        let body = ask.to_string();
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", self.etcd_port))?;
        write!(connection, "POST /v3/kv/{what} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let text = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let found: serde_json::Value = serde_json::from_str(text).with_context(|| format!("etcd answered {answer:.200}"))?;
        match found["error"].as_str() {
            Some(why) => bail!("etcd refused {what}: {why}"),
            None => Ok(found),
        }
    }

    /// The kubeconfig of a cluster administrator.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// A kubeconfig of the ServiceAccount the gateway acts as, without the gateway.
    pub fn acts_as_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let file = self.directory.join("acts-as.kubeconfig");
        if !file.exists() {
            let token = self.token("acts-as", &self.issuer())?;
            write_whole(&file, &self.kubeconfig(&json!({"token": token})))?;
        }
        Ok(file)
    }

    /// The kubeconfig the gateway uses.
    pub fn gateway_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let file = self.directory.join("gateway.kubeconfig");
        write_whole(&file, &self.kubeconfig(&self.certificate("gateway")))?;
        Ok(file)
    }

    /// A kubeconfig of a client certificate of the cluster's CA.
    pub fn certificate_kubeconfig(&self, name: &str, organisations: &[&str]) -> anyhow::Result<PathBuf> {
        self.ca.issue(name, name, organisations)?;
        let file = self.directory.join(format!("{name}.kubeconfig"));
        write_whole(&file, &self.kubeconfig(&self.certificate(name)))?;
        Ok(file)
    }

    /// The issuer of ServiceAccount tokens.
    pub fn issuer(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// A token for the gateway, of a ServiceAccount in the namespace `postern`.
    pub fn token(&self, account: &str, audience: &str) -> anyhow::Result<String> {
        let args = ["create", "token", account, "-n", "postern", "--audience", audience, "--duration", "2h"];
        Ok(stdout(kubectl(&self.admin_kubeconfig(), &args)?)?.trim().to_owned())
    }

    /// Runs a pod on the node: the API server is told that it runs.
    pub fn run_pod(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        self.run_pod_with(namespace, name, &json!({}))
    }

    /// What the containers of a pod find in their environment.
    pub fn set_environment(&self, namespace: &str, pod: &str, lines: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.directory.join("environments").join(format!("{namespace}_{pod}")), lines)?)
    }

    /// The same, with further fields of its container.
    pub fn run_pod_with(&self, namespace: &str, name: &str, more: &serde_json::Value) -> anyhow::Result<()> {
        let mut container = json!({"name": "main", "image": "testbed/main"});
        for (key, value) in more.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        self.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {"nodeName": "node-1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0, "containers": [container]}}))?;
        self.patch_status("pod", name, namespace, &json!({"status": {"phase": "Running", "podIP": "127.0.0.1", "hostIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
            "containerStatuses": [{"name": "main", "image": "testbed/main", "imageID": "testbed", "containerID": format!("testbed://{name}"),
                "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}}))
    }

    /// Says of a pod's ephemeral containers that they run, as its kubelet does. Their processes are the node's, like those of all containers.
    pub fn run_ephemeral_containers(&self, namespace: &str, pod: &str) -> anyhow::Result<()> {
        let pod_now = stdout(kubectl(&self.admin_kubeconfig(), &["get", "pod", pod, "-n", namespace, "-o", "json"])?)?;
        let pod_now: serde_json::Value = serde_json::from_str(&pod_now)?;
        let count = |list: &serde_json::Value| list.as_array().map_or(0, Vec::len);
        let containers = &pod_now["spec"]["ephemeralContainers"];
        if count(containers) == count(&pod_now["status"]["ephemeralContainerStatuses"]) {
            return Ok(());
        }
        let running = |container: &serde_json::Value| {
            json!({"name": container["name"], "image": container["image"], "imageID": "testbed", "containerID": format!("testbed://{}", container["name"]),
                "ready": false, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
        };
        let statuses: Vec<_> = containers.as_array().into_iter().flatten().map(running).collect();
        self.patch_status("pod", pod, namespace, &json!({"status": {"ephemeralContainerStatuses": statuses}}))
    }

    /// Applies an object as the administrator.
    pub fn apply(&self, object: &serde_json::Value) -> anyhow::Result<()> {
        let file = self.directory.join(format!("apply-{:?}.json", std::thread::current().id()));
        std::fs::write(&file, object.to_string())?;
        stdout(kubectl(&self.admin_kubeconfig(), &["apply", "-f", &file.display().to_string()])?).map(drop)
    }

    fn patch_status(&self, kind: &str, name: &str, namespace: &str, patch: &serde_json::Value) -> anyhow::Result<()> {
        let args = ["patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", "-p", &patch.to_string()];
        stdout(kubectl(&self.admin_kubeconfig(), &args)?).map(drop)
    }

    fn certificate(&self, name: &str) -> serde_json::Value {
        json!({"client-certificate": self.file(&format!("{name}.crt")), "client-key": self.file(&format!("{name}.key"))})
    }

    fn kubeconfig(&self, user: &serde_json::Value) -> String {
        kubeconfig(&format!("https://127.0.0.1:{}", self.port), &self.ca.pem, user)
    }
}

/// A kubeconfig; JSON is YAML too.
pub(crate) fn kubeconfig(server: &str, ca_pem: &str, user: &serde_json::Value) -> String {
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority-data": ca}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
        "users": [{"name": "testbed", "user": user}]})
    .to_string()
}

/// Runs kubectl.
pub(crate) fn kubectl(kubeconfig: &Path, args: &[&str]) -> anyhow::Result<Output> {
    let home = kubeconfig.with_extension("home");
    Ok(Command::new(binary("kubectl")).arg("--kubeconfig").arg(kubeconfig).args(args).env("HOME", home).output()?)
}

fn stdout(output: Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("kubectl failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
