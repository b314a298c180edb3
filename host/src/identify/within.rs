//! Callers in one of several clusters: what somebody does in each of them is a session of its own.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::{Caller, credential_id};

/// Callers that are remembered.
const MOST: usize = 10_000;

/// The callers of one of several clusters.
pub struct Within {
    cluster: Arc<str>,
    /// By their credential.
    known: Cache<String, Known>,
}

/// The session in one of several clusters of a credential that has a session of its own at the gateway.
pub(super) fn session(issuer: &str, username: &str, cluster: &str, credential: &str) -> String {
    credential_id(issuer, username, &[cluster.as_bytes(), b" ", credential.as_bytes()].concat())
}

/// Who somebody was identified as, and what they are here.
type Known = (Arc<Caller>, Arc<Caller>);

impl Within {
    /// Those of a cluster, by its name.
    pub fn new(cluster: &Arc<str>) -> Self {
        Self { cluster: Arc::clone(cluster), known: Cache::new(MOST) }
    }

    /// A caller as they are in this cluster. Who comes again with the same credential is the same value again.
    pub fn caller(&self, caller: &Arc<Caller>) -> Arc<Caller> {
        if let Some((_, here)) = self.known.get(&caller.credential).filter(|(known, _)| Arc::ptr_eq(known, caller)) {
            return here;
        }
        let here = Arc::new(Caller {
            credential: session(&caller.issuer, &caller.username, &self.cluster, &caller.credential),
            cluster: Arc::clone(&self.cluster),
            ..Caller::clone(caller)
        });
        self.known.insert(caller.credential.clone(), (Arc::clone(caller), Arc::clone(&here)));
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_another_session_in_each_cluster_and_the_same_one_again() {
        let caller = |credential: &str| {
            let (username, issuer) = ("ann".into(), "i".into());
            Arc::new(Caller {
                username,
                groups: vec!["dev".into()],
                issuer,
                claims: Vec::new(),
                expires: u64::MAX,
                credential: credential.into(),
                cluster: Arc::default(),
            })
        };
        let (ann, other) = (caller("0123456789abcdef"), caller("fedcba9876543210"));
        let [prod, dev] = ["prod", "dev"].map(|name| Within::new(&name.into()));
        let here = prod.caller(&ann);
        assert!(Arc::ptr_eq(&here, &prod.caller(&ann)));
        assert_eq!((here.username.as_str(), here.cluster.as_ref(), here.credential.len()), ("ann", "prod", 16));
        let all =
            [&here, &dev.caller(&ann), &prod.caller(&other), &dev.caller(&other), &ann, &other].map(|caller| caller.credential.clone());
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
        (0..2 * MOST).for_each(|n| drop(prod.caller(&caller(&n.to_string()))));
        assert!(prod.known.len() as u64 <= prod.known.capacity());
    }
}
