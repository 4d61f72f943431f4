//! The data plane in front of a real Redis, `redis_only`: order, state, limits, and Redis's going.

use std::time::Duration;

use support::{Client, Redis, Tandem, Value, encode, wait_for};

fn start() -> (Redis, Tandem) {
    let redis = Redis::start();
    let tandem = proxy(&redis);
    (redis, tandem)
}

fn proxy(redis: &Redis) -> Tandem {
    let options = Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(redis).mode("redis_only");
    options.allow("Redis is not reachable").allow("connection to Redis lost").start()
}

/// The text of an error reply; of anything else its shape, for the message of a failed assertion.
fn error(reply: Value) -> String {
    match reply {
        Value::Error(text) => text,
        other => format!("{other:?}"),
    }
}

fn blocked(redis: &Redis) -> bool {
    redis.client().run("INFO clients").text().contains("blocked_clients:1")
}

#[test]
fn a_deep_pipeline_keeps_its_order_across_lanes_and_pins() {
    let (_redis, tandem) = start();
    let mut client = tandem.client();
    let round = ["INCR n", "SELECT 1", "GET m", "SELECT 0", "MULTI", "INCR n", "EXEC", "CLIENT ID"];
    let commands: Vec<_> = (0..500).flat_map(|_| round).map(|line| line.split(' ')).collect();
    let replies = client.pipeline(commands);
    assert_eq!(replies.len(), 500 * round.len());
    let id = replies[7].clone();
    for (i, reply) in replies.chunks(round.len()).enumerate() {
        let n = i as i64 * 2;
        assert_eq!(reply[0], Value::Int(n + 1), "round {i}");
        assert_eq!(reply[2], Value::Nil);
        assert_eq!(reply[6], Value::Array(vec![Value::Int(n + 2)]), "round {i}");
        assert_eq!(reply[7], id);
    }
}

#[test]
fn transactions_of_many_clients_on_one_lane_stay_whole() {
    let (_redis, tandem) = start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = tandem.client();
            scope.spawn(move || {
                let mut last = 0;
                for _ in 0..200 {
                    let lines = ["GET a", "MULTI", "INCR a", "INCR b", "GET a", "EXEC", "PING"];
                    let replies = client.pipeline(lines.map(|line| line.split(' ')));
                    assert_eq!(replies[1], Value::ok());
                    let Value::Array(done) = &replies[5] else { panic!("{replies:?}") };
                    let now = done[0].int();
                    assert!(now > last, "{now} after {last}");
                    assert_eq!(done[1..], [Value::Int(now), Value::bulk(now.to_string())]);
                    assert_eq!(replies[6], Value::Simple("PONG".into()));
                    last = now;
                }
            });
        }
    });
    assert_eq!(tandem.client().run("GET b"), Value::bulk("800"));
}

#[test]
fn requests_in_pieces_and_replies_larger_than_any_buffer() {
    let (_redis, tandem) = start();
    let mut client = tandem.client();
    for byte in encode(["SET", "k", "v"]) {
        client.send(&[byte]).expect("sent");
    }
    assert_eq!(client.receive().expect("reply"), Value::ok());
    let big = vec![b'x'; 5_000_000];
    assert_eq!(client.call([&b"SET"[..], b"big", &big]), Value::ok());
    let replies = client.pipeline(["GET big", "GET k", "GET big"].map(|c| c.split(' ')));
    assert_eq!(replies, [Value::bulk(&big), Value::bulk("v"), Value::bulk(&big)]);
}

#[test]
fn watch_blocking_and_publish() {
    let (redis, tandem) = start();
    let (mut one, mut two) = (tandem.client(), tandem.client());
    assert_eq!(one.run("WATCH k"), Value::ok());
    assert_eq!(two.run("SET k 1"), Value::ok());
    assert_eq!(one.run("MULTI"), Value::ok());
    assert_eq!(one.run("GET k"), Value::Simple("QUEUED".into()));
    assert_eq!(one.run("EXEC"), Value::Nil);

    one.send(&encode(["BLPOP", "list", "0"])).expect("sent");
    wait_for("blocked", Duration::from_secs(5), || blocked(&redis));
    assert_eq!(two.run("LPUSH list a"), Value::Int(1));
    assert_eq!(one.receive().expect("popped"), Value::bulks(["list", "a"]));

    // A client that has gone must not take elements with it.
    let gone = { tandem.client() };
    let mut gone = gone;
    gone.send(&encode(["BLPOP", "list", "0"])).expect("sent");
    wait_for("blocked", Duration::from_secs(5), || blocked(&redis));
    drop(gone);
    wait_for("unblocked", Duration::from_secs(5), || !blocked(&redis));
    assert_eq!(two.run("LPUSH list b"), Value::Int(1));
    assert_eq!(two.run("LLEN list"), Value::Int(1));

    one.run("SUBSCRIBE c");
    assert_eq!(two.run("PUBLISH c hello"), Value::Int(1));
    assert_eq!(one.receive().expect("message"), Value::bulks(["message", "c", "hello"]));
    one.run("UNSUBSCRIBE c");
    assert_eq!(one.run("GET k"), Value::bulk("1"));
}

