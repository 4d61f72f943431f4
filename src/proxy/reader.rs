use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{tcp, unix};

/// The reading half of a client's connection.
#[derive(Debug)]
pub(super) enum ClientReader {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl ClientReader {
    /// Reads into `buffer`: the number of bytes, 0 at the end of the stream.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            ClientReader::Tcp(half) => Pin::new(half).poll_read(cx, &mut buffer),
            ClientReader::Unix(half) => Pin::new(half).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }
}
