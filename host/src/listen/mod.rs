//! Listen: TCP connections become HTTP requests.
//!
//! One thread a core, each with a runtime of its own: a connection stays where it was accepted, and so do the connections to the
//! API server that its requests use.

mod certificates;
mod connection;

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

pub use certificates::{Ca, Certificates};
pub use connection::{Busy, Connection, neighbourhood};

use crate::body::Body;
use crate::config::Limits;
use crate::drain::Drain;
use crate::executor::LocalExecutor;
use crate::identify::{HandshakeOnly, Presented};
use crate::slots::{Full, Slot};
use connection::Places;

/// A handshake takes no longer than this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often it is told that connections are closed.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Streams one HTTP/2 connection may have open: kubectl and client-go use far fewer.
const STREAMS: u32 = 250;

/// What requests are handled by.
pub trait Handler: Send + Sync + 'static {
    /// What the certificate says that a client showed, once for its connection.
    fn presented(&self, chain: &[CertificateDer<'_>]) -> Presented;

    /// Answers a request.
    fn handle(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> impl Future<Output = Response<Body>>;
}

/// What is known of the connection a request came on.
#[derive(Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What its certificate says.
    pub presented: Presented,
    /// The host that TLS was opened for, in lower case; none where the client named none, as for an address.
    pub server_name: Option<Rc<str>>,
    /// The connection itself.
    pub connection: Rc<Connection>,
}

/// How connections are served.
#[derive(Clone)]
pub struct Serving {
    /// Threads that serve; 0 for one a core.
    pub threads: usize,
    /// How long what is open may go on once the gateway is to end.
    pub drain: Duration,
    /// What a peer may do.
    pub limits: Limits,
}

/// A bound port.
pub struct Listener {
    tcp: TcpListener,
    tls: Arc<ServerConfig>,
}

impl Listener {
    /// Binds the configured address.
    pub async fn bind(address: &str, certificates: Arc<Certificates>) -> anyhow::Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(HandshakeOnly(provider)))
            .with_cert_resolver(certificates);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { tcp, tls: Arc::new(tls) })
    }

    /// The address bound.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.tcp.local_addr()?)
    }

    /// Serves until `stop` changes, then lets what is open end.
    pub async fn serve<H: Handler>(
        self,
        handler: Arc<H>,
        serving: Serving,
        drain: Drain,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let threads = match serving.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let places = Places::new(&serving.limits);
        let mut workers = Vec::new();
        for number in 0..threads {
            let (sender, receiver) = mpsc::unbounded_channel();
            let worker = Worker {
                handler: Arc::clone(&handler),
                serving: serving.clone(),
                drain: drain.clone(),
                tls: Arc::clone(&self.tls),
                stop: stop.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("serve-{number}")).spawn(move || worker.run(receiver))?;
            workers.push((sender, thread));
        }
        let (mut next, mut told) = (0, None);
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                _ = stop.changed() => break,
            };
            match accepted {
                Ok((stream, address)) => match places.take(address.ip()) {
                    Ok(place) => {
                        // It leaves this runtime: its events are for the thread that serves it, and no other is woken by them.
                        let Ok(stream) = stream.into_std() else { continue };
                        next = (next + 1) % workers.len();
                        let _ = workers[next].0.send(Accepted { stream, address, place });
                    }
                    // Over the limit a connection is closed at once: what is open goes on. Told once in a while: it may happen a thousand times a second.
                    Err(full) if told.is_none_or(|at: Instant| at.elapsed() > TOLD_EVERY) => {
                        told = Some(Instant::now());
                        match full {
                            Full::All => tracing::warn!("connections are closed: limits.connections are open"),
                            Full::Owner => {
                                tracing::warn!(address = %address.ip(), "connections are closed: limits.connectionsPerAddress are open")
                            }
                        }
                    }
                    Err(_) => {}
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.tcp);
        for (sender, thread) in workers {
            drop(sender);
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        Ok(())
    }
}

