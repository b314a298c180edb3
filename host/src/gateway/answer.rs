//! The last stages: what was decided goes to the API server, and its answer to the caller.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, header};
use hyper::body::Incoming;

use super::{Exchange, Gateway, is_unread};
use crate::body::Body;
use crate::classify::Shape;
use crate::decide::Decision;
use crate::forward::Upload;
use crate::record::Event;
use crate::respond::{self, Asked, Completion, Items, Masking, Repeats, Treatment, Work};
use crate::status::Refusal;
use crate::stream::filter::Filter;

impl Gateway {
    pub(super) fn check_masks(&self, exchange: &Exchange, decision: &Decision) -> Result<(), Refusal> {
        let Some(masks) = &decision.masks else { return Ok(()) };
        let by = decision.masked_by.join(", ");
        match exchange.operation.shape {
            Shape::Proxy => return Err(Refusal::forbidden(format!("policy {by} masks this, and what comes by proxy cannot be masked"))),
            Shape::Stream if exchange.operation.command.is_none() && masks.reads_text() => {
                return Err(Refusal::forbidden(format!("policy {by} masks text, and what flows through a port cannot be masked")));
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends what a caller says to a proxied server as it comes, for as long as the caller may.
    async fn send_upload(&self, exchange: &mut Exchange, path: &str, headers: HeaderMap) -> Result<Response<Incoming>, Refusal> {
        let Some(body) = exchange.upload.take() else { return Err(Refusal::internal("there is no body to send on")) };
        let (who, method) = (&exchange.who, &exchange.operation.method);
        let limits = &self.config.limits;
        let upload = Upload::new(body, limits.stream_idle_time.duration(), limits.stream_time.duration());
        tokio::select! {
            answer = self.upstream.send_upload(who, method, path, headers, upload) => answer,
            end = self.ends(exchange) => Err(end.refusal()),
            () = tokio::time::sleep(limits.stream_time.duration()) => {
                Err(Refusal::timeout("the request went on for longer than limits.streamTime"))
            }
        }
    }

    pub(super) async fn answer(
        &self,
        mut exchange: Box<Exchange>,
        mut decision: Decision,
        event: Event,
    ) -> Result<Response<Body>, Refusal> {
        let completion = Completion::new(self.audit.clone(), event, exchange.began, std::mem::take(&mut exchange.held));
        let filter = match exchange.operation.shape {
            Shape::Log => Box::pin(self.log_filter(&exchange, &mut decision)).await,
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
        let mut asked = Asked::default();
        if operation.target.is_none() {
            // What is no object of a resource no policy looks at; what masks hide is hidden in it all the same.
            decision.on_object.clear();
        }
        let reads_objects = decision.reads_objects() && matches!(operation.shape, Shape::Answer | Shape::Watch);
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
            Shape::Watch if exchange.operation.method == Method::GET => self.upstream.send_watch(&exchange.who, &path, headers).await,
            Shape::Answer if exchange.restored.is_some() => {
                Box::pin(self.send_until_settled(&mut exchange, &decision, &path, headers)).await
            }
            Shape::Proxy if is_unread(&exchange.upload) => Box::pin(self.send_upload(&mut exchange, &path, headers)).await,
            shape => {
                // What a server behind the API server reads is none of its.
                let body = if shape == Shape::Proxy { exchange.body.bytes().clone() } else { exchange.body.to_send() };
                let wait = shape != Shape::Proxy;
                self.upstream.send(&exchange.who, &exchange.operation.method, &path, headers, body, wait).await
            }
        };
        let upstream = match upstream {
            Ok(upstream) => upstream,
            Err(refusal) => return Ok(completion.failed(refusal)),
        };
        let operation = &exchange.operation;
        let repeats = match operation.is_mutating() {
            true => Box::pin(self.repeats(&exchange, &decision, &upstream)).await,
            false => Repeats::Nothing,
        };
        let largest = self.config.limits.object.0;
        let work = match (&decision.masks, operation.shape) {
            _ if operation.method == Method::HEAD => Work::Pass,
            (masks, Shape::Answer | Shape::Watch) if reads_objects => {
                let treatment = Treatment {
                    masks: masks.clone(),
                    on_object: decision.on_object.clone(),
                    runtime: self.policies.as_ref().map(|p| Arc::clone(p.runtime())),
                    operation: self.describe_answer(&exchange, &decision),
                    plans: Arc::clone(&self.plans),
                    resource: exchange.resource(),
                    asked,
                    look_back: self.look_back(&exchange, &decision),
                };
                Work::Items(Box::new(Items::new(treatment, &operation.verb, operation.shape, largest)))
            }
            (_, Shape::Log) if !filter.is_idle() => Work::Text(Box::new(filter)),
            _ => Work::Pass,
        };
        let shape = operation.shape;
        let caller = &exchange.caller;
        let quiet = self.config.without_warnings.contains(&caller.username, &caller.groups);
        let masking = Masking { by: if quiet { &[] } else { &decision.warned_of }, plan: decision.masks.as_deref(), repeats };
        let ends = matches!(shape, Shape::Watch | Shape::Log | Shape::Proxy).then(|| self.ends(&exchange));
        // A refusal here has been recorded by the completion that was dropped with it.
        let response = respond::respond(upstream, work, masking, ends, shape, completion).await.unwrap_or_else(Refusal::into_response);
        Ok(match kept {
            Some(kept) => response.map(|body| kept.of(body)),
            None => response,
        })
    }
}
