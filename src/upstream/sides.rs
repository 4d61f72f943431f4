//! Which connections to Redis ask the proxy's own questions, so that `MONITOR` can leave them out.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;

use super::stream::Stream;

/// The addresses from which the proxy's own questions come. Those over a Unix socket have none that tells them
/// from clients', and are shown; so are those that something on the way gives another address.
#[derive(Clone, Debug, Default)]
pub struct Sides(Arc<RwLock<HashSet<SocketAddr>>>);

/// An address that counts until this is dropped.
#[derive(Debug)]
pub struct Side {
    sides: Sides,
    address: Option<SocketAddr>,
}

impl Sides {
    pub(super) fn enter(&self, stream: &Stream) -> Side {
        let address = stream.local_address();
        if let Some(address) = address {
            self.0.write().insert(address);
        }
        Side { sides: self.clone(), address }
    }

    /// For a line of `MONITOR`: `<seconds> [<db> <address>] <command>`.
    pub(super) fn sent(&self, line: &[u8]) -> bool {
        let address = || -> Option<SocketAddr> {
            let (begin, end) = (memchr::memchr(b'[', line)?, memchr::memchr(b'"', line)?);
            let client = std::str::from_utf8(line.get(begin + 1..end)?).ok()?;
            client.trim_end().strip_suffix(']')?.split_once(' ')?.1.parse().ok()
        };
        address().is_some_and(|address| self.0.read().contains(&address))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.sides.0.write().remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_of_the_proxy_are_known_while_the_connection_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = tokio::net::TcpStream::connect(listener.local_addr().expect("an address"));
        let stream = Stream::Tcp(stream.await.expect("connected"));
        let address = stream.local_address().expect("an address");
        let line =
            |address: &str| format!("+1.5 [0 {address}] \"INFO\" \"[0 x] y\"\r\n").into_bytes();
        let sides = Sides::default();
        let side = sides.enter(&stream);
        assert!(sides.sent(&line(&address.to_string())));
        for other in ["127.0.0.1:1", "lua", "unix:/tmp/redis.sock", "[::1]:5"] {
            assert!(!sides.sent(&line(other)), "{other}");
        }
        assert!(!sides.sent(b"+OK\r\n"));
        drop(side);
        assert!(!sides.sent(&line(&address.to_string())));
    }
}
