//! What the end-to-end tests share: one cluster, and gateways of their own before it.

mod issuer;
mod tls;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};
use std::time::Duration;

pub use issuer::{Issuer, now};
use serde_json::{Value, json};
use testbed::{AUDIENCE, Between, Cluster, Gateway, GatewayOptions};
pub use tls::{Unread, bound, idle};

/// The cluster of this test process.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let directory = scratch("cluster");
        Cluster::start(&directory).expect("the cluster starts; `cargo xtask test` builds what it needs")
    })
}

/// A directory of its own. What runs that ended left behind is removed first.
pub fn scratch(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    static CLEAN: Once = Once::new();
    CLEAN.call_once(|| {
        for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("postern-e2e-").and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
    let directory = std::env::temp_dir()
        .join(format!("postern-e2e-{}", std::process::id()))
        .join(format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    directory
}

/// A chart of one ConfigMap.
pub fn chart() -> PathBuf {
    let chart = scratch("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: demo\nversion: 0.1.0\n").unwrap();
    std::fs::write(chart.join("values.yaml"), "greeting: hello\n").unwrap();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: demo}\ndata: {greeting: {{ .Values.greeting }}}\n";
    std::fs::write(chart.join("templates/configmap.yaml"), template).unwrap();
    chart
}

/// A gateway and a caller's kubeconfig.
pub struct Setup {
    /// The gateway.
    pub gateway: Gateway,
    /// The caller's kubeconfig, with a token for the gateway only.
    pub caller: PathBuf,
    /// The caller's token.
    pub token: String,
    /// A namespace of the test's own.
    pub namespace: String,
}

/// Starts a gateway with policies, and makes a namespace with a Secret and a pod.
pub fn setup(policies: Vec<(&'static str, &'static str, String)>, config: &str) -> Setup {
    setup_with(GatewayOptions { policies, config: config.into(), ..GatewayOptions::default() })
}

/// Starts a gateway with options.
pub fn setup_with(options: GatewayOptions) -> Setup {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let cluster = cluster();
    let namespace = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": namespace},
            "type": "Opaque", "data": {"password": "aHVudGVyMi1pcy1zZWNyZXQ=", "user": "YWRtaW4="}}))
        .unwrap();
    cluster.run_pod(&namespace, "web").unwrap();
    let gateway = Gateway::start(cluster, &scratch("gateway"), &options).unwrap();
    let token = cluster.token("caller", AUDIENCE).unwrap();
    let caller = gateway.kubeconfig("caller", &token).unwrap();
    Setup { gateway, caller, token, namespace }
}

/// Starts a gateway that goes to the API server through a relay.
pub fn setup_behind(between: &Between, options: GatewayOptions) -> Setup {
    setup_with(GatewayOptions { kubeconfig: Some(between.kubeconfig(cluster()).unwrap()), ..options })
}

/// A `PATH` on which the programs of the testbed come before others.
pub fn path() -> String {
    let own = [testbed::postern().parent().unwrap(), &testbed::cache().join("bin")].map(|place| place.display().to_string());
    own.into_iter().chain(std::env::var("PATH")).collect::<Vec<_>>().join(":")
}

impl Setup {
    /// Runs kubectl as the caller, in the test's namespace.
    pub fn kubectl(&self, args: &[&str]) -> Ran {
        Ran::new(Gateway::kubectl(&self.caller, &[&["-n", &self.namespace], args].concat()).unwrap())
    }

    /// Runs kubectl with another kubeconfig, in the test's namespace unless another is named.
    pub fn kubectl_of(&self, kubeconfig: &Path, args: &[&str]) -> Ran {
        Ran::new(Gateway::kubectl(kubeconfig, &[&["-n", &self.namespace], args].concat()).unwrap())
    }

    /// Runs kubectl without the gateway, as the ServiceAccount the gateway acts as.
    pub fn direct(&self, args: &[&str]) -> Ran {
        Ran::new(Gateway::kubectl(&cluster().acts_as_kubeconfig().unwrap(), &[&["-n", &self.namespace], args].concat()).unwrap())
    }