#[test]
fn the_password_of_the_url_is_asked_of_clients() {
    let mut redis = Redis::options().with("requirepass", "secret").start();
    let tandem = proxy(&redis);
    let mut client = tandem.raw_client();
    let noauth = Value::Error("NOAUTH Authentication required.".into());
    assert_eq!(client.run("GET k"), noauth);
    assert!(error(client.run("AUTH wrong")).starts_with("WRONGPASS"));
    assert_eq!(client.run("AUTH secret"), Value::ok());
    assert_eq!(client.run("SET k 1"), Value::ok());
    redis.kill9();
    let mut later = tandem.raw_client();
    assert_eq!(later.run("GET k"), noauth);
    assert_eq!(later.run("AUTH secret"), Value::ok());
}

#[test]
fn redis_goes_away_with_commands_in_flight() {
    let (mut redis, tandem) = start();
    let (mut one, mut two, mut three) = (tandem.client(), tandem.client(), tandem.client());
    assert_eq!(one.run("SET k 1"), Value::ok());
    assert_eq!(three.run("MULTI"), Value::ok());
    two.send(&encode(["BLPOP", "nothing", "0"])).expect("sent");
    wait_for("blocked", Duration::from_secs(5), || blocked(&redis));
    redis.pause();
    one.send(&encode(["INCR", "k"]).repeat(3)).expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    redis.kill9();
    for _ in 0..3 {
        let reply = error(one.receive().expect("an error, not silence"));
        assert!(reply.contains("UNKNOWNOUTCOME"), "{reply}");
    }
    assert!(error(two.receive().expect("an error")).contains("UNKNOWNOUTCOME"));
    wait_for("an error at once", Duration::from_secs(5), || {
        error(one.run("GET k")).contains("UNAVAILABLE")
    });
    assert!(three.run("GET k").is_error());
    assert!(error(three.run("EXEC")).contains("EXECABORT"));
    redis.restart();
    wait_for("Redis is back", Duration::from_secs(5), || one.run("SET k 2") == Value::ok());
    assert_eq!(three.run("GET k"), Value::bulk("2"));
}

#[test]
fn hostile_bytes_end_only_their_own_connection() {
    let (_redis, mut tandem) = start();
    let mut good = tandem.client();
    let attacks: [(Vec<u8>, &str); 5] = [
        (b"*1\r\n".repeat(100_000), "expected '$', got '*'"),
        (b"*1\r\n$4294967296\r\n".to_vec(), "invalid bulk length"),
        (b"*2147483648\r\n".to_vec(), "invalid multibulk length"),
        (vec![b'a'; 70_000], "too big inline request"),
        (b"set \"k\r\n".to_vec(), "unbalanced quotes in request"),
    ];
    for (bytes, error) in attacks {
        let mut bad = Client::connect(("127.0.0.1", tandem.port())).expect("connected");
        // The proxy may hang up before everything is sent.
        let _ = bad.send(&bytes);
        if let Ok(reply) = bad.receive() {
            assert_eq!(reply, Value::Error(format!("ERR Protocol error: {error}")));
        }
        assert_eq!(good.run("PING"), Value::Simple("PONG".into()));
    }
    // Headers that promise much and send little hold no memory.
    let mut idle = Vec::new();
    for _ in 0..100 {
        let mut client = Client::connect(("127.0.0.1", tandem.port())).expect("connected");
        client.send(b"*2\r\n$3\r\nGET\r\n$536870912\r\nx").expect("sent");
        idle.push(client);
    }
    assert_eq!(good.run("PING"), Value::Simple("PONG".into()));
    tandem.assert_running();
    assert!(tandem.process().resident_bytes() < 200 << 20);
}

