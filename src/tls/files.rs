//! Certificates and keys in PEM files.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Verify;

/// The TLS keys of a section of `proxy.toml`; empty paths for what is not set.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    pub section: &'static str,
    /// Certificate authorities to trust; empty: the system's.
    pub ca: &'a Path,
    pub cert: &'a Path,
    pub key: &'a Path,
    pub verify: Verify,
}

/// Why TLS cannot be set up from the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

pub(super) fn certificates(
    section: &str,
    what: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| bad_file(section, what, path, e))
}

pub(super) fn private_key(section: &str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| bad_file(section, "tls_key", path, e))
}

/// The authorities of a file.
pub(super) fn trusted(section: &str, what: &str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(section, what, path)?);
    if added == 0 {
        return Err(bad_file(section, what, path, "no usable certificate in it"));
    }
    Ok(store)
}

pub(super) fn bad_file(
    section: &str,
    what: &str,
    path: &Path,
    error: impl std::fmt::Display,
) -> TlsError {
    TlsError(format!("{section}.{what} {}: {error}", path.display()))
}
