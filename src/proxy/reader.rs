use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{tcp, unix};

use crate::upstream::{Secure, proof};

/// The reading half of a client's connection.
#[derive(Debug)]
pub(super) enum ClientReader {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
    Tls(Rc<Secure>),
}

impl ClientReader {
    /// How another proxy proves over this connection that it knows the secret.
    pub fn proof(&self, secret: &str) -> Option<String> {
        match self {
            ClientReader::Tcp(_) | ClientReader::Unix(_) => Some(proof(secret, None)),
            ClientReader::Tls(secure) => secure.keying().map(|keying| proof(secret, Some(keying))),
        }
    }

    /// Reads into `buffer`: the number of bytes, 0 at the end of the stream.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut filled = ReadBuf::new(buffer);
        let read = match self {
            ClientReader::Tcp(half) => Pin::new(half).poll_read(cx, &mut filled),
            ClientReader::Unix(half) => Pin::new(half).poll_read(cx, &mut filled),
            ClientReader::Tls(secure) => return secure.poll_read(cx, buffer),
        };
        read.map_ok(|()| filled.filled().len())
    }
}
