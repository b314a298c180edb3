//! The values a pod knows: those of the Secrets it mounts or takes its environment from. Fetched with the gateway's own credential, kept for a
//! moment, shown nowhere.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Gateway;
use crate::classify::{escape, path_of};
use crate::mask::Literals;
use crate::status::Refusal;

/// How long what was fetched is good for.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// Pods whose values are kept.
const MOST: usize = 1000;

/// Values by pod and version of the pod.
#[derive(Default)]
pub struct KnownValues(Mutex<HashMap<String, Fetched>>);

/// When they were fetched, and what they are.
type Fetched = (Instant, Option<Arc<Literals>>);

impl Gateway {
    /// The values of a pod's Secrets.
    pub(super) async fn known_values(&self, namespace: &str, pod: &Value) -> Result<Option<Arc<Literals>>, Refusal> {
        let metadata = &pod["metadata"];
        let key = format!("{namespace} {} {}", metadata["uid"], metadata["resourceVersion"]);
        let now = Instant::now();
        let kept = self.known.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((_, literals)) = kept.filter(|(at, _)| now.duration_since(*at) < GOOD_FOR) {
            return Ok(literals);
        }
        let mut values: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for name in secrets_of(pod) {
            let path = format!("{}/{}", path_of("", "v1", Some(namespace), "secrets"), escape(&name));
            // One that is not there has no value in the pod either.
            let Some(secret) = self.upstream.get_own(&path).await? else { continue };
            let data = secret["data"].as_object().into_iter().flatten();
            values.extend(data.filter_map(|(_, value)| {
                base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).ok().map(Zeroizing::new)
            }));
        }
        let literals = Literals::of(values.iter().map(|value| value.as_slice()))
            .map_err(|why| Refusal::forbidden(format!("a policy hides the values of this pod's Secrets, which cannot be done: {why}")))?
            .map(Arc::new);
        let mut known = self.known.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (now, literals.clone()));
        Ok(literals)
    }
}

/// The Secrets a pod mounts, alone or in a projection, or takes its environment from, in any of its containers.
fn secrets_of(pod: &Value) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut add = |name: &Value| names.extend(name.as_str().map(str::to_owned));
    let spec = &pod["spec"];
    for volume in list(&spec["volumes"]) {
        add(&volume["secret"]["secretName"]);
        list(&volume["projected"]["sources"]).iter().for_each(|source| add(&source["secret"]["name"]));
        for driver in ["csi", "flexVolume", "cephfs", "iscsi", "rbd", "scaleIO", "storageos"] {
            add(&volume[driver]["secretRef"]["name"]);
            add(&volume[driver]["nodePublishSecretRef"]["name"]);
        }
        add(&volume["azureFile"]["secretName"]);
    }
    for container in ["containers", "initContainers", "ephemeralContainers"].iter().flat_map(|kind| list(&spec[*kind])) {
        list(&container["envFrom"]).iter().for_each(|from| add(&from["secretRef"]["name"]));
        list(&container["env"]).iter().for_each(|env| add(&env["valueFrom"]["secretKeyRef"]["name"]));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_a_pod_comes_to_a_secret_is_known() {
        let pod = serde_json::json!({"spec": {
            "volumes": [{"secret": {"secretName": "a"}}, {"projected": {"sources": [{"secret": {"name": "b"}}]}}, {"csi": {"nodePublishSecretRef": {"name": "c"}}}],
            "containers": [{"envFrom": [{"secretRef": {"name": "d"}}, {"configMapRef": {"name": "x"}}], "env": [{"valueFrom": {"secretKeyRef": {"name": "e", "key": "k"}}}]}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "f"}}]}],
            "ephemeralContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "g"}}}]}],
        }});
        assert_eq!(secrets_of(&pod).into_iter().collect::<String>(), "abcdefg");
        assert!(secrets_of(&serde_json::json!({})).is_empty());
    }
}
