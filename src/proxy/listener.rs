use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::Activated;
use crate::config::Listen;
use crate::tls::{ServerTls, TlsError};

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("listen.address {address}: {source}")]
    Tcp { address: String, source: std::io::Error },
    #[error("listen.unix_socket {path}: {source}")]
    Unix { path: String, source: std::io::Error },
    #[error("listen.tls_address {address}: {source}")]
    TlsTcp { address: String, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// One worker's listening sockets, before they are handed to its runtime.
pub struct Listeners {
    pub tcp: std::net::TcpListener,
    pub unix: Option<std::os::unix::net::UnixListener>,
    pub tls: Option<TlsListener>,
}

/// Where clients speak TLS.
pub struct TlsListener {
    /// `None`: on the first port, which then takes nothing else.
    pub tcp: Option<std::net::TcpListener>,
    pub server: Arc<ServerTls>,
}

const BACKLOG: i32 = 1024;

impl Listeners {
    /// One set of sockets per worker on the same port; the kernel spreads clients over them. Port 0
    /// picks a free port, the same for all.
    pub fn bind(
        listen: &Listen,
        workers: usize,
        activated: Activated,
    ) -> Result<Vec<Listeners>, BindError> {
        let wrong = |source| BindError::Tcp { address: listen.address.clone(), source };
        let mut addresses = listen.address.to_socket_addrs().map_err(wrong)?;
        let none = || std::io::Error::other("the name has no address");
        let mut address = addresses.next().ok_or_else(none).map_err(wrong)?;
        let unix = match &activated.unix {
            Some(unix) => Some(unix.try_clone().map_err(wrong)?),
            None => bind_unix(listen)?,
        };
        if let Some(unix) = &unix {
            unix.set_nonblocking(true).map_err(wrong)?;
        }
        let mut secure = Secure::new(listen)?;
        let mut all = Vec::new();
        for _ in 0..workers {
            let tcp = match activated.tcp().map_err(wrong)? {
                Some(tcp) => tcp,
                None => bind_tcp(address).map_err(wrong)?,
            };
            address = tcp.local_addr().map_err(wrong)?;
            let shared = unix.as_ref().map(|unix| unix.try_clone()).transpose().map_err(wrong)?;
            let tls = secure.as_mut().map(Secure::bind).transpose()?;
            all.push(Listeners { tcp, unix: shared, tls });
        }
        Ok(all)
    }
}

/// What the listeners for TLS of all workers have in common.
struct Secure<'a> {
    server: Arc<ServerTls>,
    address: Option<SocketAddr>,
    listen: &'a Listen,
}

impl Secure<'_> {
    fn new(listen: &Listen) -> Result<Option<Secure<'_>>, BindError> {
        let Some(files) = listen.tls() else { return Ok(None) };
        let server = Arc::new(ServerTls::new(files)?);
        let mut secure = Secure { server, address: None, listen };
        if !listen.tls_address.is_empty() {
            let mut addresses =
                listen.tls_address.to_socket_addrs().map_err(|source| secure.wrong(source))?;
            let none = || secure.wrong(std::io::Error::other("the name has no address"));
            let address = addresses.next().ok_or_else(none)?;
            secure.address = Some(address);
        }
        Ok(Some(secure))
    }

    fn wrong(&self, source: std::io::Error) -> BindError {
        BindError::TlsTcp { address: self.listen.tls_address.clone(), source }
    }

    fn bind(&mut self) -> Result<TlsListener, BindError> {
        let tcp = match self.address {
            None => None,
            Some(address) => {
                let tcp = bind_tcp(address).map_err(|source| self.wrong(source))?;
                self.address = Some(tcp.local_addr().map_err(|source| self.wrong(source))?);
                Some(tcp)
            }
        };
        Ok(TlsListener { tcp, server: Arc::clone(&self.server) })
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
