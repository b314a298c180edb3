//! Forward: an operation goes to the API server, with a credential the caller never sees.

mod burst;
mod credential;
mod issuer;
mod kubeconfig;
mod own_token;
mod seal;
mod send;
mod shared;
mod upgrade;
mod upload;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use credential::{As, access_for};
pub use kubeconfig::{Access, OwnToken, Presented};
pub use seal::Seal;
pub use send::{LARGEST_ANSWER, Outgoing, Question, Way};
pub use shared::StreamPermit;
pub use upgrade::{Lasting, Tunnelled, tunnel};
pub use upload::Upload;

use crate::body::BoxError;
use crate::config::Limits;
use crate::metrics::{Count, Metrics};
use crate::status::Refusal;
use crate::stream::end::End;
use burst::{Burst, Filling};
use credential::ServiceAccountTokens;
use issuer::OwnIssuers;
use own_token::OwnTokenHeader;

/// Idle connections a thread keeps to each API server.
const IDLE: usize = 64;

/// The API server.
pub struct Upstream {
    /// What tells it from every other that this process has or had: connections are kept by it.
    id: u64,
    access: Access,
    own_token: OwnTokenHeader,
    authority: HeaderValue,
    tokens: ServiceAccountTokens,
    issuers: OwnIssuers,
    metrics: Arc<Metrics>,
    connect_time: Duration,
    response_time: Duration,
    /// Whether the API server is known to speak no HTTP/2.
    alone: AtomicBool,
    /// Whether nothing is to be sent there any more.
    has_ended: AtomicBool,
}

/// Which TLS identity a connection has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The gateway's own.
    Own,
    /// None: what it carries says who is asking.
    Bare,
}

/// A request, and on which kind of connection it goes.
type Ready = (Kind, Request<Full<Bytes>>);

/// Where an API server says who asks (KEP-3325): what it does not know it answers 401.
const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A connection of an upstream, known by its id.
type Idle = (u64, Kind, SendRequest<Full<Bytes>>);

thread_local! {
    /// A connection stays on the thread that opened it.
    static SEEN: Cell<usize> = const { Cell::new(0) };
    static IDLE_CONNECTIONS: RefCell<Vec<Idle>> = const { RefCell::new(Vec::new()) };
}

/// The id of the next upstream.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Upstreams that have ended, the latest last; and how many there were, which is cheap to look at. Each thread lets go of their connections when it next looks for
/// one.
static ENDED: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static HAVE_ENDED: AtomicUsize = AtomicUsize::new(0);
/// Ended upstreams that are remembered: a thread that has not looked for so long asks the API server to have closed its connections meanwhile.
const REMEMBERED: usize = 10_000;

