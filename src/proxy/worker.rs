use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::LocalOptions;
use tokio_util::task::TaskTracker;

use super::reader::ClientReader;
use super::registry::Arrival;
use super::session::Session;
use super::{Listeners, Shared};
use crate::resp::Protocol;
use crate::strategy::{Fault, Status};
use crate::tls::ServerTls;
use crate::upstream::{ClientWriter, Context, Key, Outbox, Pace, Pool, Secure};

/// What the sessions of one worker share.
pub(super) struct Worker {
    pub shared: Arc<Shared>,
    pub pool: Rc<Pool>,
    pub pace: Arc<Pace>,
    /// Requests are read into here, and copied only when they are not whole.
    pub scratch: RefCell<Vec<u8>>,
    /// Redis's user may not run scripts, so writes with care go another way.
    pub no_guard: Cell<bool>,
}

/// Read from a client at once, in bytes.
const SCRATCH: usize = 64 * 1024;
/// Tasks run between two looks at the sockets: high, so that all clients that are ready share one
/// write to Redis.
const EVENT_INTERVAL: u32 = 512;
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Runs one worker on the calling thread until the shutdown is complete.
pub fn run_worker(shared: Arc<Shared>, listeners: Listeners) -> std::io::Result<()> {
    let pace = Arc::new(Pace::default());
    let awake = Arc::clone(&pace);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .on_thread_unpark(move || awake.awake())
        .build_local(LocalOptions::default())?;
    runtime.block_on(serve(shared, listeners, pace))
}

async fn serve(shared: Arc<Shared>, listeners: Listeners, pace: Arc<Pace>) -> std::io::Result<()> {
    let context = Rc::new(Context::new(
        Arc::clone(&shared.connector),
        Arc::clone(&shared.gate),
        Arc::clone(&shared.status),
        Arc::clone(&shared.facts),
        Arc::clone(&pace),
    ));
    let home = Key {
        db: shared.connector.url().db,
        protocol: Protocol::Resp2,
        credentials: shared.access.home(),
    };
    let pool = Pool::new(context, home.clone());
    // Opened ahead of the first client; when Redis is down the pool keeps trying.
    let _ = pool.lane(&home);
    let worker = Rc::new(Worker {
        shared: Arc::clone(&shared),
        pool,
        pace,
        scratch: RefCell::new(vec![0; SCRATCH]),
        no_guard: Cell::new(false),
    });
    let sessions = TaskTracker::new();
    let tcp = TcpListener::from_std(listeners.tcp)?;
    let unix = listeners.unix.map(UnixListener::from_std).transpose()?;
    let (secure, server) = match listeners.tls {
        Some(tls) => (tls.tcp.map(TcpListener::from_std).transpose()?, Some(tls.server)),
        None => (None, None),
    };
    // Without a port of its own, TLS has the first one.
    let plain = server.is_none() || secure.is_some();
    let ports = Ports { tcp, plain, secure, unix };
    loop {
        let accepted = tokio::select! {
            () = shared.shutdown.cancelled() => break,
            accepted = accept(&ports) => accepted,
        };
        match accepted {
            Ok(accepted) => welcome(&worker, &sessions, accepted, server.as_deref(), &home),
            Err(error) => {
                // Out of descriptors, most likely: give the clients that are there time to leave.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Who has connected by now is served: closing the port would reset them.
    while let Some(Ok(accepted)) = accept(&ports).now_or_never() {
        welcome(&worker, &sessions, accepted, server.as_deref(), &home);
    }
    drop(ports);
    sessions.close();
    // Whoever has not received everything by then is cut off.
    let _ = tokio::time::timeout(shared.config.now().drain_timeout, sessions.wait()).await;
    Ok(())
}

enum Accepted {
    Tcp(TcpStream),
    Tls(TcpStream),
    Unix(UnixStream),
}

/// Where clients of one worker connect.
struct Ports {
    tcp: TcpListener,
    /// What connects to `tcp` does not speak TLS.
    plain: bool,
    secure: Option<TcpListener>,
    unix: Option<UnixListener>,
}

async fn accept(ports: &Ports) -> std::io::Result<Accepted> {
    tokio::select! {
        accepted = ports.tcp.accept() => accepted.map(|(stream, _)| match ports.plain {
            true => Accepted::Tcp(stream),
            false => Accepted::Tls(stream),
        }),
        accepted = accept_tls(ports.secure.as_ref()) => accepted,
        accepted = accept_unix(ports.unix.as_ref()) => accepted,
    }
}

async fn accept_tls(listener: Option<&TcpListener>) -> std::io::Result<Accepted> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tls(stream)),
        None => std::future::pending().await,
    }
}

