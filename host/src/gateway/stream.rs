//! Streams into containers: what must stand before one is opened, and how it is carried.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Cluster;
use super::exchange::Exchange;
use super::opens::{Opens, Ready};
use super::seal::Sealed;
use crate::body::Body;
use crate::classify::{Operation, escape, path_of};
use crate::clock;
use crate::config::{Limits, RecordingFailure};
use crate::decide::{Passed, Terms};
use crate::forward::{self, Way};
use crate::identify::Caller;
use crate::record::Event;
use crate::record::session::{Unopened, cannot_record};
use crate::respond::{self, Completion, Masking, Work};
use crate::slots::Slot;
use crate::status::Refusal;
use crate::stream::carry::{Setup, carry};
use crate::stream::filter::Filter;
use crate::wire::Channel;
use crate::wire::codec::Protocol;
use crate::wire::waiting::{Answered, Waiting};

impl Cluster {
    /// Sees to it that a stream can be read, masked and recorded, before anything of it is sent.
    pub(super) async fn ready(
        &self,
        exchange: &mut Exchange,
        passed: &mut Passed,
        slot: Slot,
        event: &mut Event,
    ) -> Result<Ready, Refusal> {
        readable(&mut exchange.headers, exchange.operation.command.is_some())?;
        let caller = &exchange.caller;
        let pod = self.pod_of(exchange).await;
        let filter = self.filter(exchange, passed, &pod).await?;
        let recording = match self.sessions.begin(caller, &exchange.id, &self.header(exchange, passed, pod.as_ref().ok())).await {
            Ok(recording) => {
                event.set("recording", format!("{}/{}", caller.credential, exchange.id));
                Some(recording)
            }
            Err(why) if self.config.sessions.on_failure == RecordingFailure::Allow => {
                event.set("notRecorded", why);
                None
            }
            Err(why) => return Err(cannot_record(&why)),
        };
        Ok(Ready { filter, recording, told_on: told_on(&exchange.operation), ends: self.ends(exchange), slot })
    }

    /// Counts one more stream of a caller, as long as there are not too many.
    pub(super) fn slot(&self, caller: &Caller) -> Result<Slot, Refusal> {
        let most = self.config.limits.streams_per_caller;
        self.open_streams.take(&[&caller.issuer, &caller.username], most).map_err(|_| {
            Refusal::too_many_requests(format!("you have {most} streams open (limits.streamsPerCaller); end one, then try again"))
        })
    }

    /// What is done with the text of a stream or a log.
    pub(super) async fn filter(&self, exchange: &Exchange, terms: &mut Terms, pod: &Result<Value, Refusal>) -> Result<Filter, Refusal> {
        let masks = terms.masks.clone().filter(|masks| masks.reads_text());
        let known = match &masks {
            Some(masks) if masks.hides_pod_secrets() => {
                let pod = pod.as_ref().map_err(Refusal::clone)?;
                let namespace = exchange.operation.target.as_ref().and_then(|t| t.namespace.as_deref()).unwrap_or_default();
                self.known_values(namespace, pod).await?
            }
            _ => None,
        };
        let rules = masks.map(|masks| masks.text_rules(known, exchange.scope())).filter(|rules| !rules.is_empty());
        let terminal = exchange.operation.command.as_ref().is_some_and(|command| command.tty);
        let instances = std::mem::take(&mut terms.stream_instances);
        Ok(if exchange.operation.writes_text() { Filter::new(instances, rules, terminal) } else { Filter::idle() })
    }

    /// What is done with the text of a log. Its pod is fetched only where its Secrets are hidden.
    pub(super) async fn log_filter(&self, exchange: &Exchange, terms: &mut Terms) -> Result<Filter, Refusal> {
        let pod = match &terms.masks {
            Some(masks) if masks.hides_pod_secrets() => self.pod_of(exchange).await,
            _ => Ok(Value::Null),
        };
        self.filter(exchange, terms, &pod).await
    }