#[test]
fn a_slow_reader_holds_back_only_itself() {
    let (_redis, tandem) = start();
    let (mut slow, mut quick) = (tandem.client(), tandem.client());
    let big = vec![b'x'; 1_000_000];
    assert_eq!(quick.call([&b"SET"[..], b"big", &big]), Value::ok());
    slow.send(&encode(["GET", "big"]).repeat(50)).expect("sent");
    for _ in 0..100 {
        assert_eq!(quick.run("PING"), Value::Simple("PONG".into()));
    }
    for _ in 0..50 {
        assert_eq!(slow.receive().expect("reply").bytes().len(), big.len());
    }
}

#[test]
fn invalidations_are_redirected_to_a_client_that_has_only_said_hello() {
    let (_redis, tandem) = start();
    let (mut reader, mut target, mut writer) = (tandem.client(), tandem.client(), tandem.client());
    target.run("HELLO 3");
    let Value::Int(id) = target.run("CLIENT ID") else { panic!("CLIENT ID is a number") };
    assert_eq!(reader.run(&format!("CLIENT TRACKING ON REDIRECT {id}")), Value::ok());
    reader.run("GET k");
    // The push comes all the same; the client has no replies on.
    target.send(&encode(["CLIENT", "REPLY", "OFF"])).expect("sent");
    assert_eq!(writer.run("SET k 1"), Value::ok());
    let push = target.receive().expect("an invalidation");
    assert_eq!(push, Value::Push(vec![Value::bulk("invalidate"), Value::bulks(["k"])]));
    assert_eq!(target.run("CLIENT REPLY ON"), Value::ok());
}

#[test]
fn a_connection_that_was_used_for_blocking_is_kept_as_the_target_of_a_redirection() {
    let (_redis, tandem) = start();
    let (mut reader, mut target) = (tandem.client(), tandem.client());
    target.run("HELLO 3");
    let Value::Int(id) = target.run("CLIENT ID") else { panic!("CLIENT ID is a number") };
    assert_eq!(target.run("BLPOP nothing 0.01"), Value::Nil);
    assert_eq!(reader.run(&format!("CLIENT TRACKING ON REDIRECT {id}")), Value::ok());
    assert_eq!(target.run("PING"), Value::Simple("PONG".into()));
    reader.run("GET k");
    assert_eq!(tandem.client().run("SET k 1"), Value::ok());
    let push = target.receive().expect("an invalidation");
    assert_eq!(push, Value::Push(vec![Value::bulk("invalidate"), Value::bulks(["k"])]));
}

#[test]
fn a_user_who_may_not_select_stays_in_the_database_that_was_chosen_before() {
    let (redis, tandem) = start();
    let acl = "ACL SETUSER bob on >secret ~* +get +set +blpop";
    assert_eq!(redis.client().run(acl), Value::ok());
    let mut client = tandem.client();
    assert_eq!(client.run("SELECT 9"), Value::ok());
    assert_eq!(client.run("AUTH bob secret"), Value::ok());
    assert_eq!(client.run("SET k nine"), Value::ok());
    let refused = error(client.run("SELECT 3"));
    assert_eq!(refused, "NOPERM this user has no permissions to run the 'select' command");
    assert_eq!(client.run("BLPOP nothing 0.01"), Value::Nil);
    assert_eq!(client.run("GET k"), Value::bulk("nine"));
    let mut direct = redis.client();
    assert_eq!(direct.run("GET k"), Value::Nil);
    assert_eq!(direct.run("SELECT 9"), Value::ok());
    assert_eq!(direct.run("GET k"), Value::bulk("nine"));
}

#[test]
fn a_confirmed_unsubscription_has_no_receivers() {
    let (_redis, tandem) = start();
    let mut publisher = tandem.client();
    // The kernel spreads clients over the workers: some pairs are on different ones.
    for _ in 0..20 {
        let mut subscriber = tandem.client();
        assert_eq!(subscriber.run("PSUBSCRIBE c.*").items().len(), 3);
        assert_eq!(publisher.run("PUBLISH c.x hello"), Value::Int(1));
        assert_eq!(subscriber.receive().expect("message").items().len(), 4);
        assert_eq!(subscriber.run("PUNSUBSCRIBE").items().len(), 3);
        assert_eq!(publisher.run("PUBLISH c.x hello"), Value::Int(0));
    }
}
