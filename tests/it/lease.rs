//! Several proxies before one PostgreSQL that leads: one serves, the others hand on to it and take over.

use std::time::{Duration, Instant};

use support::{
    Certificates, Client, Port, Postgres, Redis, Tandem, TandemOptions, Value, wait_for,
};

const LIMIT: Duration = Duration::from_secs(30);

fn options(postgres: &Postgres) -> TandemOptions {
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).postgres(postgres);
    options.mode("postgres_only").allow("")
}

fn is(tandem: &Tandem, role: &str) -> bool {
    tandem.answers() && tandem.status()["role"] == role
}

fn wait_to_lead(tandem: &Tandem) -> Duration {
    let start = Instant::now();
    wait_for("the proxy to lead", LIMIT, || is(tandem, "leader") && tandem.serves());
    start.elapsed()
}

fn wait_to_stand_by(tandem: &Tandem) {
    wait_for("the proxy to stand by", LIMIT, || is(tandem, "standby") && tandem.serves());
}

/// What takes care of state: transactions, blocking, another database, another protocol, subscriptions.
fn every_kind(client: &mut Client, other: &mut Client) {
    assert_eq!(client.run("DEL l c x"), Value::Int(0));
    for (command, reply) in [("MULTI", "OK"), ("INCR c", "QUEUED"), ("INCR c", "QUEUED")] {
        assert_eq!(client.run(command), Value::Simple(reply.into()));
    }
    assert_eq!(client.run("EXEC"), Value::Array(vec![Value::Int(1), Value::Int(2)]));
    client.send(&support::encode(["BLPOP", "l", "0"])).expect("sent");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(other.run("RPUSH l a"), Value::Int(1));
    assert_eq!(client.receive().expect("popped"), Value::bulks(["l", "a"]));
    assert_eq!(client.run("SELECT 3"), Value::ok());
    assert_eq!(client.run("SET x 3"), Value::ok());
    assert_eq!(client.run("SELECT 0"), Value::ok());
    assert_eq!(client.run("GET x"), Value::Nil);
    assert_eq!(client.run("WATCH c"), Value::ok());
    assert_eq!(other.run("SET c 9"), Value::ok());
    assert_eq!(client.run("MULTI"), Value::ok());
    client.run("SET c 1");
    assert_eq!(client.run("EXEC"), Value::Nil);
    assert_eq!(client.run("SUBSCRIBE news").items().len(), 3);
    assert_eq!(other.run("PUBLISH news hello"), Value::Int(1));
    assert_eq!(client.receive().expect("a message"), Value::bulks(["message", "news", "hello"]));
    assert_eq!(client.run("UNSUBSCRIBE").items().len(), 3);
    assert_eq!(client.run("EVAL return(redis.call('incr',KEYS[1])) 1 c"), Value::Int(10));
    assert_eq!(client.run("DEL l c"), Value::Int(1));
}

#[test]
fn another_proxy_takes_over_when_the_one_that_serves_ends() {
    let postgres = Postgres::start();
    let mut first = options(&postgres).start();
    wait_to_lead(&first);
    let mut client = first.client();
    assert_eq!(client.run("INCR n"), Value::Int(1));
    let mut second = options(&postgres).start();
    wait_to_stand_by(&second);
    assert_eq!(second.status()["mode"], "forwarding");
    let mut theirs = second.client();
    assert_eq!(theirs.run("INCR n"), Value::Int(2));
    assert_eq!(client.run("INCR n"), Value::Int(3));
    every_kind(&mut theirs, &mut client);

    first.kill9();
    let took = wait_to_lead(&second);
    assert!(took < Duration::from_secs(3), "after kill -9 it took {took:?}");
    // The same connection, which has never ended.
    assert_eq!(theirs.run("INCR n"), Value::Int(4));
    first.restart();
    wait_to_stand_by(&first);
    assert_eq!(first.client().run("INCR n"), Value::Int(5));

    second.stop(LIMIT);
    wait_to_lead(&first);
    assert_eq!(first.client().run("INCR n"), Value::Int(6));
}

