use std::path::PathBuf;

use super::ConfigError;

/// Where Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    Tcp {
        host: String,
        port: u16,
        tls: bool,
    },
    Unix(PathBuf),
    /// The master of this name, which any of the sentinels (host and port) knows.
    Sentinel {
        sentinels: Vec<(String, u16)>,
        master: String,
    },
}

/// A parsed `redis.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    pub address: RedisAddress,
    /// Empty: the `default` user.
    pub user: String,
    /// Empty: no authentication.
    pub password: String,
    /// The database a client starts in.
    pub db: u32,
}

impl RedisUrl {
    /// Parses `redis://[user:password@]host[:port][/db]`, `rediss://…` or `unix:///path[?db=n]`.
    /// User and password are percent-decoded.
    pub fn parse(text: &str) -> Result<RedisUrl, ConfigError> {
        let invalid = |message: String| ConfigError::Invalid { key: "redis.url", message };
        let expected = "expected redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path or redis-sentinel://host:port,…/master-name";
        if let Some(rest) = text.strip_prefix("redis-sentinel://") {
            return sentinel(rest).ok_or_else(|| {
                let form =
                    "redis-sentinel://[user:password@]host:port,host2:port2/master-name[/db]";
                invalid(format!("expected {form}"))
            });
        }
        let url = url::Url::parse(text).map_err(|e| invalid(format!("{e}; {expected}")))?;
        let decode =
            |s: &str| percent_decode(s).ok_or_else(|| invalid("bad percent escape".into()));
        let (user, password) =
            (decode(url.username())?, decode(url.password().unwrap_or_default())?);
        let query_db =
            url.query_pairs().find(|(name, _)| name == "db").map(|(_, db)| db.into_owned());
        let (address, db) = match url.scheme() {
            scheme @ ("redis" | "rediss") => {
                let host =
                    url.host_str().unwrap_or("127.0.0.1").trim_matches(['[', ']']).to_owned();
                let port = url.port().unwrap_or(6379);
                let path = url.path().trim_matches('/');
                let db = if path.is_empty() { query_db } else { Some(path.to_owned()) };
                (RedisAddress::Tcp { host, port, tls: scheme == "rediss" }, db)
            }
            "unix" | "redis+unix" => {
                (RedisAddress::Unix(PathBuf::from(decode(url.path())?)), query_db)
            }
            other => return Err(invalid(format!("scheme {other}:// is not known; {expected}"))),
        };
        let db = match db {
            None => 0,
            Some(db) => {
                db.parse().map_err(|_| invalid(format!("database {db:?} is not a number")))?
            }
        };
        Ok(RedisUrl { address, user, password, db })
    }
}

/// What follows the scheme of `redis-sentinel://`. IPv6 addresses stand in brackets.
fn sentinel(rest: &str) -> Option<RedisUrl> {
    const PORT: u16 = 26379;
    let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut parts = rest.split('/');
    let mut sentinels = Vec::new();
    for host in parts.next()?.split(',') {
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (host, PORT),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            return None;
        }
        sentinels.push((host.to_owned(), port));
    }
    let master = percent_decode(parts.next()?).filter(|name| !name.is_empty())?;
    let db = match parts.next().unwrap_or_default() {
        "" => 0,
        db => db.parse().ok()?,
    };
    let (user, password) = (percent_decode(user)?, percent_decode(password)?);
    let address = RedisAddress::Sentinel { sentinels, master };
    parts.next().is_none().then_some(RedisUrl { address, user, password, db })
}

pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let url = RedisUrl::parse("redis://:p%40ss@example.com:7000/3").expect("valid");
        assert_eq!((url.user.as_str(), url.password.as_str(), url.db), ("", "p@ss", 3));
        let tcp = RedisAddress::Tcp { host: "example.com".into(), port: 7000, tls: false };
        assert_eq!(url.address, tcp);
        let unix = RedisUrl::parse("unix:///run/redis.sock?db=2").expect("valid");
        assert_eq!((unix.address, unix.db), (RedisAddress::Unix("/run/redis.sock".into()), 2));
        let tls = RedisUrl::parse("rediss://u:p@[::1]").expect("valid");
        assert_eq!(tls.address, RedisAddress::Tcp { host: "::1".into(), port: 6379, tls: true });
        let url =
            RedisUrl::parse("redis-sentinel://u:p%40@a:1,b,[::1]:3/mymaster/2").expect("valid");
        assert_eq!((url.user.as_str(), url.password.as_str(), url.db), ("u", "p@", 2));
        let sentinels = vec![("a".into(), 1), ("b".into(), 26379), ("::1".into(), 3)];
        let master = "mymaster".into();
        assert_eq!(url.address, RedisAddress::Sentinel { sentinels, master });
        for wrong in ["", "a:1", "a:1/", "a:x/m", ",/m", "a/m/x", "a/m/1/2"] {
            assert!(RedisUrl::parse(&format!("redis-sentinel://{wrong}")).is_err(), "{wrong}");
        }
        assert!(RedisUrl::parse("redis://h/notadb").is_err());
        assert!(RedisUrl::parse("localhost:6379").is_err());
    }
}
