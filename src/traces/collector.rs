//! The way to the collector: the HTTP client that the command line has too, on the thread of the exporter.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::tls::{TlsError, authorities};

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of its answer, which says hardly anything.
const MAX_ANSWER: u64 = 64 * 1024;

#[derive(Debug)]
pub struct Collector {
    agent: ureq::Agent,
    /// The last batch was not taken, which has been said.
    failing: AtomicBool,
}

impl Collector {
    /// `ca`: PEM file of authorities for a collector that speaks TLS; empty: the system's.
    pub fn new(endpoint: &str, ca: &Path) -> Result<Collector, TlsError> {
        let roots = match endpoint.starts_with("https:") {
            true => authorities("traces", ca)?,
            false => Vec::new(),
        };
        let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .tls_config(tls)
            .build()
            .into();
        Ok(Collector { agent, failing: AtomicBool::new(false) })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let mut response = self.agent.run(Request::from_parts(head, &body[..]))?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(response.into_parts().0, body.into()))
    }

    /// Says when the collector is lost and when it is back, not for each batch.
    fn note(&self, trouble: Option<String>) {
        let failing = trouble.is_some();
        match (self.failing.swap(failing, Ordering::Relaxed), trouble) {
            (false, Some(error)) => {
                tracing::warn!(
                    error,
                    "the collector takes no traces: they are dropped until it does"
                );
            }
            (true, None) => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    /// Blocks: the exporter has a thread of its own.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let result = self.send(request);
        self.note(match &result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(error.to_string()),
        });
        Ok(result?)
    }
}