/// It holds no lease any more, and does not know.
#[test]
fn a_paused_proxy_neither_writes_nor_answers_when_it_goes_on() {
    let postgres = Postgres::start();
    let first = options(&postgres).start();
    wait_to_lead(&first);
    let mut client = first.client();
    assert_eq!(client.run("SET n 1"), Value::ok());
    let second = options(&postgres).start();
    wait_to_stand_by(&second);
    first.pause();
    let took = wait_to_lead(&second);
    assert!(took < Duration::from_secs(6), "after a pause it took {took:?}");
    assert_eq!(second.client().run("SET n 2"), Value::ok());

    first.resume();
    let start = Instant::now();
    let (mut count, mut served) = (2, 0);
    let mut theirs = second.client();
    while start.elapsed() < Duration::from_secs(2) {
        let answer = client.run("GET n");
        let now = count.to_string();
        assert!(answer.is_error() || answer == Value::bulk(&now), "a value of before: {answer:?}");
        if client.call(["SET", "n", &(count + 1).to_string()]) == Value::ok() {
            // Written by the one that leads, to which it was handed on.
            (count, served) = (count + 1, served + 1);
        }
        assert_eq!(theirs.run("GET n"), Value::bulk(count.to_string()));
    }
    assert!(served > 0, "its clients were not served any more");
    wait_to_stand_by(&first);
}

/// Users and passwords are those of the proxy that the client has connected to.
#[test]
fn clients_of_one_that_stands_by_are_who_they_are() {
    let (redis, postgres) =
        (Redis::options().with("requirepass", "secret").start(), Postgres::start());
    let with = |password: &str| {
        let options = options(&postgres).mode("database_first").redis(&redis);
        options.set("listen", "password", password).prepare()
    };
    let (mut first, mut second) = (with("one"), with("two"));
    let client = |tandem: &Tandem, password: &str| {
        let mut client = tandem.raw_client();
        let reply = client.call(["AUTH", password]);
        (client, reply)
    };
    first.spawn();
    let lets_in = |tandem: &Tandem, password: &str| {
        tandem.answers() && client(tandem, password).0.run("SET k 1") == Value::ok()
    };
    wait_for("the first one", LIMIT, || lets_in(&first, "one"));
    second.spawn();
    wait_for("the second one", LIMIT, || lets_in(&second, "two"));
    assert!(second.log().contains("standing by"));
    for (tandem, password) in [(&second, "one"), (&first, "two"), (&second, "secret")] {
        let (mut client, reply) = client(tandem, password);
        assert!(reply.is_error(), "{password}: {reply:?}");
        assert!(format!("{:?}", client.run("GET k")).contains("NOAUTH"));
    }
    let mut stranger = first.raw_client();
    assert!(stranger.run("TANDEM PEER 0123456789abcdef0123456789abcdef").is_error());
    assert!(format!("{:?}", stranger.run("GET k")).contains("NOAUTH"));
    let (mut own, _) = client(&second, "two");
    assert_eq!(own.run("SET k 2"), Value::ok());
    assert_eq!(client(&first, "one").0.run("GET k"), Value::bulk("2"));
}

#[test]
fn one_that_takes_clients_over_tls_is_handed_on_to_over_tls() {
    let (postgres, certificates) = (Postgres::start(), Certificates::new("DNS:elsewhere"));
    let secure = || {
        let options = options(&postgres).set("listen", "tls_cert", certificates.path("server.crt"));
        let options = options.set("listen", "tls_key", certificates.path("server.key"));
        options.set("listen", "tls_client_ca", certificates.path("ca.crt"))
    };
    let mut first = secure().prepare();
    first.spawn();
    wait_for("the first one to serve", LIMIT, || first.log().contains("PostgreSQL serves"));
    // It has plain clients too.
    let port = Port::take();
    let second = secure().set("listen", "tls_address", format!("127.0.0.1:{}", port.number()));
    let second = second.start();
    wait_to_stand_by(&second);
    let (mut client, mut other) = (second.client(), second.client());
    every_kind(&mut client, &mut other);
    assert_eq!(client.run("SET k 1"), Value::ok());
    assert!(first.raw_client().try_call(["GET", "k"]).is_err(), "without TLS");
    let address = postgres.sql("SELECT address FROM tandem.lease");
    assert_eq!(address.trim(), format!("tls://127.0.0.1:{}", first.port()));
    first.kill9();
    wait_to_lead(&second);
    assert_eq!(client.run("GET k"), Value::bulk("1"));
}
