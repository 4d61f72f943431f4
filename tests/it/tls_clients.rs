//! TLS on the client port and on the admin port.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Certificates, Port, Postgres, Redis, Tandem, TandemOptions, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

fn with_tls(redis: &Redis, certificates: &Certificates) -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(redis)
        .mode("redis_only")
        .set("listen", "tls_cert", certificates.path("server.crt"))
        .set("listen", "tls_key", certificates.path("server.key"))
}

/// What redis-cli prints for these lines; the error when it cannot connect.
fn cli(port: u16, more: &[&str], lines: &str) -> Result<String, String> {
    let port = port.to_string();
    let mut child = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &port, "--tls"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli");
    let mut input = child.stdin.take().expect("piped");
    let lines = lines.to_owned();
    // It may have ended already.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).is_ok());
    let output = child.wait_with_output().expect("redis-cli ends");
    let _ = writer.join();
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    // It goes on after a failed connection and exits with 0.
    match output.status.success() && error.is_empty() && !text.contains("Could not connect") {
        true => Ok(text),
        false => Err(format!("{text}{error}")),
    }
}

#[test]
fn redis_cli_speaks_tls_beside_plain_clients() {
    let certificates = Certificates::new("IP:127.0.0.1");
    let (redis, port) = (Redis::start(), Port::take());
    let tandem = with_tls(&redis, &certificates)
        .set("listen", "tls_address", format!("127.0.0.1:{}", port.number()))
        .start();
    let ca = certificates.path("ca.crt");
    let trusting = ["--cacert", ca.as_str()];
    assert_eq!(cli(port.number(), &trusting, "SET k v\nGET k\n").as_deref(), Ok("OK\nv"));
    assert_eq!(tandem.client().run("GET k").text(), "v");
    let other = certificates.path("other.crt");
    cli(port.number(), &["--cacert", &other], "PING\n").expect_err("an unknown authority");
    // More than a socket takes at once, both ways.
    let big = "x".repeat(8 << 20);
    tandem.client().call(["SET", "big", &big]);
    let read = cli(port.number(), &["--cacert", &ca, "--raw"], "GET big\n").expect("reads");
    assert!(read == big, "{} bytes", read.len());
    let many: String = (0..20_000).map(|n| format!("SET key:{n} {n}\r\n")).collect();
    let piped = cli(port.number(), &["--cacert", &ca, "--pipe"], &many).expect("pipes");
    assert!(piped.contains("errors: 0, replies: 20000"), "{piped}");
    assert_eq!(tandem.client().run("GET key:19999").text(), "19999");
    assert!(tandem.client().run("CLIENT LIST").text().lines().count() < 3, "they have left");
}

#[test]
fn a_plain_client_on_the_tls_port_gets_an_end() {
    let certificates = Certificates::new("IP:127.0.0.1");
    let redis = Redis::start();
    // It waits for PING in plain text, which never comes.
    let mut tandem = with_tls(&redis, &certificates).prepare();
    tandem.spawn();
    let ca = certificates.path("ca.crt");
    let ready = || cli(tandem.port(), &["--cacert", &ca], "PING\n").as_deref() == Ok("PONG");
    wait_for("TLS on the only port", LIMIT, ready);
    for nonsense in [
        &b"PING\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut plain = TcpStream::connect(("127.0.0.1", tandem.port())).expect("connects");
        plain.set_read_timeout(Some(LIMIT)).expect("a time limit");
        plain.write_all(nonsense).expect("writes");
        if nonsense[0] == 0x16 {
            // Half a hello: leave, as a scanner does.
            continue;
        }
        let mut answer = Vec::new();
        plain.read_to_end(&mut answer).expect("an end, not a reset");
        assert!(!answer.contains(&b'+') && answer.len() < 20, "{answer:?}");
    }
    assert!(ready(), "others are served");
}

#[test]
fn clients_may_be_asked_for_a_certificate() {
    let certificates = Certificates::new("IP:127.0.0.1");
    let (redis, port) = (Redis::start(), Port::take());
    let _tandem = with_tls(&redis, &certificates)
        .set("listen", "tls_address", format!("127.0.0.1:{}", port.number()))
        .set("listen", "tls_client_ca", certificates.path("ca.crt"))
        .start();
    let path = |name: &str| certificates.path(name);
    let (ca, cert, key) = (path("ca.crt"), path("client.crt"), path("client.key"));
    let answer = cli(port.number(), &["--cacert", &ca], "PING\n");
    assert!(answer.as_deref() != Ok("PONG"), "without a certificate");
    let with = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    assert_eq!(cli(port.number(), &with, "PING\n").as_deref(), Ok("PONG"));
}

