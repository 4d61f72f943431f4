//! Connections to the proxy that leads, for the clients of one that stands by.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Stream;
use crate::resp::push_command;

/// The proxy that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it takes clients, `host:port`.
    pub address: String,
    /// By this it knows other proxies.
    pub secret: String,
}

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(5);
/// What it says when it knows the secret.
const WELCOME: &[u8] = b"+OK\r\n";

/// Connects, and says who connects. Processes that hand a port over share it: one that does not lead refuses, and
/// another try may come to the one that does. So this may try for ever.
pub(super) async fn connect(peer: &Peer) -> io::Result<Stream> {
    let mut greeting = Vec::new();
    push_command(&[&b"TANDEM"[..], b"PEER", peer.secret.as_bytes()], &mut greeting);
    loop {
        let mut tcp = TcpStream::connect(peer.address.as_str()).await?;
        tcp.set_nodelay(true)?;
        if greet(&mut tcp, &greeting).await.unwrap_or(false) {
            return Ok(Stream::Tcp(tcp));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn greet(tcp: &mut TcpStream, greeting: &[u8]) -> io::Result<bool> {
    tcp.write_all(greeting).await?;
    let mut answer = [0; WELCOME.len()];
    tcp.read_exact(&mut answer).await?;
    Ok(answer == WELCOME)
}
