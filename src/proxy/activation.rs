//! Sockets that systemd has opened (`LISTEN_FDS`): clients wait in them while the proxy is being replaced.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// What was handed to this process. The first socket is that of `listen.address`, the second that of
/// `listen.unix_socket`.
#[derive(Debug, Default)]
pub struct Activated {
    pub(super) tcp: Option<TcpListener>,
    pub(super) unix: Option<UnixListener>,
}

impl Activated {
    pub fn take() -> Activated {
        let mut handed = ListenFd::from_env();
        let activated = Activated {
            tcp: said(handed.take_tcp_listener(0)),
            unix: said(handed.take_unix_listener(1)),
        };
        if let Some(address) = activated.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()) {
            tracing::info!(%address, "clients connect to the socket that systemd has opened");
        }
        activated
    }

    /// One more handle of the socket for clients on TCP.
    pub(super) fn tcp(&self) -> std::io::Result<Option<TcpListener>> {
        let Some(tcp) = &self.tcp else { return Ok(None) };
        let tcp = tcp.try_clone()?;
        tcp.set_nonblocking(true)?;
        Ok(Some(tcp))
    }
}

fn said<T>(taken: std::io::Result<Option<T>>) -> Option<T> {
    taken.unwrap_or_else(|error| {
        tracing::warn!(%error, "a socket that systemd has opened is of another kind than expected");
        None
    })
}
