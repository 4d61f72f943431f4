//! WATCH in `postgres_only`: what counts as a change of a key is what counts in Redis.

use std::time::Duration;

use support::{Client, Postgres, Redis, Tandem, Value};

/// What is there before each command.
const BEFORE: &str = "XADD s 1-1 a b|XADD s 2-1 a b|XGROUP CREATE s g 0\
    |XREADGROUP GROUP g c COUNT 1 STREAMS s >|SET k ab|SET kt x EX 1000|SET kn 5|HSET h a 1 b 2|SADD t 1 2 3\
    |ZADD z 1 a 2 b|RPUSH l a b c|RPUSH l1 a|PFADD p a b c|GEOADD ge 1 1 a 2 2 b";
const WATCHED: &str = "WATCH s k kt kn h t u z l l1 p pn n ge";

const COMMANDS: &str = "XGROUP SETID s g 0|XGROUP CREATE s g2 0|XGROUP CREATE n g2 0 MKSTREAM|XGROUP DESTROY s g\
    |XGROUP CREATECONSUMER s g c9|XGROUP DELCONSUMER s g c|XACK s g 1-1|XCLAIM s g c2 0 1-1|XAUTOCLAIM s g c2 0 0\
    |XREADGROUP GROUP g c STREAMS s >|XREADGROUP GROUP g new STREAMS s >|XREADGROUP GROUP g cx STREAMS s 0\
    |XSETID s 9-9|XDEL s 1-1|XDEL s 77-1|XTRIM s MAXLEN 0|XTRIM s MAXLEN 100|XADD s 10-1 a b|SETNX k 1|SET k x GET\
    |GETEX k PERSIST|GETEX k EX 100|GETEX kt PERSIST|PERSIST k|PERSIST kt|EXPIRE k 100|EXPIRE k 100 XX|EXPIRE k -1\
    |EXPIRE n 5|HSET h a 1|HSETNX h a 5|HDEL h zz|SADD t 1|SREM t 7|ZADD z 1 a|ZADD z NX 5 a|ZADD z XX CH 1 a|LSET l 0 a\
    |LSET l 0 b|LREM l 0 nope|LTRIM l 0 -1|LTRIM l 0 100|LTRIM n 0 1|LPUSHX n 1|RPOPLPUSH l l|RPOPLPUSH l1 l1\
    |LMOVE l l LEFT LEFT|LMOVE l l LEFT RIGHT|LMOVE l l1 RIGHT LEFT|LMOVE n l LEFT LEFT|SORT l ALPHA STORE n\
    |SORT nn STORE k|SORT nn STORE n|SINTERSTORE k nn|SINTERSTORE n nn|SDIFFSTORE t t|SUNIONSTORE t t|ZUNIONSTORE n 1 nn\
    |ZRANGESTORE n nn 0 -1|ZRANGESTORE k nn 0 -1|RENAME k k|RENAME k n|RENAMENX k h|COPY k n|COPY k h|MOVE k 1\
    |SETRANGE k 0 abc|APPEND k x|SETBIT k 0 0|BITOP NOT k nn|BITOP NOT n nn|BITFIELD k GET u8 0|BITFIELD k SET u8 0 0\
    |BITFIELD k OVERFLOW FAIL INCRBY u8 0 255|PFADD p a|PFADD p new|PFADD pn|PFMERGE p|PFMERGE n|PFCOUNT p|GETDEL nn\
    |GETDEL k|SPOP t 0|SPOP t|SMOVE t u 1|SMOVE t t 1|SMOVE t u 77|INCRBY kn 0|HINCRBY h a 0|ZINCRBY z 0 a|ZADD z INCR 0 a\
    |ZREMRANGEBYRANK z 5 6|ZPOPMIN z 0|LPOP l 0|GETSET k v|UNLINK nn|TOUCH k|GET k|GEOADD ge 1 1 a|GEOADD ge 1 1.5 a\
    |GEOSEARCHSTORE n ge FROMLONLAT 0 0 BYRADIUS 1 m|LINSERT l BEFORE zz x|FLUSHDB|FLUSHALL|SWAPDB 0 2|SWAPDB 3 4\
    |DEL k|SET n 1|HSET h c 3|EVAL redis.call('incr',KEYS[1]) 1 kn|EVAL redis.call('get',KEYS[1]) 1 k";

/// Whether EXEC is refused after another client has run the command, which answers what comes with it.
fn refused(client: &mut Client, other: &mut Client, command: &str) -> (bool, String) {
    other.run("FLUSHALL");
    for line in BEFORE.split('|') {
        assert!(!other.run(line).is_error(), "{line}");
    }
    client.run(WATCHED);
    let reply = other.run(command);
    client.run("MULTI");
    client.run("PING");
    (client.run("EXEC") == Value::Nil, format!("{reply:?}"))
}

fn serving(postgres: &Postgres) -> Tandem {
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem")).postgres(postgres);
    let tandem = tandem.mode("postgres_only").start();
    tandem.wait_serving();
    tandem
}

#[test]
fn what_counts_as_a_change_is_what_counts_in_redis() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = serving(&postgres);
    let (mut theirs, mut ours) =
        ([redis.client(), redis.client()], [tandem.client(), tandem.client()]);
    let mut touching = 0;
    for command in COMMANDS.split('|') {
        let [client, other] = &mut theirs;
        let theirs = refused(client, other, command);
        let [client, other] = &mut ours;
        let ours = refused(client, other, command);
        assert_eq!(theirs.0, ours.0, "{command}: {theirs:?}, {ours:?}");
        touching += usize::from(theirs.0);
    }
    assert!(touching > 40, "only {touching}");
}

/// What comes and goes between WATCH and EXEC, and a key whose time is over.
#[test]
fn coming_and_going_counts() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tandem = serving(&postgres);
    for (mut client, mut other) in
        [(redis.client(), redis.client()), (tandem.client(), tandem.client())]
    {
        for (before, between, ran) in [
            ("DEL a", "SET a 1|DEL a", false),
            ("DEL a", "GET a", true),
            ("SET a 1", "DEL a|SET a 1", false),
            ("SET a 1", "SWAPDB 0 1|SWAPDB 0 1", false),
            ("DEL a", "SWAPDB 0 1|SWAPDB 0 1", true),
            ("DEL a", "SWAPDB 0 1|SET a 1|SWAPDB 0 1", false),
            ("SET a 1", "MULTI|INCR a|DISCARD", true),
            ("SET a 1", "EVAL return#redis.call('incr',KEYS[1]) 1 b", true),
        ] {
            other.run("FLUSHALL");
            other.run(before);
            client.run("WATCH a");
            for line in between.split('|') {
                let words: Vec<String> = line.split(' ').map(|w| w.replace('#', " ")).collect();
                other.call(&words);
            }
            client.run("MULTI");
            client.run("PING");
            let reply = client.run("EXEC");
            assert_eq!(reply != Value::Nil, ran, "{before} {between}: {reply:?}");
        }
        other.run("SET a 1 PX 30");
        client.run("WATCH a");
        std::thread::sleep(Duration::from_millis(60));
        client.run("MULTI");
        client.run("PING");
        assert_eq!(client.run("EXEC"), Value::Nil, "its time was over");
        // A client's own UNWATCH, and its end, leave nothing behind.
        client.run("WATCH a");
        client.run("UNWATCH");
        other.run("SET a 2");
        client.run("MULTI");
        assert_eq!(client.run("EXEC"), Value::Array(Vec::new()));
    }
}
