//! A command that waits for an approval whatever its protocol: the connection is upgraded first, and the user is told on the terminal.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Cluster;
use super::approval::waiting;
use super::exchange::Exchange;
use super::opens::{Opens, Ready};
use super::seal::Sealed;
use super::stream;
use crate::approve::Ticket;
use crate::body::{Body, collect};
use crate::clock::time_left;
use crate::decide::Passed;
use crate::forward::Way;
use crate::record::Event;
use crate::respond::Completion;
use crate::slots::Slot;
use crate::status::Refusal;
use crate::stream::carry::FAREWELL;
use crate::stream::end::End;
use crate::wire::Channel;
use crate::wire::codec::Protocol;
use crate::wire::waiting::{Handshake, Waiting};
use crate::words::Step;

/// Largest Status of the API server that is told on a terminal.
const LARGEST_STATUS: usize = 64 << 10;

impl Cluster {
    /// Answers the handshake, and goes on in a task of its own: every way out of it has written an audit event.
    pub(super) fn hold_on_terminal(
        self: &Arc<Self>,
        exchange: Box<Exchange>,
        ticket: Ticket,
        handshake: Handshake,
        upgrade: OnUpgrade,
        slot: Slot,
        mut event: Event,
    ) -> Response<Body> {
        let (cluster, response, open) = (Arc::clone(self), handshake.response(), self.drain.hold());
        tokio::task::spawn_local(async move {
            let _open = open;
            let Ok(upgraded) = upgrade.await else {
                cluster.audit.refused(&client_gone(), &mut event);
                return;
            };
            let mut terminal = Terminal::new(upgraded, &exchange, &handshake);
            let refusal = match cluster.wait_on_terminal(&mut terminal, &exchange, ticket, &mut event).await {
                Ok(passed) => match cluster.connect(exchange, passed, slot, &handshake, &mut event).await {
                    Ok(connected) => return terminal.carry(&cluster, connected).await,
                    Err(refusal) => refusal,
                },
                Err(refusal) => {
                    cluster.audit.refused(&refusal, &mut event);
                    refusal
                }
            };
            terminal.end(refusal.to_json().trim_end()).await;
        });
        response
    }

    async fn wait_on_terminal(
        &self,
        terminal: &mut Terminal,
        exchange: &Exchange,
        ticket: Ticket,
        event: &mut Event,
    ) -> Result<Passed, Refusal> {
        terminal.tell(&waiting(&ticket)).await;
        let left = time_left(ticket.ends.min(exchange.caller.expires));
        let waiting_since = Instant::now();
        let answered = tokio::select! {
            answered = self.approvals.wait(&ticket.id, left) => answered,
            refusal = terminal.attend() => Err(refusal),
            () = self.gone.cancelled() => Err(End::ClusterChanged.refusal()),
        };
        self.audit.step(event, Step::Approve, waiting_since);
        self.release(exchange, answered?, event).await
    }

    /// Opens the connection to the container, in the protocol that was promised to the caller. A refusal is recorded here.
    async fn connect(
        &self,
        mut exchange: Box<Exchange>,
        passed: Passed,
        slot: Slot,
        handshake: &Handshake,
        event: &mut Event,
    ) -> Result<Connected, Refusal> {
        handshake.narrow(&mut exchange.headers);
        let sealed = self.seal(exchange, passed, Some(slot), event).await;
        let Sealed { mut exchange, opens, entry, seal, .. } = sealed.inspect_err(|refusal| self.audit.refused(refusal, event))?;
        let mut completion = Completion::new(entry, std::mem::take(&mut exchange.held));
        let Some(Opens::Stream(mut ready)) = opens else {
            let refusal = Refusal::internal("what was approved is no stream");
            drop(completion.failed(refusal.clone()));
            return Err(refusal);
        };
        let headers = std::mem::take(&mut exchange.headers);
        let outgoing = exchange.outgoing(&exchange.operation.path_and_query, headers, Way::Upgrade(exchange.body_to_send()));
        ready.sent();
        match self.upstream.send(&seal, outgoing).await {
            Ok(upstream) => {
                completion.begins();
                Ok(Connected { upstream, ready: *ready, completion })
            }
            Err(refusal) => {
                ready.refused();
                drop(completion.failed(refusal.clone()));
                Err(refusal)
            }
        }
    }
}

