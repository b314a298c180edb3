//! Several clusters behind one gateway: they are told apart, and nothing crosses from one to another. Both are real, and hold objects of the same names,
//! namespaces and uids in different states.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use e2e::{Issuer, Ran, cluster, code, put, raw, scratch};
use serde_json::{Value, json};
use testbed::{AUDIENCE, Cluster, Gateway, GatewayOptions, wait_until};

/// The other cluster. Most look at it together; who stops its API server has it alone.
fn other() -> RwLockReadGuard<'static, Cluster> {
    the_other().read().unwrap_or_else(PoisonError::into_inner)
}

fn the_other() -> &'static RwLock<Cluster> {
    static OTHER: OnceLock<RwLock<Cluster>> = OnceLock::new();
    OTHER.get_or_init(|| {
        let other = Cluster::start(&scratch("other")).expect("a second cluster starts");
        let first = cluster();
        first.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "twin"}})).unwrap();
        first.apply(&secret("hunter2-of-first")).unwrap();
        first.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "twin"}, "data": {"of": "first"}})).unwrap();
        let container = json!({"env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]});
        first.run_pod_with("twin", "web", &container).unwrap();
        for kind in ["namespaces/twin", "secrets/twin", "configmaps/twin", "pods/twin"] {
            other.take_from(first, &format!("/registry/{kind}")).unwrap();
        }
        other.apply(&secret("swordfish-of-other")).unwrap();
        other.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "twin"}, "data": {"of": "other"}})).unwrap();
        RwLock::new(other)
    })
}

fn secret(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "twin"}, "stringData": {"password": value, "same": "the-same-in-both"}})
}

/// A gateway before both clusters, and people whom an issuer knows that is no cluster's.
struct Two {
    gateway: Gateway,
    issuer: Issuer,
}

/// The entry of a cluster under `clusters`.
fn entry(name: &str, cluster: &Cluster, more: &str) -> String {
    entry_with(name, &cluster.gateway_kubeconfig().unwrap(), &format!(", serviceAccountIssuers: ['{}']{more}", cluster.issuer()))
}

/// The same, with a kubeconfig of one's own choice.
fn entry_with(name: &str, kubeconfig: &std::path::Path, more: &str) -> String {
    format!(
        "- {{name: {name}, kubeconfig: '{}', access: [{{as: {{serviceAccount: {{namespace: postern, name: acts-as}}}}}}]{more}}}\n",
        kubeconfig.display()
    )
}

/// The issuer of a cluster's ServiceAccounts, under `authentication.jwt`.
fn accounts(cluster: &Cluster) -> String {
    let ca = std::fs::read_to_string(cluster.directory.join("ca.crt")).unwrap().replace('\n', "\n        ");
    format!(
        "  - issuer:\n      url: '{}'\n      audiences: [{AUDIENCE}]\n      certificateAuthority: |\n        {ca}\n    claimMappings:\n      username: {{claim: sub, prefix: ''}}\n",
        cluster.issuer()
    )
}

const PEOPLE: &str = "    claimMappings:\n      username: {claim: sub, prefix: ''}\n      groups: {claim: groups, prefix: ''}\n";

impl Two {
    fn start(clusters: String, policies: Vec<(&'static str, &'static str, String)>, options: GatewayOptions) -> Self {
        let issuer = Issuer::start();
        let issuers = format!("{}{}", issuer.entry(PEOPLE), options.issuers);
        let options = GatewayOptions { clusters, policies, issuers, ..options };
        Self { gateway: Gateway::start(cluster(), &scratch("gateway"), &options).unwrap(), issuer }
    }

    fn token(&self, name: &str, groups: &[&str]) -> String {
        self.issuer.token("first", 3600, &json!({"sub": name, "groups": groups}))
    }

