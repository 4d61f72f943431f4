//! Several proxies before one Redis and one PostgreSQL: one leads, the others acknowledge through it and take over.

mod latency;
mod storm;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::compare::Sides;
use support::{Client, FaultProxy, Line, Postgres, Redis, Tandem, TandemOptions, Value, wait_for};
use writer::Writer;

use crate::admin::{get, post};

const LIMIT: Duration = Duration::from_secs(30);
/// How soon another proxy has taken over.
const TAKEOVER: Duration = Duration::from_secs(5);

fn options(redis: &Redis, postgres: &Postgres) -> TandemOptions {
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).postgres(postgres);
    // So that nothing is acknowledged by Redis alone while somebody takes over.
    options.mode("dual_write").set("strategy", "ack_timeout_ms", 20_000)
}

/// The first one leads.
fn start(count: usize, redis: &Redis, postgres: &Postgres) -> Vec<Tandem> {
    let mut all = Vec::new();
    for number in 0..count {
        let tandem = options(redis, postgres).start();
        wait_role(&tandem, if number == 0 { "leader" } else { "standby" });
        tandem.wait_holding(true);
        all.push(tandem);
    }
    all
}

fn role(tandem: &Tandem) -> String {
    tandem.status()["role"].clone()
}

fn wait_role(tandem: &Tandem, wanted: &str) {
    wait_for(&format!("the role {wanted}"), LIMIT, || role(tandem) == wanted);
}

/// Has clients write at all proxies while `fault` happens, and checks what they had acknowledged.
fn under_load(
    all: &[&Tandem],
    redis: &Redis,
    postgres: &Postgres,
    fault: impl FnOnce(),
) -> Vec<Writer> {
    let (over, looked) = (AtomicBool::new(false), AtomicU64::new(0));
    let writers = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..all.len() * 2)
            .map(|number| {
                let (writer, over) = (Writer::new(number, all), &over);
                scope.spawn(move || writer.run(over))
            })
            .collect();
        // What is acknowledged is in PostgreSQL at that very moment.
        scope.spawn(|| {
            let port = all[all.len() - 1].port();
            let mut client = Client::connect(("127.0.0.1", port)).expect("connected");
            client.set_timeout(LIMIT);
            while !over.load(Ordering::Relaxed) {
                let Value::Int(count) = client.run("INCR looked") else { continue };
                let query = "SELECT convert_from(value, 'UTF8') FROM tandem.strings
                             JOIN tandem.keys ON key_id = id WHERE key = 'looked'";
                let stored: i64 = postgres.sql(query).trim().parse().expect("a number");
                assert!(stored >= count, "{count} was acknowledged, PostgreSQL had {stored}");
                looked.fetch_add(1, Ordering::Relaxed);
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        fault();
        let end = Instant::now() + Duration::from_millis(500);
        // On a busy machine a look takes long.
        while Instant::now() < end || looked.load(Ordering::Relaxed) <= 3 && end.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        let join =
            |writer: std::thread::ScopedJoinHandle<'_, Writer>| writer.join().expect("ended");
        writers.into_iter().map(join).collect::<Vec<_>>()
    });
    assert!(looked.load(Ordering::Relaxed) > 3, "nobody looked");
    for writer in &writers {
        assert!(writer.done > 10, "client {} did {} writes", writer.number, writer.done);
        writer.check(&mut redis.client());
    }
    Sides::new(redis, postgres).assert_equal();
    writers
}

fn slowest(writers: &[Writer]) -> Duration {
    writers.iter().map(|writer| writer.slowest).max().unwrap_or_default()
}

#[test]
fn one_leads_and_the_others_acknowledge_through_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut all = start(3, &redis, &postgres);
    let writers = under_load(&[&all[0], &all[1], &all[2]], &redis, &postgres, || {});
    println!("the slowest acknowledgement took {:?}", slowest(&writers));
    assert!(slowest(&writers) < Duration::from_secs(2), "{:?}", slowest(&writers));
    assert_eq!(all.iter().map(role).collect::<Vec<_>>(), ["leader", "standby", "standby"]);
    let epoch = postgres.sql("SELECT epoch FROM tandem.replication");
    assert_eq!(epoch.trim(), "1", "they took turns");
    assert!(all[1].status()["leader"].contains(&all[0].port().to_string()));
    // What is held is released by what the leader commits, and by nothing else.
    let mut client = all[2].client();
    postgres.pause();
    client.send(&support::encode(["SET", "held", "1"])).expect("sent");
    client.set_timeout(Duration::from_millis(300));
    assert!(client.receive().is_err(), "acknowledged without PostgreSQL");
    postgres.resume();
    client.set_timeout(LIMIT);
    assert_eq!(client.receive().expect("a reply"), Value::ok());
    // One that stands by is missed by nobody.
    all[2].kill9();
    for tandem in &all[..2] {
        assert_eq!(tandem.client().run("SET k 1"), Value::ok());
    }
    assert_eq!(all[..2].iter().map(role).collect::<Vec<_>>(), ["leader", "standby"]);
}

