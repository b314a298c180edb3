//! The values a pod knows: those of the Secrets it mounts or takes its environment from. Fetched with the gateway's own credential, kept for a
//! moment, shown nowhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Cluster;
use crate::classify::{escape, path_of};
use crate::mask::Literals;
use crate::status::Refusal;

/// How long what was fetched is good for.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// Pods whose values are kept.
const MOST: usize = 1000;
/// Bytes of values that are kept, every form of a value counted.
const MOST_BYTES: usize = 16 << 20;

/// Values by pod.
#[derive(Default)]
pub struct KnownValues(Mutex<HashMap<String, Fetched>>);

/// Of which version of the pod they are, when they were fetched, and what they are.
struct Fetched {
    version: String,
    at: Instant,
    literals: Option<Arc<Literals>>,
}

impl KnownValues {
    fn get(&self, pod: &str, version: &str) -> Option<Option<Arc<Literals>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(pod).filter(|known| known.version == version && known.at.elapsed() < GOOD_FOR).map(|known| known.literals.clone())
    }

    /// Keeps what was fetched, of each pod once: it may change a thousand times in a second.
    fn keep(&self, pod: String, fetched: Fetched) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.at.elapsed() < GOOD_FOR);
        let weight = |known: &Fetched| known.literals.as_ref().map_or(0, |literals| literals.weight());
        if known.len() >= MOST || known.values().map(weight).sum::<usize>() + weight(&fetched) > MOST_BYTES {
            known.clear();
        }
        known.insert(pod, fetched);
    }
}

impl Cluster {
    /// The values of a pod's Secrets.
    pub(super) async fn known_values(&self, namespace: &str, pod: &Value) -> Result<Option<Arc<Literals>>, Refusal> {
        let metadata = &pod["metadata"];
        let (key, version) = (format!("{namespace} {}", metadata["uid"]), metadata["resourceVersion"].to_string());
        let at = Instant::now();
        if let Some(literals) = self.known.get(&key, &version) {
            return Ok(literals);
        }
        let mut values: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for (name, is_needed) in secrets_of(pod) {
            let path = format!("{}/{}", path_of("", "v1", Some(namespace), "secrets"), escape(&name));
            let Some(secret) = self.upstream.get_own(&path).await? else {
                if is_needed {
                    return Err(Refusal::forbidden(format!(
                        "a policy hides the values of this pod's Secrets, and the Secret {name} is not there any more: what the pod has of it is not known. Make it again, or the pod"
                    )));
                }
                // A pod that runs without it has no value of it.
                continue;
            };
            let data = secret["data"].as_object().into_iter().flatten();
            values.extend(data.filter_map(|(_, value)| {
                base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).ok().map(Zeroizing::new)
            }));
        }
        let literals = Literals::of(values.iter().map(|value| value.as_slice()))
            .map_err(|why| Refusal::forbidden(format!("a policy hides the values of this pod's Secrets, which cannot be done: {why}")))?
            .map(Arc::new);
        self.known.keep(key, Fetched { version, at, literals: literals.clone() });
        Ok(literals)
    }
}

/// The Secrets a pod mounts, alone or in a projection, or takes its environment from, in any of its containers; and whether it began with each of them:
/// it does not begin without one that is not optional.
fn secrets_of(pod: &Value) -> BTreeMap<String, bool> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut names = BTreeMap::new();
    let mut add = |reference: &Value, key: &str| {
        if let Some(name) = reference[key].as_str() {
            *names.entry(name.to_owned()).or_insert(false) |= reference["optional"] != true;
        }
    };
    let spec = &pod["spec"];
    for volume in list(&spec["volumes"]) {
        add(&volume["secret"], "secretName");
        list(&volume["projected"]["sources"]).iter().for_each(|source| add(&source["secret"], "name"));
        for driver in ["csi", "flexVolume", "cephfs", "iscsi", "rbd", "scaleIO", "storageos"] {
            add(&volume[driver]["secretRef"], "name");
            add(&volume[driver]["nodePublishSecretRef"], "name");
        }
        add(&volume["azureFile"], "secretName");
    }
    for container in ["containers", "initContainers", "ephemeralContainers"].iter().flat_map(|kind| list(&spec[*kind])) {
        list(&container["envFrom"]).iter().for_each(|from| add(&from["secretRef"], "name"));
        list(&container["env"]).iter().for_each(|env| add(&env["valueFrom"]["secretKeyRef"], "name"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_once_for_each_pod() {
        let known = KnownValues::default();
        let value = "correct horse battery staple ".repeat(200);
        let literals = Literals::of([value.as_bytes()]).unwrap().map(Arc::new);
        let fetch = |version: u32| Fetched { version: version.to_string(), at: Instant::now(), literals: literals.clone() };
        (0..1000).for_each(|version| known.keep("pod".into(), fetch(version)));
        assert_eq!(known.0.lock().unwrap().len(), 1);
        assert!(known.get("pod", "999").is_some() && known.get("pod", "998").is_none());
        (0..900).for_each(|pod| known.keep(format!("pod-{pod}"), fetch(0)));
        let bytes: usize = known.0.lock().unwrap().values().map(|known| known.literals.as_ref().unwrap().weight()).sum();
        assert!(bytes <= MOST_BYTES, "{bytes}");
    }

    #[test]
    fn every_way_a_pod_comes_to_a_secret_is_known() {
        let pod = serde_json::json!({"spec": {
            "volumes": [{"secret": {"secretName": "a"}}, {"projected": {"sources": [{"secret": {"name": "b"}}]}}, {"csi": {"nodePublishSecretRef": {"name": "c"}}}],
            "containers": [{"envFrom": [{"secretRef": {"name": "d"}}, {"configMapRef": {"name": "x"}}], "env": [{"valueFrom": {"secretKeyRef": {"name": "e", "key": "k"}}}]}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "f", "optional": true}}]}],
            "ephemeralContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "g"}}}]}],
        }});
        let names = secrets_of(&pod);
        assert_eq!(names.keys().cloned().collect::<String>(), "abcdefg");
        assert!(!names["f"] && names.iter().all(|(name, is_needed)| *is_needed || name == "f"), "one that is optional need not be there");
        assert!(secrets_of(&serde_json::json!({})).is_empty());
    }
}
