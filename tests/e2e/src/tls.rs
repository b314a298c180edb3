//! Bytes over TLS, as they are: no HTTP library corrects what a test wants to send.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

/// A connection on which a request was sent and nothing is read.
pub struct Unread {
    _tls: ClientConnection,
    _tcp: TcpStream,
}

/// Sends a request, and reads nothing of its answer.
pub fn open(address: &str, ca: &Path, request: &[u8]) -> anyhow::Result<Unread> {
    let (mut tls, mut tcp) = connect(address, ca)?;
    Stream::new(&mut tls, &mut tcp).write_all(request)?;
    Stream::new(&mut tls, &mut tcp).flush()?;
    Ok(Unread { _tls: tls, _tcp: tcp })
}

/// Opens an HTTP/2 connection from an address of this machine, says what every client says first, and nothing else.
pub fn idle(from: IpAddr, to: SocketAddr, ca: &Path) -> anyhow::Result<TcpStream> {
    let tcp = bound(from, to)?;
    tcp.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    let mut tcp = tcp;
    let mut stream = Stream::new(&mut tls, &mut tcp);
    // RFC 9113, section 3.4: the preface and an empty SETTINGS frame.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
    stream.flush()?;
    Ok(tcp)
}

/// A connection from an address of one's own choice.
pub fn bound(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}

fn connect(address: &str, ca: &Path) -> anyhow::Result<(ClientConnection, TcpStream)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let tls = ClientConnection::new(Arc::new(config.with_no_client_auth()), ServerName::try_from("localhost")?)?;
    Ok((tls, TcpStream::connect(address)?))
}

/// Sends a request and reads until the other side ends or patience does.
pub fn exchange(address: &str, ca: &Path, request: &[u8], patience: Duration) -> anyhow::Result<String> {
    let (mut tls, mut tcp) = connect(address, ca)?;
    tcp.set_read_timeout(Some(Duration::from_millis(20)))?;
    tcp.set_write_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = Stream::new(&mut tls, &mut tcp);
    let end = Instant::now() + patience;
    let (mut sent, mut answer, mut buffer) = (0, Vec::new(), vec![0; 64 << 10]);
    while Instant::now() < end {
        if sent < request.len() {
            match stream.write(&request[sent..]) {
                Ok(n) => sent += n,
                Err(error) if is_early(&error) => {}
                // It was answered before it was read whole; the answer is still to be read.
                Err(_) => sent = request.len(),
            }
            if sent < request.len() {
                continue;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(error) if is_early(&error) => {}
            Err(_) => break,
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn is_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