/// A connection to the container, opened.
struct Connected {
    upstream: Response<Incoming>,
    ready: Ready,
    completion: Completion,
}

fn client_gone() -> Refusal {
    Refusal::bad_request("the client went away while it waited for an approval")
}

/// The caller's side of an upgraded connection.
struct Terminal {
    io: TokioIo<Upgraded>,
    waiting: Waiting,
    /// What is still to be written: a wait that ends must not cut a frame in two.
    out: BytesMut,
    /// The channel the user sees that is not the command's output, as far as there is one.
    channel: Option<Channel>,
    /// What the user is to be told once that channel is there.
    telling: Option<String>,
}

impl Terminal {
    fn new(upgraded: Upgraded, exchange: &Exchange, handshake: &Handshake) -> Self {
        let channel = stream::told_on(&exchange.operation);
        Self { io: TokioIo::new(upgraded), waiting: Waiting::new(handshake), out: BytesMut::new(), channel, telling: None }
    }

    async fn tell(&mut self, text: &str) {
        self.telling = Some(format!("postern: {text}\r\n"));
        let _ = self.flush().await;
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if let Some(channel) = self.channel.filter(|channel| self.waiting.has(*channel))
            && let Some(text) = self.telling.take()
        {
            let mut told = Vec::new();
            self.waiting.tell(channel, text.as_bytes(), &mut told);
            self.out.extend_from_slice(&told);
        }
        while self.out.has_remaining() {
            self.io.write_buf(&mut self.out).await?;
        }
        self.io.flush().await
    }

    /// Answers what the protocol asks and keeps input, until the caller goes away.
    async fn attend(&mut self) -> Refusal {
        loop {
            if self.flush().await.is_err() {
                return client_gone();
            }
            // Not to read is not to notice that there is nobody any more.
            if !self.waiting.has_room() {
                return Refusal::too_large(
                    "more than 1 MiB was sent while the approval was waited for; run the same command again when it is approved",
                );
            }
            if !self.listen().await {
                return client_gone();
            }
        }
    }

    /// Hears what the caller says. False when it went away.
    async fn listen(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let Ok(read @ 1..) = self.io.read(&mut buffer).await else { return false };
        let mut answers = Vec::new();
        let goes_on = self.waiting.push(&buffer[..read], &mut answers).unwrap_or(false);
        self.out.extend_from_slice(&answers);
        goes_on
    }

    /// Ends the command with a Status, which kubectl shows as its error.
    async fn end(&mut self, status: &str) {
        let farewell = async {
            // Over SPDY the caller opens the channel first on which it is told.
            while !self.waiting.has(Channel::Error) && self.listen().await {
                self.flush().await?;
            }
            let mut last = Vec::new();
            self.waiting.finish(status.as_bytes(), &mut last);
            self.out.extend_from_slice(&last);
            self.flush().await?;
            // The caller closes in its turn; closed at once, what was said last could be lost.
            let mut rest = [0; 1024];
            while self.io.read(&mut rest).await? > 0 {}
            std::io::Result::Ok(())
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        let _ = self.io.shutdown().await;
    }

    /// Passes on what was kept, and then everything both ways.
    async fn carry(mut self, cluster: &Cluster, connected: Connected) {
        let Connected { upstream, ready, mut completion } = connected;
        if upstream.status() != StatusCode::SWITCHING_PROTOCOLS {
            ready.refused();
            let code = upstream.status();
            let status = collect(upstream.into_body(), LARGEST_STATUS).await.ok().flatten().unwrap_or_default();
            completion.answered(code, status.len());
            let told = serde_json::from_slice::<serde_json::Value>(&status).ok().filter(|status| status["kind"] == "Status");
            let other = || Refusal::bad_gateway(format!("the API server answered {code} and not the stream that was asked for")).to_json();
            return self.end(told.map_or_else(other, |status| status.to_string()).trim_end()).await;
        }
        if Protocol::agreed(upstream.headers()).is_none() {
            ready.refused();
            let refusal = stream::unreadable();
            let status = refusal.to_json();
            drop(completion.failed(refusal));
            return self.end(&status).await;
        }
        if self.flush().await.is_err() {
            return;
        }
        cluster.carry_on(self.io, self.waiting, upstream, ready, &mut completion).await;
    }
}
