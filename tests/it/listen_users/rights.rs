//! The same talks with Redis and its ACL, and through the proxy: the same replies.

use support::{Client, Postgres, Redis, Value};

use super::{HASH, tandem, with_users};

/// Names, and rules in the words of `ACL SETUSER`; the password of all is `secret`.
const USERS: &[(&str, &str)] = &[
    ("all", "+@all ~* &*"),
    ("app", "+@all -@dangerous ~app:* ~list &news"),
    ("reader", "+@read +@connection -client|list +multi +exec +discard %R~app:* ~own"),
    ("writer", "+set +del +rename +copy +sort +config|get -hello %W~app:* %RW~other"),
    ("calls", "+@scripting +@transaction +get +@blocking +sort ~app:* ~list"),
    ("nobody", "-@all"),
];

/// What each user says, with every key in place of `{}`.
const LINES: &[&str] = &[
    "ACL WHOAMI",
    "SET {} v",
    "SET {} v GET",
    "GET {}",
    "EXISTS {}",
    "APPEND {} x",
    "MSET {} 1 app:2 2",
    "MGET app:2 {}",
    "COPY {} app:3",
    "RENAME {} app:4",
    "BITFIELD {} GET u8 0",
    "BITFIELD {} SET u8 0 1",
    "RPUSH list 2 1",
    "SORT list LIMIT 0 1",
    "SORT list BY nosort",
    "SORT list BY w* GET #",
    "SORT list STORE {}",
    "SORT list STORE {} BY store",
    "LMPOP 2 list {} LEFT",
    "BLPOP list {} 1",
    "XREAD STREAMS app:s {} 0 0",
    "EVAL return(1) 1 {}",
    "EVAL_RO return(1) 2 app:1 {}",
    "EVAL return(1) 5 {}",
    "EVALSHA 0000000000000000000000000000000000000000 1 {}",
    "OBJECT REFCOUNT {}",
    "OBJECT NOSUCH {}",
    "OBJECT",
    "TYPE {}",
    "PUBLISH news m",
    "PUBLISH {} m",
    "CONFIG GET maxclients",
    "CONFIG SET maxclients 10000",
    "CLIENT LIST ID 99999999",
    "CLIENT SETNAME me",
    "CLIENT GETNAME",
    "CLIENT NO-EVICT ON",
    "NOSUCH {}",
    "GET",
    "DEL {}",
    "SELECT 3",
    "SELECT 0",
    "FLUSHDB",
    "MULTI",
    "GET {}",
    "SET {} q",
    "EXEC",
    "MULTI",
    "GET app:1",
    "DISCARD",
    "MULTI",
    "INCR app:n",
    "GET app:n",
    "EXEC",
    "EXEC",
    "WATCH {}",
    "PING",
    "AUTH nobody wrong",
    "AUTH wrong",
    "HELLO 3 AUTH app wrong",
    "HELLO 2 AUTH all secret SETNAME x y",
    "ACL WHOAMI",
    "RESET",
    "GET {}",
    "AUTH nosuch secret",
    "AUTH default secret",
    "ACL WHOAMI",
];

/// Those that end what else the connection may do.
const LAST: &[&str] = &[
    "SUBSCRIBE news",
    "SUBSCRIBE app:1",
    "PSUBSCRIBE news",
    "PSUBSCRIBE n*",
    "SSUBSCRIBE news",
    "MONITOR",
];

fn talk(mut client: Client, name: &str, key: &str) -> Vec<String> {
    let mut said = vec![format!("AUTH {name}: {:?}", client.call(["AUTH", name, "secret"]))];
    for line in LINES {
        let line = line.replace("{}", key);
        said.push(format!("{line}: {:?}", client.run(&line)));
    }
    said
}

/// All replies to a transaction that comes in one piece.
fn at_once(mut client: Client, name: &str, key: &str) -> Vec<String> {
    let lines =
        [&format!("AUTH {name} secret"), "MULTI", "GET app:1", &format!("SET {key} v"), "EXEC"];
    let commands = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    client.pipeline(commands).into_iter().map(|reply| format!("{reply:?}")).collect()
}

fn same_as_redis(mode: &str) {
    let (redis, postgres) =
        (Redis::options().with("requirepass", "secret").start(), Postgres::start());
    let straight = Redis::options().with("requirepass", "secret").start();
    let options = tandem().redis(&redis).postgres(&postgres).mode(mode);
    let tandem = with_users(options, USERS).start();
    if mode == "dual_write" {
        tandem.wait_holding(true);
    }
    let (mut admin, mut own) = (straight.client(), tandem.client());
    for (name, rules) in USERS {
        let line = format!("ACL SETUSER {name} on resetchannels #{HASH} {rules}");
        assert_eq!(admin.run(&line), Value::ok(), "{line}");
    }
    let connect = || Client::connect(("127.0.0.1", straight.port())).expect("connected");
    for (name, _) in USERS {
        for key in ["app:1", "other"] {
            for client in [&mut admin, &mut own] {
                assert_eq!(client.run("FLUSHALL"), Value::ok());
                client.run("SET app:1 a");
                client.run("SET other o");
            }
            assert_eq!(talk(tandem.raw_client(), name, key), talk(connect(), name, key), "{name}");
            let got = at_once(tandem.raw_client(), name, key);
            assert_eq!(got, at_once(connect(), name, key), "{name}, {key}");
        }
        for line in LAST {
            let [got, expected] = [tandem.raw_client(), connect()].map(|mut client| {
                client.call(["AUTH", name, "secret"]);
                client.run(line)
            });
            assert_eq!(got, expected, "{name}: {line}");
        }
    }
}

#[test]
fn users_have_the_rights_that_redis_gives_in_redis_only() {
    same_as_redis("redis_only");
}

#[test]
fn users_have_the_rights_that_redis_gives_in_dual_write() {
    same_as_redis("dual_write");
}

#[test]
fn users_have_the_rights_that_redis_gives_in_postgres_only() {
    same_as_redis("postgres_only");
}
