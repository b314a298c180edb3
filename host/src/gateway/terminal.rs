//! A command that waits for an approval over WebSocket: the connection is upgraded first, and the user is told on the terminal.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::approval::waiting;
use super::{Exchange, Gateway};
use crate::approve::Ticket;
use crate::body::{Body, collect};
use crate::decide::Decision;
use crate::forward;
use crate::identify::time_left;
use crate::record::Event;
use crate::respond::Completion;
use crate::status::Refusal;
use crate::stream::websocket::{self, Handshake, Heard, Inbox};

/// Largest Status of the API server that is told on a terminal.
const LARGEST_STATUS: usize = 64 << 10;
/// How long a caller has to close its side after the end.
const FAREWELL: Duration = Duration::from_secs(5);

impl Gateway {
    /// Answers the handshake, and goes on in a task of its own: every way out of it has written an audit event.
    pub(super) fn hold_on_terminal(
        self: &Arc<Self>,
        exchange: Exchange,
        ticket: Ticket,
        handshake: Handshake,
        upgrade: OnUpgrade,
        mut event: Event,
    ) -> Response<Body> {
        let (gateway, response) = (Arc::clone(self), handshake.response());
        tokio::task::spawn_local(async move {
            let _open = Arc::clone(&gateway.streams);
            let Ok(upgraded) = upgrade.await else {
                gateway.refused(&client_gone(), &mut event);
                return;
            };
            let mut terminal = Terminal::new(upgraded, &exchange);
            let refusal = match gateway.wait_on_terminal(&mut terminal, &exchange, ticket, &mut event).await {
                Ok(decision) => match gateway.connect(exchange, decision, &handshake, &mut event).await {
                    Ok((upstream, completion, expires)) => return terminal.carry(upstream, completion, expires).await,
                    Err(refusal) => refusal,
                },
                Err(refusal) => {
                    gateway.refused(&refusal, &mut event);
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
    ) -> Result<Decision, Refusal> {
        terminal.tell(&waiting(&ticket)).await;
        let left = time_left(ticket.ends.min(exchange.caller.expires));
        let answered = tokio::select! {
            answered = self.approvals.wait(&ticket.id, left) => answered?,
            () = terminal.attend() => return Err(client_gone()),
        };
        self.release(exchange, answered, event).await
    }

    /// Opens the connection to the container, in the protocol that was promised to the caller. A refusal is recorded here.
    async fn connect(
        &self,
        mut exchange: Exchange,
        decision: Decision,
        handshake: &Handshake,
        event: &mut Event,
    ) -> Result<(Response<Incoming>, Completion, u64), Refusal> {
        if let Err(refusal) = self.seal(&mut exchange, &decision, event).await {
            self.refused(&refusal, event);
            return Err(refusal);
        }
        handshake.narrow(&mut exchange.headers);
        let completion = Completion::new(self.audit.clone(), event.clone(), exchange.began);
        let (method, path) = (&exchange.operation.method, &exchange.operation.path_and_query);
        match self.upstream.send_upgrade(&exchange.who, method, path, exchange.headers, exchange.body).await {
            Ok(upstream) => Ok((upstream, completion, exchange.caller.expires)),
            Err(refusal) => {
                drop(completion.failed(refusal.clone()));
                Err(refusal)
            }
        }
    }
}

fn client_gone() -> Refusal {
    Refusal::bad_request("the client went away while it waited for an approval")
}

/// The caller's side of an upgraded connection.
struct Terminal {
    io: TokioIo<Upgraded>,
    inbox: Inbox,
    /// What is still to be written: a wait that ends must not cut a frame in two.
    out: BytesMut,
    /// The channel the user sees that is not the command's output, as far as there is one.
    channel: Option<u8>,
}

impl Terminal {
    fn new(upgraded: Upgraded, exchange: &Exchange) -> Self {
        let tty = exchange.operation.command.as_ref().is_some_and(|c| c.tty);
        let asks = |key: &str| exchange.operation.query.iter().any(|(k, v)| k == key && v != "0" && v != "false");
        let channel = match tty {
            // A terminal has no standard error of its own.
            true => asks("stdout").then_some(websocket::STDOUT),
            false => asks("stderr").then_some(websocket::STDERR),
        };
        Self { io: TokioIo::new(upgraded), inbox: Inbox::default(), out: BytesMut::new(), channel }
    }

    async fn tell(&mut self, text: &str) {
        if let Some(channel) = self.channel {
            self.out.extend_from_slice(&websocket::message(channel, format!("postern: {text}\r\n").as_bytes()));
            let _ = self.flush().await;
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        while self.out.has_remaining() {
            self.io.write_buf(&mut self.out).await?;
        }
        self.io.flush().await
    }

    /// Answers pings and keeps input, until the caller goes away.
    async fn attend(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            if self.flush().await.is_err() {
                return;
            }
            if !self.inbox.has_room() {
                return std::future::pending().await;
            }
            let Ok(read @ 1..) = self.io.read(&mut buffer).await else { return };
            let Ok(heard) = self.inbox.push(&buffer[..read]) else { return };
            for heard in heard {
                match heard {
                    Heard::Ping(payload) => self.out.extend_from_slice(&websocket::pong(&payload)),
                    Heard::Close => return,
                }
            }
        }
    }

    /// Ends the command with a Status, which kubectl shows as its error.
    async fn end(&mut self, status: &str) {
        self.out.extend_from_slice(&websocket::message(websocket::ERROR, status.as_bytes()));
        self.out.extend_from_slice(&websocket::close());
        let farewell = async {
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
    async fn carry(mut self, mut upstream: Response<Incoming>, mut completion: Completion, expires: u64) {
        if upstream.status() != StatusCode::SWITCHING_PROTOCOLS {
            let code = upstream.status();
            let status = collect(upstream.into_body(), LARGEST_STATUS).await.ok().flatten().unwrap_or_default();
            completion.answered(code, status.len());
            let told = serde_json::from_slice::<serde_json::Value>(&status).ok().filter(|status| status["kind"] == "Status");
            let other = || Refusal::bad_gateway(format!("the API server answered {code} and not the stream that was asked for")).to_json();
            return self.end(told.map_or_else(other, |status| status.to_string()).trim_end()).await;
        }
        if self.flush().await.is_err() {
            return;
        }
        let Ok(server) = hyper::upgrade::on(&mut upstream).await else { return };
        completion.streamed(forward::carry(self.io, TokioIo::new(server), self.inbox.into_bytes().into(), expires).await);
    }
}