impl Upstream {
    /// Wires an access. `issuers` are the cluster's own; none has the API server asked for them.
    pub fn new(access: Access, issuers: &[String], limits: &Limits, metrics: Arc<Metrics>) -> anyhow::Result<Arc<Self>> {
        let host = if access.host.contains(':') { format!("[{}]", access.host) } else { access.host.clone() };
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            authority: format!("{host}:{}", access.port).parse()?,
            own_token: OwnTokenHeader::new(&access.token),
            access,
            tokens: ServiceAccountTokens::default(),
            issuers: OwnIssuers::new(issuers),
            metrics,
            connect_time: limits.connect_time.duration(),
            response_time: limits.response_time.duration(),
            alone: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        }))
    }

    /// Nothing is sent there any more, and no connection is kept.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= REMEMBERED {
            ended.remove(0);
        }
        ended.push(self.id);
        HAVE_ENDED.fetch_add(1, Ordering::Release);
    }

    /// The beginning of its paths, which callers know nothing of.
    pub fn prefix(&self) -> &str {
        &self.access.prefix
    }

    /// Where it is: `host:port`.
    pub fn address(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// Sends a request as somebody. `wait` says whether the head of the answer must come within the configured time.
    async fn plain(
        &self,
        who: &As,
        method: &Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
        wait: bool,
    ) -> Result<Response<Incoming>, Refusal> {
        let send = async |(kind, request): Ready| {
            let answer = self.send_on_pool(kind, request);
            if !wait {
                return answer.await;
            }
            tokio::time::timeout(self.response_time, answer).await.unwrap_or_else(|_| {
                Err(Refusal::gateway_timeout(format!(
                    "the API server did not answer within {} seconds; the operation may have been carried out",
                    self.response_time.as_secs()
                )))
            })
        };
        let ready = self.request(who, method, path_and_query, headers, Full::new(body)).await?;
        self.with_a_good_credential(who, ready, send).await
    }

    /// Sends a request, and where the API server does not take the credential it was sent with, once more with a new one. The credential is the gateway's: its
    /// caller, whose own is good, is not told to throw that away.
    async fn with_a_good_credential(
        &self,
        who: &As,
        (kind, request): Ready,
        send: impl AsyncFn(Ready) -> Result<Response<Incoming>, Refusal>,
    ) -> Result<Response<Incoming>, Refusal> {
        let again = request.clone();
        let answer = send((kind, request)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || self.takes_credential(kind, again.headers()).await {
            // What another server says behind the API server is its own.
            return Ok(answer);
        }
        let refused = self.forget(who, again.headers()).await;
        let As::ServiceAccount(account) = who else { return Err(refused) };
        let mut again = again;
        again.headers_mut().insert(header::AUTHORIZATION, self.tokens.token(self, account).await?);
        let headers = again.headers().clone();
        let answer = send((kind, again)).await?;
        match answer.status() == StatusCode::UNAUTHORIZED && !self.takes_credential(kind, &headers).await {
            true => Err(refused),
            false => Ok(answer),
        }
    }

    /// Forgets a token that is not taken, and says what its caller is told.
    async fn forget(&self, who: &As, sent_with: &HeaderMap) -> Refusal {
        tracing::warn!(?who, "the API server does not take the credential of the gateway");
        self.metrics.add(Count::CredentialsRefused, 1);
        match (who, sent_with.get(header::AUTHORIZATION)) {
            (As::ServiceAccount(account), Some(header)) => self.tokens.discard(account, header).await,
            _ => self.own_token.forget(),
        }
        Refusal::unavailable(
            "the API server does not take the credential that the gateway has for you; try again, or see to the gateway's access (its log says more)",
        )
    }

    /// Whether the API server takes the credential in these headers; true where that cannot be known.
    async fn takes_credential(&self, kind: Kind, headers: &HeaderMap) -> bool {
        let json = HeaderValue::from_static("application/json");
        let mut asked =
            HeaderMap::from_iter([(header::ACCEPT, json.clone()), (header::CONTENT_TYPE, json), (header::HOST, self.authority.clone())]);
        if let Some(credential) = headers.get(header::AUTHORIZATION) {
            asked.insert(header::AUTHORIZATION, credential.clone());
        }
        let body = Bytes::from_static(br#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let Ok(uri) = format!("{}{REVIEW}", self.access.prefix).parse() else { return true };
        *request.uri_mut() = uri;
        *request.headers_mut() = asked;
        let answer = tokio::time::timeout(self.response_time, self.send_on_pool(kind, request)).await;
        !matches!(answer, Ok(Ok(answer)) if answer.status() == StatusCode::UNAUTHORIZED)
    }

    /// Sends a watch, on a connection that it shares with others where the API server speaks HTTP/2.
    async fn watch(&self, who: &As, path_and_query: &str, headers: HeaderMap) -> Result<Response<Incoming>, Refusal> {
        let send = async |(kind, request): Ready| {
            let answer = async {
                if !self.alone.load(Ordering::Relaxed) {
                    match self.send_shared(kind, &request).await? {
                        Some(response) => return Ok(response),
                        None => self.alone.store(true, Ordering::Relaxed),
                    }
                }
                self.send_on_pool(kind, request).await
            };
            tokio::time::timeout(self.response_time, answer).await.unwrap_or_else(|_| {
                Err(Refusal::gateway_timeout(format!("the API server did not answer within {} seconds", self.response_time.as_secs())))
            })
        };
        let ready = self.request(who, &Method::GET, path_and_query, headers, Full::new(Bytes::new())).await?;
        self.with_a_good_credential(who, ready, send).await
    }

    /// Sends a request that asks for an upgrade, on a connection of its own.
    async fn upgrade(
        &self,
        who: &As,
        method: &Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Refusal> {
        let send = async |(kind, request): Ready| {
            let mut sender = self.connect(kind).await?;
            let answer = tokio::time::timeout(self.response_time, sender.send_request(request)).await;
            match answer {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(gone(&error)),
                Err(_) => Err(Refusal::gateway_timeout("the API server did not answer the upgrade in time")),
            }
        };
        let ready = self.request(who, method, path_and_query, headers, Full::new(body)).await?;
        self.with_a_good_credential(who, ready, send).await
    }

    async fn request<B>(
        &self,
        who: &As,
        method: &Method,
        path_and_query: &str,
        mut headers: HeaderMap,
        body: B,
    ) -> Result<(Kind, Request<B>), Refusal> {
        if self.has_ended.load(Ordering::Relaxed) {
            return Err(End::ClusterChanged.refusal());
        }
        let kind = match who {
            As::ServiceAccount(account) => {
                let token = self.tokens.token(self, account).await?;
                headers.insert(header::AUTHORIZATION, token);
                Kind::Bare
            }
            As::Impersonate(caller) => {
                credential::impersonate(caller, &mut headers)?;
                self.own_token.put_into(&mut headers).await?;
                Kind::Own
            }
            As::Gateway => {
                self.own_token.put_into(&mut headers).await?;
                Kind::Own
            }
        };
        headers.insert(header::HOST, self.authority.clone());
        let uri =
            if self.access.prefix.is_empty() { path_and_query.parse() } else { format!("{}{path_and_query}", self.access.prefix).parse() };
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.map_err(|_| Refusal::bad_request("the request target cannot be forwarded"))?;
        *request.headers_mut() = headers;
        Ok((kind, request))
    }

    async fn send_on_pool(&self, kind: Kind, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Refusal> {
        let id = self.id;
        loop {
            let (mut sender, reused) = match take_idle(id, kind) {
                Some(sender) => (sender, true),
                None => (self.connect(kind).await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    put_back(id, kind, sender);
                    return Ok(response);
                }
                // A kept connection that the server closed meanwhile: nothing was sent, so it is sent on another.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(gone(error.error())),
                },
            }
        }
    }

    async fn connect<B>(&self, kind: Kind) -> Result<SendRequest<B>, Refusal>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let stream = self.dial(kind, false).await?.ok_or_else(|| Refusal::unavailable("the API server cannot be reached"))?;
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .handshake(TokioIo::new(Filling(stream)))
            .await
            .map_err(|e| Refusal::unavailable(format!("the API server cannot be reached: {e}")))?;
        tokio::task::spawn_local(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }

    /// Opens a connection. None when it was to be shared, and the API server does not speak HTTP/2.
    async fn dial(&self, kind: Kind, shared: bool) -> Result<Option<TlsStream<Burst<TcpStream>>>, Refusal> {
        self.metrics.add(Count::Connections, 1);
        let unreachable = |why: String| Refusal::unavailable(format!("the API server cannot be reached: {why}"));
        let connect = async {
            let tcp = TcpStream::connect((self.access.host.as_str(), self.access.port)).await.map_err(|e| unreachable(e.to_string()))?;
            let _ = tcp.set_nodelay(true);
            let name = ServerName::try_from(self.access.host.clone()).map_err(|e| unreachable(e.to_string()))?;
            let tls = match (kind, shared) {
                (Kind::Own, false) => &self.access.own_tls,
                (Kind::Bare, false) => &self.access.bare_tls,
                (Kind::Own, true) => &self.access.own_shared_tls,
                (Kind::Bare, true) => &self.access.bare_shared_tls,
            };
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, Burst::new(tcp)).await;
            let stream = stream.map_err(|e| unreachable(e.to_string()))?;
            let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((!shared || speaks_http2).then_some(stream))
        };
        tokio::time::timeout(self.connect_time, connect)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("no connection within {} seconds", self.connect_time.as_secs()))))
    }
}

