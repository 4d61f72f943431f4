//! TLS and unix sockets towards both backends: who is trusted, who is refused, and in what words.

use std::time::Duration;

use support::compare::Sides;
use support::{Certificates, Port, Postgres, Redis, RedisOptions, Tandem, Value, wait_for};
use tandem::config;
use tandem::store::Store;

/// A PostgreSQL that speaks TLS and takes clients without it too.
fn postgres(certificates: &Certificates, more: &[(&str, &str)]) -> Postgres {
    let (cert, key) = (certificates.path("server.crt"), certificates.path("server.key"));
    let ca = certificates.path("ca.crt");
    let ours =
        [("ssl", "on"), ("ssl_cert_file", &cert), ("ssl_key_file", &key), ("ssl_ca_file", &ca)];
    Postgres::with_settings(&[&ours, more].concat())
}

/// Connects as the mirror does; the error as it is logged.
async fn connect(url: String, change: impl FnOnce(&mut config::Postgres)) -> Result<Store, String> {
    let mut postgres = config::Postgres { url, ..config::Postgres::default() };
    change(&mut postgres);
    Store::connect(&postgres).await.map_err(|error| error.to_string())
}

/// Whether the sessions of Tandem use TLS, as PostgreSQL sees it.
fn encrypted(postgres: &Postgres) -> String {
    postgres.sql(
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
          WHERE application_name = 'tandem'",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_verified_as_libpq_would() {
    let certificates = Certificates::new("DNS:localhost");
    let postgres = postgres(&certificates, &[]);
    let url = |host: &str, query: &str| {
        format!("postgres://postgres@{host}:{}/postgres?{query}", postgres.port())
    };
    let (ca, other) = (certificates.path("ca.crt"), certificates.path("other.crt"));
    let with = |mode: &str, ca: &str| format!("sslmode={mode}&sslrootcert={ca}");
    let good = [
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", with("require", &ca)),
        ("127.0.0.1", with("verify-ca", &ca)),
        ("localhost", with("verify-ca", &ca)),
        ("localhost", with("verify-full", &ca)),
        ("127.0.0.1", "sslmode=prefer".to_owned()),
    ];
    for (host, query) in good {
        let store = connect(url(host, &query), |_| {}).await;
        let _store = store.unwrap_or_else(|error| panic!("{host} {query}: {error}"));
        assert_eq!(encrypted(&postgres), "t", "{host} {query}");
    }
    let missing = certificates.path("missing.crt");
    let bad = [
        ("127.0.0.1", with("require", &other), "UnknownIssuer"),
        ("127.0.0.1", with("verify-ca", &other), "UnknownIssuer"),
        ("127.0.0.1", "sslmode=verify-ca".to_owned(), "UnknownIssuer"),
        ("localhost", with("verify-full", &other), "UnknownIssuer"),
        ("127.0.0.1", with("verify-full", &ca), "not valid for name \"127.0.0.1\""),
        ("localhost", with("verify-full", &missing), "missing.crt"),
    ];
    for (host, query, words) in bad {
        let error = connect(url(host, &query), |_| {}).await.err().expect(&query);
        assert!(error.contains(words), "{host} {query}: {error}");
    }
    let keys = |ca: &str, verify: bool| {
        let ca = ca.to_owned();
        move |postgres: &mut config::Postgres| {
            (postgres.tls, postgres.tls_verify, postgres.tls_ca) = (true, verify, ca.into());
        }
    };
    assert!(connect(url("localhost", ""), keys(&ca, true)).await.is_ok());
    assert!(connect(url("127.0.0.1", ""), keys(&other, false)).await.is_ok());
    let error = connect(url("127.0.0.1", ""), keys(&ca, true)).await.err().expect("wrong name");
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_without_tls_is_refused_unless_tls_is_only_preferred() {
    let postgres = Postgres::start();
    let url = |mode: &str| format!("{}?sslmode={mode}", postgres.url());
    let _store = connect(url("prefer"), |_| {}).await.expect("in the clear");
    assert_eq!(encrypted(&postgres), "f");
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = connect(url(mode), |_| {}).await.err().expect(mode);
        assert!(error.contains("server does not support TLS"), "{error}");
    }
}

/// PostgreSQL asks for a client certificate, Redis too; the proxy, its replication link and its
/// side connections all have one.
#[test]
fn the_whole_way_over_tls() {
    let certificates = Certificates::new("DNS:localhost,IP:127.0.0.1");
    let hba = certificates.file("hba.conf");
    let rules = "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n\
                 hostnossl all all 127.0.0.1/32 trust\n";
    std::fs::write(&hba, rules).expect("written");
    let postgres = postgres(&certificates, &[("hba_file", &hba.display().to_string())]);
    let port = Port::take();
    let redis = tls_redis(&certificates, &port).start();
    let url = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?sslmode=verify-full&sslrootcert={}",
        postgres.port(),
        certificates.path("ca.crt")
    );
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis_url(&format!("rediss://127.0.0.1:{}", port.number()))
        .set("redis", "tls_ca", certificates.path("ca.crt"))
        .set("redis", "tls_cert", certificates.path("client.crt"))
        .set("redis", "tls_key", certificates.path("client.key"))
        .set("postgres", "url", url)
        .mode("dual_write");
    let tandem = options
        .clone()
        .set("postgres", "tls_cert", certificates.path("client.crt"))
        .set("postgres", "tls_key", certificates.path("client.key"))
        .start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    let big = vec![b'x'; 300_000];
    assert_eq!(client.call([&b"SET"[..], b"big", &big]), Value::ok());
    assert_eq!(client.run("GET big"), Value::bulk(&big));
    let many = (0..1000).map(|i| ["HINCRBY", "hash", if i % 2 == 0 { "a" } else { "b" }, "1"]);
    assert_eq!(client.pipeline(many).last(), Some(&Value::Int(500)));
    Sides::new(&redis, &postgres).assert_equal();
    assert_eq!(encrypted(&postgres), "t");
    let list = redis.client().run("CLIENT LIST").text();
    let tls_port = format!("laddr=127.0.0.1:{} ", port.number());
    let over_tls = list.lines().filter(|line| line.contains(&tls_port)).count();
    assert_eq!(over_tls + 1, list.lines().count(), "{list}");
    assert!(
        list.lines().any(|line| line.contains(&tls_port) && line.contains("flags=S")),
        "{list}"
    );
    drop(tandem);

    // Without the certificate PostgreSQL says why not; clients are served all the same.
    let tandem = options.mode("cache_first").allow("PostgreSQL").start();
    wait_for("PostgreSQL's refusal in the log", Duration::from_secs(10), || {
        tandem.log().contains("client certificate")
    });
    assert_eq!(tandem.client().run("EXISTS big"), Value::Int(1));
}