    /// The pod an operation addresses, for its Secrets and for the record.
    pub(super) async fn pod_of(&self, exchange: &Exchange) -> Result<Value, Refusal> {
        let target = exchange.operation.target.as_ref();
        let (namespace, name) = (target.and_then(|t| t.namespace.as_deref()), target.and_then(|t| t.name.as_deref()).unwrap_or_default());
        let path = format!("{}/{}", path_of("", "v1", namespace, "pods"), escape(name));
        // It is read with the gateway's own rights: who may not ask is not told whether there is one.
        self.may(exchange).await?;
        self.upstream.get_own(&path).await?.ok_or_else(|| Refusal::not_found(format!("there is no pod {name}")))
    }

    fn header(&self, exchange: &Exchange, passed: &Passed, pod: Option<&Value>) -> Value {
        let Exchange { operation, caller, id, .. } = exchange;
        let container = operation.command.as_ref().and_then(|c| c.container.as_deref());
        let of = |list: &str, field: &str| {
            let containers = pod.and_then(|pod| pod.pointer(list)).and_then(Value::as_array).into_iter().flatten();
            let chosen = containers.into_iter().find(|c| container.is_none_or(|name| c["name"] == name));
            chosen.and_then(|c| c[field].as_str()).unwrap_or_default().to_owned()
        };
        json!({
            "kind": "stream", "session": caller.credential, "id": id, "time": clock::timestamp(), "cluster": self.name.as_ref(),
            "caller": {"username": caller.username, "groups": caller.groups, "issuer": caller.issuer},
            "verb": operation.verb, "target": operation.target, "command": operation.command, "verdict": passed.verdict(),
            "pod": {"node": pod.and_then(|p| p.pointer("/spec/nodeName")), "image": of("/spec/containers", "image"),
                "imageID": of("/status/containerStatuses", "imageID"), "container": of("/spec/containers", "name")},
            "policies": passed.answers,
        })
    }

    /// An upgraded connection: exec, attach, port-forward, or whatever a proxied server speaks.
    pub(super) async fn stream(&self, sealed: Sealed, mut opens: Opens, upgrade: Option<OnUpgrade>) -> Result<Response<Body>, Refusal> {
        let Sealed { mut exchange, entry, seal, .. } = sealed;
        let mut completion = Completion::new(entry, std::mem::take(&mut exchange.held));
        let headers = std::mem::take(&mut exchange.headers);
        let operation = &exchange.operation;
        let outgoing = exchange.outgoing(&operation.path_and_query, headers, Way::Upgrade(exchange.body_to_send()));
        opens.sent();
        let mut upstream = match self.upstream.send(&seal, outgoing).await {
            Ok(upstream) => upstream,
            Err(refusal) => {
                opens.refused();
                return Ok(completion.failed(refusal));
            }
        };
        completion.begins();
        let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (upstream.status(), upgrade) else {
            opens.refused();
            // What is not upgraded may go on for long all the same.
            let ends = Some(self.ends(&exchange));
            return Ok(respond::respond(upstream, Work::Pass, Masking::none(), ends, operation.shape, completion)
                .await
                .unwrap_or_else(Refusal::into_response));
        };
        let server = hyper::upgrade::on(&mut upstream);
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in upstream.headers() {
            if *name == header::CONNECTION
                || *name == header::UPGRADE
                || name.as_str().starts_with("sec-websocket-")
                || name.as_str() == "x-stream-protocol-version"
            {
                response.headers_mut().append(HeaderName::clone(name), value.clone());
            }
        }
        let open = self.drain.hold();
        let ready = match opens {
            Opens::Stream(ready) => *ready,
            Opens::Tunnel(slot) => {
                let ends = self.ends(&exchange);
                let Limits { stream_idle_time, stream_time, .. } = &self.config.limits;
                let lasting = forward::Lasting { idle: stream_idle_time.duration(), longest: stream_time.duration() };
                tokio::task::spawn_local(async move {
                    let (_open, _slot) = (open, slot);
                    let carried = forward::tunnel(upgrade, server, ends, lasting).await;
                    completion.tunnelled(&carried);
                });
                return Ok(response);
            }
        };
        let Some(protocol) = Protocol::agreed(upstream.headers()) else {
            ready.refused();
            return Ok(completion.failed(unreadable()));
        };
        let (setup, slot) = self.setup(ready, protocol, None);
        tokio::task::spawn_local(async move {
            let (_open, _slot) = (open, slot);
            let (Ok(caller), Ok(server)) = (upgrade.await, server.await) else { return };
            completion.streamed(carry(TokioIo::new(caller), TokioIo::new(server), Bytes::new(), setup).await);
        });
        Ok(response)
    }

