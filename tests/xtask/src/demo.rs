//! The demo: a cluster, a gateway before it, and scenes that show it working.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use testbed::{AUDIENCE, Cluster, Gateway, GatewayOptions, Registry, cache, wait_until};

use crate::play::Play;
use crate::{agent, policies, sessions};

/// A running testbed.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) gateway: Gateway,
    pub(crate) registry: Registry,
    caller: PathBuf,
    approver: PathBuf,
}

impl Bed {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        eprintln!("  starting etcd, kube-apiserver, a node, a registry and the gateway");
        let cluster = Cluster::start(&directory.join("cluster"))?;
        let policies = vec![
            ("20-mask-secrets", "mask-secrets", "settings: {helmGroups: ['postern:caller'], podSecrets: true}\n".to_owned()),
            ("30-guard-exec", "guard-exec", String::new()),
            ("40-approve-deletes", "approve-deletes", "settings: {approvers: ['postern:approver'], resources: [deployments]}\n".to_owned()),
            ("50-no-bulk-export", "no-bulk-export", "settings: {resources: [secrets]}\n".to_owned()),
        ];
        let registry = Registry::start(&directory.join("registry"))?;
        let guard = format!(", registries: {{caFile: '{}'}}", registry.ca().display());
        // The process lives as long as the text does.
        let docker: &'static str = registry.directory.display().to_string().leak();
        let options = GatewayOptions { policies, guard, environment: vec![("DOCKER_CONFIG", docker)], ..GatewayOptions::default() };
        let gateway = Gateway::start(&cluster, &directory.join("gateway"), &options)?;
        let caller = gateway.kubeconfig("caller", &cluster.token("caller", AUDIENCE)?)?;
        let approver = gateway.kubeconfig("approver", &cluster.token("approver", AUDIENCE)?)?;
        gateway.kubeconfig("agent", &cluster.token("agent", AUDIENCE)?)?;
        cluster.run_pod("default", "web")?;
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "default"}, "stringData": {"password": "hunter2-is-secret", "user": "admin"}}))?;
        let password = json!({"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}});
        cluster.run_pod_with("default", "app", &json!({"env": [password]}))?;
        cluster.set_environment("default", "app", "PASSWORD=hunter2-is-secret\n")?;
        cluster.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 1,
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web"}]}}}}))?;
        Ok(Self { cluster, gateway, registry, caller, approver })
    }

    fn described(&self, directory: &Path) -> Value {
        json!({
            "directory": directory,
            "admin_kubeconfig": self.cluster.admin_kubeconfig(),
            "caller_kubeconfig": self.caller,
            "approver_kubeconfig": self.approver,
            "gateway_url": format!("https://{}", self.gateway.address),
            "gateway_ca": self.gateway.ca(),
            "config": self.gateway.directory.join("postern.yaml"),
            "policies_dir": self.gateway.directory.join("policies.d"),
            "data_dir": self.gateway.directory.join("data"),
            "postern": testbed::postern(),
        })
    }
}

