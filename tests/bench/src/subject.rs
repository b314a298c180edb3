//! Who is compared: the API server alone, nginx, Postern without and with policies.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use testbed::{AUDIENCE, Cluster, Gateway, GatewayOptions, Nginx};

use crate::bare::Bare;
use crate::client::Target;
use crate::usage::Processes;

/// One of those compared.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    /// What is accounted for; none for the API server alone.
    pub(crate) processes: Option<Processes>,
}

/// All of them, before one cluster.
pub(crate) struct Bed {
    pub(crate) subjects: Vec<Subject>,
    /// hyper and rustls alone, which proxy plain requests.
    pub(crate) bare: Subject,
    /// The API server as its administrator: what prepares and cleans up.
    pub(crate) admin: Target,
    directory: PathBuf,
    _gateways: Vec<Gateway>,
    _nginx: Nginx,
    _bare: Bare,
    cluster: Cluster,
}

impl Bed {
    /// `against` is another build of the gateway, to be compared with this one, with the policies that lie in a directory where this one's are of a contract that it does not know.
    pub(crate) async fn start(against: Option<PathBuf>, policies_from: Option<PathBuf>) -> anyhow::Result<Self> {
        let directory = testbed::cache().join("run").join(format!("bench-{}", std::process::id()));
        let cluster = Cluster::start(&directory.join("cluster"))?;
        let nginx = Nginx::start(&cluster, &directory.join("nginx"))?;
        let bare = Bare::start(&cluster, &directory.join("bare"))?;
        let read = |name: &str| std::fs::read_to_string(cluster.directory.join(name)).with_context(|| name.to_owned());
        let ca = read("ca.crt")?;
        let own = cluster.token("acts-as", &cluster.issuer())?;
        let api_server = format!("127.0.0.1:{}", cluster.port);
        let mut subjects = vec![
            Subject { name: "direct", target: Target::with_token(&api_server, &ca, &own)?, processes: None },
            Subject {
                name: "nginx",
                target: Target::with_token(&nginx.address, &ca, &own)?,
                processes: Some(Processes::of(nginx.process.id())),
            },
        ];
        let plain = Subject {
            name: "bare",
            target: Target::with_token(&bare.address, &ca, &own)?,
            processes: Some(Processes::of(bare.process.id())),
        };
        // A GET of a pod is asked of one of the three and masked; a list of Secrets of two, and masked; a ConfigMap of one; an exec of one.
        let pack = vec![
            ("10-no-bulk-export", "no-bulk-export", "settings: {resources: [secrets, configmaps, pods]}\n".to_owned()),
            (
                "20-mask-secrets",
                "mask-secrets",
                "settings: {podSecrets: true, fields: [{resource: pods, paths: ['$.spec.containers[*].env[*].value']}]}\n".to_owned(),
            ),
            ("30-guard-exec", "guard-exec", String::new()),
        ];
        let token = cluster.token("caller", AUDIENCE)?;
        let mut gateways = Vec::new();
        let mut builds = vec![("postern", vec![], None), ("postern-policies", pack.clone(), None)];
        if let Some(program) = against {
            builds.extend([("postern-against-plain", vec![], Some(program.clone())), ("postern-against", pack, Some(program))]);
        }
        for (name, policies, program) in builds {
            // A copy of each: a program as the linker wrote it lies in the page cache in smaller pieces, and takes up to a tenth more CPU than its own copy.
            let copy = directory.join(format!("{name}-program"));
            std::fs::copy(program.unwrap_or_else(testbed::postern), &copy)?;
            let policies_from = policies_from.clone().filter(|_| name == "postern-against");
            let options = GatewayOptions { policies, program: Some(copy), policies_from, ..GatewayOptions::default() };
            let gateway = Gateway::start(&cluster, &directory.join(name), &options)?;
            let ca = std::fs::read_to_string(gateway.ca())?;
            subjects.push(Subject {
                name,
                target: Target::with_token(&gateway.address, &ca, &token)?,
                processes: Some(Processes::of(gateway.process.id())),
            });
            gateways.push(gateway);
        }
        let admin = Target::with_certificate(&api_server, &ca, &read("admin.crt")?, &read("admin.key")?)?;
        cluster.run_pod("default", "web")?;
        fatten_pod(&admin).await?;
        Ok(Self { subjects, bare: plain, admin, directory, _gateways: gateways, _nginx: nginx, _bare: bare, cluster })
    }

    /// A further gateway, for one case.
    pub(crate) fn gateway(&self, name: &'static str, options: GatewayOptions) -> anyhow::Result<(Gateway, Subject)> {
        let gateway = Gateway::start(&self.cluster, &self.directory.join(name), &options)?;
        let ca = std::fs::read_to_string(gateway.ca())?;
        let target = Target::with_token(&gateway.address, &ca, &self.cluster.token("caller", AUDIENCE)?)?;
        let processes = Some(Processes::of(gateway.process.id()));
        Ok((gateway, Subject { name, target, processes }))
    }

    /// Where what belongs to this run is kept.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a namespace with Secrets of ten teams, of eight values of 150 bytes each: about 2.4 KB an object.
    pub(crate) async fn secrets(&self, namespace: &str, count: usize) -> anyhow::Result<()> {
        self.namespace(namespace).await?;
        let value = "eHl6IHh5eiB4eXog".repeat(10);
        let data: serde_json::Map<_, _> = (0..8).map(|n| (format!("key-{n}"), json!(value))).collect();
        let (mut admin, path) = (self.admin.connect().await?, format!("/api/v1/namespaces/{namespace}/secrets"));
        for n in 0..count {
            let metadata = json!({"name": format!("s{n}"), "labels": {"team": format!("team-{}", n % 10)}});
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
            admin.call(Method::POST, &path, Bytes::from(secret.to_string())).await?;
        }
        Ok(())
    }

    /// Makes a namespace.
    pub(crate) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.admin.connect().await?.call(Method::POST, "/api/v1/namespaces", Bytes::from(namespace.to_string())).await.map(drop)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A pod of about 5 KB, as real ones are.
async fn fatten_pod(admin: &Target) -> anyhow::Result<()> {
    let annotations: serde_json::Map<_, _> = (0..20).map(|n| (format!("example.com/note-{n}"), json!("x".repeat(150)))).collect();
    let patch = json!({"metadata": {"annotations": annotations}}).to_string();
    let mut connection = admin.connect().await?;
    let request = Bytes::from(patch);
    let response =
        connection.send_as("application/merge-patch+json", Method::PATCH, "/api/v1/namespaces/default/pods/web", request).await?;
    anyhow::ensure!(response.status().is_success(), "the pod could not be patched: {}", response.status());
    Ok(())
}
