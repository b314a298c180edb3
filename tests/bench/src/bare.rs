//! A bare proxy: hyper and rustls, and nothing between them. What it takes is what a gateway on them cannot go below.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testbed::{Cluster, Process, free_port};
use tokio_rustls::TlsAcceptor;

use crate::client::Target;

/// What this program is called with to be the proxy: where it listens, the API server, and the directory of its certificates.
pub(crate) const ARGUMENT: &str = "bare-proxy";

/// A running one. Dropping it ends it.
pub(crate) struct Bare {
    pub(crate) address: String,
    pub(crate) process: Process,
}

impl Bare {
    pub(crate) fn start(cluster: &Cluster, directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let (port, log, program) = (free_port()?, directory.join("bare.log"), directory.join("program"));
        // A copy, as all that are compared are.
        std::fs::copy(std::env::current_exe()?, &program)?;
        let mut command = Command::new(program);
        command.args([ARGUMENT, &port.to_string(), &cluster.port.to_string()]).arg(&cluster.directory);
        let process = Process::start("bare", command, &log)?.listening(port, &log)?;
        Ok(Self { address: format!("127.0.0.1:{port}"), process })
    }
}

/// Is the proxy, with a thread for each core and connections that stay on theirs.
pub(crate) fn serve(arguments: &[String]) -> anyhow::Result<()> {
    let [port, upstream, directory] = arguments else { anyhow::bail!("{ARGUMENT} PORT PORT DIRECTORY") };
    let directory = PathBuf::from(directory);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).with_context(|| name.to_owned());
    let target = Target::with_token(&format!("127.0.0.1:{upstream}"), &read("ca.crt")?, "")?;
    let chain = CertificateDer::pem_slice_iter(read("apiserver.crt")?.as_bytes()).collect::<Result<_, _>>()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_no_client_auth();
    let acceptor =
        TlsAcceptor::from(Arc::new(tls.with_single_cert(chain, PrivateKeyDer::from_pem_slice(read("apiserver.key")?.as_bytes())?)?));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    listener.set_nonblocking(true)?;
    let threads = std::thread::available_parallelism()?.get();
    let serving: Vec<_> = (0..threads)
        .map(|_| {
            let (listener, acceptor, target) = (listener.try_clone()?, acceptor.clone(), target.clone());
            Ok(std::thread::spawn(move || worker(listener, &acceptor, &target)))
        })
        .collect::<anyhow::Result<_>>()?;
    serving.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
}

fn worker(listener: TcpListener, acceptor: &TlsAcceptor, target: &Target) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let upstream =
            Rc::new(Upstream { host: HeaderValue::from_str(&target.address)?, target: target.clone(), idle: RefCell::default() });
        loop {
            let (tcp, _) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            let (acceptor, upstream) = (acceptor.clone(), Rc::clone(&upstream));
            tokio::task::spawn_local(async move {
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let answers = service_fn(move |request| {
                    let upstream = Rc::clone(&upstream);
                    async move { Ok::<_, Infallible>(upstream.send(request).await.expect("the API server answers")) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answers).await;
            });
        }
    })
}

struct Upstream {
    target: Target,
    host: HeaderValue,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Upstream {
    async fn send(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        request.headers_mut().insert(HOST, self.host.clone());
        let kept = {
            let mut idle = self.idle.borrow_mut();
            idle.iter().position(SendRequest::is_ready).map(|at| idle.swap_remove(at))
        };
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let (sender, connection) = handshake(TokioIo::new(self.target.dial().await?)).await?;
                tokio::task::spawn_local(async move { drop(connection.await) });
                sender
            }
        };
        let response = sender.send_request(request).await?;
        self.idle.borrow_mut().push(sender);
        Ok(response)
    }
}
