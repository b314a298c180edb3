//! The last stages: what was decided goes to the API server, and its answer to the caller.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, header};
use hyper::body::Incoming;

use super::Cluster;
use super::exchange::{Exchange, is_unread};
use super::seal::Sealed;
use crate::body::Body;
use crate::classify::Shape;
use crate::forward::{Seal, Upload, Way};
use crate::respond::{self, Completion, Items, Masking, Negotiated, QuotedValues, Treatment, Work};
use crate::status::Refusal;
use crate::stream::filter::Filter;

impl Cluster {
    /// Sends what a caller says to a proxied server as it comes, for as long as the caller may.
    async fn send_upload(&self, exchange: &Exchange, seal: &Seal, path: &str, headers: HeaderMap) -> Result<Response<Incoming>, Refusal> {
        let Some(body) = exchange.upload.take() else { return Err(Refusal::internal("there is no body to send on")) };
        let limits = &self.config.limits;
        let upload = Upload::new(body, limits.stream_idle_time.duration(), limits.stream_time.duration());
        tokio::select! {
            answer = self.upstream.send(seal, exchange.outgoing(path, headers, Way::Upload(upload))) => answer,
            end = self.ends(exchange) => Err(end.refusal()),
            () = tokio::time::sleep(limits.stream_time.duration()) => {
                Err(Refusal::timeout("the request went on for longer than limits.streamTime"))
            }
        }
    }

    pub(super) async fn answer(&self, sealed: Sealed) -> Result<Response<Body>, Refusal> {
        let Sealed { mut exchange, mut passed, entry, seal, .. } = sealed;
        let mut completion = Completion::new(entry, std::mem::take(&mut exchange.held));
        let filter = match exchange.operation.shape {
            Shape::Log => Box::pin(self.log_filter(&exchange, &mut passed)).await,
            _ => Ok(Filter::idle()),
        };
        let mut filter = match filter {
            Ok(filter) => filter,
            Err(refusal) => return Ok(completion.failed(refusal)),
        };
        let kept = self.keep_response(&exchange);
        let operation = &exchange.operation;
        let mut headers = std::mem::take(&mut exchange.headers);
        if kept.is_some() {
            // What is kept is to be read.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let mut path = operation.path_and_query.clone();
        let mut asked = Negotiated::default();
        if operation.target.is_none() {
            // What is no object of a resource no policy looks at; what masks hide is hidden in it all the same.
            passed.on_object.clear();
        }
        let reads_objects = passed.reads_objects() && matches!(operation.shape, Shape::Answer | Shape::Watch);
        if reads_objects {
            asked = respond::rewrite(&mut headers);
            path = respond::include_objects(&path, &mut asked);
        } else if !filter.is_idle() {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let (rest, limit) = respond::without_limit(&path);
            path = rest;
            filter.limit(limit);
        }
        let upstream = match exchange.operation.shape {
            Shape::Answer if exchange.restored.is_some() => {
                Box::pin(self.send_until_settled(&mut exchange, &passed, &seal, &path, headers)).await
            }
            Shape::Proxy if is_unread(&exchange.upload) => Box::pin(self.send_upload(&exchange, &seal, &path, headers)).await,
            shape => {
                let way = match shape {
                    Shape::Watch if exchange.operation.method == Method::GET => Way::Watch,
                    Shape::Proxy => Way::Proxied(exchange.body_to_send()),
                    _ => Way::Plain(exchange.body_to_send()),
                };
                let sent = self.upstream.send(&seal, exchange.outgoing(&path, headers, way));
                match shape {
                    // A server behind the API server may take its time.
                    Shape::Proxy => {
                        Box::pin(async {
                            tokio::select! {
                                answer = sent => answer,
                                end = self.ends(&exchange) => Err(end.refusal()),
                            }
                        })
                        .await
                    }
                    _ => sent.await,
                }
            }
        };
        let upstream = match upstream {
            Ok(upstream) => upstream,
            Err(refusal) => return Ok(completion.failed(refusal)),
        };
        completion.begins();
        let operation = &exchange.operation;
        let repeats = match operation.is_mutating() {
            true => Box::pin(self.repeats(&exchange, &passed, &upstream)).await,
            false => QuotedValues::Nothing,
        };
        let largest = self.config.limits.object.0;
        let work = match (&passed.masks, operation.shape) {
            _ if operation.method == Method::HEAD => Work::Pass,
            (masks, Shape::Answer | Shape::Watch) if reads_objects => {
                let treatment = Treatment {
                    masks: masks.clone(),
                    on_object: passed.on_object.clone(),
                    runtime: self.policies.as_ref().map(|p| Arc::clone(p.runtime())),
                    subject: exchange.subject_after(&passed),
                    plans: Arc::clone(&self.plans),
                    resource: exchange.resource(),
                    asked,
                    look_back: self.look_back(&exchange, &passed),
                };
                Work::Items(Box::new(Items::new(treatment, &operation.verb, operation.shape, largest)))
            }
            (_, Shape::Log) if !filter.is_idle() => Work::Text(Box::new(filter)),
            _ => Work::Pass,
        };
        let shape = operation.shape;
        let caller = &exchange.caller;
        let quiet = self.config.without_warnings.contains(&caller.username, &caller.groups);
        let masking = Masking { by: if quiet { &[] } else { &passed.warned_of }, plan: passed.masks.as_deref(), repeats };
        // An answer is over soon; of several clusters one may be taken out while an endless one is sent.
        let goes_on = matches!(shape, Shape::Watch | Shape::Log | Shape::Proxy) || !self.member.is_alone;
        let ends = goes_on.then(|| self.ends(&exchange));
        // A refusal here has been recorded by the completion that was dropped with it.
        let response = respond::respond(upstream, work, masking, ends, shape, completion).await.unwrap_or_else(Refusal::into_response);
        Ok(match kept {
            Some(kept) => response.map(|body| kept.of(body)),
            None => response,
        })
    }
}