fn tls_redis(certificates: &Certificates, port: &Port) -> RedisOptions {
    Redis::options()
        .with("tls-port", &port.number().to_string())
        .with("tls-cert-file", &certificates.path("server.crt"))
        .with("tls-key-file", &certificates.path("server.key"))
        .with("tls-ca-cert-file", &certificates.path("ca.crt"))
}

/// The proxy stays up before a Redis that it cannot trust, and says what is wrong to whoever asks.
#[test]
fn a_redis_that_cannot_be_trusted_gets_no_commands() {
    let certificates = Certificates::new("DNS:localhost");
    let port = Port::take();
    let redis = tls_redis(&certificates, &port).with("tls-auth-clients", "optional").start();
    let cases = [
        ("localhost", "other.crt", true, "UnknownIssuer"),
        ("127.0.0.1", "ca.crt", true, "not valid for name"),
        ("localhost", "ca.crt", true, ""),
        ("127.0.0.1", "other.crt", false, ""),
    ];
    for (host, ca, verify, words) in cases {
        let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .redis_url(&format!("rediss://{host}:{}", port.number()))
            .set("redis", "tls_ca", certificates.path(ca))
            .set("redis", "tls_verify", verify)
            .mode("redis_only")
            .allow("Redis is not reachable")
            .start();
        let mut client = tandem.client();
        let reply = client.run("SET k v");
        match words {
            "" => assert_eq!(reply, Value::ok(), "{host} {ca}"),
            words => {
                let Value::Error(text) = reply else { panic!("{host} {ca}: {reply:?}") };
                assert!(text.starts_with("UNAVAILABLE") && text.contains(words), "{text}");
                assert!(tandem.log().contains(words), "{}", tandem.log());
                assert_eq!(redis.client().run("DBSIZE"), Value::Int(0));
            }
        }
        tandem.assert_running();
        redis.client().run("FLUSHALL");
    }
}

#[test]
fn a_certificate_that_is_missing_is_named_at_start() {
    let redis = Redis::start();
    let postgres = Postgres::start();
    let base = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).postgres(&postgres);
    let url = format!("{}?sslmode=verify-full&sslrootcert=/nowhere/ca.crt", postgres.url());
    let wrong = [
        base.clone().set("postgres", "url", url),
        base.clone().set("postgres", "tls", true).set("postgres", "tls_ca", "/nowhere/ca.crt"),
        base.redis_url("rediss://127.0.0.1:1").set("redis", "tls_ca", "/nowhere/ca.crt"),
    ];
    for options in wrong {
        let mut tandem = options.allow("").prepare();
        tandem.spawn();
        wait_for("the proxy to give up", Duration::from_secs(10), || tandem.ended().is_some());
        assert!(!tandem.ended().is_some_and(|status| status.success()));
        assert!(tandem.log().contains("/nowhere/ca.crt"), "{}", tandem.log());
    }
}

#[test]
fn redis_over_its_unix_socket() {
    let (redis, postgres) =
        (Redis::options().with("unixsocketperm", "777").start(), Postgres::start());
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis_url(&format!("unix://{}?db=3", redis.unix_socket().display()))
        .postgres(&postgres)
        .mode("dual_write")
        .start();
    tandem.wait_streaming();
    let mut client = tandem.client();
    assert_eq!(client.run("SET k v"), Value::ok());
    assert_eq!(client.run("MULTI"), Value::ok());
    client.run("INCR n");
    assert_eq!(client.run("EXEC"), Value::Array(vec![Value::Int(1)]));
    // Waits for what was written while the gate was still open.
    Sides::new(&redis, &postgres).assert_equal();
    assert_eq!(postgres.sql("SELECT DISTINCT db FROM tandem.keys"), "3");
}