    /// Runs `postern session` on the gateway's recordings.
    pub fn session(&self, args: &[&str]) -> Ran {
        Ran::new(self.gateway.session(args).unwrap())
    }

    /// Sends bytes as they are over TLS, and gives the answer back.
    pub fn raw(&self, request: &str) -> String {
        raw(&self.gateway, request)
    }

    /// The same, for bytes that are no text.
    pub fn raw_bytes(&self, request: &[u8]) -> String {
        tls::exchange(&self.gateway.address, &self.gateway.ca(), request, Duration::from_secs(60)).expect("the gateway is there")
    }

    /// A GET with the caller's token and further header lines.
    pub fn get(&self, path: &str, headers: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{headers}\r\n", self.token))
    }

    /// Runs a shell command, escaped for a query, in the pod `web` through its node's proxy, over WebSocket, and goes away after a while.
    pub fn exec_by_node(&self, command: &str, patience: Duration) -> String {
        let path = format!("/api/v1/nodes/node-1/proxy/exec/{}/web/main?output=1&command=sh&command=-c&command={command}", self.namespace);
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{upgrade}\r\n", self.token);
        send(&self.gateway, &request, patience)
    }

    /// Megabytes of memory the gateway holds.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// The audit events so far.
    pub fn events(&self) -> Vec<Value> {
        std::thread::sleep(Duration::from_millis(150));
        let log = std::fs::read_to_string(self.gateway.audit()).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What a command printed.
pub struct Ran {
    /// Whether it succeeded.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Takes a finished command.
    pub fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The output, of a command that must succeed.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert!(self.ok, "failed: {}{}", self.out, self.err);
        &self.out
    }

    /// The error, of a command that must fail.
    #[track_caller]
    pub fn failure(&self) -> &str {
        assert!(!self.ok, "succeeded: {}", self.out);
        &self.err
    }
}

/// Sends bytes as they are over TLS, and gives the answer back.
pub fn raw(gateway: &Gateway, request: &str) -> String {
    raw_at(&gateway.address, &gateway.ca(), request)
}

/// The same, for an address.
pub fn raw_at(address: &str, ca: &Path, request: &str) -> String {
    tls::exchange(address, ca, request.as_bytes(), Duration::from_secs(60)).expect("the gateway is there")
}

/// Sends bytes as they are, and goes away after a while whether there was an answer or not.
pub fn send(gateway: &Gateway, request: &str, patience: Duration) -> String {
    send_bytes(gateway, request.as_bytes(), patience)
}

/// The same, for bytes that are no text.
pub fn send_bytes(gateway: &Gateway, request: &[u8], patience: Duration) -> String {
    tls::exchange(&gateway.address, &gateway.ca(), request, patience).expect("the gateway is there")
}

/// The same, for an address.
pub fn send_at(address: &str, ca: &Path, request: &str, patience: Duration) -> String {
    tls::exchange(address, ca, request.as_bytes(), patience).expect("the server is there")
}

/// Sends bytes as they are, and reads nothing of what comes back.
pub fn open(gateway: &Gateway, request: &str) -> anyhow::Result<Unread> {
    tls::open(&gateway.address, &gateway.ca(), request.as_bytes())
}

/// The answer of a gateway's listener for operations to a request, such as `GET /readyz`.
pub fn operations(gateway: &Gateway, request: &str) -> String {
    let log = gateway.log();
    let address = log.lines().find_map(|line| line.strip_prefix("metrics and health are at http://")).expect("it listens for operations");
    let mut stream = std::net::TcpStream::connect(address).expect("it is there");
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// The status code of an answer.
pub fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Writes a file whole, as a careful operator does.
pub fn put(file: &Path, bytes: &[u8]) {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, bytes).unwrap();
    std::fs::rename(partial, file).unwrap();
}