#[test]
fn another_takes_over_when_the_leader_is_killed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut all = start(3, &redis, &postgres);
    let mut first = all.remove(0);
    let writers = {
        let pid = first.process().pid();
        let all = [&first, &all[0], &all[1]];
        under_load(&all, &redis, &postgres, || {
            support_kill(pid);
            std::thread::sleep(Duration::from_secs(2));
        })
    };
    println!("nothing was acknowledged for {:?}", slowest(&writers));
    assert!(slowest(&writers) < TAKEOVER, "{:?}", slowest(&writers));
    first.kill9();
    let mut roles: Vec<String> = all.iter().map(role).collect();
    roles.sort();
    assert_eq!(roles, ["leader", "standby"]);
    // It comes back as one of the others.
    first.restart();
    wait_role(&first, "standby");
    first.wait_holding(true);
    assert_eq!(first.client().run("SET back 1"), Value::ok());
}

fn support_kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("sent");
}

#[test]
fn a_leader_that_was_paused_does_not_write_when_it_goes_on() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let all = start(2, &redis, &postgres);
    let (first, second) = (&all[0], &all[1]);
    let writers = under_load(&[second], &redis, &postgres, || {
        first.pause();
        let paused = Instant::now();
        wait_role(second, "leader");
        println!("the lease was taken after {:?}", paused.elapsed());
        std::thread::sleep(Duration::from_millis(500));
        first.resume();
        wait_role(first, "standby");
        std::thread::sleep(Duration::from_millis(500));
    });
    println!("nothing was acknowledged for {:?}", slowest(&writers));
    assert!(slowest(&writers) < TAKEOVER, "{:?}", slowest(&writers));
    assert_eq!(role(second), "leader");
    let epoch = postgres.sql("SELECT epoch FROM tandem.replication");
    assert_eq!(epoch.trim(), "2", "the first one came back as a writer");
    // Its clients are served on, through the other.
    assert_eq!(first.client().run("SET later 1"), Value::ok());
    Sides::new(&redis, &postgres).assert_equal();
}

#[test]
fn a_leader_that_ends_leaves_the_lease_at_once() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut all = start(2, &redis, &postgres);
    let mut first = all.remove(0);
    let second = &all[0];
    let writers = under_load(&[second], &redis, &postgres, || {
        assert!(first.stop(LIMIT).success());
        let ended = Instant::now();
        wait_role(second, "leader");
        println!("the lease was taken {:?} after the end", ended.elapsed());
        assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    });
    assert!(slowest(&writers) < Duration::from_secs(2), "{:?}", slowest(&writers));
}

/// Waits until Redis leads again, if PostgreSQL has meanwhile: what is written past the proxies before that does not count.
fn mirrored(all: &[&Tandem]) {
    for tandem in all {
        tandem.wait_status("lead", "redis");
        tandem.wait_holding(true);
    }
}

/// How many of the clients' counters are what was counted.
fn count_on(clients: &mut [Client], counted: &mut i64) {
    for client in clients {
        *counted += 1;
        assert_eq!(client.insist("INCR shared"), Value::Int(*counted));
    }
}

