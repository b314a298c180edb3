//! Watches as controllers use them: client-go's own informer and kube-rs's, WatchList on, while policies hide some objects and mask others.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{cluster, setup_with};
use serde_json::{Value, json};
use testbed::{Between, Gateway, GatewayOptions, wait_until};

/// How often the whole is played.
const RUNS: usize = 10;

/// How many objects there are each time: a hundred, or as many as POSTERN_OBJECTS says.
fn objects() -> usize {
    std::env::var("POSTERN_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

pub(super) struct Informer {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Informer {
    pub(super) fn of_client_go(kubeconfig: &Path, namespace: &str) -> Self {
        let mut command = Command::new(testbed::binary("informer"));
        // Current client-go begins a watch with a stream of what there is.
        command.env("KUBE_FEATURE_WatchListClient", "true").arg(kubeconfig).arg(namespace);
        Self::start(command)
    }

    pub(super) fn of_kube_rs(kubeconfig: &Path, namespace: &str) -> Self {
        let mut command = Command::new(testbed::built("kube-rs"));
        command.arg("reflect").arg(kubeconfig).arg(namespace);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (asks, says) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut this = Self { child, asks, says };
        assert_eq!(this.line().trim(), "synced");
        this
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line
    }

    /// What is in its cache: version, labels and data by name.
    pub(super) fn cache(&mut self) -> BTreeMap<String, Value> {
        writeln!(self.asks).unwrap();
        let objects: Vec<Value> = serde_json::from_str(&self.line()).unwrap();
        objects.into_iter().map(|object| (object["name"].as_str().unwrap().to_owned(), object)).collect()
    }
}

impl Drop for Informer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_caches_of_informers_are_what_a_list_shows_whatever_happens_meanwhile() {
    // A relay stands between the gateway and the API server, so that connections can be broken as a restarting API server breaks them.
    let mut between = Between::start(cluster(), &e2e::scratch("between")).unwrap();
    let options = GatewayOptions {
        policies: vec![
            ("60-hide", "misbehaves", "settings: {does: hide}\nrules: [{resources: [configmaps]}]\n".into()),
            ("70-mask", "misbehaves", "settings: {does: mask-object}\nrules: [{resources: [configmaps]}]\n".into()),
        ],
        kubeconfig: Some(between.kubeconfig(cluster()).unwrap()),
        ..GatewayOptions::default()
    };
    let s = setup_with(options);
    let objects = objects();
    for run in 0..RUNS {
        let namespace = format!("informer-{}-{run}", s.namespace);
        cluster().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
        let before = list_of(&namespace, 0..objects / 2, "before");
        run_kubectl(&["create", "-f", before.to_str().unwrap()]);
        let mut informer = Informer::of_client_go(&s.caller, &namespace);
        let mut reflector = Informer::of_kube_rs(&s.caller, &namespace);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let between = &mut between;
                // Connections break in the middle of it all, as when the API server is restarted.
                while !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(150 + 61 * (run as u64 % 5)));
                    between.go_away();
                    std::thread::sleep(Duration::from_millis(40));
                    between.come_back().unwrap();
                }
            });
            let after = list_of(&namespace, objects / 2..objects, "after");
            run_kubectl(&["create", "-f", after.to_str().unwrap()]);
            let admin = |args: &[&str]| run_kubectl(&[&["-n", &namespace], args].concat());
            // Shown become hidden, hidden become shown, shown change, and some of both are deleted.
            admin(&["label", "configmaps", "-l", "kind=a", "hide=yes", "--overwrite"]);
            admin(&["label", "configmaps", "-l", "kind=b", "hide-"]);
            admin(&["annotate", "configmaps", "-l", "kind=c", "changed=yes"]);
            admin(&["delete", "configmaps", "-l", "kind=d", "--wait=false"]);
            admin(&["label", "configmaps", "-l", "kind=a,more=yes", "hide-"]);
            done.store(true, Ordering::Relaxed);
        });
        let mut last = String::new();
        let converged = wait_until("the cache is what a list shows", Duration::from_secs(60), || {
            let listed = listed(&s.caller, &namespace);
            let caches = [("client-go", informer.cache()), ("kube-rs", reflector.cache())];
            let different = caches.iter().find(|(_, cached)| *cached != listed);
            if let Some((who, cached)) = different {
                last = format!("{} in the list, {} in the cache of {who}: {:?}", listed.len(), cached.len(), differing(&listed, cached));
            }
            Ok(different.is_none())
        });
        assert!(converged.is_ok(), "run {run}: {last}");
        let cached = informer.cache();
        assert!(
            cached.len() > objects / 4 && cached.values().all(|o| o["labels"]["hide"] != "yes" && o["data"]["token"] == "postern-masked")
        );
    }
    println!("{RUNS} runs of {objects} objects: the caches of client-go and kube-rs were what a list shows");
}

