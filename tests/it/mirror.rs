//! The mirror: what Redis holds, PostgreSQL holds, whatever happens to any of the three processes.

use std::time::Duration;

use support::compare::Sides;
use support::{Client, Postgres, Redis, Tandem, TandemOptions, Value, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

struct Trio {
    redis: Redis,
    postgres: Postgres,
    options: TandemOptions,
}

impl Trio {
    fn new(mode: &str) -> Trio {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let options =
            Tandem::new(env!("CARGO_BIN_EXE_tandem")).redis(&redis).postgres(&postgres).mode(mode);
        Trio { redis, postgres, options }
    }

    fn tandem(&self) -> Tandem {
        self.options.clone().start()
    }

    fn sides(&self) -> Sides {
        Sides::new(&self.redis, &self.postgres)
    }

    fn count(&self) -> i64 {
        self.postgres.sql("SELECT count(*) FROM tandem.keys").parse().expect("a number")
    }
}

/// A field of the `# Tandem` section.
fn info(client: &mut Client, field: &str) -> String {
    let text = client.run("INFO tandem").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("tandem_{field}:")));
    line.unwrap_or_else(|| panic!("no {field} in\n{text}")).trim().to_owned()
}

fn run(client: &mut Client, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let reply = client.run(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
}

const ALL_TYPES: &str = "
    SET string value
    SET number 5
    INCRBY number 37
    APPEND string -more
    SETBIT bits 77 1
    SET soon gone PX 3600000
    HSET hash a 1 b 2 c 3
    HINCRBY hash a 41
    HDEL hash b
    HINCRBYFLOAT hash f 10.5
    RPUSH list a b c d e f
    LPUSH list z
    LINSERT list BEFORE c x
    LREM list 1 d
    LSET list 0 first
    LTRIM list 0 4
    SADD set a b c
    SREM set b
    SPOP set
    ZADD zset 1.5 a -inf b +inf c 3 d
    ZINCRBY zset 0.1 a
    ZREM zset d
    ZADD zset 0.1 tenth
    GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
    PFADD hll a b c d
    XADD stream 1-1 f v g w
    XADD stream 2-1 f v
    XADD stream MAXLEN 2 3-1 f v
    XGROUP CREATE stream group 0
    XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >
    EXPIRE hash 3600
    RENAME number renamed
    COPY list copied
    SUNIONSTORE union set set
    SORT copied ALPHA STORE sorted
    BITOP NOT notbits bits
    SELECT 3
    SET other-db 1
    MOVE other-db 4
    SELECT 0
";

#[test]
fn every_type_arrives() {
    let trio = Trio::new("dual_write");
    let tandem = trio.tandem();
    let mut client = tandem.client();
    run(&mut client, ALL_TYPES);
    run(
        &mut client,
        "EVAL return(redis.call('incr',KEYS[1])+redis.call('lpush',KEYS[2],'x')) 2 from-script list",
    );
    run(&mut client, "MULTI\nSET in-transaction 1\nHSET in-transaction-2 a 1\nEXEC");
    trio.sides().assert_equal();
    run(&mut client, "SWAPDB 0 4\nDEL other-db\nSET again 1");
    trio.sides().assert_equal();
    run(&mut client, "FLUSHDB");
    trio.sides().assert_equal();
    run(&mut client, "SET x 1\nFLUSHALL\nSET y 1");
    trio.sides().assert_equal();
    assert_eq!(trio.count(), 1);
}

#[test]
fn the_first_attach_takes_everything_but_unmirrored_families() {
    let mut trio = Trio::new("cache_first");
    trio.options = trio
        .options
        .family("match = 'lock:*'\nmirror = false")
        .family("match = 'tmp:*'\nmirror = false");
    run(&mut trio.redis.client(), ALL_TYPES);
    run(&mut trio.redis.client(), "SET lock:a 1\nHSET lock:b f 1");
    let tandem = trio.tandem();
    let mut sides = trio.sides();
    sides.unmirrored = vec!["lock:*".into(), "tmp:*".into()];
    sides.assert_equal();
    let mut client = tandem.client();
    run(
        &mut client,
        "SET lock:c 1
         MSET kept 1 lock:d 1
         RPUSH tmp:list a b c
         RENAME tmp:list list-from-outside
         RPUSH list-from-outside d
         RENAME kept lock:kept
         SADD tmp:set a b
         SADD tmp:set2 b c
         SINTERSTORE mixed tmp:set tmp:set2
         SADD mixed z
         DEL lock:a string",
    );
    sides.assert_equal();
    assert_eq!(trio.postgres.sql("SELECT count(*) FROM tandem.rereads"), "0");
    let allowed = trio
        .postgres
        .sql("SELECT count(*) FROM tandem.keys WHERE convert_from(key, 'UTF8') LIKE 'lock:%'");
    assert_eq!(allowed, "0");
}

#[test]
fn a_restarted_proxy_goes_on_where_it_was() {
    let trio = Trio::new("dual_write");
    let mut tandem = trio.tandem();
    let mut client = tandem.client();
    run(&mut client, "SELECT 5\nHINCRBY h f 1\nSET k 1");
    trio.sides().assert_equal();
    for round in 0..5 {
        tandem.kill9();
        let mut direct = trio.redis.client();
        // The database that was selected in the stream must be remembered across the cut.
        run(&mut direct, "SELECT 5\nHINCRBY h f 1\nINCR k");
        tandem.restart();
        let mut client = tandem.client();
        run(&mut client, "SELECT 5\nHINCRBY h f 1\nINCR k");
        trio.sides().assert_equal();
        let full: u64 = info(&mut client, "mirror_full_syncs").parse().expect("a number");
        assert_eq!(full, 0, "round {round}: a restart must not need a snapshot");
    }
    assert_eq!(trio.redis.client().run("SELECT 5"), Value::ok());
}

/// Redis went, and leads again. Before the news of that the status is of before; and what is written past the proxy while
/// PostgreSQL leads need not stay.
fn wait_back(tandem: &Tandem) {
    wait_for("the news", LIMIT, || tandem.log().contains("link to Redis is down"));
    tandem.wait_streaming();
    tandem.wait_status("lead", "redis");
}

#[test]
fn what_was_deleted_meanwhile_goes_when_the_history_is_the_same() {
    let mut trio = Trio::new("dual_write");
    trio.redis = Redis::options().with("save", "3600 1").start();
    trio.options = trio.options.redis(&trio.redis);
    let mut tandem = trio.tandem();
    run(&mut tandem.client(), "SET revoked 1\nSET kept 1\nSET changed 1");
    trio.sides().assert_equal();
    tandem.kill9();
    let mut direct = trio.redis.client();
    run(&mut direct, "CONFIG SET repl-backlog-size 16384\nDEL revoked\nSET changed 2\nSET new 1");
    let filler = "x".repeat(1000);
    for n in 0..200 {
        direct.call(["SET", &format!("filler:{n}"), &filler]);
    }
    tandem.restart();
    trio.sides().assert_equal();
    assert_eq!(info(&mut tandem.client(), "mirror_full_syncs"), "1");
    // A Redis that was restarted with its data continues the history.
    drop(direct);
    trio.redis.stop();
    trio.redis.restart();
    wait_back(&tandem);
    trio.sides().assert_equal();
    assert!(!tandem.log().contains("PostgreSQL leads"), "the history goes on");
    tandem.allow("replication link");
    tandem.allow("connection to Redis lost");
    tandem.allow("Redis is gone: PostgreSQL takes over");
    tandem.allow("acknowledged by Redis");
}

#[test]
fn an_empty_redis_wipes_nothing_and_gets_everything_back() {
    let mut trio = Trio::new("dual_write");
    let mut tandem = trio.tandem();
    run(&mut tandem.client(), ALL_TYPES);
    trio.sides().assert_equal();
    let (before, _) = trio.sides().postgres_keyspace().expect("readable");
    trio.redis.kill9();
    trio.redis.wipe_disk();
    trio.redis.restart();
    wait_back(&tandem);
    trio.sides().assert_equal();
    let (after, _) = trio.sides().postgres_keyspace().expect("readable");
    let names =
        |keyspace: &support::compare::Keyspace| keyspace.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    tandem.allow("replication link");
    tandem.allow("connection to Redis lost");
    tandem.allow("Redis is gone: PostgreSQL takes over");
    tandem.allow("acknowledged by Redis");
    tandem.allow("PostgreSQL leads");
}

#[test]
fn an_older_redis_overwrites_nothing_newer() {
    let mut trio = Trio::new("dual_write");
    let mut tandem = trio.tandem();
    run(&mut tandem.client(), "SET counter 1\nSET old 1");
    trio.sides().assert_equal();
    // The first snapshot's child may still be ending, and SAVE refuses beside it.
    let mut direct = trio.redis.client();
    let idle = "rdb_bgsave_in_progress:0";
    wait_for("the snapshot's end", LIMIT, || direct.run("INFO persistence").text().contains(idle));
    drop(direct);
    trio.redis.save();
    run(&mut tandem.client(), "INCR counter\nSET new 1\nDEL old");
    trio.sides().assert_equal();
    trio.redis.kill9();
    trio.redis.restart();
    wait_back(&tandem);
    trio.sides().assert_equal();
    assert_eq!(trio.redis.client().run("GET counter"), Value::bulk("2"), "PostgreSQL leads");
    assert_eq!(trio.redis.client().run("GET new"), Value::bulk("1"));
    tandem.allow("replication link");
    tandem.allow("connection to Redis lost");
    tandem.allow("Redis is gone: PostgreSQL takes over");
    tandem.allow("acknowledged by Redis");
    tandem.allow("PostgreSQL leads");
}

#[test]
fn service_goes_on_without_postgres_and_nothing_is_missing_afterwards() {
    let mut trio = Trio::new("dual_write");
    trio.options = trio.options.set("strategy", "ack_timeout_ms", 300);
    let mut tandem = trio.tandem();
    let mut client = tandem.client();
    run(&mut client, ALL_TYPES);
    trio.sides().assert_equal();
    trio.postgres.stop();
    for n in 0..300 {
        client.call(["HINCRBY", "usage", "total", "1"]);
        client.call(["SET", &format!("k{n}"), "v"]);
    }
    assert_eq!(info(&mut client, "mirror_state"), "spooling");
    wait_for("the spool", LIMIT, || info(&mut client, "mirror_spool_bytes") != "0");
    // What waits survives the proxy as well, even when Redis's backlog has moved on.
    run(&mut trio.redis.client(), "CONFIG SET repl-backlog-size 16384");
    tandem.kill9();
    tandem.restart();
    let mut client = tandem.client();
    for _ in 0..300 {
        client.call(["HINCRBY", "usage", "total", "1"]);
    }
    trio.postgres.restart();
    wait_for("the mirror", LIMIT, || info(&mut client, "mirror_state") == "streaming");
    trio.sides().assert_equal();
    assert_eq!(client.run("HGET usage total"), Value::bulk("600"));
    assert_eq!(info(&mut client, "mirror_full_syncs"), "0");
    tandem.allow("PostgreSQL is away");
    tandem.allow("acknowledged by Redis");
}

#[test]
fn a_held_write_is_in_postgres_when_it_is_answered() {
    let trio = Trio::new("dual_write");
    let tandem = trio.tandem();
    let mut client = tandem.client();
    wait_for("the first sync", LIMIT, || info(&mut client, "mirror_state") == "streaming");
    wait_for("held writes", LIMIT, || info(&mut client, "ack_holding") == "1");
    for n in 0..50 {
        let key = format!("key:{n}");
        assert_eq!(client.call(["SET", &key, "v"]), Value::ok());
        let seen =
            trio.postgres.sql(&format!("SELECT count(*) FROM tandem.keys WHERE key = '{key}'"));
        assert_eq!(seen, "1", "{key} was acknowledged");
    }
}

/// What PostgreSQL cannot follow is read again from Redis; the client's answer waits for that too.
fn hold_until_read_again(meanwhile: fn(&mut Postgres), allowed: &str) {
    let mut trio = Trio::new("dual_write");
    trio.options = trio.options.family("match = 'tmp:*'\nmirror = false").allow(allowed);
    trio.options = trio.options.set("strategy", "ack_timeout_ms", 30_000);
    let tandem = trio.tandem();
    tandem.wait_holding(true);
    let mut client = tandem.client();
    run(&mut client, "SET tmp:a begun");
    // Nobody can read the key's state for as long.
    run(&mut trio.redis.client(), "ACL SETUSER default -dump");
    let (redis, postgres) = (&trio.redis, &mut trio.postgres);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            meanwhile(postgres);
            std::thread::sleep(Duration::from_millis(300));
            run(&mut redis.client(), "ACL SETUSER default +dump");
        });
        run(&mut client, "RENAME tmp:a a");
    });
    let query = "SELECT length(value) FROM tandem.strings JOIN tandem.keys ON id = key_id";
    assert_eq!(trio.postgres.sql(query), "5", "acknowledged");
}

