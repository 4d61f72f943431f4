use std::path::PathBuf;
use std::str::FromStr;

use super::redis_url::percent_decode;
use super::{ConfigError, Postgres};

/// What of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verify {
    /// Encrypts, without knowing to whom.
    Nothing,
    /// A trusted authority has signed it.
    Authority,
    /// And it was made for the host that is connected to.
    Full,
}

/// TLS towards PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresTls {
    pub verify: Verify,
    /// False: goes on in the clear with a server that has no TLS (`sslmode=prefer`).
    pub required: bool,
    /// Empty: the system's authorities.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A parsed `postgres.url` together with the `tls` keys beside it.
#[derive(Clone, Debug)]
pub struct PostgresAddress {
    /// Hosts, user, database and options, without anything about TLS.
    pub server: tokio_postgres::Config,
    pub tls: Option<PostgresTls>,
}

/// `sslmode` as libpq knows it: <https://www.postgresql.org/docs/17/libpq-ssl.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<SslMode, String> {
        Ok(match text {
            "disable" => SslMode::Disable,
            // libpq would begin in the clear with `allow`; here TLS comes first, as with `prefer`.
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            other => {
                return Err(format!(
                    "sslmode={other} is not known; it can be disable, allow, prefer, require, \
                     verify-ca or verify-full"
                ));
            }
        })
    }
}

/// The parameters of the URL that this module sees to.
#[derive(Default)]
struct Parameters {
    mode: Option<SslMode>,
    root_cert: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl PostgresAddress {
    /// Reads `postgres.url` with libpq's `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, and the
    /// `tls` keys. Where both speak, the URL's files are taken, and the stricter verification.
    pub fn new(postgres: &Postgres) -> Result<PostgresAddress, ConfigError> {
        let invalid = |message: String| ConfigError::Invalid { key: "postgres.url", message };
        let (rest, parameters) = take_parameters(&postgres.url).map_err(invalid)?;
        let server = rest.parse().map_err(|e: tokio_postgres::Error| {
            let cause = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
            invalid(format!("{e}{cause}; expected postgres://user@host:port/database"))
        })?;
        let tls = parameters.tls(postgres).map_err(invalid)?;
        Ok(PostgresAddress { server, tls })
    }
}

impl Parameters {
    fn tls(self, postgres: &Postgres) -> Result<Option<PostgresTls>, String> {
        let system = self.root_cert.as_deref() == Some("system");
        if system && self.mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
            return Err("sslrootcert=system needs sslmode=verify-full".into());
        }
        if self.mode == Some(SslMode::Disable) && postgres.tls {
            return Err("sslmode=disable contradicts postgres.tls = true".into());
        }
        let path = |url: Option<String>, key: &PathBuf| url.map_or(key.clone(), PathBuf::from);
        let ca = match system {
            true => PathBuf::new(),
            false => path(self.root_cert, &postgres.tls_ca),
        };
        // As in libpq: whoever names an authority wants it checked.
        let required = match ca.as_os_str().is_empty() {
            true => Verify::Nothing,
            false => Verify::Authority,
        };
        let by_url = match self.mode {
            None if system => Some(Verify::Full),
            None | Some(SslMode::Disable) => None,
            Some(SslMode::Prefer) => Some(Verify::Nothing),
            Some(SslMode::Require) => Some(required),
            Some(SslMode::VerifyCa) => Some(Verify::Authority),
            Some(SslMode::VerifyFull) => Some(Verify::Full),
        };
        let by_keys = postgres.tls.then_some(match postgres.tls_verify {
            true => Verify::Full,
            false => Verify::Nothing,
        });
        Ok(by_url.max(by_keys).map(|verify| PostgresTls {
            verify,
            required: self.mode != Some(SslMode::Prefer) || postgres.tls,
            ca,
            cert: path(self.cert, &postgres.tls_cert),
            key: path(self.key, &postgres.tls_key),
        }))
    }
}

