//! Redis Sentinel names the master, and the proxy follows it.

use std::time::Duration;

use support::{Port, Postgres, Process, Redis, Scratch, Tandem, Value, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_proxy_follows_the_master() {
    follow("redis_only");
}

/// PostgreSQL serves in between, and what it took meanwhile reaches the new master.
#[test]
fn the_mirror_follows_the_master() {
    follow("dual_write");
}

fn follow(mode: &str) {
    let postgres = Postgres::start();
    let (mut first, second) = (Redis::start(), Redis::start());
    let link = format!("REPLICAOF 127.0.0.1 {}", first.port());
    assert_eq!(second.client().run(&link), Value::ok());
    wait_for("the replica", LIMIT, || {
        second.client().run("INFO replication").text().contains("master_link_status:up")
    });
    let (scratch, port) = (Scratch::new("sentinel"), Port::take());
    let config = scratch.path().join("sentinel.conf");
    let text = format!(
        "port {}\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
        port.number(),
        scratch.path().display(),
        first.port()
    );
    std::fs::write(&config, text).expect("written");
    let program = support::find_program("redis-server", &[]).expect("redis-server");
    let log = scratch.path().join("sentinel.log");
    let args = [config.to_str().expect("text"), "--sentinel"];
    let _sentinel = Process::start(&program, &args, &log);
    // The first sentinel does not answer.
    let nobody = Port::take();
    let url = format!(
        "redis-sentinel://127.0.0.1:{},127.0.0.1:{}/main/1",
        nobody.number(),
        port.number()
    );
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .redis_url(&url)
        .mode(mode)
        .postgres(&postgres)
        .allow("")
        .start();
    let mut client = tandem.client();
    wait_for("a write", LIMIT, || client.run("SET k 1") == Value::ok());
    assert_eq!(client.run("WAIT 1 10000"), Value::Int(1));
    // Sentinel has a server that changes its role close its connections.
    let direct = |redis: &Redis| {
        let mut client = redis.client();
        let selected = client.try_call(["SELECT", "1"]);
        selected.and_then(|_| client.try_call(["GET", "k"])).unwrap_or(Value::Nil)
    };
    assert_eq!(direct(&first), Value::bulk("1"));
    // Sentinel has to have seen the replica to promote it.
    wait_for("the sentinel to know both", LIMIT, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("+slave"))
    });
    first.kill9();
    wait_for("a write at the new master", LIMIT, || client.run("SET k 2") == Value::ok());
    wait_for("the new master to have it", LIMIT, || direct(&second) == Value::bulk("2"));
    assert_eq!(client.run("GET k"), Value::bulk("2"));
}