#[test]
fn without_redis_one_serves_and_the_others_hand_on_to_it() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut all: Vec<Tandem> = start(3, &redis, &postgres);
    all.iter_mut().for_each(|tandem| tandem.allow(""));
    let mut clients: Vec<Client> = all.iter().map(Tandem::client).collect();
    let mut counted = 0;
    count_on(&mut clients, &mut counted);

    redis.kill9();
    let began = Instant::now();
    count_on(&mut clients, &mut counted);
    println!("all were served after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for (tandem, lead) in all.iter().zip(["postgres", "leader", "leader"]) {
        tandem.wait_status("lead", lead);
    }
    for _ in 0..20 {
        count_on(&mut clients, &mut counted);
    }

    // The one that serves is killed; its client goes elsewhere.
    all[0].kill9();
    let began = Instant::now();
    count_on(&mut clients[1..], &mut counted);
    println!("another one served after {:?}", began.elapsed());
    assert!(began.elapsed() < TAKEOVER, "{:?}", began.elapsed());
    let mut leads: Vec<String> = all[1..].iter().map(|t| t.status()["lead"].clone()).collect();
    leads.sort();
    assert_eq!(leads, ["leader", "postgres"]);
    // It comes back, and finds out that it is not the one.
    all[0].restart();
    all[0].wait_status("lead", "leader");
    clients[0] = all[0].client();
    count_on(&mut clients, &mut counted);

    // Empty, and brought up before anybody is served from it.
    redis.restart();
    let began = Instant::now();
    while began.elapsed() < LIMIT && all.iter().any(|t| t.status()["lead"] != "redis") {
        count_on(&mut clients, &mut counted);
    }
    println!("Redis led again after {:?}", began.elapsed());
    all.iter().for_each(|tandem| tandem.wait_status("lead", "redis"));
    for _ in 0..20 {
        count_on(&mut clients, &mut counted);
    }
    all.iter().for_each(Tandem::wait_streaming);
    count_on(&mut clients, &mut counted);
    assert_eq!(redis.client().run("GET shared"), Value::bulk(counted.to_string()));
    Sides::new(&redis, &postgres).assert_equal();
}

/// A proxy that cannot reach Redis must not pass by those that can, and is of use all the same.
#[test]
fn one_that_starts_while_postgres_leads_does_not_go_to_redis() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let mut first = start(1, &redis, &postgres).remove(0);
    first.allow("");
    assert_eq!(first.client().run("SET k old"), Value::ok());
    redis.save();
    redis.pause();
    assert_eq!(first.client().insist("SET k new"), Value::ok());
    first.wait_status("lead", "postgres");
    let second = options(&redis, &postgres).allow("").start();
    second.wait_status("lead", "leader");
    assert_eq!(second.client().insist("GET k"), Value::bulk("new"));
    assert_eq!(second.client().run("SET k newer"), Value::ok());
    assert_eq!(first.client().run("GET k"), Value::bulk("newer"));
    redis.resume();
    second.wait_status("lead", "redis");
    assert_eq!(second.client().run("GET k"), Value::bulk("newer"));
    second.wait_streaming();
    Sides::new(&redis, &postgres).assert_equal();
    drop((second, first));
    redis.kill9();
}

/// Copies are dropped by the one that leads; whoever misses one has it brought back.
#[test]
fn keys_that_redis_lacks_come_back_through_any_proxy() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let all = start(2, &redis, &postgres);
    let (first, second) = (&all[0], &all[1]);
    let mut client = second.client();
    let fill = (0..200).map(|n| vec!["SET".to_owned(), format!("k:{n}"), n.to_string()]);
    client.pipeline(fill.collect::<Vec<_>>());
    for command in ["HSET h a 1 b 2", "RPUSH l a b", "SET soon x PX 1500", "SADD s a"] {
        assert!(!client.run(command).is_error(), "{command}");
    }
    let clear = "/admin/database/cache/clear";
    let refusal = post(second, clear, "{}");
    assert_eq!(refusal.error(409), "standing_by");
    assert!(refusal.text.contains(&first.port().to_string()), "{}", refusal.text);
    let check = get(second, "/admin/database/consistency-check");
    assert!(check.text.contains("standing_by"), "{}", check.text);
    // Clients of both go on reading: none may miss a key at any moment.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for tandem in &all {
            let over = &over;
            scope.spawn(move || {
                let mut client = tandem.client();
                for n in (0..200).cycle() {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("k:{n}");
                    assert_eq!(client.call(["GET", &key]), Value::bulk(n.to_string()), "{key}");
                }
            });
        }
        let done = post(first, clear, "{}").data();
        assert!(done["cleared"].as_i64().is_some_and(|cleared| cleared > 0), "{done}");
        std::thread::sleep(Duration::from_millis(300));
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(second.status()["redis_keys"], "lacking");
    post(first, clear, "{}").data();
    assert_eq!(client.run("INCR k:7"), Value::Int(8));
    assert_eq!(client.run("HGETALL h").items().len(), 4);
    assert_eq!(client.run("RPUSH l c"), Value::Int(3));
    assert_eq!(client.run("DEL k:8"), Value::Int(1));
    for absent in ["GET k:8", "GET none", "GET soon"] {
        assert_eq!(client.run(absent), Value::Nil, "{absent}");
    }
    assert_eq!(client.run("SADD s b"), Value::Int(1));
    assert_eq!(client.run("SCARD s"), Value::Int(2));
    // The one that takes over knows that Redis lacks keys.
    let epoch = || postgres.sql("SELECT epoch FROM tandem.replication");
    assert_eq!(epoch().trim(), "1");
    first.pause();
    wait_role(second, "leader");
    assert_eq!(client.run("INCR k:9"), Value::Int(10));
    assert_eq!(client.run("GET k:10"), Value::bulk("10"));
    first.resume();
    wait_role(first, "standby");
    assert_eq!(first.client().run("INCR k:11"), Value::Int(12));
    assert_eq!(first.client().run("GET k:8"), Value::Nil);
    let warmed = post(second, "/admin/database/cache/warm", "{}").data();
    assert_eq!(warmed["errors"], 0, "{warmed}");
    wait_for("the rest", LIMIT, || {
        Sides::new(&redis, &postgres).differences().is_ok_and(|d| d.is_empty())
    });
}

