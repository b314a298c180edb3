//! `kube-rs reflect KUBECONFIG NAMESPACE` keeps a cache of ConfigMaps, and prints it for each line that it reads.
//! `kube-rs use KUBECONFIG NAMESPACE` does what clients do, and prints what it saw.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, kubeconfig, namespace] = arguments.as_slice() else { return Err("kube-rs reflect|use KUBECONFIG NAMESPACE".into()) };
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    match what.as_str() {
        "reflect" => reflect(client, namespace).await,
        "use" => use_all(client, namespace).await,
        other => Err(format!("{other:?} is neither reflect nor use").into()),
    }
}

/// kube-rs's informer: version, labels and data by name.
async fn reflect(client: Client, namespace: &str) -> Result<(), Error> {
    let (store, writer) = reflector::store();
    let watch = watcher(Api::<ConfigMap>::namespaced(client, namespace), watcher::Config::default().streaming_lists());
    tokio::spawn(watch.default_backoff().reflect(writer).for_each(|_| std::future::ready(())));
    store.wait_until_ready().await?;
    println!("synced");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        let of = |object: &ConfigMap| {
            let metadata = &object.metadata;
            json!({"name": metadata.name, "version": metadata.resource_version, "labels": metadata.labels, "data": object.data})
        };
        let objects: Vec<Value> = store.state().iter().map(|object| of(object)).collect();
        println!("{}", Value::from(objects));
    }
    Ok(())
}

async fn use_all(client: Client, namespace: &str) -> Result<(), Error> {
    let note = |what: &str, text: String| println!("{what}: {text}");
    let failed = |what: &str, error: Option<kube::Error>| note(what, error.map_or_else(|| "no error".into(), |error| error.to_string()));
    note("version", client.apiserver_version().await?.git_version);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "one", "labels": {"of": "kube-rs"}}, "data": {"k": "1"}}))?;
    let mut made = api.create(&PostParams::default(), &map).await?;
    note("created", format!("{:?}", made.data));
    failed("created again", api.create(&PostParams::default(), &map).await.err());
    let start = made.metadata.resource_version.clone().unwrap_or_default();
    let patched = api.patch("one", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await?;
    note("merged", format!("{:?}", patched.data));
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}, "data": {"k": "applied"}});
    let applied = api.patch("two", &PatchParams::apply("kube-rs").force(), &Patch::Apply(applied)).await?;
    let managers: Vec<_> = applied.metadata.managed_fields.into_iter().flatten().map(|field| field.manager).collect();
    note("applied", format!("{:?} by {managers:?}", applied.data));
    made.data = Some(BTreeMap::from([("k".into(), "3".into())]));
    failed("replaced from an old version", api.replace("one", &PostParams::default(), &made).await.err());
    let list = api.list(&ListParams::default().labels("of=kube-rs").limit(1)).await?;
    note("listed", format!("{:?}", list.items.iter().map(|item| &item.metadata.name).collect::<Vec<_>>()));
    let metadata = api.get_metadata("one").await?;
    note("metadata", format!("{:?} {:?}", metadata.types, metadata.metadata.name));
    let mut watch = api.watch(&WatchParams::default().labels("of=kube-rs").timeout(5), &start).await?.boxed();
    match watch.next().await.transpose()? {
        Some(WatchEvent::Modified(object)) => note("watched", format!("{:?}", object.data)),
        other => note("watched", format!("{other:?}")),
    }
    api.delete("two", &DeleteParams::default()).await?;
    failed("got after its deletion", api.get("two").await.err());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    note("namespace", format!("{:?}", namespaces.get(namespace).await?.status));
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    note("secret", format!("{:?}", secrets.get("db").await?.data));

    let pods: Api<Pod> = Api::namespaced(client, namespace);
    note("logs", format!("{:?}", pods.logs("web", &LogParams::default()).await?));
    failed("logs of no pod", pods.logs("no-such-pod", &LogParams::default()).await.err());
    let command = ["sh", "-c", "cat; echo oops >&2; exit 3"];
    let mut exec = pods.exec("web", command, &AttachParams::default().stdin(true).stdout(true).stderr(true)).await?;
    let (mut out, mut err) = (String::new(), String::new());
    let status = exec.take_status();
    let (Some(mut stdin), Some(mut stdout), Some(mut stderr), Some(status)) = (exec.stdin(), exec.stdout(), exec.stderr(), status) else {
        return Err("exec has no streams".into());
    };
    stdin.write_all(b"through and back").await?;
    stdin.shutdown().await?;
    drop(stdin);
    tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err))?;
    note("exec", format!("{out:?} {err:?} {:?}", status.await.map(|status| (status.reason, status.message))));
    api.delete("one", &DeleteParams::default()).await?;
    Ok(())
}
