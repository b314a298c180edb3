//! What the listener for operations of a running gateway says.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::config::Config;

/// How long it has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const LONGEST: usize = 8 << 20;

/// The answer to a GET, without its head but for the first line.
pub(super) fn get(config: &Config, path: &str) -> anyhow::Result<String> {
    let operations = config.operations.as_ref().context("there is no listener for operations in the configuration (`operations: {}`)")?;
    let mut address = operations.address.to_socket_addrs()?.next().with_context(|| format!("{} is no address", operations.address))?;
    ensure!(address.port() != 0, "operations.address has port 0: which one it is only the gateway knows");
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("no gateway answers at {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let (mut answer, mut piece, end) = (Vec::new(), [0; 16 << 10], Instant::now() + PATIENCE);
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            read => answer.extend_from_slice(&piece[..read]),
        }
        ensure!(answer.len() <= LONGEST && Instant::now() < end, "what answers at {address} does not come to an end");
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("its answer is no HTTP")?;
    Ok(format!("# {}\n{body}", head.lines().next().unwrap_or_default()))
}
