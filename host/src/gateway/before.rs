//! What a client has that goes on with a watch: an object that a policy hides now must vanish for it if it was shown before.
//!
//! The API server is asked for the object as it was just before it changed, only where that is not known from the watch itself.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::Cluster;
use super::exchange::Exchange;
use crate::classify::{Shape, Target, escape, path_of};
use crate::decide::{Terms, may_hide};
use crate::forward::{As, Question, Upstream};
use crate::respond::{Before, Look, Lost};

/// What the API server is asked with.
struct Asker {
    upstream: Arc<Upstream>,
    who: As,
    target: Target,
    /// The watch's own selectors: what they leave out the client was never shown.
    labels: String,
    fields: String,
    headers: HeaderMap,
    largest: usize,
}

impl Cluster {
    /// How a watch learns what its client has; none where no policy hides objects, or where the watch begins with all there is.
    pub(super) fn look_back(&self, exchange: &Exchange, terms: &Terms) -> Look {
        let operation = &exchange.operation;
        if operation.shape != Shape::Watch || !may_hide(&terms.on_object) {
            return None;
        }
        let first = |key: &str| operation.first(key).unwrap_or_default();
        if matches!(first("resourceVersion"), "" | "0") || matches!(first("sendInitialEvents"), "true" | "1") {
            return None;
        }
        let asker = Arc::new(Asker {
            upstream: Arc::clone(&self.upstream),
            who: exchange.who.clone(),
            target: operation.target.clone()?,
            labels: first("labelSelector").to_owned(),
            fields: first("fieldSelector").to_owned(),
            headers: exchange.headers_to_read(),
            largest: self.config.limits.object.0,
        });
        Some(Arc::new(move |before| {
            let asker = Arc::clone(&asker);
            Box::pin(async move { asker.ask(&before).await })
        }))
    }
}

impl Asker {
    async fn ask(&self, before: &Before) -> Result<Option<Bytes>, Lost> {
        let Some(version) = before.version else { return Err(Lost::Expired) };
        let collection = path_of(&self.target.api_group, &self.target.api_version, before.namespace.as_deref(), &self.target.resource);
        // Source: k8s.io/apimachinery/pkg/fields, EscapeValue.
        let name = before.name.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let mut fields = format!("metadata.name={name}");
        if !self.fields.is_empty() {
            fields = format!("{fields},{}", self.fields);
        }
        let path = format!(
            "{collection}?fieldSelector={}&labelSelector={}&resourceVersion={version}&resourceVersionMatch=Exact",
            escape(&fields),
            escape(&self.labels)
        );
        let unknown = |why: String| Lost::Unknown(format!("what a watch has shown of an object cannot be learnt: {why}"));
        let question = Question::GetWith(&path, self.headers.clone());
        let (status, body) = self.upstream.read(&self.who, question, self.largest).await.map_err(|refusal| unknown(refusal.message))?;
        match status.as_u16() {
            200 => {}
            // Too old: the API server has forgotten it.
            410 => return Err(Lost::Expired),
            code => return Err(unknown(format!("the API server answered {code} to a list"))),
        }
        let mut list: Value = serde_json::from_slice(&body).map_err(|error| unknown(error.to_string()))?;
        let object = list["items"].as_array_mut().and_then(Vec::pop);
        Ok(object.map(|object| Bytes::from(object.to_string())))
    }
}