/// A Redis whose snapshots for replicas begin at once.
fn at_once() -> Redis {
    Redis::options().with("repl-diskless-sync-delay", "0").start()
}

/// The answer to a transaction in which Redis leaves its history comes so late that the proxy that stands by has heard of
/// the new one: a barrier sent behind it would be of that.
#[test]
fn an_answer_that_comes_late_is_not_acknowledged_in_another_history() {
    let (other, redis, postgres) = (at_once(), at_once(), Postgres::start());
    let line = FaultProxy::new(redis.port());
    let leader = options(&redis, &postgres).allow("").start();
    leader.wait_holding(true);
    let standby = options(&redis, &postgres).redis_url(&line.url(&redis.url()));
    let standby = standby.set("redis", "hang_timeout_ms", 10_000).allow("").start();
    wait_role(&standby, "standby");
    standby.wait_holding(true);
    let mut client = standby.client();
    client.set_timeout(LIMIT);
    assert_eq!(client.run("INCR n"), Value::Int(1));
    // So long nothing else comes from Redis, and what comes then comes late on this connection.
    let busy = "local t = redis.call('TIME') local function now() local n = redis.call('TIME') \
                return (n[1] - t[1]) * 1000000 + n[2] - t[2] end while now() < 300000 do end";
    let port = other.port().to_string();
    for part in
        [&["MULTI"][..], &["INCR", "n"], &["REPLICAOF", "127.0.0.1", &port], &["EVAL", busy, "0"]]
    {
        assert!(!matches!(client.call(part.iter().copied()), Value::Error(_)), "{part:?}");
    }
    client.send(b"EXEC\r\n").expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    line.set(Line::Delayed(Duration::from_millis(1500)));
    let mut direct = redis.client();
    direct.run("PING");
    std::thread::sleep(Duration::from_millis(5));
    line.set(Line::Clear);
    wait_for("the other's data", LIMIT, || direct.run("GET n") == Value::Nil);
    assert_eq!(direct.run("REPLICAOF NO ONE"), Value::ok());
    let reply = client.receive().expect("an answer");
    let unknown = matches!(&reply, Value::Error(error) if error.starts_with("UNKNOWNOUTCOME"));
    assert!(unknown, "{reply:?}");
    assert_eq!(client.insist("SET k v"), Value::ok());
    mirrored(&[&leader, &standby]);
    Sides::new(&redis, &postgres).assert_equal();
}

/// Redis takes another one's data and is a master again before anybody has looked: what waits at the proxy that stands
/// by is gone, and a barrier of the new history must not acknowledge it.
#[test]
fn what_waits_at_a_standby_is_not_acknowledged_in_another_history() {
    let (other, redis, postgres) = (at_once(), at_once(), Postgres::start());
    let mut all = start(2, &redis, &postgres);
    all.iter_mut().for_each(|tandem| tandem.allow("Redis"));
    let mut client = all[1].client();
    client.set_timeout(LIMIT);
    assert_eq!(client.run("INCR n"), Value::Int(1));
    let port = other.port().to_string();
    for part in [&["MULTI"][..], &["INCR", "n"], &["REPLICAOF", "127.0.0.1", &port]] {
        assert!(!matches!(client.call(part.iter().copied()), Value::Error(_)), "{part:?}");
    }
    let reply = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut direct = redis.client();
            let deadline = Instant::now() + LIMIT;
            while direct.run("GET n") != Value::Nil {
                assert!(Instant::now() < deadline, "Redis has not taken the other's data");
            }
            assert_eq!(direct.run("REPLICAOF NO ONE"), Value::ok());
        });
        client.run("EXEC")
    });
    let unknown = matches!(&reply, Value::Error(error) if error.starts_with("UNKNOWNOUTCOME"));
    assert!(unknown, "{reply:?}");
    assert_eq!(client.insist("SET k v"), Value::ok());
    mirrored(&[&all[0], &all[1]]);
    Sides::new(&redis, &postgres).assert_equal();
}