/// Plays the demo.
pub(crate) fn run(once: bool) -> anyhow::Result<()> {
    let directory = new_directory("demo")?;
    let bed = Bed::start(&directory)?;
    let mut play = Play::new(&bed.gateway.directory);
    scenes(&bed, &mut play)?;
    let result = play.end();
    if !once && result.is_ok() {
        println!("\nTry it yourself (Ctrl-C here ends everything):\n   cd {}", bed.gateway.directory.display());
        println!("   export KUBECONFIG=$PWD/caller.kubeconfig PATH={}:$PATH", programs().join(":"));
        println!("   kubectl get pods");
        println!("   postern approval --kubeconfig approver.kubeconfig list");
        println!("   postern audit --file data/audit.jsonl list");
        println!("   postern session --data-directory data list");
        println!(
            "The policies are in policies.d, the configuration is postern.yaml. To write one (docs/writing-a-policy.md), or to give an AI agent the cluster (docs/agents.md), run this in another terminal:"
        );
        let policies = cache().join("policies");
        println!("export DEMO={} POLICIES={} PATH={}:$PATH", bed.gateway.directory.display(), policies.display(), programs().join(":"));
        // Ctrl-C ends this process, and with it all it started.
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    drop(bed);
    let _ = std::fs::remove_dir_all(directory);
    result
}

/// Where the programs of the demo are.
fn programs() -> Vec<String> {
    let directories = [testbed::binary("kubectl"), testbed::postern()];
    directories.iter().filter_map(|file| file.parent()).map(|directory| directory.display().to_string()).collect()
}

fn scenes(bed: &Bed, play: &mut Play) -> anyhow::Result<()> {
    println!("Commands run in {}", bed.gateway.directory.display());
    let caller = &["--kubeconfig", "caller.kubeconfig"];
    let as_caller = |args: &[&'static str]| -> Vec<&str> { [caller.as_slice(), args].concat() };

    play.scene("A CI job lists pods, with a token that is good for the gateway only");
    let pods = play.run("kubectl", &as_caller(&["get", "pods"]))?;
    play.because(pods.ok && pods.text.contains("web"), "allowed: no policy objects, and the gateway used a short-lived token of its own");
    let token = bed.cluster.token("caller", AUDIENCE)?;
    let api_server = format!("https://127.0.0.1:{}", bed.cluster.port);
    let pods = ["get", "--raw", "/api/v1/namespaces/default/pods"];
    let directly = [&["--server", &api_server, "--insecure-skip-tls-verify", "--token"][..], &[token.as_str()][..], &pods].concat();
    let direct = play.command("kubectl", &directly).output()?;
    play.show("kubectl", &[&["--server", &api_server, "--token", "(the same token)"][..], &pods].concat());
    let direct = play.printed(&direct);
    play.because(!direct.ok, "the API server itself does not take that token: the caller holds no cluster credential");

    play.scene("A Secret comes back masked, and is still a Secret");
    let secret = play.run("kubectl", &as_caller(&["get", "secret", "db", "-o", "yaml"]))?;
    let masked = secret.ok && secret.text.contains("cG9zdGVybi1tYXNrZW") && !secret.text.contains("aHVudGVyMi");
    play.because(
        masked && secret.text.contains("Warning:"),
        "mask-secrets hides the values, in last-applied-configuration too, and kubectl shows the warning",
    );

    sessions::a_masked_secret_is_edited(bed, play)?;

    play.scene("All Secrets of the cluster at once are refused");
    let bulk = play.run("kubectl", &as_caller(&["get", "secrets", "-A"]))?;
    play.because(
        !bulk.ok && bulk.text.contains("no-bulk-export"),
        "blocked before it reached the cluster; the message names the policy and what to do",
    );

    play.scene("A delete waits for somebody else's approval");
    let delete = as_caller(&["delete", "deployment", "web"]);
    let told = play.run("kubectl", &delete)?;
    play.because(
        !told.ok && told.text.contains("waiting for approval"),
        "kubectl is told of its ticket at once, and ends; the same command again waits",
    );
    play.show("kubectl", &[&delete[..], &["&"]].concat());
    let waiting = play.command("kubectl", &delete).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let approver = ["approval", "--kubeconfig", "approver.kubeconfig"];
    let id = play.ticket_of(":caller")?;
    play.run("postern", &[&approver[..], &["list"]].concat())?;
    let approved = play.run("postern", &[&approver[..], &["approve", &id]].concat())?;
    let done = play.printed(&waiting.wait_with_output()?);
    play.because(
        approved.ok && done.ok && done.text.contains("deleted"),
        "the waiting kubectl went through once it was approved by a second identity",
    );
    bed.cluster.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web"}]}}}}))?;
    let again = play.run("kubectl", &delete)?;
    play.because(
        !again.ok && again.text.contains("waiting for approval") && !again.text.contains(&id),
        "the same command later asks for a ticket of its own: an approval is used once",
    );

    play.scene("A shell is refused, a plain command runs");
    let shell = play.run("kubectl", &as_caller(&["exec", "web", "--", "/bin/sh", "-c", "id"]))?;
    play.because(!shell.ok && shell.text.matches("guard-exec").count() == 1, "guard-exec refuses shells, with one message");
    let plain = play.run("kubectl", &as_caller(&["exec", "web", "--", "echo", "hello from the container"]))?;
    play.because(plain.ok && plain.text.contains("hello"), "any other command runs");

    sessions::a_password_never_shows(play)?;
    sessions::a_session_is_replayed(play)?;
    agent::an_agent_asks(bed, play)?;

    play.scene("Helm works unchanged");
    let chart = bed.gateway.directory.join("chart");
    std::fs::create_dir_all(chart.join("templates"))?;
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 1.0.0\n")?;
    std::fs::write(chart.join("values.yaml"), "greeting: hello\n")?;
    std::fs::write(
        chart.join("templates/configmap.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {greeting: {{ .Values.greeting }}}\n",
    )?;
    let mut helm_ok = true;
    for args in [
        &["install", "shop", "./chart"][..],
        &["upgrade", "shop", "./chart", "--set", "greeting=bye"],
        &["rollback", "shop", "1"],
        &["list"],
        &["uninstall", "shop"],
    ] {
        helm_ok &= play.run("helm", &[caller.as_slice(), args].concat())?.ok;
    }
    play.because(helm_ok, "releases are passed whole to the group mask-secrets names, so nothing Helm stores is ever damaged");

    play.scene("A policy dropped into the directory changes the next answer");
    let directory = bed.gateway.directory.join("policies.d");
    let list = as_caller(&["get", "configmaps", "-A"]);
    let before = play.command("kubectl", &list).output()?.status.success();
    let dropped = directory.join("60-no-configmaps.wasm");
    println!("   $ cp no-bulk-export.wasm policies.d/60-no-configmaps.wasm");
    std::fs::copy(testbed::policy("no-bulk-export"), directory.join("60.partial"))?;
    std::fs::rename(directory.join("60.partial"), &dropped)?;
    wait_until("the policy is in force", Duration::from_secs(20), || Ok(!play.command("kubectl", &list).output()?.status.success()))?;
    let after = play.run("kubectl", &list)?;
    play.because(before && after.text.contains("60-no-configmaps"), "in force without a restart");
    println!("   $ head -c 1000 no-bulk-export.wasm > policies.d/60-no-configmaps.wasm");
    let module = std::fs::read(testbed::policy("no-bulk-export"))?;
    std::fs::write(&dropped, &module[..1000])?;
    std::thread::sleep(Duration::from_millis(800));
    let broken = play.run("kubectl", &list)?;
    let log = std::fs::read_to_string(bed.gateway.directory.join("postern.log"))?;
    let listed = play.run("postern", &["policy", "list", "--config", "postern.yaml"])?;
    let is_told = log.contains("serving_last_good=true") && listed.text.contains("last-good");
    play.because(!broken.ok && is_told, "a broken module is refused, and the last good one goes on");

    policies::a_policy_is_tried_on_what_was_done(bed, play)?;
    policies::a_signed_policy_is_pulled(bed, play)?;

    play.scene("All of it is in the audit log, the failed login included");
    bed.gateway.kubeconfig("stranger", "not-a-token")?;
    let login = play.run("kubectl", &["--kubeconfig", "stranger.kubeconfig", "get", "pods"])?;
    std::thread::sleep(Duration::from_millis(300));
    let args = ["audit", "--file", "data/audit.jsonl", "list"];
    let shown = ["refused", "held", "approved by", "exec", " db"];
    println!("   $ postern {} | grep -E '{}'", args.join(" "), shown.join("|"));
    let listed = String::from_utf8(play.command("postern", &args).output()?.stdout)?;
    for line in listed.lines().filter(|l| shown.iter().any(|w| l.contains(w))) {
        println!("     {}", line.chars().take(210).collect::<String>());
    }
    let verified = play.run("postern", &["audit", "--file", "data/audit.jsonl", "verify"])?;
    let all = ["unauthenticated", "block", "mask", "require-approval", "pods/exec"].iter().all(|w| listed.contains(w));
    play.because(
        !login.ok && all && verified.ok && !listed.contains("hunter2"),
        "who, what, which verdict and why; the chain shows that no line was changed",
    );
    Ok(())
}

/// Starts a testbed in the background.
pub(crate) fn up(as_json: bool) -> anyhow::Result<()> {
    let directory = new_directory("testbed")?;
    let log = std::fs::File::create(directory.join("hold.log"))?;
    let mut hold = Command::new("setsid");
    hold.arg(std::env::current_exe()?).arg("hold").arg(&directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = hold.spawn().context("cannot start the testbed (setsid of util-linux is needed)")?;
    let described = directory.join("testbed.json");
    wait_until("the testbed is up", Duration::from_secs(120), || {
        if let Some(status) = child.try_wait()? {
            bail!("the testbed ended: {status}\n{}", std::fs::read_to_string(directory.join("hold.log")).unwrap_or_default());
        }
        Ok(described.exists())
    })?;
    let text = std::fs::read_to_string(described)?;
    if as_json {
        println!("{text}");
    } else {
        let value: Value = serde_json::from_str(&text)?;
        for (key, value) in value.as_object().into_iter().flatten() {
            println!("{key:<18} {}", value.as_str().unwrap_or_default());
        }
    }
    Ok(())
}

/// Holds a testbed until this process is told to end; all it started ends with it.
pub(crate) fn hold(directory: &Path) -> anyhow::Result<()> {
    let bed = Bed::start(directory)?;
    std::fs::write(directory.join("pid"), std::process::id().to_string())?;
    let partial = directory.join("testbed.partial");
    std::fs::write(&partial, bed.described(directory).to_string())?;
    std::fs::rename(partial, directory.join("testbed.json"))?;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Ends testbeds.
pub(crate) fn down(directory: Option<PathBuf>) -> anyhow::Result<()> {
    let directories = match directory {
        Some(directory) => vec![directory],
        None => std::fs::read_dir(cache().join("run"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.join("testbed.json").exists())
            .collect(),
    };
    for directory in directories {
        let pid = std::fs::read_to_string(directory.join("pid")).with_context(|| format!("{} is no testbed", directory.display()))?;
        // The number may belong to another process by now: only one that holds this very directory is ended.
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if line.contains(path(&directory)) {
            Command::new("kill").arg(pid.trim()).status()?;
            wait_until("the testbed ends", Duration::from_secs(10), || {
                Ok(!Path::new(&format!("/proc/{}", pid.trim())).join("exe").exists())
            })?;
        }
        std::fs::remove_dir_all(&directory)?;
        println!("ended {}", directory.display());
    }
    Ok(())
}

/// A directory for a run. What a run that was killed left behind is removed: its processes ended with it.
fn new_directory(kind: &str) -> anyhow::Result<PathBuf> {
    let run = cache().join("run");
    std::fs::create_dir_all(&run)?;
    for entry in std::fs::read_dir(&run)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.rsplit('-').next().and_then(|pid| pid.parse::<u32>().ok());
        let held = std::fs::read_to_string(entry.path().join("pid")).ok().and_then(|pid| pid.trim().parse::<u32>().ok());
        let alive = [owner, held].into_iter().flatten().any(|pid| Path::new(&format!("/proc/{pid}")).exists());
        if !alive {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let directory = run.join(format!("{kind}-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