#[test]
fn a_held_write_that_is_read_again_is_in_postgres_when_it_is_answered() {
    hold_until_read_again(|_| (), "no line at all");
}

#[test]
fn a_held_write_that_is_read_again_outlives_the_connection_to_postgres() {
    let fail = |postgres: &mut Postgres| {
        postgres.kill9();
        postgres.restart();
    };
    hold_until_read_again(fail, "PostgreSQL is away");
}

/// A key that is read again from Redis becomes known while commands on it go on.
#[test]
fn a_key_is_read_again_under_load() {
    let mut trio = Trio::new("cache_first");
    trio.options = trio.options.family("match = 'tmp:*'\nmirror = false");
    let tandem = trio.tandem();
    run(&mut tandem.client(), "SADD tmp:set a b\nSADD set c");
    tandem.wait_streaming();
    let union = ["SUNIONSTORE", "mixed", "tmp:set", "set"];
    let (mut client, start) = (tandem.client(), std::time::Instant::now());
    let known = "SELECT count(*) FROM tandem.keys WHERE key = 'mixed'";
    let mut seen = false;
    // What PostgreSQL cannot follow comes again with each command, and a hundred times in a batch.
    while !seen && start.elapsed() < Duration::from_secs(10) {
        for _ in 0..20 {
            client.pipeline([union; 100]);
        }
        seen = trio.postgres.sql(known) == "1";
    }
    let rereads: u64 = info(&mut client, "mirror_rereads").parse().expect("a number");
    let commands: u64 = info(&mut client, "commands_total").parse().expect("a number");
    assert!(rereads > 0 && rereads < commands / 4, "{rereads} rereads for {commands} commands");
    assert!(seen, "the key was never known while it was written");
    let mut sides = trio.sides();
    sides.unmirrored = vec!["tmp:*".into()];
    sides.assert_equal();
}
