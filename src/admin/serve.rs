//! Connections: limits, timeouts, the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer::Failure;
use super::endpoints::{MAX_BODY, is_long, path_of, router};
use super::state::App;
use super::strategy::Peer;
use crate::tls::ServerTls;
use crate::traces;

/// Connections at a time; more wait until one ends.
const MAX_CONNECTIONS: usize = 64;
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// How long a client may take to send the head of a request, an idle connection included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an answer may take, the request's body included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the body of a request may take whose answer may take any time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers under way may take when the process ends.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves until `ended`.
pub async fn serve(
    app: App,
    listener: std::net::TcpListener,
    tls: Option<ServerTls>,
    ended: CancellationToken,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(app.clone().watch_rates());
    tokio::spawn(crate::sync::serve(std::sync::Arc::clone(app.syncer())));
    let router = router(app);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = ended.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin interface");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let peer = Extension(Peer(stream.peer_addr().ok()));
        let service = TowerToHyperService::new(router.clone().layer(peer));
        let watcher = graceful.watcher();
        let secure = tls.as_ref().map(|tls| TlsAcceptor::from(tls.config()));
        tokio::spawn(async move {
            match secure {
                None => converse(stream, service, watcher).await,
                Some(acceptor) => {
                    match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => converse(stream, service, watcher).await,
                        Ok(Err(error)) => tracing::debug!(%error, "no TLS with an operator"),
                        Err(_) => {}
                    }
                }
            }
            drop(place);
        });
    }
    // Whoever has not received everything by then is cut off.
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

/// Answers the requests of one connection.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: TowerToHyperService<Router>,
    watcher: Watcher,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection to the admin interface has failed");
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Where the answer may take long, the body still may not.
pub async fn body_in_time(request: Request, next: Next) -> Response {
    if !is_long(request.uri().path()) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let failure = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => return next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(_)) => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "bad_request",
            format!("the body is larger than {MAX_BODY} bytes, or broke off"),
        ),
        Err(_) => Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            format!("the body has to come within {BODY_TIMEOUT:?}"),
        ),
    };
    failure.into_response()
}

/// Anybody may ask with a method of their own making.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "_OTHER",
    }
}

/// An answer that takes too long is given up.
pub async fn in_time(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match is_long(&path) {
        true => Ok(next.run(request).await),
        false => tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await,
    };
    let response = match response {
        Ok(response) => response,
        Err(_) => {
            let message = format!("no answer within {ANSWER_TIMEOUT:?}");
            Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message).into_response()
        }
    };
    let status = response.status();
    traces::record("admin request", began.elapsed(), !status.is_server_error(), || {
        [
            ("http.request.method", known(&method).into()),
            ("http.route", path_of(&path).into()),
            ("http.response.status_code", i64::from(status.as_u16()).into()),
        ]
    });
    tracing::debug!(%method, path, status = status.as_u16(), "asked");
    response
}