    /// Carries the stream of a caller who waited in an upgraded connection.
    pub(super) async fn carry_on(
        &self,
        caller: impl AsyncRead + AsyncWrite + Unpin,
        waiting: Waiting,
        mut upstream: Response<Incoming>,
        ready: Ready,
        completion: &mut Completion,
    ) {
        let server = hyper::upgrade::on(&mut upstream);
        let (already, answered) = waiting.into_kept();
        let Some(protocol) = Protocol::agreed(upstream.headers()) else { return };
        let (setup, _slot) = self.setup(ready, protocol, answered);
        let Ok(server) = server.await else { return };
        completion.streamed(carry(caller, TokioIo::new(server), already.into(), setup).await);
    }

    fn setup(&self, ready: Ready, protocol: Protocol, answered: Option<Answered>) -> (Setup, Slot) {
        let Ready { filter, recording, told_on, ends, slot } = ready;
        let limits = &self.config.limits;
        let setup = Setup {
            protocol,
            answered,
            filter,
            recording: recording.map(Unopened::opened),
            must_record: self.config.sessions.on_failure == RecordingFailure::Refuse,
            idle: limits.stream_idle_time.duration(),
            longest: limits.stream_time.duration(),
            leaving: self.drain.leaving(),
            ends,
            told_on,
        };
        (setup, slot)
    }
}

/// The channel on which a user is told something that is not the command's output, as far as there is one.
pub(super) fn told_on(operation: &Operation) -> Option<Channel> {
    let asks = |key: &str| operation.query.iter().any(|(k, v)| k == key && v != "0" && v != "false");
    match &operation.command {
        None => None,
        // A terminal has no standard error of its own.
        Some(command) if command.tty => asks("stdout").then_some(Channel::Stdout),
        Some(_) => asks("stderr").then_some(Channel::Stderr),
    }
}

/// Why an answer's stream does not pass.
pub(super) fn unreadable() -> Refusal {
    Refusal::bad_gateway("the API server agreed to a protocol that the gateway cannot read, so nothing of it passes")
}

/// Leaves in a request only protocols the gateway can read: whatever the API server chooses of them can be masked and recorded.
fn readable(headers: &mut HeaderMap, is_command: bool) -> Result<(), Refusal> {
    let upgrade = headers.get(header::UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("spdy/3.1") {
        return Ok(());
    }
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err(Refusal::bad_request("an exec, attach or port-forward is upgraded to SPDY/3.1 or websocket, and to nothing else"));
    }
    // Compressed frames could not be read.
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    // What a command says has channels, and nothing around them.
    let is_readable = |name: &str| Protocol::of_websocket(name).is_some_and(|protocol| !(is_command && protocol == Protocol::Tunnel));
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let offered: Vec<String> = values.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).collect();
    if offered.is_empty() {
        return Ok(());
    }
    let known: Vec<&str> = offered.iter().map(String::as_str).filter(|protocol| is_readable(protocol)).collect();
    let kept = HeaderValue::from_str(&known.join(", ")).ok().filter(|_| !known.is_empty());
    let kept = kept.ok_or_else(|| {
        Refusal::bad_request(format!("none of the offered protocols {offered:?} can be read; offer v5.channel.k8s.io or v4.channel.k8s.io"))
    })?;
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
    Ok(())
}
