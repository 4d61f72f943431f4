use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Listen;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("listen.address {address}: {source}")]
    Tcp { address: String, source: std::io::Error },
    #[error("listen.unix_socket {path}: {source}")]
    Unix { path: String, source: std::io::Error },
}

/// One worker's listening sockets, before they are handed to its runtime.
pub struct Listeners {
    pub tcp: std::net::TcpListener,
    pub unix: Option<std::os::unix::net::UnixListener>,
}

const BACKLOG: i32 = 1024;

impl Listeners {
    /// One set of sockets per worker on the same port; the kernel spreads clients over them. Port 0
    /// picks a free port, the same for all.
    pub fn bind(listen: &Listen, workers: usize) -> Result<Vec<Listeners>, BindError> {
        let wrong = |source| BindError::Tcp { address: listen.address.clone(), source };
        let mut addresses = listen.address.to_socket_addrs().map_err(wrong)?;
        let none = || std::io::Error::other("the name has no address");
        let mut address = addresses.next().ok_or_else(none).map_err(wrong)?;
        let unix = bind_unix(listen)?;
        let mut all = Vec::new();
        for _ in 0..workers {
            let tcp = bind_tcp(address).map_err(wrong)?;
            address = tcp.local_addr().map_err(wrong)?;
            let shared = unix.as_ref().map(|unix| unix.try_clone()).transpose().map_err(wrong)?;
            all.push(Listeners { tcp, unix: shared });
        }
        Ok(all)
    }
}

fn bind_tcp(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(listen: &Listen) -> Result<Option<std::os::unix::net::UnixListener>, BindError> {
    if listen.unix_socket.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(&listen.unix_socket);
    let wrong = |source| BindError::Unix { path: listen.unix_socket.clone(), source };
    // A socket left by a process that died is in the way of a new one.
    if std::os::unix::net::UnixStream::connect(&path).is_err() && path.exists() {
        std::fs::remove_file(&path).map_err(wrong)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    Ok(Some(listener))
}
