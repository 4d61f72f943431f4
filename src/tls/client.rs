//! The client's side of TLS, towards Redis and PostgreSQL.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::files::{TlsError, TlsFiles, bad_file, certificates, private_key, trusted};
use crate::config::Verify;

/// A client's side of TLS: CA file or the system's roots, client certificate, verification.
pub fn client_config(files: &TlsFiles<'_>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError(e.to_string()))?;
    let builder = match files.verify {
        Verify::Full => builder.with_root_certificates(roots(files)?),
        Verify::Authority => custom(builder, provider, Some(roots(files)?)),
        Verify::Nothing => custom(builder, provider, None),
    };
    let config = if files.cert.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let (chain, key) = (
            certificates(files.section, "tls_cert", files.cert)?,
            private_key(files.section, files.key)?,
        );
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| bad_file(files.section, "tls_cert", files.cert, e))?
    };
    Ok(Arc::new(config))
}

type Unverified = ConfigBuilder<ClientConfig, WantsVerifier>;
type Verified = ConfigBuilder<ClientConfig, WantsClientCert>;

fn custom(
    builder: Unverified,
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
) -> Verified {
    let verifier = AnyHost { provider, roots };
    builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
}

/// The authorities of a PEM file; without one the system's.
pub fn authorities(
    section: &'static str,
    ca: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match ca.as_os_str().is_empty() {
        true => Ok(rustls_native_certs::load_native_certs().certs),
        false => certificates(section, "tls_ca", ca),
    }
}

fn roots(files: &TlsFiles<'_>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    if files.ca.as_os_str().is_empty() {
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        return Ok(store);
    }
    trusted(files.section, "tls_ca", files.ca)
}

/// Does not ask whom the certificate was made for: any that one of `roots` has signed
/// (`sslmode=verify-ca`), or without roots any at all (`tls_verify = false`).
#[derive(Debug)]
struct AnyHost {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