/// Takes the TLS parameters out of a URL. Other forms of address are left alone.
fn take_parameters(text: &str) -> Result<(String, Parameters), String> {
    let mut parameters = Parameters::default();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let Some((address, query)) = text.split_once('?').filter(|_| is_url) else {
        return Ok((text.to_owned(), parameters));
    };
    let mut rest = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode(value).ok_or("bad percent escape")?;
        match name {
            "sslmode" => parameters.mode = Some(value.parse()?),
            "sslrootcert" => parameters.root_cert = Some(value),
            "sslcert" => parameters.cert = Some(value),
            "sslkey" => parameters.key = Some(value),
            _ => rest.push(pair),
        }
    }
    let query = rest.join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    Ok((format!("{address}{mark}{query}"), parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str, change: impl FnOnce(&mut Postgres)) -> Result<Option<PostgresTls>, String> {
        let mut postgres = Postgres { url: url.into(), ..Postgres::default() };
        change(&mut postgres);
        PostgresAddress::new(&postgres).map(|address| address.tls).map_err(|e| e.to_string())
    }

    fn verify(url: &str, change: impl FnOnce(&mut Postgres)) -> Option<Verify> {
        tls(url, change).expect(url).map(|tls| tls.verify)
    }

    #[test]
    fn the_url_means_what_libpq_means() {
        let none = |_: &mut Postgres| {};
        let ca = |postgres: &mut Postgres| postgres.tls_ca = "ca.crt".into();
        assert_eq!(verify("postgres://u@h/d", none), None);
        assert_eq!(verify("postgres://u@h/d?sslmode=disable", none), None);
        assert_eq!(verify("postgres://u@h/d?sslmode=require", none), Some(Verify::Nothing));
        assert_eq!(verify("postgres://u@h/d?sslmode=require", ca), Some(Verify::Authority));
        assert_eq!(verify("postgres://u@h/d?sslmode=prefer", ca), Some(Verify::Nothing));
        assert_eq!(verify("postgres://u@h/d?sslmode=verify-ca", none), Some(Verify::Authority));
        assert_eq!(verify("postgresql://u@h/d?sslmode=verify-full", none), Some(Verify::Full));
        let found = tls(
            "postgres://u@h/d?sslrootcert=%2Fa%20b&application_name=x&sslmode=require&sslcert=c&sslkey=k",
            ca,
        );
        let found = found.expect("valid").expect("TLS");
        assert_eq!((found.ca, found.cert), (PathBuf::from("/a b"), PathBuf::from("c")));
        assert_eq!((found.key, found.verify), (PathBuf::from("k"), Verify::Authority));
        let found = tls("postgres://u@h/d?sslmode=prefer", none).expect("valid").expect("TLS");
        assert!(!found.required);
    }

    #[test]
    fn the_keys_count_too_and_the_stricter_wins() {
        let on = |postgres: &mut Postgres| postgres.tls = true;
        let unverified = |postgres: &mut Postgres| {
            (postgres.tls, postgres.tls_verify) = (true, false);
        };
        assert_eq!(verify("postgres://u@h/d", on), Some(Verify::Full));
        assert_eq!(verify("postgres://u@h/d", unverified), Some(Verify::Nothing));
        assert_eq!(verify("postgres://u@h/d?sslmode=require", on), Some(Verify::Full));
        assert_eq!(
            verify("postgres://u@h/d?sslmode=verify-ca", unverified),
            Some(Verify::Authority)
        );
    }

    #[test]
    fn what_cannot_be_is_said() {
        let on = |postgres: &mut Postgres| postgres.tls = true;
        for (url, word) in [
            ("postgres://u@h/d?sslmode=verify", "verify-full"),
            ("postgres://u@h/d?sslmode=disable", "contradicts"),
            ("postgres://u@h/d?sslrootcert=system&sslmode=require", "verify-full"),
            ("postgres://u@h/d?sslcrl=x", "sslcrl"),
            ("mysql://u@h/d", "expected postgres://"),
        ] {
            let error = tls(url, on).expect_err(url);
            assert!(error.contains(word), "{url}: {error}");
        }
        let system = "postgres://u@h/d?sslrootcert=system";
        assert_eq!(verify(system, |postgres| postgres.tls_ca = "x".into()), Some(Verify::Full));
    }
}
