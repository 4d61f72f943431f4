//! Environment variables over `proxy.toml`: `TANDEM_<SECTION>_<KEY>` for any key, and the names that
//! the relay's former storage layer used.

use toml::{Table, Value};

use super::ConfigError;

const SECTIONS: &[&str] = &[
    "listen", "limits", "redis", "postgres", "strategy", "mirror", "sync", "admin", "log", "traces",
];

/// Former names that stand for one key each.
const ALIASES: &[(&str, &str, &str)] = &[
    ("POSTGRES_POOL_MAX", "postgres", "pool_max"),
    ("POSTGRES_POOL_MIN", "postgres", "pool_min"),
    ("POSTGRES_POOL_IDLE_TIMEOUT", "postgres", "pool_idle_timeout_ms"),
    ("POSTGRES_POOL_CONNECT_TIMEOUT", "postgres", "connect_timeout_ms"),
    ("POSTGRES_SSL_ENABLED", "postgres", "tls"),
    ("POSTGRES_SSL_REJECT_UNAUTHORIZED", "postgres", "tls_verify"),
    ("POSTGRES_SSL_CA", "postgres", "tls_ca"),
    ("POSTGRES_SSL_CERT", "postgres", "tls_cert"),
    ("POSTGRES_SSL_KEY", "postgres", "tls_key"),
    ("POSTGRES_QUERY_TIMEOUT", "postgres", "query_timeout_ms"),
    ("DATABASE_STRATEGY", "strategy", "mode"),
    ("DATABASE_FALLBACK_TIMEOUT", "strategy", "ack_timeout_ms"),
    ("DATABASE_FALLBACK_TIMEOUT", "redis", "hang_timeout_ms"),
    ("DATABASE_SYNC_INTERVAL", "sync", "interval_ms"),
    ("DATABASE_SYNC_ON_STARTUP", "sync", "on_startup"),
];

/// OpenTelemetry's names for keys of `[traces]`; empty ones count as not set. What else it names, the exporter reads itself.
const OTEL: &[(&str, &str)] = &[
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "endpoint"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "tls_ca"),
    ("OTEL_SERVICE_NAME", "service_name"),
    ("OTEL_TRACES_SAMPLER_ARG", "sample_ratio"),
];

/// Lays the environment over the parsed file.
pub(super) fn overlay(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    let vars: std::collections::BTreeMap<String, String> = environment.into_iter().collect();
    for (name, section, key) in ALIASES {
        if let Some(value) = vars.get(*name) {
            set(table, name, section, key, value)?;
        }
    }
    if vars.get("DATABASE_SYNC_ENABLED").is_some_and(|v| v == "false" || v == "0") {
        set(table, "DATABASE_SYNC_ENABLED", "sync", "on_startup", "false")?;
        set(table, "DATABASE_SYNC_ENABLED", "sync", "interval_ms", "0")?;
    }
    otel(table, &vars)?;
    cache_ttls(table, &vars)?;
    redis_parts(table, &vars)?;
    postgres_parts(table, &vars)?;
    for (name, value) in &vars {
        let Some(rest) = name.strip_prefix("TANDEM_") else { continue };
        let lower = rest.to_ascii_lowercase();
        let known =
            SECTIONS.iter().find_map(|s| Some((*s, lower.strip_prefix(s)?.strip_prefix('_')?)));
        if let Some((section, key)) = known {
            set(table, name, section, key, value)?;
        }
    }
    if vars.get("POSTGRES_ENABLED").is_some_and(|v| v == "false" || v == "0") {
        set(table, "POSTGRES_ENABLED", "strategy", "mode", "redis_only")?;
    }
    Ok(())
}

/// Sets one key. The text takes the type that the default of the key has.
fn set(
    table: &mut Table,
    name: &str,
    section: &str,
    key: &str,
    text: &str,
) -> Result<(), ConfigError> {
    let wrong = |expected: &str| ConfigError::Environment {
        name: name.into(),
        message: format!("{text:?} is not {expected}"),
    };
    let value = match kind(section, key) {
        Kind::Integer => Value::Integer(text.trim().parse().map_err(|_| wrong("a whole number"))?),
        Kind::Boolean => Value::Boolean(match text.trim() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" | "" => false,
            _ => return Err(wrong("true or false")),
        }),
        Kind::Number => Value::Float(text.trim().parse().map_err(|_| wrong("a number"))?),
        Kind::Text => Value::String(text.to_owned()),
    };
    section_of(table, section).insert(key.to_owned(), value);
    Ok(())
}

enum Kind {
    Integer,
    Number,
    Boolean,
    Text,
}

fn kind(section: &str, key: &str) -> Kind {
    match (section, key) {
        (_, "tls" | "tls_verify" | "on_startup") => Kind::Boolean,
        ("limits", _)
        | ("listen", "max_clients" | "workers")
        | ("postgres", "pool_max" | "pool_min") => Kind::Integer,
        ("mirror", "spool_max_bytes" | "cache_bytes" | "batch_commands" | "batch_bytes") => {
            Kind::Integer
        }
        ("sync", "keys_per_second") => Kind::Integer,
        ("traces", "sample_ratio") => Kind::Number,
        (_, key) if key.ends_with("_ms") => Kind::Integer,
        _ => Kind::Text,
    }
}

fn section_of<'a>(table: &'a mut Table, section: &str) -> &'a mut Table {
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    match entry {
        Value::Table(section) => section,
        _ => unreachable!("just made a table"),
    }
}

