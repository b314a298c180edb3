//! kube-rs: its watches, and that it works unchanged.

use std::collections::BTreeMap;
use std::path::Path;

use e2e::setup;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A reflector: kube-rs's informer.
pub struct Reflector {
    store: reflector::Store<ConfigMap>,
    // Ends the watch when it is dropped.
    _runtime: Runtime,
}

impl Reflector {
    /// Watches the ConfigMaps of a namespace; there is a first list when this returns.
    pub fn start(kubeconfig: &Path, namespace: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (store, writer) = reflector::store();
        runtime.block_on(async {
            let api: Api<ConfigMap> = Api::namespaced(client(kubeconfig).await, namespace);
            let watch = watcher(api, watcher::Config::default().streaming_lists()).default_backoff().reflect(writer);
            tokio::spawn(watch.for_each(|_| std::future::ready(())));
            store.wait_until_ready().await.unwrap();
        });
        Self { store, _runtime: runtime }
    }

    /// What is in its cache: version, labels and data by name.
    pub fn cache(&self) -> BTreeMap<String, Value> {
        let of = |object: &ConfigMap| {
            let metadata = &object.metadata;
            let name = metadata.name.clone().unwrap();
            (name.clone(), json!({"name": name, "version": metadata.resource_version, "labels": metadata.labels, "data": object.data}))
        };
        self.store.state().iter().map(|object| of(object)).collect()
    }
}

/// What kube-rs sees of a cluster, written down.
async fn everything(client: Client, namespace: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let mut note = |what: &str, text: String| seen.push(format!("{what}: {text}"));
    note("version", client.apiserver_version().await.unwrap().git_version);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = |name: &str, value: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"of": "kube-rs"}}, "data": {"k": value}})).unwrap()
    };
    let made = api.create(&PostParams::default(), &map("one", "1")).await.unwrap();
    note("created", format!("{:?}", made.data));
    note("again", api.create(&PostParams::default(), &map("one", "1")).await.unwrap_err().to_string());
    let start = made.metadata.resource_version.clone().unwrap();
    let patched = api.patch("one", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.unwrap();
    note("merged", format!("{:?}", patched.data));
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}, "data": {"k": "applied"}});
    let applied = api.patch("two", &PatchParams::apply("kube-rs").force(), &Patch::Apply(applied)).await.unwrap();
    note("applied", format!("{:?} by {:?}", applied.data, applied.metadata.managed_fields.map(|m| m[0].manager.clone())));
    let mut stale = made;
    stale.data = Some(BTreeMap::from([("k".into(), "3".into())]));
    note("stale", api.replace("one", &PostParams::default(), &stale).await.unwrap_err().to_string());
    let list = api.list(&ListParams::default().labels("of=kube-rs").limit(1)).await.unwrap();
    note("listed", format!("{:?}", list.items.iter().map(|i| &i.metadata.name).collect::<Vec<_>>()));
    let metadata = api.get_metadata("one").await.unwrap();
    note("metadata", format!("{:?} {:?}", metadata.types, metadata.metadata.name));
    let mut watch = api.watch(&WatchParams::default().labels("of=kube-rs").timeout(5), &start).await.unwrap().boxed();
    match watch.next().await.unwrap().unwrap() {
        WatchEvent::Modified(object) => note("watched", format!("{:?}", object.data)),
        other => note("watched", format!("{other:?}")),
    }
    api.delete("two", &DeleteParams::default()).await.unwrap();
    note("gone", api.get("two").await.unwrap_err().to_string());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    note("namespace", format!("{:?}", namespaces.get(namespace).await.unwrap().status));
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    note("secret", format!("{:?}", secrets.get("db").await.unwrap().data));

    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    note("logs", pods.logs("web", &LogParams::default()).await.unwrap());
    let mut exec = pods
        .exec("web", ["sh", "-c", "cat; echo oops >&2; exit 3"], &AttachParams::default().stdin(true).stdout(true).stderr(true))
        .await
        .unwrap();
    let (mut stdin, mut stdout, mut stderr) = (exec.stdin().unwrap(), exec.stdout().unwrap(), exec.stderr().unwrap());
    let status = exec.take_status().unwrap();
    stdin.write_all(b"through and back").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)).unwrap();
    let status = status.await.unwrap();
    note("exec", format!("{out:?} {err:?} {:?} {:?}", status.reason, status.message));
    note("no pod", pods.logs("no-such-pod", &LogParams::default()).await.unwrap_err().to_string());
    seen
}

#[test]
fn it_works_unchanged() {
    let s = setup(vec![], "");
    let runtime = Runtime::new().unwrap();
    let of = |kubeconfig: &Path| {
        let seen = runtime.block_on(async { everything(client(kubeconfig).await, &s.namespace).await });
        s.direct(&["delete", "configmap", "one"]).success();
        seen
    };
    let direct = of(&e2e::cluster().acts_as_kubeconfig().unwrap());
    assert!(direct.len() > 14 && direct.iter().any(|line| line.starts_with("exec: \"through and back\" \"oops\\n\"")), "{direct:#?}");
    assert_eq!(of(&s.caller), direct);
}
