use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{Peer, Route, Sides, Stream, To, peer, sentinel};
use crate::config::{self, ConfigError, RedisAddress, RedisUrl, Verify};
use crate::tls::{self, TlsError, TlsFiles};

/// Bytes that wait in a connection within the process, each way.
const MEMORY: usize = 256 * 1024;

/// Why Redis could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Url(#[from] ConfigError),
    #[error("TLS for Redis: {0}")]
    Tls(#[from] TlsError),
    #[error("cannot connect to Redis at {address}: {source}")]
    Io { address: String, source: io::Error },
    #[error("Redis at {address} did not take the connection within {after:?}")]
    Timeout { address: String, after: Duration },
}

impl ConnectError {
    /// True when trying again may help without anybody changing the configuration.
    pub fn is_transient(&self) -> bool {
        matches!(self, ConnectError::Io { .. } | ConnectError::Timeout { .. })
    }
}

/// Opens connections to the Redis of one `[redis]` section. The certificates are read once, by
/// [`Connector::new`].
#[derive(Clone)]
pub struct Connector {
    url: RedisUrl,
    timeout: Duration,
    tls: Option<TlsConnector>,
    /// Who answers; always Redis without one.
    route: Option<Arc<Route>>,
    /// For a proxy that leads and takes clients over TLS.
    peers: Option<TlsConnector>,
    sides: Sides,
}

impl Connector {
    pub fn new(redis: &config::Redis) -> Result<Connector, ConnectError> {
        let url = RedisUrl::parse(&redis.url)?;
        let tls = match url.address {
            RedisAddress::Tcp { tls: true, .. } => {
                let files = TlsFiles {
                    section: "redis",
                    ca: &redis.tls_ca,
                    cert: &redis.tls_cert,
                    key: &redis.tls_key,
                    verify: if redis.tls_verify { Verify::Full } else { Verify::Nothing },
                };
                Some(TlsConnector::from(tls::client_config(&files)?))
            }
            _ => None,
        };
        Ok(Connector {
            url,
            timeout: Duration::from_millis(redis.connect_timeout_ms),
            tls,
            route: None,
            peers: None,
            sides: Sides::default(),
        })
    }

    /// Connects to whom the route leads to; user, password and database are still those of the URL.
    pub fn routed(redis: &config::Redis, route: Arc<Route>) -> Result<Connector, ConnectError> {
        Ok(Connector { route: Some(route), ..Connector::new(redis)? })
    }

    /// The same, where that may be another proxy: should that ask for a certificate, it is the one of our own clients' port.
    pub fn with_peers(self, listen: &config::Listen) -> Result<Connector, ConnectError> {
        let nothing = Path::new("");
        let files = TlsFiles {
            section: "listen",
            ca: nothing,
            cert: &listen.tls_cert,
            key: &listen.tls_key,
            verify: Verify::Nothing,
        };
        Ok(Connector { peers: Some(TlsConnector::from(tls::client_config(&files)?)), ..self })
    }

    /// The same, to Redis itself whoever answers clients.
    pub fn to_redis(&self) -> Connector {
        Connector { route: None, ..self.clone() }
    }

    /// The route of [`Connector::routed`].
    pub fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref()
    }

    /// The connections that ask the proxy's own questions, among those made by this connector and its clones.
    pub fn sides(&self) -> &Sides {
        &self.sides
    }

    /// True while clients' commands wait for it to be decided who answers.
    pub fn is_held(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.held())
    }

    /// Who is connected to, for people.
    pub fn server(&self) -> &'static str {
        match &self.route {
            Some(route) if route.is_local() => "PostgreSQL",
            Some(route) if route.peer().is_some() => "the proxy that leads",
            _ => "Redis",
        }
    }

    /// False when the server within the process answers, or the proxy that leads.
    pub fn is_redis(&self) -> bool {
        !self.route.as_ref().is_some_and(|route| route.is_local() || route.peer().is_some())
    }

    /// Address, user, password and database that connections are meant for; `connect` itself does not log in.
    pub fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// How long connecting may take, and the greeting after it.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Connects, TLS handshake included, within `redis.connect_timeout_ms`.
    pub async fn connect(&self) -> Result<Stream, ConnectError> {
        match tokio::time::timeout(self.timeout, self.open()).await {
            Ok(result) => result.map_err(|source| self.failed(source)),
            Err(_) => Err(ConnectError::Timeout { address: self.address(), after: self.timeout }),
        }
    }

    async fn open(&self) -> io::Result<Stream> {
        if let Some(route) = &self.route {
            match route.settled().await {
                To::Local(local) => {
                    let (here, there) = tokio::io::duplex(MEMORY);
                    local.send(there).map_err(|_| io::ErrorKind::ConnectionRefused)?;
                    return Ok(Stream::Memory(here));
                }
                To::Peer(peer) => return to_peer(route, &peer, self.peers.as_ref()).await,
                To::Redis | To::Nobody(_) => {}
            }
        }
        match &self.url.address {
            RedisAddress::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
            RedisAddress::Sentinel { sentinels, master } => {
                let (host, port) = sentinel::ask(sentinels, master).await?;
                let tcp = TcpStream::connect((host.as_str(), port)).await?;
                tcp.set_nodelay(true)?;
                Ok(Stream::Tcp(tcp))
            }
            RedisAddress::Tcp { host, port, .. } => {
                let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                tcp.set_nodelay(true)?;
                let Some(tls) = &self.tls else { return Ok(Stream::Tcp(tcp)) };
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                Ok(Stream::Tls(Box::new(tls.connect(name, tcp).await?)))
            }
        }
    }

    /// A refused certificate is no matter of waiting.
    fn failed(&self, source: io::Error) -> ConnectError {
        let tls = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        match tls {
            Some(e @ (rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))) => {
                ConnectError::Tls(TlsError(format!("{}: {e}", self.address())))
            }
            _ => ConnectError::Io { address: self.address(), source },
        }
    }

    /// `host:port` or the socket's path.
    pub fn address(&self) -> String {
        match &self.route {
            Some(route) if route.is_local() => return "the local server".into(),
            Some(route) => {
                if let Some(peer) = route.peer() {
                    return peer.address.clone();
                }
            }
            None => {}
        }
        match &self.url.address {
            RedisAddress::Tcp { host, port, .. } => format!("{host}:{port}"),
            RedisAddress::Unix(path) => path.display().to_string(),
            RedisAddress::Sentinel { master, .. } => format!("{master} (by Sentinel)"),
        }
    }
}

/// Ends early when somebody else answers.
async fn to_peer(
    route: &Route,
    peer: &Arc<Peer>,
    tls: Option<&TlsConnector>,
) -> io::Result<Stream> {
    let mut turns = route.watch();
    let other = turns.wait_for(|turn| !matches!(&turn.to, To::Peer(now) if now == peer));
    tokio::select! {
        connected = peer::connect(peer, tls) => connected,
        _ = other => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// Opens one connection. Who connects often keeps a [`Connector`], which reads certificates once.
pub async fn connect(redis: &config::Redis) -> Result<Stream, ConnectError> {
    Connector::new(redis)?.connect().await
}