fn otel(table: &mut Table, vars: &Vars) -> Result<(), ConfigError> {
    let given = |name: &str| vars.get(name).filter(|value| !value.trim().is_empty());
    let base = "OTEL_EXPORTER_OTLP_ENDPOINT";
    if let Some(url) = given(base) {
        let url = format!("{}/v1/traces", url.trim().trim_end_matches('/'));
        set(table, base, "traces", "endpoint", &url)?;
    }
    for (name, key) in OTEL {
        if let Some(value) = given(name) {
            set(table, name, "traces", key, value)?;
        }
    }
    if given("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        set(table, "OTEL_SDK_DISABLED", "traces", "endpoint", "")?;
    }
    Ok(())
}

/// Former names for how long copies of some families stay in Redis unread.
const CACHE_TTLS: &[(&str, &[&str])] = &[
    ("CACHE_API_KEY_TTL", &["apikey:*"]),
    ("CACHE_SESSION_TTL", &["session:*", "user_session:*", "sticky_session:*"]),
    ("CACHE_USAGE_STATS_TTL", &["usage:*", "account_usage:*"]),
    ("CACHE_ACCOUNT_TTL", &["*:account:*", "*_account:*"]),
    ("CACHE_DEFAULT_TTL", &["*"]),
];

/// Rules behind those of the file: what that says of a key counts.
fn cache_ttls(table: &mut Table, vars: &Vars) -> Result<(), ConfigError> {
    let mut rules = Vec::new();
    for (name, patterns) in CACHE_TTLS {
        let Some(text) = vars.get(*name) else { continue };
        let seconds: i64 =
            text.trim().parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
                let message = format!("{text:?} is not a number of seconds");
                ConfigError::Environment { name: (*name).into(), message }
            })?;
        rules.extend(patterns.iter().map(|pattern| {
            let mut rule = Table::new();
            rule.insert("match".into(), Value::String((*pattern).into()));
            rule.insert("cache_ttl_s".into(), Value::Integer(seconds));
            Value::Table(rule)
        }));
    }
    if rules.is_empty() {
        return Ok(());
    }
    let families = table.entry("family").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(families) = families {
        families.extend(rules);
    }
    Ok(())
}

type Vars = std::collections::BTreeMap<String, String>;

fn text_of(table: &Table, section: &str, key: &str, default: &str) -> String {
    let value = table.get(section).and_then(|s| s.get(key)).and_then(Value::as_str);
    value.unwrap_or(default).to_owned()
}

/// `REDIS_HOST` and its kin change their part of `redis.url`.
fn redis_parts(table: &mut Table, vars: &Vars) -> Result<(), ConfigError> {
    let parts = ["REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB", "REDIS_ENABLE_TLS"];
    if !parts.iter().any(|name| vars.contains_key(*name)) {
        return Ok(());
    }
    let old = text_of(table, "redis", "url", "redis://127.0.0.1:6379/0");
    let mut url = parse_url("redis.url", &old)?;
    if vars.get("REDIS_ENABLE_TLS").is_some_and(|v| v == "true" || v == "1") {
        url = parse_url("redis.url", &old.replacen("redis://", "rediss://", 1))?;
    }
    change(&mut url, vars, ["REDIS_HOST", "REDIS_PORT", "", "REDIS_PASSWORD", "REDIS_DB"])?;
    section_of(table, "redis").insert("url".into(), Value::String(url.into()));
    Ok(())
}

/// `POSTGRES_HOST` and its kin change their part of `postgres.url`.
fn postgres_parts(table: &mut Table, vars: &Vars) -> Result<(), ConfigError> {
    let parts = [
        "POSTGRES_HOST",
        "POSTGRES_PORT",
        "POSTGRES_USER",
        "POSTGRES_PASSWORD",
        "POSTGRES_DATABASE",
    ];
    if !parts.iter().any(|name| vars.contains_key(*name)) {
        return Ok(());
    }
    let old = text_of(table, "postgres", "url", "postgres://postgres@127.0.0.1:5432/claude_relay");
    let mut url = parse_url("postgres.url", &old)?;
    change(&mut url, vars, parts)?;
    section_of(table, "postgres").insert("url".into(), Value::String(url.into()));
    Ok(())
}

fn parse_url(key: &'static str, text: &str) -> Result<url::Url, ConfigError> {
    url::Url::parse(text).map_err(|e| ConfigError::Invalid { key, message: e.to_string() })
}

/// Replaces host, port, user, password and path by the variables named, where they are set.
fn change(url: &mut url::Url, vars: &Vars, names: [&str; 5]) -> Result<(), ConfigError> {
    let bad = |name: &str| ConfigError::Environment {
        name: name.into(),
        message: "not usable here".into(),
    };
    let [host, port, user, password, path] = names;
    if let Some(value) = vars.get(host) {
        url.set_host(Some(value)).map_err(|_| bad(host))?;
    }
    if let Some(value) = vars.get(port) {
        let number = value.parse().map_err(|_| bad(port))?;
        url.set_port(Some(number)).map_err(|()| bad(port))?;
    }
    if let Some(value) = vars.get(user) {
        url.set_username(value).map_err(|()| bad(user))?;
    }
    if let Some(value) = vars.get(password) {
        url.set_password(Some(value).filter(|v| !v.is_empty()).map(|v| v.as_str()))
            .map_err(|()| bad(password))?;
    }
    if let Some(value) = vars.get(path) {
        url.set_path(&format!("/{value}"));
    }
    Ok(())
}