/// The upstreams that have ended since this thread asked last.
fn ended_since(seen: &Cell<usize>) -> Vec<u64> {
    let now = HAVE_ENDED.load(Ordering::Acquire);
    match seen.replace(now) {
        before if before == now => Vec::new(),
        before => {
            let ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
            ended[ended.len().saturating_sub(now - before)..].to_vec()
        }
    }
}

/// An idle connection that can take a request now.
fn take_idle(id: u64, kind: Kind) -> Option<SendRequest<Full<Bytes>>> {
    IDLE_CONNECTIONS.with_borrow_mut(|idle| {
        let ended = SEEN.with(ended_since);
        idle.retain(|(of, _, sender)| !sender.is_closed() && !ended.contains(of));
        let at = idle.iter().rposition(|(of, k, sender)| *of == id && *k == kind && sender.is_ready())?;
        Some(idle.swap_remove(at).2)
    })
}

fn put_back(id: u64, kind: Kind, sender: SendRequest<Full<Bytes>>) {
    IDLE_CONNECTIONS.with_borrow_mut(|idle| {
        let count = |idle: &Vec<Idle>| idle.iter().filter(|(of, ..)| *of == id).count();
        let mut kept = count(idle);
        // One that still carries a watch is not ready for long: it is dropped when many are kept.
        if kept >= IDLE {
            idle.retain(|(_, _, sender)| sender.is_ready());
            kept = count(idle);
        }
        if kept < IDLE {
            idle.push((id, kind, sender));
        }
    });
}

fn gone(error: &hyper::Error) -> Refusal {
    Refusal::bad_gateway(format!(
        "the connection to the API server broke ({error}); the operation may have been carried out, look before you repeat it"
    ))
}