/// A connection on its way to the thread that serves it.
struct Accepted {
    stream: std::net::TcpStream,
    address: SocketAddr,
    place: Slot,
}

struct Worker<H> {
    handler: Arc<H>,
    serving: Serving,
    drain: Drain,
    tls: Arc<ServerConfig>,
    stop: watch::Receiver<bool>,
}

impl<H: Handler> Worker<H> {
    fn run(self, mut connections: mpsc::UnboundedReceiver<Accepted>) {
        // A local runtime and not a set of local tasks: those are woken through the runtime, which costs a system call each time.
        let Ok(runtime) = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) else { return };
        let (open, worker) = (TaskTracker::new(), Rc::new(self));
        runtime.block_on(async {
            tokio::task::spawn_local(keep_time());
            while let Some(accepted) = connections.recv().await {
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(open.track_future(async move { worker.connection(accepted).await }));
            }
            let mut ended = pin!(worker.drain.ended(&open));
            let farewell = worker.serving.drain.mul_f32(0.7);
            if tokio::time::timeout(farewell, ended.as_mut()).await.is_err() {
                // Whoever is still at work in a container is told before the connection goes.
                worker.drain.leave();
                let _ = tokio::time::timeout(worker.serving.drain - farewell, ended).await;
            }
        });
        // What still reads files for somebody who is gone is not waited for.
        runtime.shutdown_timeout(Duration::from_secs(1));
    }

    /// Each step is a box of its own: a connection keeps room for the step it is at, and not for those behind it.
    async fn connection(&self, Accepted { stream, address, place }: Accepted) {
        let Some(stream) = Box::pin(self.handshake(stream)).await else { return };
        let (_, tls) = stream.get_ref();
        let presented = self.handler.presented(tls.peer_certificates().unwrap_or_default());
        let is_h2 = tls.alpn_protocol() == Some(b"h2");
        let server_name = tls.server_name().map(|name| Rc::from(name.trim_end_matches('.').to_ascii_lowercase()));
        let connection = Connection::new(place);
        let peer = Peer { address, presented, server_name, connection: Rc::clone(&connection) };
        let handler = Arc::clone(&self.handler);
        let service = service_fn(move |request: Request<Incoming>| {
            let (handler, peer) = (Arc::clone(&handler), peer.clone());
            Box::pin(async move { Ok::<Response<Body>, std::convert::Infallible>(handler.handle(peer, request).await) })
        });
        let limits = &self.serving.limits;
        let ended = if is_h2 {
            let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(limits.request_head.0 as u32)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(20));
            let served = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
            self.drive(served, &connection, |served| served.graceful_shutdown()).await
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(limits.request_head_time.duration()).max_buf_size(limits.request_head.0);
            let served = Box::pin(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
            self.drive(served, &connection, |served| served.graceful_shutdown()).await
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %address, "a connection ended");
        }
    }

    async fn handshake(&self, stream: std::net::TcpStream) -> Option<TlsStream<TcpStream>> {
        let stream = TcpStream::from_std(stream).ok()?;
        let _ = stream.set_nodelay(true);
        let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream);
        tokio::time::timeout(HANDSHAKE, handshake).await.ok()?.ok()
    }

    /// Serves a connection to its end. When the gateway stops, what is open on it ends first; one that carries nothing for long is ended.
    async fn drive<C>(&self, mut served: Pin<Box<C>>, connection: &Connection, shut_down: impl FnOnce(Pin<&mut C>)) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut stop = self.stop.clone();
        let idle = tokio::select! {
            ended = served.as_mut() => return ended,
            _ = stop.changed() => false,
            () = connection.idle(&self.serving.limits) => true,
        };
        shut_down(served.as_mut());
        if !idle {
            return served.await;
        }
        tokio::select! {
            ended = served => ended,
            () = connection.parting() => Ok(()),
        }
    }
}

/// Always has a timer that ends before those of a request: one that ends before all others has the runtime wake itself, by a system call, to look at its
/// timers anew, and each request would set such a one.
async fn keep_time() {
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
