use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::connect::ConnectError;
use crate::config;

/// The TLS side of `[redis]`: CA file or the system's roots, client certificate, verification.
pub(super) fn client_config(redis: &config::Redis) -> Result<Arc<ClientConfig>, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| ConnectError::Tls { message: e.to_string() })?;
    let builder = if redis.tls_verify {
        builder.with_root_certificates(roots(&redis.tls_ca)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    };
    let config = if redis.tls_cert.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let (chain, key) = (certificates(&redis.tls_cert)?, private_key(&redis.tls_key)?);
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| bad_file("redis.tls_cert", &redis.tls_cert, e))?
    };
    Ok(Arc::new(config))
}

fn roots(ca: &Path) -> Result<RootCertStore, ConnectError> {
    let mut store = RootCertStore::empty();
    if ca.as_os_str().is_empty() {
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        return Ok(store);
    }
    let found = certificates(ca)?;
    let (added, _) = store.add_parsable_certificates(found);
    if added == 0 {
        return Err(bad_file("redis.tls_ca", ca, "no usable certificate in it"));
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| bad_file("certificates", path, e))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConnectError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| bad_file("redis.tls_key", path, e))
}

fn bad_file(what: &str, path: &Path, error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Tls { message: format!("{what} {}: {error}", path.display()) }
}

/// `redis.tls_verify = false`: encrypts, without knowing to whom.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
