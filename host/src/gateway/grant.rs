//! Whether a caller may still do what a stream was opened for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};

use crate::body::collect;
use crate::classify::Operation;
use crate::forward::{As, Upstream};
use crate::stream::carry::Withdrawn;

/// How often the API server is asked.
const LOOK: Duration = Duration::from_secs(2);
/// After how long it is asked once more before it is believed: one that has just started may not know all its rules yet.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest answer.
const LARGEST: usize = 64 << 10;
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// Waits until the API server says that who opened a stream may open it no longer. It authorises a stream once, when it begins; so it is asked again and again, by a
/// SelfSubjectAccessReview in the name the stream was opened in, which anybody who is authenticated may make (upstream's `system:basic-user`).
pub(super) fn withdrawn(upstream: &Arc<Upstream>, who: &As, operation: &Operation) -> Withdrawn {
    let (upstream, who) = (Arc::clone(upstream), who.clone());
    let Some(target) = &operation.target else { return Box::pin(std::future::pending()) };
    // The API server has it from the method: what comes by GET is `get` to it, also where something is executed.
    let verb = if operation.method == Method::GET { "get" } else { "create" };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {
        "namespace": target.namespace, "verb": verb, "group": target.api_group, "version": target.api_version,
        "resource": target.resource, "subresource": target.subresource, "name": target.name}}});
    let review = Bytes::from(review.to_string());
    Box::pin(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            if is_denied(&upstream, &who, review.clone()).await {
                tokio::time::sleep(AGAIN).await;
                if is_denied(&upstream, &who, review.clone()).await {
                    return;
                }
            }
        }
    })
}

/// Whether it is known that it may not. While the API server cannot be asked nothing is known, and it would carry nothing either.
async fn is_denied(upstream: &Upstream, who: &As, review: Bytes) -> bool {
    let headers = HeaderMap::from_iter([
        (header::ACCEPT, HeaderValue::from_static("application/json")),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ]);
    let Ok(answer) = upstream.send(who, &Method::POST, REVIEWS, headers, review, true).await else { return false };
    match answer.status().as_u16() {
        // The account is gone.
        401 => true,
        201 => {
            let body = collect(answer.into_body(), LARGEST).await.ok().flatten().unwrap_or_default();
            serde_json::from_slice::<Value>(&body).is_ok_and(|review| review["status"]["allowed"] == false)
        }
        _ => false,
    }
}
