//! What changes while the gateway runs: the API server is restarted, etcd forgets, and kinds come into being.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use e2e::{Ran, raw, scratch};
use serde_json::{Value, json};
use testbed::{AUDIENCE, Cluster, Gateway, GatewayOptions, wait_until};

use super::informers::{Informer, differing, list_of, listed};

/// A cluster of these tests alone: what they do to it would disturb others.
fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let start = || {
        // With snapshots in its cache, the API server remembers some of what etcd has forgotten.
        let flags = ["--feature-gates=ListFromCacheSnapshot=false", "--etcd-compaction-interval=0"];
        Mutex::new(Cluster::start_with(&scratch("other-cluster"), &flags).expect("the cluster starts"))
    };
    CLUSTER.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
}

struct Own {
    gateway: Gateway,
    caller: PathBuf,
    token: String,
    admin: PathBuf,
    namespace: &'static str,
}

impl Own {
    fn new(cluster: &Cluster, namespace: &'static str, policies: Vec<(&'static str, &'static str, String)>) -> Self {
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
        let gateway = Gateway::start(cluster, &scratch("gateway"), &GatewayOptions { policies, ..GatewayOptions::default() }).unwrap();
        let token = cluster.token("caller", AUDIENCE).unwrap();
        let caller = gateway.kubeconfig("caller", &token).unwrap();
        Self { gateway, caller, token, admin: cluster.admin_kubeconfig(), namespace }
    }

    fn run(&self, kubeconfig: &Path, args: &[&str]) -> Ran {
        Ran::new(Gateway::kubectl(kubeconfig, &[&["-n", self.namespace], args].concat()).unwrap())
    }

    fn kubectl(&self, args: &[&str]) -> Ran {
        self.run(&self.caller, args)
    }

    fn admin(&self, args: &[&str]) -> String {
        self.run(&self.admin, args).success().to_owned()
    }

    fn get(&self, path: &str) -> String {
        let Self { gateway, token, .. } = self;
        raw(gateway, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"))
    }
}

fn hide() -> (&'static str, &'static str, String) {
    ("60-hide", "misbehaves", "settings: {does: hide}\nrules: [{resources: [configmaps]}]\n".into())
}

#[test]
fn informers_catch_up_when_the_api_server_was_restarted_and_an_exec_ends_with_a_recording() {
    let mut cluster = cluster();
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restart"}})).unwrap();
    cluster.run_pod("restart", "web").unwrap();
    let s = Own::new(&cluster, "restart", vec![hide()]);
    let create = |range, name| drop(s.admin(&["create", "-f", list_of(s.namespace, range, name).to_str().unwrap()]));
    create(0..40, "before");
    let mut informers =
        [("client-go", Informer::of_client_go(&s.caller, s.namespace)), ("kube-rs", Informer::of_kube_rs(&s.caller, s.namespace))];
    let mut exec = Command::new(testbed::binary("kubectl"));
    exec.arg("--kubeconfig").arg(&s.caller).args(["-n", s.namespace, "exec", "web", "--", "sh", "-c", "echo begun; sleep 60"]);
    let mut exec = exec.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the exec runs", Duration::from_secs(20), || {
        Ok(Ran::new(s.gateway.session(&["search", "begun"]).unwrap()).out.contains("web"))
    })
    .unwrap();
    for round in 0..2 {
        s.admin(&["label", "configmaps", "-l", "kind=a", if round == 0 { "hide=yes" } else { "hide-" }, "--overwrite"]);
        cluster.restart_api_server().unwrap();
        create(40 + round * 20..60 + round * 20, "after");
        s.admin(&["label", "configmaps", "-l", "kind=c", if round == 0 { "hide=yes" } else { "hide-" }, "--overwrite"]);
        s.admin(&["delete", "configmaps", "-l", if round == 0 { "kind=d" } else { "kind=e" }, "--wait=false"]);
        let mut last = String::new();
        let converged = wait_until("the caches are what a list shows", Duration::from_secs(90), || {
            let listed = listed(&s.caller, s.namespace);
            let different = informers.iter_mut().map(|(who, i)| (who, i.cache())).find(|(_, cached)| *cached != listed);
            if let Some((who, cached)) = &different {
                last = format!("{} listed, {} in the cache of {who}: {:?}", listed.len(), cached.len(), differing(&listed, cached));
            }
            Ok(different.is_none() && !listed.is_empty())
        });
        assert!(converged.is_ok(), "round {round}: {last}");
    }
    // Its connection went with the first restart.
    wait_until("kubectl ends", Duration::from_secs(10), || Ok(exec.try_wait()?.is_some())).unwrap();
    assert!(!exec.wait().unwrap().success());
    let verified = Ran::new(s.gateway.session(&["verify"]).unwrap());
    assert!(verified.success().contains("whole"), "{}", verified.out);
    assert!(s.kubectl(&["exec", "web", "--", "echo", "again"]).success().contains("again"));
}

