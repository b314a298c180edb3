//! Watches share connections: HTTP/2, many to each, so that one that waits for its next event costs little.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;

use super::{Kind, Upstream, gone};
use crate::executor::LocalExecutor;
use crate::status::Refusal;

/// Watches on one connection. RFC 9113 (section 6.5.2) wants at least 100 to be let in; kube-apiserver lets in so many.
const TOGETHER: usize = 50;
/// Connections a thread keeps that carry none.
const IDLE: usize = 2;
/// What of one watch may wait to be read, and of all on a connection: one whose reader is slow holds up no other.
const WINDOW: u32 = 64 << 10;
const WINDOWS: u32 = WINDOW * TOGETHER as u32;
/// Watches that were ended here, of which the API server may not know yet.
const RESET_AT_A_TIME: usize = 1024;
/// Watches a connection carries in its life. Then another takes its place: what little stays behind of each does not gather for ever.
const IN_ITS_LIFE: usize = 10_000;
/// A connection on which nothing came for so long is asked whether it is there, and given up when it does not answer.
const SILENCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(15);

struct Connection {
    /// Its upstream, by its id.
    of: u64,
    kind: Kind,
    sender: SendRequest<Full<Bytes>>,
    open: Arc<AtomicUsize>,
    /// Watches that it has carried.
    carried: Cell<usize>,
}

thread_local! {
    static SEEN: Cell<usize> = const { Cell::new(0) };
    /// A connection stays on the thread that opened it.
    static CONNECTIONS: RefCell<Vec<Connection>> = const { RefCell::new(Vec::new()) };
    /// One at a time looks for a connection of an upstream or opens one: many watches begin at the same moment. Whoever waits for one API server holds up
    /// nobody who wants another.
    static OPENING: RefCell<HashMap<u64, Rc<Mutex<()>>>> = RefCell::default();
}

/// A watch's place on a connection: it is given back when the answer has ended.
#[derive(Clone)]
pub struct StreamPermit(#[allow(dead_code)] Arc<Taken>);

struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Sends a watch. Its answer carries its [`StreamPermit`]. None when the API server does not speak HTTP/2: then it is sent as everything else is.
    pub(super) async fn send_shared(&self, kind: Kind, request: &Request<Full<Bytes>>) -> Result<Option<Response<Incoming>>, Refusal> {
        // What reads may be sent again: a connection that is going away takes no more, and says so only then.
        let mut last = None;
        for _ in 0..3 {
            let Some((mut sender, place)) = self.place(kind).await? else { return Ok(None) };
            match sender.send_request(self.as_http2(request)?).await {
                Ok(mut response) => {
                    *response.version_mut() = Version::HTTP_11;
                    response.extensions_mut().insert(place);
                    return Ok(Some(response));
                }
                Err(error) => {
                    let counter = Arc::clone(&place.0.0);
                    CONNECTIONS.with_borrow_mut(|all| all.retain(|connection| !Arc::ptr_eq(&connection.open, &counter)));
                    last = Some(gone(&error));
                }
            }
        }
        Err(last.unwrap_or_else(|| Refusal::bad_gateway("the watch could not be sent")))
    }

    /// A place on a connection, opened where none has room.
    async fn place(&self, kind: Kind) -> Result<Option<(SendRequest<Full<Bytes>>, StreamPermit)>, Refusal> {
        let id = self.id;
        let opening = OPENING.with_borrow_mut(|opening| {
            // Of those where nobody waits or looks none is remembered.
            opening.retain(|of, waiting| *of == id || Rc::strong_count(waiting) > 1);
            Rc::clone(opening.entry(id).or_default())
        });
        let _one_at_a_time = opening.lock().await;
        let free = CONNECTIONS.with_borrow_mut(|all| {
            // Of those that carry nothing any more a few are kept for the next.
            let mut idle = 0;
            let ended = SEEN.with(super::ended_since);
            all.retain(|connection| {
                let is_idle = connection.of == id && connection.open.load(Ordering::Relaxed) == 0;
                idle += usize::from(is_idle);
                !(connection.sender.is_closed()
                    || ended.contains(&connection.of)
                    || is_idle && (idle > IDLE || connection.carried.get() >= IN_ITS_LIFE))
            });
            all.iter()
                .find(|c| c.of == id && c.kind == kind && c.open.load(Ordering::Relaxed) < TOGETHER && c.carried.get() < IN_ITS_LIFE)
                .map(Connection::take)
        });
        if free.is_some() {
            return Ok(free);
        }
        let Some(stream) = self.dial(kind, true).await? else { return Ok(None) };
        let mut builder = Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOWS)
            // The API server is trusted: how many watches their clients end is nothing that it makes us do, and one that ends many ends no other's.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(RESET_AT_A_TIME)
            .keep_alive_interval(SILENCE)
            .keep_alive_timeout(PATIENCE);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| gone(&error))?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        let connection = Connection { of: id, kind, sender, open: Arc::default(), carried: Cell::default() };
        let taken = connection.take();
        CONNECTIONS.with_borrow_mut(|all| all.push(connection));
        Ok(Some(taken))
    }

    fn as_http2(&self, request: &Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, Refusal> {
        let cannot = || Refusal::bad_request("the request target cannot be forwarded");
        let path = request.uri().path_and_query().ok_or_else(cannot)?.clone();
        let authority = self.authority.to_str().map_err(|_| cannot())?;
        let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path).build().map_err(|_| cannot())?;
        let mut request = request.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        Ok(request)
    }
}

impl Connection {
    fn take(&self) -> (SendRequest<Full<Bytes>>, StreamPermit) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.carried.set(self.carried.get() + 1);
        (self.sender.clone(), StreamPermit(Arc::new(Taken(Arc::clone(&self.open)))))
    }
}
