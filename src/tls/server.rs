//! The server's side of TLS, with certificates that may change while it runs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::files::{TlsError, bad_file, certificates, private_key, trusted};
use crate::config::ServerFiles;

/// What new connections are served with. Files that have changed are read again when a client comes.
#[derive(Debug)]
pub struct ServerTls {
    files: ServerFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
}

/// What tells one version of a file from another: inode, size, and times of change.
type Stamp = (u64, u64, i64, i64, i64, i64);

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);

impl ServerTls {
    pub fn new(files: ServerFiles) -> Result<ServerTls, TlsError> {
        // The files may change while they are read: then they are read again.
        let stamps = stamps(&files);
        let state = State { config: load(&files)?, stamps, looked: Instant::now() };
        Ok(ServerTls { files, state: Mutex::new(state) })
    }

    /// For one more connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            let stamps = stamps(&self.files);
            if stamps != state.stamps {
                state.stamps = stamps;
                let (section, path) = (self.files.section, self.files.cert.display());
                match load(&self.files) {
                    Ok(config) => {
                        state.config = config;
                        tracing::info!(section, certificate = %path, "certificate read again");
                    }
                    Err(error) => {
                        tracing::warn!(section, %error, "the certificate before stays in use");
                    }
                }
            }
        }
        Arc::clone(&state.config)
    }
}

fn load(files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError(e.to_string()))?;
    let builder = if files.client_ca.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let what = "tls_client_ca";
        let roots = Arc::new(trusted(files.section, what, &files.client_ca)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        let wrong = |error| bad_file(files.section, what, &files.client_ca, error);
        builder.with_client_cert_verifier(verifier.map_err(wrong)?)
    };
    let chain = certificates(files.section, "tls_cert", &files.cert)?;
    let config = builder
        .with_single_cert(chain, private_key(files.section, &files.key)?)
        .map_err(|e| bad_file(files.section, "tls_cert", &files.cert, e))?;
    Ok(Arc::new(config))
}

fn stamps(files: &ServerFiles) -> Vec<Option<Stamp>> {
    let stamp =
        |m: Metadata| (m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    let paths = [&files.cert, &files.key, &files.client_ca];
    paths.into_iter().map(|path| std::fs::metadata(path).ok().map(stamp)).collect()
}