/// What a client has cannot be known when etcd has forgotten it: the watch ends as one that is too old does, and says nothing of the object.
#[test]
fn a_watch_whose_beginning_is_forgotten_ends_as_expired() {
    let cluster = cluster();
    let s = Own::new(&cluster, "forgets", vec![hide()]);
    for (name, hidden) in [("seen", "no"), ("unseen", "yes")] {
        s.admin(&["create", "configmap", name, "--from-literal=token=x"]);
        s.admin(&["label", "configmap", name, &format!("hide={hidden}")]);
    }
    let path = format!("/api/v1/namespaces/{}/configmaps", s.namespace);
    let list = s.get(&path);
    let version = list.split("\"resourceVersion\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    s.admin(&["label", "configmap", "seen", "more=yes"]);
    s.admin(&["annotate", "configmap", "unseen", "a=b"]);
    s.admin(&["label", "configmap", "seen", "hide=yes", "--overwrite"]);
    s.admin(&["create", "configmap", "later"]);
    cluster.forget_history().unwrap();
    let watched = s.get(&format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=3"));
    let events: Vec<Value> = watched.lines().filter_map(|line| serde_json::from_str(line).ok().filter(Value::is_object)).collect();
    let [first, last] = &events[..] else { panic!("{watched}") };
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&"ADDED".into(), &"seen".into()), "{watched}");
    assert_eq!((&last["type"], &last["object"]["code"], &last["object"]["reason"]), (&"ERROR".into(), &410.into(), &"Expired".into()));
    assert!(!watched.contains("unseen"), "{watched}");
    // A client of that kind then lists and watches anew, and has what it may have.
    let mut informer = Informer::of_client_go(&s.caller, s.namespace);
    assert_eq!(informer.cache().into_keys().filter(|name| name != "kube-root-ca.crt").collect::<Vec<_>>(), ["later"]);
}

#[test]
fn a_kind_made_while_the_gateway_runs_is_policed_like_any_other() {
    let cluster = cluster();
    let fields = "settings: {fields: [{resource: widgets, paths: ['$.spec.token']}]}\n";
    let s = Own::new(
        &cluster,
        "kinds",
        vec![
            ("20-mask-secrets", "mask-secrets", fields.into()),
            ("60-hide", "misbehaves", "settings: {does: hide}\nrules: [{resources: [widgets]}]\n".into()),
        ],
    );
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    cluster
        .apply(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "additionalPrinterColumns": [column("Token", ".spec.token"), column("Size", ".spec.size")],
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}))
        .unwrap();
    s.admin(&["wait", "crd/widgets.example.com", "--for=condition=Established", "--timeout=20s"]);
    wait_until("kubectl knows the kind", Duration::from_secs(20), || {
        Ok(s.kubectl(&["api-resources", "--api-group=example.com", "--cached=false"]).out.contains("widgets"))
    })
    .unwrap();
    let widget = |name: &str, hide: &str| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "labels": {"hide": hide}}, "spec": {"token": format!("tok-of-{name}"), "size": "7"}});
    let file = scratch("widget").join("widget.json");
    for (name, hide, who) in [("shown", "no", &s.caller), ("hidden", "yes", &s.admin)] {
        std::fs::write(&file, widget(name, hide).to_string()).unwrap();
        // Not by apply: what is hidden would then be found in its last-applied text too.
        s.run(who, &["create", "-f", file.to_str().unwrap()]).success();
    }
    let of_list: Value = serde_json::from_str(s.kubectl(&["get", "widgets", "-o", "json"]).success()).unwrap();
    let names: Vec<&str> = of_list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shown"]);
    assert!(of_list["items"][0]["spec"]["token"].as_str().unwrap().starts_with("postern-masked-t-"));
    let table = s.kubectl(&["get", "widgets"]);
    assert!(table.success().contains("shown") && table.out.contains("postern-masked") && !table.out.contains("tok-of"), "{}", table.out);
    for read in [
        &["get", "widget", "shown", "-o", "yaml"][..],
        &["describe", "widget", "shown"],
        &["get", "widget/shown", "-w", "--request-timeout=2s"],
    ] {
        let ran = s.kubectl(read);
        assert!(ran.out.contains("shown") && !format!("{}{}", ran.out, ran.err).contains("tok-of"), "{read:?}: {}{}", ran.out, ran.err);
    }
    assert!(s.kubectl(&["get", "widget", "hidden"]).failure().contains("hides this object"));
    // What was masked and comes back is put right.
    s.kubectl(&["label", "widget", "shown", "step=one"]).success();
    s.kubectl(&["patch", "widget", "shown", "--type=merge", "-p", r#"{"spec":{"size":"8","token":"postern-masked"}}"#]).success();
    let stored = s.admin(&["get", "widget", "shown", "-o", "jsonpath={.spec.token} {.spec.size} {.metadata.labels.step}"]);
    assert_eq!(stored, "tok-of-shown 8 one");
    // And when the kind is gone, it is gone through the gateway too.
    s.admin(&["delete", "crd", "widgets.example.com"]);
    wait_until("the kind is gone", Duration::from_secs(20), || {
        Ok(s.kubectl(&["get", "--raw", "/apis/example.com/v1"]).err.contains("could not find"))
    })
    .unwrap();
}