    /// A kubeconfig of somebody for a cluster, by its path.
    fn kubeconfig(&self, name: &str, groups: &[&str], cluster: &str) -> PathBuf {
        let server = format!("https://{}/clusters/{cluster}", self.gateway.address);
        self.gateway.kubeconfig_at(&format!("{name}-{cluster}"), &server, &json!({"token": self.token(name, groups)})).unwrap()
    }

    fn kubectl(&self, cluster: &str, args: &[&str]) -> Ran {
        kubectl(&self.kubeconfig("ann", &["dev"], cluster), args)
    }

    fn events(&self) -> Vec<Value> {
        std::thread::sleep(Duration::from_millis(150));
        std::fs::read_to_string(self.gateway.audit()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn configuration(&self) -> String {
        std::fs::read_to_string(self.gateway.directory.join("postern.yaml")).unwrap()
    }

    /// Changes the configuration of the running gateway.
    fn change(&self, from: &str, to: &str) {
        let before = self.configuration();
        assert!(before.contains(from), "{from} is not in {before}");
        put(&self.gateway.directory.join("postern.yaml"), before.replace(from, to).as_bytes());
    }
}

fn kubectl(kubeconfig: &std::path::Path, args: &[&str]) -> Ran {
    Ran::new(Gateway::kubectl(kubeconfig, &[&["-n", "twin"], args].concat()).unwrap())
}

/// A kubectl that goes on.
fn begin(kubeconfig: &std::path::Path, args: &[&str]) -> Child {
    let mut command = Command::new(testbed::binary("kubectl"));
    command.arg("--kubeconfig").arg(kubeconfig).args(["-n", "twin"]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn both(other: &Cluster) -> String {
    entry("one", cluster(), "") + &entry("two", other, "")
}

#[test]
fn kubectl_and_helm_reach_each_cluster_by_its_path() {
    let other = other();
    let clusters = entry("one", cluster(), ", nodesProxy: {users: [ann]}") + &entry("two", &other, "");
    let two = Two::start(clusters, Vec::new(), GatewayOptions::default());
    let uid = |name: &str| two.kubectl(name, &["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]).success().to_owned();
    assert_eq!(uid("one"), uid("two"));
    for (name, of) in [("one", "first"), ("two", "other")] {
        assert_eq!(two.kubectl(name, &["get", "configmap", "web", "-o", "jsonpath={.data.of}"]).success(), of);
        assert!(two.kubectl(name, &["exec", "web", "--", "echo", "hello"]).success().contains("hello"));
        assert!(two.kubectl(name, &["explain", "pod.spec.containers"]).success().contains("FIELDS"));
        assert!(two.kubectl(name, &["api-resources"]).success().contains("deployments"));
        assert!(two.kubectl(name, &["get", "--raw", "/version"]).success().contains("gitVersion"));
        let map = two.gateway.directory.join(format!("{name}.json"));
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"in": name}});
        std::fs::write(&map, object.to_string()).unwrap();
        for server_side in ["--server-side=false", "--server-side=true"] {
            two.kubectl(name, &["apply", server_side, "-f", map.to_str().unwrap()]).success();
        }
        two.kubectl(name, &["diff", "-f", map.to_str().unwrap()]).success();
    }
    for (cluster, of) in [(cluster(), "one"), (&*other, "two")] {
        assert_eq!(kubectl(&cluster.admin_kubeconfig(), &["get", "configmap", "applied", "-o", "jsonpath={.data.in}"]).success(), of);
    }
    let helm = |name: &str, args: &[&str]| {
        Ran::new(Gateway::helm(&two.kubeconfig("ann", &["dev"], name), &[&["-n", "twin"], args].concat()).unwrap())
    };
    helm("two", &["install", "demo", e2e::chart().to_str().unwrap()]).success();
    assert!(helm("two", &["list", "-q"]).success().contains("demo") && !helm("one", &["list", "-q"]).success().contains("demo"));
    helm("two", &["uninstall", "demo"]).success();
    assert_eq!(
        code(&raw(&two.gateway, &get("/clusters/two/api/v1/nodes/node-1/proxy/", "x", &two.token("ann", &["dev"])))),
        403,
        "its own nodesProxy names nobody"
    );
    // Where the API server leads on itself, that is where the cluster is here.
    let token = two.token("ann", &["dev"]);
    let redirected = raw(&two.gateway, &get("/clusters/one/debug/pprof", "x", &token));
    assert!(code(&redirected) == 302 && redirected.contains("location: /clusters/one/debug/pprof/\r\n"), "{redirected}");
}

fn get(path: &str, host: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n")
}

#[test]
fn a_cluster_is_reached_by_its_host_and_no_other_by_that() {
    let other = other();
    let clusters = entry("one", cluster(), ", hosts: [localhost]") + &entry("two", &other, ", hosts: [two.example, '127.0.0.1']");
    let two = Two::start(clusters, Vec::new(), GatewayOptions::default());
    let port = two.gateway.address.rsplit(':').next().unwrap();
    let token = two.token("ann", &["dev"]);
    for (host, of) in [("localhost", "first"), ("127.0.0.1", "other")] {
        let kubeconfig = two.gateway.kubeconfig_at(host, &format!("https://{host}:{port}"), &json!({"token": token})).unwrap();
        assert_eq!(kubectl(&kubeconfig, &["get", "configmap", "web", "-o", "jsonpath={.data.of}"]).success(), of, "{host}");
    }
    // These connections were opened for `localhost`.
    let map = "/api/v1/namespaces/twin/configmaps/web";
    let asked = |path: &str, host: &str| raw(&two.gateway, &get(path, host, &token));
    assert!(asked(map, "LOCALHOST:1").contains(r#""of":"first""#));
    for host in ["two.example", "127.0.0.1", "elsewhere.example"] {
        let answer = asked(map, host);
        assert!(code(&answer) == 421 && answer.contains("\"kind\":\"Status\"") && !answer.contains("\"of\""), "{host}: {answer}");
    }
    let unknown = raw(&two.gateway, &get(map, "two.example", "nonsense"));
    assert_eq!(code(&unknown), 401, "who is unknown does not learn that there is such a host: {unknown}");
    let twice = raw(&two.gateway, &get(&format!("https://two.example{map}"), "localhost", &token));
    assert!(code(&twice) == 400 && !twice.contains("\"of\""), "{twice}");
    // A host's paths are its cluster's own.
    assert_eq!(code(&asked("/clusters/two/api/v1/namespaces/twin/configmaps/web", "localhost")), 404);
}

#[test]
fn who_is_unknown_learns_of_no_cluster_and_an_account_is_known_in_its_own_only() {
    let other = other();
    let issuers = accounts(cluster()) + &accounts(&other);
    let clusters = both(&other)
        + "- {name: broken, kubeconfig: /nowhere}\n"
        + &entry_with("closed", &cluster().gateway_kubeconfig().unwrap(), "").replace("acts-as", "nobody");
    let two = Two::start(clusters, Vec::new(), GatewayOptions { issuers, ..GatewayOptions::default() });
    let asked = |path: &str, token: &str| raw(&two.gateway, &get(path, "x", token));
    for path in [
        "/clusters/one/api",
        "/clusters/broken/api",
        "/clusters/none/api",
        "/api",
        "/",
        "/postern/v1/approvals",
        "/clusters/two/postern/v1/approvals",
    ] {
        let answer = asked(path, "nonsense");
        assert_eq!(code(&answer), 401, "{path}: {answer}");
        assert!(["one", "two", "broken", "closed"].iter().all(|name| !answer.replace(path, "").contains(name)), "{answer}");
    }
    let ann = two.token("ann", &["dev"]);
    for (path, status) in [
        ("/clusters/one/api", 200),
        ("/clusters/none/api", 404),
        ("/api", 404),
        ("/clusters/one/../two/api/v1/namespaces/twin/configmaps/web", 400),
        ("/clusters/%6fne/api", 404),
        ("/clusters/broken/api", 503),
        ("/postern/v1/approvals", 200),
        ("/clusters/one/postern/v1/approvals", 200),
        ("/clusters/closed/api", 403),
    ] {
        let answer = asked(path, &ann);
        assert_eq!(code(&answer), status, "{path}: {answer}");
        assert!(!answer.contains("/nowhere") && !answer.contains("\"of\""), "{answer}");
    }
    // A ServiceAccount of one cluster is nobody in the other, though it has the same name there, and nobody where no cluster is meant.
    let of_one = cluster().token("caller", AUDIENCE).unwrap();
    for (path, status) in [
        ("/clusters/one/api", 200),
        ("/clusters/two/api", 401),
        ("/postern/v1/approvals", 401),
        ("/clusters/two/postern/v1/approvals", 401),
        ("/clusters/one/postern/v1/approvals", 200),
        ("/clusters/none/api", 401),
    ] {
        let answer = asked(path, &of_one);
        assert_eq!(code(&answer), status, "{path}: {answer}");
    }
    assert!(two.gateway.log().contains("the cluster cannot be set up"), "{}", two.gateway.log());
    let told = two.events();
    assert!(told.iter().any(|event| event["stage"] == "clusters" && event["clusters"][2]["notSetUp"].as_str().is_some()), "{told:#?}");
}

#[test]
fn masks_tokens_sessions_recordings_and_budgets_are_of_one_cluster() {
    let other = other();
    let policies = vec![
        ("10-rate-limit", "rate-limit", "settings: {perMinute: 8}\nrules: [{resources: [configmaps]}]\n".to_owned()),
        ("20-mask-secrets", "mask-secrets", "settings: {podSecrets: true}\ngrants: [streams]\n".to_owned()),
        ("30-read-only", "read-only", "rules: [{clusters: [two], resources: [configmaps]}]\n".to_owned()),
    ];
    let two = Two::start(
        both(&other),
        policies,
        GatewayOptions { config: "sessions: {bodies: [{keep: requestAndResponse}]}\n".into(), ..GatewayOptions::default() },
    );
    // The same value of the same object has a token of its own in each.
    let token_of = |name: &str| two.kubectl(name, &["get", "secret", "db", "-o", "jsonpath={.data.same}"]).success().to_owned();
    let (one_token, two_token) = (token_of("one"), token_of("two"));
    assert_eq!(one_token, token_of("one"));
    assert!(one_token != two_token && !one_token.is_empty(), "{one_token} {two_token}");
    // What a pod knows is asked of its own cluster, however much is the same: uid, namespace and name are.
    cluster().set_environment("twin", "web", "PASSWORD=hunter2-of-first\n").unwrap();
    other.set_environment("twin", "web", "PASSWORD=swordfish-of-other\n").unwrap();
    for (name, value) in [("one", "hunter2-of-first"), ("two", "swordfish-of-other"), ("one", "hunter2-of-first")] {
        let ran = two.kubectl(name, &["exec", "web", "--", "sh", "-c", "echo it is $PASSWORD"]);
        let said = ran.success();
        assert!(said.contains("it is ") && said.len() > "it is \n".len() && !said.contains(value), "{said}");
    }
    // A rule for one cluster is for no other.
    two.kubectl("one", &["create", "configmap", "made", "--from-literal=a=b"]).success();
    assert!(two.kubectl("two", &["create", "configmap", "made", "--from-literal=a=b"]).failure().contains("read-only"));
    two.kubectl("one", &["delete", "configmap", "made"]).success();
    assert!(two.kubectl("one", &["auth", "can-i", "create", "configmaps"]).success().contains("yes"));
    assert!(
        two.kubectl("two", &["auth", "can-i", "create", "configmaps"]).failure().is_empty()
            && two.kubectl("two", &["auth", "can-i", "create", "configmaps"]).out.contains("no")
    );
    // What is used up in one is not used up in the other.
    let get = |name: &str| two.kubectl(name, &["get", "--raw", "/api/v1/namespaces/twin/configmaps/web"]);
    wait_until("the budget of one is used up", Duration::from_secs(30), || Ok(!get("one").ok)).unwrap();
    get("two").success();
    // Recordings and events name their cluster, and a credential has a session of its own in each.
    let events = two.events();
    let session = |name: &str| {
        let mut found: Vec<String> =
            events.iter().filter(|e| e["cluster"] == name).filter_map(|e| e["session"].as_str().map(str::to_owned)).collect();
        found.sort();
        found.dedup();
        found
    };
    assert!(!session("one").is_empty() && session("one").iter().all(|id| !session("two").contains(id)));
    let listed = Ran::new(two.gateway.session(&["list", "--json"]).unwrap());
    for line in listed.success().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let name = row["cluster"].as_str().unwrap();
        assert!(["one", "two"].contains(&name) && session(name).contains(&row["id"].as_str().unwrap().to_owned()), "{row}");
    }
    assert!(Ran::new(two.gateway.session(&["list"]).unwrap()).success().contains("CLUSTER"));
    let data = two.gateway.directory.join("data");
    let text = Command::new("grep").args(["-rlaE", "hunter2-of-first|swordfish-of-other"]).arg(data).output().unwrap();
    assert!(text.stdout.is_empty(), "{}", String::from_utf8_lossy(&text.stdout));
}

#[test]
fn what_is_approved_for_one_cluster_passes_in_no_other() {
    let other = other();
    let settings = "settings: {approvers: [sre], resources: [configmaps]}\n";
    let policies = vec![("40-approve", "approve-deletes", settings.to_owned())];
    let two = Two::start(
        both(&other),
        policies,
        GatewayOptions { config: "approvals: {tellFirst: false, hold: 1}\n".into(), ..GatewayOptions::default() },
    );
    for cluster in [cluster(), &*other] {
        cluster.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "namespace": "twin"}})).unwrap();
    }
    let delete = |name: &str| two.kubectl(name, &["delete", "configmap", "gone", "--wait=false"]);
    for name in ["one", "two"] {
        assert!(delete(name).failure().contains("waiting for approval"));
    }
    let approval = |kubeconfig: &std::path::Path, args: &[&str]| {
        Ran::new(Gateway::postern(&[&["approval", "--kubeconfig", kubeconfig.to_str().unwrap()], args].concat()).unwrap())
    };
    let sre = |name: &str| two.kubeconfig("sue", &["sre"], name);
    let pending = |name: &str| -> Vec<(String, String)> {
        let list: Value = serde_json::from_str(approval(&sre(name), &["list", "--json"]).success()).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|ticket| (ticket["id"].as_str().unwrap().into(), ticket["operation"]["cluster"].as_str().unwrap().into())).collect()
    };
    let (of_one, of_two) = (pending("one"), pending("two"));
    assert_eq!((of_one.len(), of_two.len(), of_one[0].1.as_str(), of_two[0].1.as_str()), (1, 1, "one", "two"));
    // Each by its own path; whoever means all of them asks the gateway itself.
    assert!(approval(&sre("one"), &["approve", &of_two[0].0]).failure().contains("no ticket"));
    let all = two.gateway.kubeconfig("sue", &two.token("sue", &["sre"])).unwrap();
    let list: Value = serde_json::from_str(approval(&all, &["list", "--json"]).success()).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    approval(&all, &["approve", &of_two[0].0]).success();
    assert!(delete("one").failure().contains("waiting for approval"));
    delete("two").success();
    assert!(kubectl(&cluster().admin_kubeconfig(), &["get", "configmap", "gone"]).ok);
    assert!(!kubectl(&other.admin_kubeconfig(), &["get", "configmap", "gone"]).ok);
    kubectl(&cluster().admin_kubeconfig(), &["delete", "configmap", "gone"]).success();
}

