//! `proxy.toml` and the environment, read into one validated, typed [`Config`].
//!
//! Order of precedence: environment, then the file, then the defaults below. Every key is
//! documented in `proxy.toml` with its default and whether it can change at run time.

mod address;
mod env;
mod postgres_url;
mod redis_url;
mod reload;
mod sections;
mod view;

use std::path::Path;

pub use address::is_loopback;
pub use postgres_url::{PostgresAddress, PostgresTls, Verify};
pub use redis_url::{RedisAddress, RedisUrl};
pub use reload::{Changeable, Changes, Source};
pub use sections::{
    Ack, Admin, Config, Family, Flush, Limits, Listen, Log, LogFormat, Mirror, Mode, OnSpoolFull,
    OnUnavailable, Postgres, Redis, ServerFiles, Strategy, Sync, Traces,
};
pub use view::{Column, ColumnKind, KeyPattern, PartKind, Piece, View, ViewSource};

/// What is wrong with the configuration, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {message}")]
    Parse { path: String, message: String },
    #[error("environment variable {name}: {message}")]
    Environment { name: String, message: String },
    #[error("{key}: {message}")]
    Invalid { key: &'static str, message: String },
}

/// The keys that are set in the file or in the environment.
fn table(
    text: &str,
    path: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<toml::Table, ConfigError> {
    let mut table: toml::Table = toml::from_str(text)
        .map_err(|e| ConfigError::Parse { path: path.into(), message: e.to_string() })?;
    env::overlay(&mut table, environment)?;
    Ok(table)
}

fn from_table(table: toml::Table, path: &str) -> Result<Config, ConfigError> {
    let config: Config = table.try_into().map_err(|e: toml::de::Error| ConfigError::Parse {
        path: path.into(),
        message: e.to_string(),
    })?;
    config.validate()?;
    Ok(config)
}

impl Config {
    /// Reads `path` and lays the process's environment over it.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
        Self::parse(&text, &shown, std::env::vars())
    }

    /// Parses the text of a `proxy.toml`, lays `environment` over it and validates the result.
    pub fn parse(
        text: &str,
        path: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        from_table(table(text, path, environment)?, path)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let invalid =
            |key, message: &str| Err(ConfigError::Invalid { key, message: message.into() });
        RedisUrl::parse(&self.redis.url)?;
        if self.listen.max_clients == 0 {
            return invalid("listen.max_clients", "must be at least 1");
        }
        if self.listen.address.is_empty() {
            return invalid("listen.address", "must be host:port, such as 127.0.0.1:6380");
        }
        let listen = &self.listen;
        let pairs = [
            ("listen.tls_key", &listen.tls_cert, &listen.tls_key),
            ("admin.tls_key", &self.admin.tls_cert, &self.admin.tls_key),
        ];
        for (key, cert, file) in pairs {
            if cert.as_os_str().is_empty() != file.as_os_str().is_empty() {
                return invalid(
                    key,
                    "tls_cert and tls_key go together: set both, or none for no TLS",
                );
            }
        }
        let without = listen.tls_cert.as_os_str().is_empty();
        if without && !listen.tls_address.is_empty() {
            return invalid("listen.tls_address", "needs tls_cert and tls_key beside it");
        }
        if without && !listen.tls_client_ca.as_os_str().is_empty() {
            return invalid("listen.tls_client_ca", "needs tls_cert and tls_key beside it");
        }
        if self.postgres.schema.is_empty() || self.postgres.schema.len() > 63 {
            return invalid("postgres.schema", "must be a name of 1 to 63 bytes");
        }
        PostgresAddress::new(&self.postgres)?;
        if self.postgres.pool_max == 0 {
            return invalid("postgres.pool_max", "must be at least 1");
        }
        let admin = &self.admin.address;
        let port = admin.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !admin.is_empty() && !matches!(port, Some(Ok(_))) {
            return invalid(
                "admin.address",
                "must be host:port, such as 127.0.0.1:9380, or \"\" for no admin interface",
            );
        }
        if !admin.is_empty() && self.admin.token.is_empty() && !is_loopback(admin) {
            return invalid(
                "admin.token",
                "must be set when admin.address is not a loopback address: whoever has it may change things",
            );
        }
        if !self.admin.token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return invalid(
                "admin.token",
                "must consist of visible ASCII characters without spaces",
            );
        }
        let endpoint = &self.traces.endpoint;
        let url = url::Url::parse(endpoint).ok();
        let usable = url.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if !endpoint.is_empty() && !usable {
            return invalid(
                "traces.endpoint",
                "must be a URL such as http://127.0.0.1:4318, without user and password: those go into OTEL_EXPORTER_OTLP_HEADERS",
            );
        }
        if !(0.0..=1.0).contains(&self.traces.sample_ratio) {
            return invalid("traces.sample_ratio", "must be between 0 and 1");
        }
        if self.family.iter().any(|family| family.cache_ttl_s == Some(0)) {
            return invalid(
                "family.cache_ttl_s",
                "must be at least 1 second; leave it out and copies stay",
            );
        }
        if self.family.iter().any(|family| family.pattern.is_empty()) {
            return invalid("family.match", "must be a glob pattern, such as session:*");
        }
        view::check(&self.family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let vars = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Config::parse(text, "proxy.toml", vars)
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parse("", &[]).expect("defaults are valid");
        assert_eq!(config.listen.address, "127.0.0.1:6380");
        assert_eq!(config.strategy.mode, Mode::DualWrite);
        assert_eq!(config.strategy.ack, Ack::Postgres);
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        for (text, word) in [
            ("[listen]\nadress = 'x'", "adress"),
            ("[strategy]\nmode = 'both'", "both"),
            ("[redis]\nurl = 'http://x'", "redis.url"),
            ("[listen]\nmax_clients = 0", "max_clients"),
            ("[[family]]\nmatch = ''", "family.match"),
            ("[[family]]\nmatch = 'x'\ncache_ttl_s = 0", "family.cache_ttl_s"),
            ("[postgres]\nurl = 'mysql://x'", "postgres.url"),
            ("[admin]\naddress = '9380'", "admin.address"),
            ("[admin]\naddress = '0.0.0.0:9380'", "admin.token"),
            ("[admin]\ntoken = 'a b'", "admin.token"),
            ("[traces]\nendpoint = 'localhost:4318'", "traces.endpoint"),
            ("[traces]\nendpoint = 'http://a:b@c'", "traces.endpoint"),
            ("[traces]\nsample_ratio = 1.5", "traces.sample_ratio"),
            ("[admin]\ntls_cert = 'a'", "admin.tls_key"),
            ("[listen]\ntls_key = 'a'", "go together"),
            ("[listen]\ntls_address = '127.0.0.1:1'", "listen.tls_address"),
            ("[listen]\ntls_client_ca = 'a'", "listen.tls_client_ca"),
        ] {
            let error = parse(text, &[]).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn the_environment_wins() {
        let config = parse(
            "[strategy]\nmode = 'redis_only'\n[redis]\nurl = 'redis://a:1/2'",
            &[
                ("TANDEM_STRATEGY_MODE", "cache_first"),
                ("REDIS_HOST", "b"),
                ("TANDEM_LISTEN_MAX_CLIENTS", "7"),
            ],
        )
        .expect("valid");
        assert_eq!(config.strategy.mode, Mode::CacheFirst);
        assert_eq!(config.redis.url, "redis://b:1/2");
        assert_eq!(config.listen.max_clients, 7);
        let ttls = [("CACHE_DEFAULT_TTL", "3600"), ("CACHE_API_KEY_TTL", "86400")];
        let config = parse("[[family]]\nmatch = 'x:*'\nmirror = false", &ttls).expect("valid");
        let rules: Vec<_> =
            config.family.iter().map(|rule| (rule.pattern.as_str(), rule.cache_ttl_s)).collect();
        assert_eq!(rules, [("x:*", None), ("apikey:*", Some(86_400)), ("*", Some(3600))]);
        let quiet = [("DATABASE_SYNC_ENABLED", "false"), ("TANDEM_SYNC_KEYS_PER_SECOND", "9")];
        let config = parse("", &quiet).expect("valid");
        assert_eq!((config.sync.on_startup, config.sync.interval_ms), (false, 0));
        assert_eq!(config.sync.keys_per_second, 9);
        let error = parse("", &[("CACHE_DEFAULT_TTL", "soon")]).expect_err("no number");
        assert!(error.to_string().contains("CACHE_DEFAULT_TTL"), "{error}");
        let traced = parse(
            "",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/base/"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
                ("OTEL_SERVICE_NAME", ""),
            ],
        );
        let traces = traced.expect("valid").traces;
        assert_eq!(traces.url().as_deref(), Some("http://collector:4318/base/v1/traces"));
        assert_eq!((traces.sample_ratio, traces.service_name.as_str()), (0.5, "tandem"));
        let traced = parse("[traces]\nendpoint = 'http://a:1'\nsample_ratio = 1", &[]);
        assert_eq!(traced.expect("valid").traces.url().as_deref(), Some("http://a:1/v1/traces"));
        let off = parse("", &[("POSTGRES_ENABLED", "false")]).expect("valid");
        assert_eq!(off.strategy.mode, Mode::RedisOnly);
        let error = parse("", &[("TANDEM_LISTEN_MAX_CLIENTS", "many")]).expect_err("not a number");
        assert!(error.to_string().contains("TANDEM_LISTEN_MAX_CLIENTS"), "{error}");
    }
}
