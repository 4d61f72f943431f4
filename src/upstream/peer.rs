//! Connections to the proxy that leads, for the clients of one that stands by.
//!
//! The first command, `TANDEM PEER`, proves that both know the secret. Over TLS nobody looks at certificates: the proof
//! is made of the secret and of what only the two ends of that very connection know, so that who is
//! between them can do nothing with it.

use std::io;
use std::time::Duration;

use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Stream;
use crate::resp::push_command;

/// Before the address of a proxy whose clients need TLS.
pub const SECURE: &str = "tls://";
/// What of a TLS connection both ends know: RFC 5705.
pub(super) const LABEL: &[u8] = b"EXPORTER-tandem-peer";

/// What is known by both ends of a TLS connection.
pub type Keying = [u8; 32];

/// The proxy that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it takes clients, `host:port`, behind [`SECURE`] if they need TLS.
    pub address: String,
    /// By this it knows other proxies.
    pub secret: String,
}

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(5);
/// What it says when it knows the secret.
const WELCOME: &[u8] = b"+OK\r\n";

/// The word that proves knowledge of the secret; `keying` is that of a connection with TLS.
pub fn proof(secret: &str, keying: Option<Keying>) -> String {
    let Some(keying) = keying else { return secret.to_owned() };
    let hash = Sha256::new().chain_update(secret).chain_update(keying).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Connects, and says who connects. Processes that hand a port over share it: one that does not lead refuses, and
/// another try may come to the one that does. So this may try for ever.
pub(super) async fn connect(peer: &Peer, tls: Option<&TlsConnector>) -> io::Result<Stream> {
    loop {
        let (mut stream, keying) = match (peer.address.strip_prefix(SECURE), tls) {
            (None, _) => (Stream::Tcp(open(&peer.address).await?), None),
            (Some(address), Some(tls)) => {
                let (stream, keying) = secure(address, tls).await?;
                (stream, Some(keying))
            }
            (Some(_), None) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let mut greeting = Vec::new();
        let word = proof(&peer.secret, keying);
        push_command(&[&b"TANDEM"[..], b"PEER", word.as_bytes()], &mut greeting);
        if greet(&mut stream, &greeting).await.unwrap_or(false) {
            return Ok(stream);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn open(address: &str) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

async fn secure(address: &str, tls: &TlsConnector) -> io::Result<(Stream, Keying)> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = tls.connect(name, open(address).await?).await?;
    let (_, connection) = stream.get_ref();
    let keying = connection.export_keying_material(Keying::default(), LABEL, None);
    let keying = keying.map_err(io::Error::other)?;
    Ok((Stream::Tls(Box::new(stream)), keying))
}

async fn greet(stream: &mut Stream, greeting: &[u8]) -> io::Result<bool> {
    stream.write_all(greeting).await?;
    stream.flush().await?;
    let mut answer = [0; WELCOME.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer == WELCOME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_of_a_secure_connection_is_its_own() {
        assert_eq!(proof("secret", None), "secret");
        let one = proof("secret", Some([1; 32]));
        assert_eq!(one.len(), 64);
        assert_ne!(one, proof("secret", Some([2; 32])));
        assert_ne!(one, proof("other", Some([1; 32])));
    }
}