#[test]
fn a_cluster_that_is_down_takes_no_other_with_it() {
    let mut other = the_other().write().unwrap_or_else(PoisonError::into_inner);
    let two = Two::start(
        both(&other),
        Vec::new(),
        GatewayOptions { config: "operations: {address: '127.0.0.1:0'}\n".into(), ..GatewayOptions::default() },
    );
    let one = two.kubeconfig("ann", &["dev"], "one");
    two.kubectl("two", &["get", "pods"]).success();
    let mut watch = begin(&one, &["get", "configmaps", "--watch"]);
    let look = || {
        let began = Instant::now();
        for _ in 0..5 {
            two.kubectl("one", &["get", "pods"]).success();
            let watched =
                begin(&one, &["get", "--raw", "/api/v1/namespaces/twin/pods?watch=1&timeoutSeconds=1"]).wait_with_output().unwrap();
            assert!(String::from_utf8_lossy(&watched.stdout).contains("\"ADDED\""));
        }
        began.elapsed()
    };
    let before = look();
    // It hangs: those who wait for it hold up nobody at the other.
    other.hang_api_server(true).unwrap();
    let bob = two.kubeconfig("bob", &["dev"], "two");
    let waiting: Vec<Child> = (0..20).map(|_| begin(&bob, &["get", "--raw", "/api/v1/namespaces/twin/pods?watch=1"])).collect();
    std::thread::sleep(Duration::from_millis(500));
    let meanwhile = look();
    other.hang_api_server(false).unwrap();
    assert!(meanwhile < before * 3, "{before:?} before, {meanwhile:?} while the other hangs");
    // It is gone.
    other.stop_api_server();
    let down = two.kubectl("two", &["get", "--raw", "/api/v1/namespaces/twin/pods"]);
    assert!(down.failure().contains("the API server cannot be reached"), "{}", down.err);
    two.kubectl("one", &["get", "pods"]).success();
    assert!(watch.try_wait().unwrap().is_none());
    watch.kill().unwrap();
    watch.wait().unwrap();
    let health = e2e::operations(&two.gateway, "GET /readyz");
    assert_eq!(code(&health), 200, "{health}");
    let health = e2e::operations(&two.gateway, "GET /healthz");
    assert!(code(&health) == 503 && health.contains("[-]api-server failed: two: ") && !health.contains("one: "), "{health}");
    for mut child in waiting {
        let _ = child.kill();
        let _ = child.wait();
    }
    // Started again it is reached again, without anybody's help.
    other.restart_api_server().unwrap();
    wait_until("the cluster is reached again", Duration::from_secs(30), || Ok(two.kubectl("two", &["get", "pods"]).ok)).unwrap();
    let metrics = e2e::operations(&two.gateway, "GET /metrics");
    for line in ["cluster=\"one\"", "cluster=\"two\"", "postern_cluster_set_up{cluster=\"two\"} 1"] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[test]
fn clusters_are_added_changed_and_taken_out_while_the_gateway_runs() {
    let other = other();
    let (first, second) = (entry("one", cluster(), ""), entry("two", &other, ""));
    let options = GatewayOptions { config: "operations: {address: '127.0.0.1:0'}\n".into(), ..GatewayOptions::default() };
    let two = Two::start(first.clone(), Vec::new(), options);
    let raw = |name: &str| two.kubectl(name, &["get", "--raw", "/api/v1/namespaces/twin/pods"]);
    assert!(raw("two").failure().contains("no cluster of this gateway"), "not there yet");
    let one = two.kubeconfig("ann", &["dev"], "one");
    let mut stays = begin(&one, &["get", "configmaps", "--watch"]);
    // Added, with policies of its own.
    let own = two.gateway.directory.join("own.d");
    std::fs::create_dir(&own).unwrap();
    std::fs::copy(testbed::policy("read-only"), own.join("10-read-only.wasm")).unwrap();
    let with_policies = second.replace("}\n", ", policies: {directory: own.d, required: [10-read-only]}}\n");
    two.change(&first, &format!("{first}{with_policies}"));
    wait_until("the cluster is there", Duration::from_secs(30), || Ok(two.kubectl("two", &["get", "pods"]).ok)).unwrap();
    assert!(two.kubectl("two", &["create", "configmap", "x"]).failure().contains("10-read-only"));
    two.kubectl("one", &["create", "configmap", "x"]).success();
    two.kubectl("one", &["delete", "configmap", "x"]).success();
    // What it required is gone: nothing passes there, and the other does not care.
    std::fs::rename(own.join("10-read-only.wasm"), own.join("kept")).unwrap();
    wait_until("nothing passes", Duration::from_secs(10), || Ok(two.kubectl("two", &["get", "pods"]).err.contains("10-read-only")))
        .unwrap();
    assert_eq!(code(&e2e::operations(&two.gateway, "GET /readyz")), 200, "the other is served");
    assert!(e2e::operations(&two.gateway, "GET /healthz").contains("two/10-read-only"));
    two.kubectl("one", &["get", "pods"]).success();
    std::fs::rename(own.join("kept"), own.join("10-read-only.wasm")).unwrap();
    wait_until("it passes again", Duration::from_secs(10), || Ok(two.kubectl("two", &["get", "pods"]).ok)).unwrap();
    // What cannot be read changes nothing.
    let good = two.configuration();
    put(&two.gateway.directory.join("postern.yaml"), b"clusters: [{name: one");
    wait_until("it is told", Duration::from_secs(10), || Ok(two.gateway.log().contains("was changed and cannot be taken over"))).unwrap();
    two.kubectl("two", &["get", "pods"]).success();
    put(&two.gateway.directory.join("postern.yaml"), good.as_bytes());
    // One cluster in place of several is for the next start; nothing is served by rules that are not loaded.
    put(
        &two.gateway.directory.join("postern.yaml"),
        good.replace("clusters:\n", "cluster: {}\nunused:\n").split("unused:").next().unwrap().as_bytes(),
    );
    wait_until("it is told", Duration::from_secs(10), || Ok(two.gateway.log().matches("cannot be taken over").count() >= 2)).unwrap();
    two.kubectl("two", &["get", "pods"]).success();
    put(&two.gateway.directory.join("postern.yaml"), good.as_bytes());
    let third = entry("three", &other, "").replace(&format!(", serviceAccountIssuers: ['{}']", other.issuer()), "");
    two.change("policies: {directory: policies.d}", "policies: {directory: policies.d, unmatched: block}");
    two.change(&first, &format!("{first}{third}"));
    wait_until("it is not served", Duration::from_secs(10), || Ok(raw("three").err.contains("cannot set up the cluster three"))).unwrap();
    assert!(two.gateway.log().contains("takes effect at the next start") && two.gateway.log().contains("those were changed"));
    two.kubectl("one", &["get", "pods"]).success();
    put(&two.gateway.directory.join("postern.yaml"), good.as_bytes());
    wait_until("it is gone", Duration::from_secs(10), || Ok(raw("three").err.contains("no cluster of this gateway"))).unwrap();
    // Changed: what is open there ends, and begins anew by the new rules. What was not changed goes on.
    let mut ends = begin(&two.kubeconfig("ann", &["dev"], "two"), &["get", "--raw", "/api/v1/namespaces/twin/configmaps?watch=1"]);
    let mut exec = begin(&one, &["exec", "web", "--", "sleep", "300"]);
    std::thread::sleep(Duration::from_secs(2));
    let with_policies = two.configuration().lines().find(|line| line.starts_with("- {name: two")).unwrap().to_owned();
    two.change(&with_policies, &with_policies.replace("[{as:", "[{groups: [ops], as:"));
    wait_until("the watch ends", Duration::from_secs(15), || Ok(ends.try_wait()?.is_some())).unwrap();
    assert!(two.kubectl("two", &["get", "pods"]).failure().contains("no access rule"));
    kubectl(&two.kubeconfig("eve", &["ops"], "two"), &["get", "pods"]).success();
    assert!(stays.try_wait().unwrap().is_none() && exec.try_wait().unwrap().is_none(), "the other cluster was not touched");
    // Taken out.
    let now = two.configuration();
    let line = now.lines().find(|line| line.starts_with("- {name: one")).unwrap().to_owned() + "\n";
    two.change(&line, "");
    wait_until("the watch and the command end", Duration::from_secs(15), || Ok(stays.try_wait()?.is_some() && exec.try_wait()?.is_some()))
        .unwrap();
    assert!(raw("one").failure().contains("no cluster of this gateway"));
    kubectl(&two.kubeconfig("eve", &["ops"], "two"), &["get", "pods"]).success();
    let events = two.events();
    let ended = |verb: &str| events.iter().any(|event| event["ended"] == "cluster-changed" && event["verb"] == verb);
    assert!(ended("watch") && ended("create"), "{events:#?}");
    assert!(events.iter().filter(|event| event["stage"] == "clusters").count() >= 4);
    assert!(
        events
            .iter()
            .any(|event| event["stage"] == "policies" && event["cluster"] == "two" && event["inForce"][0]["name"] == "10-read-only")
    );
}

#[test]
fn what_waits_for_an_approval_waits_for_this_cluster_and_a_kubeconfig_is_renewed() {
    let other = other();
    let settings = "settings: {approvers: [sre], resources: [configmaps]}\n";
    let policies = vec![("40-approve", "approve-deletes", settings.to_owned())];
    let kubeconfig = scratch("renewed").join("kubeconfig");
    std::fs::copy(cluster().gateway_kubeconfig().unwrap(), &kubeconfig).unwrap();
    let options = GatewayOptions { config: "approvals: {tellFirst: false, hold: 50}\n".into(), ..GatewayOptions::default() };
    let two = Two::start(entry_with("one", &kubeconfig, ""), policies, options);
    let of = || two.kubectl("one", &["get", "configmap", "web", "-o", "jsonpath={.data.of}"]);
    assert_eq!(of().success(), "first");
    let ann = two.kubeconfig("ann", &["dev"], "one");
    let delete = begin(&ann, &["delete", "--raw", "/api/v1/namespaces/twin/configmaps/web"]);
    let sue = two.kubeconfig("sue", &["sre"], "one");
    let tickets = || -> Value {
        let list = Gateway::postern(&["approval", "--kubeconfig", sue.to_str().unwrap(), "list", "--json"]).unwrap();
        serde_json::from_str(Ran::new(list).success()).unwrap()
    };
    wait_until("it waits", Duration::from_secs(10), || Ok(tickets()["items"][0]["state"] == "pending")).unwrap();
    // Half a kubeconfig changes nothing, and is tried again.
    put(&kubeconfig, b"apiVersion: v1\nkind: Config\n");
    wait_until("it is told", Duration::from_secs(15), || Ok(two.gateway.log().contains("with its new kubeconfig"))).unwrap();
    assert_eq!(of().success(), "first");
    // Another leads elsewhere: what waits does not follow, and its ticket is not used up.
    put(&kubeconfig, &std::fs::read(other.gateway_kubeconfig().unwrap()).unwrap());
    let began = Instant::now();
    let ended = delete.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(40), "it was not held to its end");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("begin anew"), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(tickets()["items"][0]["state"], "pending");
    assert_eq!(of().success(), "other");
    for cluster in [cluster(), &*other] {
        kubectl(&cluster.admin_kubeconfig(), &["get", "configmap", "web"]).success();
    }
}