#[test]
fn new_certificates_are_used_without_a_restart() {
    let (before, after) = (Certificates::new("IP:127.0.0.1"), Certificates::new("IP:127.0.0.1"));
    let (redis, port) = (Redis::start(), Port::take());
    let mut tandem = with_tls(&redis, &before)
        .set("listen", "tls_address", format!("127.0.0.1:{}", port.number()))
        .set("admin", "tls_cert", before.path("server.crt"))
        .set("admin", "tls_key", before.path("server.key"))
        .start();
    let replace = |name: &str, content: Vec<u8>| {
        let (target, new) = (before.file(name), before.file("new"));
        std::fs::write(&new, content).expect("writes");
        std::fs::rename(&new, &target).expect("replaces");
    };
    let content = |name: &str| std::fs::read(after.file(name)).expect("reads");
    let (old, new) = (before.path("ca.crt"), after.path("ca.crt"));
    let trusted =
        |ca: &str| cli(port.number(), &["--cacert", ca], "PING\n").as_deref() == Ok("PONG");
    assert!(trusted(&old) && !trusted(&new));
    // The new certificate without its key fits nothing.
    tandem.allow("the certificate before stays in use");
    replace("server.crt", content("server.crt"));
    wait_for("the warning", LIMIT, || {
        trusted(&old) && tandem.log().contains("the certificate before stays in use")
    });
    replace("server.key", content("server.key"));
    wait_for("the new certificate", LIMIT, || trusted(&new));
    assert!(!trusted(&old));
    wait_for("it on the admin port too", LIMIT, || secure_get(tandem.admin_port(), &new).is_ok());
}

fn secure_get(port: u16, ca: &str) -> Result<String, ureq::Error> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};
    let pem = std::fs::read(ca).expect("reads");
    let root = Certificate::from_pem(&pem).expect("a certificate");
    let tls = TlsConfig::builder().root_certs(RootCerts::from([root])).build();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().tls_config(tls).timeout_global(Some(LIMIT)).build().into();
    agent.get(format!("https://127.0.0.1:{port}/live")).call()?.body_mut().read_to_string()
}

#[test]
fn the_admin_port_speaks_https() {
    let certificates = Certificates::new("IP:127.0.0.1");
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis(&redis)
        .postgres(&postgres)
        .set("admin", "tls_cert", certificates.path("server.crt"))
        .set("admin", "tls_key", certificates.path("server.key"))
        .set("admin", "token", "s3cret")
        .start();
    tandem.wait_holding(true);
    let port = tandem.admin_port();
    let live = secure_get(port, &certificates.path("ca.crt")).expect("trusted");
    assert!(live.contains("live"), "{live}");
    secure_get(port, &certificates.path("other.crt")).expect_err("an unknown authority");
    // Without TLS there is an end and no answer.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    plain.set_read_timeout(Some(LIMIT)).expect("a time limit");
    plain.write_all(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n").expect("writes");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let config = tandem.dir().join("proxy.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["health", "--config"])
        .arg(config)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("healthy"), "{output:?}");
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_start() {
    let certificates = Certificates::new("IP:127.0.0.1");
    let redis = Redis::start();
    for (cert, key, words) in [
        ("missing.crt", "server.key", "listen.tls_cert"),
        ("server.crt", "missing.key", "listen.tls_key"),
        ("server.crt", "client.key", "listen.tls_cert"),
        ("server.key", "server.key", "listen.tls_cert"),
    ] {
        let mut tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .redis(&redis)
            .mode("redis_only")
            .set("listen", "tls_cert", certificates.path(cert))
            .set("listen", "tls_key", certificates.path(key))
            .allow("")
            .prepare();
        tandem.spawn();
        wait_for("its end", LIMIT, || tandem.ended().is_some());
        assert!(tandem.log().contains(words), "{cert} {key}: {}", tandem.log());
    }
}