/// What a list through the gateway shows, as the informer's cache has it.
pub(super) fn listed(caller: &Path, namespace: &str) -> BTreeMap<String, Value> {
    let list = Gateway::kubectl(caller, &["-n", namespace, "get", "configmaps", "-o", "json"]).unwrap();
    let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let of = |item: Value| {
        let metadata = &item["metadata"];
        let name = metadata["name"].as_str().unwrap().to_owned();
        (name.clone(), json!({"name": name, "version": metadata["resourceVersion"], "labels": metadata["labels"], "data": item["data"]}))
    };
    items.into_iter().map(of).collect()
}

pub(super) fn differing(listed: &BTreeMap<String, Value>, cached: &BTreeMap<String, Value>) -> Vec<String> {
    let names = listed.keys().chain(cached.keys());
    names
        .filter(|name| listed.get(*name) != cached.get(*name))
        .take(3)
        .map(|n| format!("{n}: {:?} {:?}", listed.get(n), cached.get(n)))
        .collect()
}

/// A file with ConfigMaps of every kind: some hidden, some shown, all with a token.
pub(super) fn list_of(namespace: &str, numbers: std::ops::Range<usize>, name: &str) -> std::path::PathBuf {
    let items: Vec<Value> = numbers
        .map(|n| {
            let kind = ["a", "b", "c", "d", "e"][n % 5];
            let mut labels = json!({"kind": kind});
            if kind == "b" || n % 10 == 3 {
                labels["hide"] = "yes".into();
            }
            if n % 20 == 0 {
                labels["more"] = "yes".into();
            }
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("o{n:04}"), "namespace": namespace, "labels": labels},
                "data": {"token": format!("secret-{n}"), "n": n.to_string()}})
        })
        .collect();
    let file = e2e::scratch(name).join("list.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).unwrap();
    file
}

/// As the administrator, without the gateway.
fn run_kubectl(args: &[&str]) {
    e2e::Ran::new(Gateway::kubectl(&cluster().admin_kubeconfig(), args).unwrap()).success();
}

/// A client that has listed goes on with a watch that has shown it nothing yet.
#[test]
fn what_was_listed_vanishes_when_it_is_hidden_and_what_was_hidden_stays_unknown() {
    let options = GatewayOptions {
        policies: vec![("60-hide", "misbehaves", "settings: {does: hide}\nrules: [{resources: [configmaps]}]\n".into())],
        ..GatewayOptions::default()
    };
    let s = setup_with(options);
    let admin = |args: &[&str]| run_kubectl(&[&["-n", &s.namespace], args].concat());
    for (name, label) in [("shown", "hide=no"), ("hidden", "hide=yes"), ("appears", "hide=yes"), ("goes", "hide=no"), ("other", "hide=no")]
    {
        admin(&["create", "configmap", name, "--from-literal=token=x"]);
        admin(&["label", "configmap", name, label, if name == "other" { "of=another" } else { "of=mine" }]);
    }
    for (path, selector) in [
        (format!("namespaces/{}/configmaps", s.namespace), ""),
        ("configmaps".into(), "&labelSelector=of%3Dmine&fieldSelector=metadata.name!%3Dkube-root-ca.crt"),
    ] {
        let list = s.get(&format!("/api/v1/{path}?limit=500{selector}"), "");
        let version = list.split("\"resourceVersion\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        admin(&["label", "configmap", "shown", "hide=yes", "--overwrite"]);
        admin(&["annotate", "configmap", "hidden", "a=b", "--overwrite"]);
        admin(&["annotate", "configmap", "hidden", "a=c", "--overwrite"]);
        admin(&["label", "configmap", "appears", "hide=no", "--overwrite"]);
        admin(&["label", "configmap", "goes", "hide=yes", "--overwrite"]);
        admin(&["delete", "configmap", "goes"]);
        admin(&["label", "configmap", "other", "hide=yes", "--overwrite"]);
        admin(&["create", "configmap", "new-and-hidden", "--from-literal=token=x"]);
        admin(&["label", "configmap", "new-and-hidden", "hide=yes"]);
        let watched = s.get(&format!("/api/v1/{path}?watch=true&resourceVersion={version}&timeoutSeconds=2{selector}"), "");
        let events: Vec<String> = watched
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok().filter(Value::is_object))
            .map(|event| format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap()))
            .collect();
        let mut expected = vec!["DELETED shown", "ADDED appears", "DELETED goes"];
        if selector.is_empty() {
            // The one that came into being was shown until it was labelled.
            expected.extend(["DELETED other", "ADDED new-and-hidden", "DELETED new-and-hidden"]);
        }
        assert_eq!(events, expected, "{watched}");
        assert!(!watched.contains("\"hidden\""));
        for (name, label) in [("shown", "hide=no"), ("appears", "hide=yes"), ("other", "hide=no")] {
            admin(&["label", "configmap", name, label, "--overwrite"]);
        }
        admin(&["delete", "configmap", "new-and-hidden"]);
        admin(&["create", "configmap", "goes", "--from-literal=token=x"]);
        admin(&["label", "configmap", "goes", "hide=no", "of=mine"]);
    }
}