async fn accept_unix(listener: Option<&UnixListener>) -> std::io::Result<Accepted> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        None => std::future::pending().await,
    }
}

/// As Redis's `tcp-keepalive 300`: a third of the time between probes, three of them.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3)
}

/// What the registry knows a client on TCP by; sets its socket up.
fn over_tcp(stream: &TcpStream) -> Arrival {
    // Replies are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    // Without it, a client whose host has gone would keep its place for ever.
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive()) {
        tracing::debug!(%error, "no keepalive for a client");
    }
    let text = |address: std::io::Result<std::net::SocketAddr>| {
        address.map_or_else(|_| "?:0".into(), |address| address.to_string())
    };
    let (address, local_address) = (text(stream.peer_addr()), text(stream.local_addr()));
    Arrival { address, local_address, fd: stream.as_raw_fd(), unix: false }
}

fn welcome(
    worker: &Rc<Worker>,
    sessions: &TaskTracker,
    accepted: Accepted,
    server: Option<&ServerTls>,
    home: &Key,
) {
    let shared = &worker.shared;
    let status = &shared.status;
    let limit = shared.config.limits.output_buffer;
    let (reader, writer, arrival) = match accepted {
        Accepted::Tcp(stream) => {
            let arrival = over_tcp(&stream);
            let (read, write) = stream.into_split();
            (ClientReader::Tcp(read), ClientWriter::Tcp(write), arrival)
        }
        Accepted::Tls(stream) => {
            let arrival = over_tcp(&stream);
            let Some(server) = server else { return };
            match Secure::new(stream, server.config()) {
                Ok(secure) => {
                    (ClientReader::Tls(Rc::clone(&secure)), ClientWriter::Tls(secure), arrival)
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot begin TLS with a client");
                    return;
                }
            }
        }
        Accepted::Unix(stream) => {
            let path = format!("{}:0", shared.config.listen.unix_socket);
            let fd = stream.as_raw_fd();
            let (read, write) = stream.into_split();
            let arrival = Arrival { address: path.clone(), local_address: path, fd, unix: true };
            (ClientReader::Unix(read), ClientWriter::Unix(write), arrival)
        }
    };
    let outbox = Outbox::new(writer, limit);
    let before = status.clients.fetch_add(1, Ordering::Relaxed);
    let leave = Leave(Arc::clone(shared));
    if before >= shared.config.now().max_clients as u64 {
        worker.pool.context().meter.fault(Fault::TooManyClients, 1);
        outbox.push(b"-ERR max number of clients reached\r\n");
        outbox.flush();
        return;
    }
    status.clients_total.fetch_add(1, Ordering::Relaxed);
    let info = shared.registry.add(arrival, shared.access.home_name(), home.db);
    let id = info.id;
    let session = Session::new(Rc::clone(worker), outbox, reader, info, home.clone());
    if let Some(listed) = &session.user {
        *session.info.user.lock() = listed.name.to_string();
    }
    sessions.spawn_local(async move {
        let leave = leave;
        contained(&leave.0.status, id, session.run()).await;
        leave.0.registry.remove(id);
    });
}

/// Runs a client's task. A panic in it ends it alone.
async fn contained(status: &Status, client: u64, task: impl Future<Output = ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        status.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(client, "a client's task panicked; its connection is closed");
    }
}

/// Counts a client out, whichever way it goes.
struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.status.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::config::{Ack, Mode};

    #[tokio::test]
    async fn a_panic_ends_its_own_client_only() {
        let status = Status::new(Mode::RedisOnly, Ack::Redis);
        let (mut client, connection) = tokio::io::duplex(16);
        let (served, counted) = tokio::join!(
            async {
                contained(&status, 1, async move {
                    let _connection = connection;
                    tokio::task::yield_now().await;
                    panic!("a defect");
                })
                .await;
                client.read(&mut [0]).await
            },
            async {
                let mut rounds = 0;
                contained(&status, 2, async {
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                        rounds += 1;
                    }
                })
                .await;
                rounds
            }
        );
        assert_eq!(served.ok(), Some(0), "the connection has ended");
        assert_eq!(counted, 10, "the other client is served");
        assert_eq!(status.panics.load(Ordering::Relaxed), 1);
    }
}
