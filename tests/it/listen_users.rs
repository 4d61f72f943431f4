//! `[[listen.users]]`: users of the proxy have the rights and hear the words that Redis's ACL gives them.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use support::{Client, Postgres, Redis, Tandem, TandemOptions, Value, seed, wait_for};
use tandem::acl::User;

const LIMIT: Duration = Duration::from_secs(30);

/// `secret`.
const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// Names, and rules in the words of `ACL SETUSER`; the password of all is `secret`.
const USERS: &[(&str, &str)] = &[
    ("all", "+@all ~* &*"),
    ("app", "+@all -@dangerous ~app:* ~list &news"),
    ("reader", "+@read +@connection -client|list +multi +exec +discard %R~app:* ~own"),
    ("writer", "+set +del +rename +copy +sort +config|get -hello %W~app:* %RW~other"),
    ("calls", "+@scripting +@transaction +get +@blocking ~app:* ~list"),
    ("nobody", "-@all"),
];

/// The same in proxy.toml.
fn listed(name: &str, rules: &str) -> toml::Value {
    let mut user = toml::Table::new();
    let of = |signs: &[char]| -> toml::Value {
        let rules = rules.split(' ').filter(|rule| rule.starts_with(signs));
        rules.map(toml::Value::from).collect::<Vec<_>>().into()
    };
    user.insert("name".into(), name.into());
    user.insert("passwords".into(), vec![format!("sha256:{HASH}")].into());
    user.insert("commands".into(), of(&['+', '-']));
    user.insert("keys".into(), of(&['~', '%']));
    user.insert("channels".into(), of(&['&']));
    user.insert("unchecked_scripts".into(), true.into());
    user.into()
}

fn with_users(options: TandemOptions, users: &[(&str, &str)]) -> TandemOptions {
    let users: Vec<toml::Value> = users.iter().map(|(name, rules)| listed(name, rules)).collect();
    options.set("listen", "users", users)
}

fn tandem() -> TandemOptions {
    Tandem::new(env!("CARGO_BIN_EXE_tandem"))
}

fn login(tandem: &Tandem, name: &str) -> Client {
    let mut client = tandem.raw_client();
    assert_eq!(client.call(["AUTH", name, "secret"]), Value::ok(), "{name}");
    client
}

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

/// Words that commands take for keys, options, numbers or channels.
const WORDS: &[&str] = &[
    "app:1", "other", "1", "2", "0", "get", "set", "store", "by", "streams", "*", "n*", "news",
    "count", "9", "incrby", "group", "limit",
];

const RULES: &[&str] = &[
    "+@all",
    "+@read",
    "+@write",
    "-@dangerous",
    "+@fast",
    "-@pubsub",
    "+set",
    "-get",
    "+config|get",
    "-config",
    "+client",
    "-client|kill",
    "~app:*",
    "%R~other",
    "%W~app:*",
    "%RW~n*",
    "~*",
    "%R~*",
    "&news",
    "&n*",
    "&*",
];

/// Their specifications take the value of one option for another: the keys that the command itself would find count here.
const BY_OPTIONS: &[&str] =
    &["sort", "georadius", "georadiusbymember", "migrate", "xread", "xreadgroup"];

#[test]
fn rules_decide_as_in_redis() {
    let seed = seed(11);
    let mut rng = StdRng::seed_from_u64(seed);
    let redis = Redis::start();
    let mut client = redis.client();
    let mut commands: Vec<_> = tandem::commands::all()
        .filter(|command| !command.container && !command.name.starts_with("tandem"))
        .filter(|command| !BY_OPTIONS.contains(&command.name))
        .collect();
    commands.sort_by_key(|command| command.name);
    for round in 0..15 {
        let rules: Vec<&str> =
            (0..rng.random_range(2..7)).map(|_| *RULES.choose(&mut rng).expect("some")).collect();
        let mut user = User::default();
        let mut line = vec!["ACL", "SETUSER", "u", "reset"];
        // A pattern that all contains is an error in Redis.
        for rule in &rules {
            let mut next = user.clone();
            next.apply(&(*rule).into()).expect(rule);
            let set = client.call([&line[..], &[rule]].concat());
            if set == Value::ok() {
                (user, _) = (next, line.push(rule));
            }
        }
        for command in &commands {
            let most = command.arity.unsigned_abs() as usize;
            let count = if command.arity < 0 { most + rng.random_range(0..4) } else { most };
            let mut words: Vec<&str> = command.name.split('|').collect();
            while words.len() < count {
                words.push(WORDS.choose(&mut rng).expect("some"));
            }
            let run = client.call([&["ACL", "DRYRUN", "u"], &words[..]].concat());
            if run.is_error() {
                continue;
            }
            let expected = run == Value::ok();
            let checked = user.check(&words);
            assert_eq!(checked.is_ok(), expected, "{round}: {line:?} {words:?}: {run:?}");
            let run = if expected { Value::bulk("OK") } else { run };
            let said = checked.err().and_then(|denied| denied.dry(&words));
            assert_eq!(said.unwrap_or_else(|| "OK".into()), run.text(), "{line:?} {words:?}");
        }
    }
}

/// Redis itself looks for the keys of these by the first or the last word that looks like the option.
#[test]
fn the_value_of_an_option_hides_no_key() {
    let mut user = User::default();
    for rule in ["+@all", "~app:*"] {
        user.apply(&rule.into()).expect(rule);
    }
    for (line, allowed) in [
        ("sort app:1 store other by store", false),
        ("sort app:1 by store store app:2", true),
        ("xreadgroup count 1 group streams c streams other app:1 > >", false),
        ("xreadgroup group streams c streams app:1 >", true),
        ("migrate h 1  0 10 keys other keys app:1", false),
        ("migrate h 1  0 10 auth keys keys app:1", true),
        ("georadius app:1 1 1 1 m store app:1 store other", false),
        ("georadius app:1 1 1 1 m count store storedist other", false),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(user.check(&words).is_ok(), allowed, "{line}");
    }
}

#[test]
fn without_a_password_nobody_but_a_user_gets_in() {
    let redis = Redis::start();
    let options = tandem().redis(&redis).mode("redis_only");
    let users = [("app", "+@all ~app:* &*"), ("redis", "+get ~*")];
    let tandem = with_users(options, &users).start();
    // Redis's own users are none of the proxy's.
    assert_eq!(redis.client().run("ACL SETUSER root on nopass +@all ~* &*"), Value::ok());
    let mut client = tandem.raw_client();
    let text = |value: Value| format!("{value:?}");
    for line in ["GET app:1", "TANDEM STATUS", "ACL WHOAMI", "SELECT 1", "NOSUCH"] {
        assert!(text(client.run(line)).contains("NOAUTH Authentication required."), "{line}");
    }
    for line in ["AUTH root x", "AUTH default x", "AUTH x", "AUTH app x", "HELLO 3 AUTH root x"] {
        assert!(text(client.run(line)).contains("WRONGPASS"), "{line}");
    }
    assert_eq!(client.run("AUTH app secret"), Value::ok());
    // Within a transaction Redis would do these for the connection of the proxy.
    for line in ["AUTH root x", "HELLO 2 AUTH root x", "ACL SETUSER app +@all", "ACL WHOAMI"] {
        assert_eq!(client.run("MULTI"), Value::ok());
        assert!(text(client.run(line)).contains("not allowed inside a transaction"), "{line}");
        assert!(text(client.run("EXEC")).contains("EXECABORT"), "{line}");
    }
    assert_eq!(client.run("ACL WHOAMI"), Value::bulk("app"));
    assert_eq!(client.run("ACL USERS"), Value::bulks(["app", "redis"]));
    let line = format!("user redis on #{HASH} ~* resetchannels -@all +get");
    assert_eq!(client.run("ACL LIST").items()[1], Value::bulk(line));
    assert!(text(client.run("ACL SETUSER root on")).contains("proxy.toml"));
    let denied = "This user has no permissions to run the 'set' command";
    assert_eq!(client.run("ACL DRYRUN redis SET k v"), Value::bulk(denied));
    assert_eq!(client.run("SET app:1 v"), Value::ok());
    assert!(text(client.run("SET other v")).contains("NOPERM"));
    assert_eq!(redis.client().run("EXISTS other"), Value::Int(0));
    assert!(client.run("CLIENT INFO").text().contains("user=app"));
    let mut other = login(&tandem, "redis");
    assert_eq!(other.run("GET other"), Value::Nil);
    assert_eq!(client.run("CLIENT KILL USER redis"), Value::Int(1));
}

#[test]
fn a_default_user_is_whoever_names_none() {
    let redis = Redis::options().with("requirepass", "hidden").start();
    let mut open = listed("default", "+@read +tandem ~*");
    let table = open.as_table_mut().expect("a table");
    table.remove("passwords");
    table.insert("nopass".into(), true.into());
    let options = tandem().redis(&redis).mode("redis_only");
    let tandem = options.set("listen", "users", vec![open]).start();
    let mut client = tandem.raw_client();
    let text = |value: Value| format!("{value:?}");
    for _ in 0..2 {
        assert_eq!(client.run("GET k"), Value::Nil);
        assert!(text(client.run("SET k v")).contains("NOPERM"));
        assert!(text(client.run("AUTH hidden")).contains("without any password configured"));
        assert_eq!(client.run("AUTH default x"), Value::ok());
        assert!(text(client.run("ACL WHOAMI")).contains("NOPERM"));
        assert_eq!(text(client.run("RESET")), "Simple(\"RESET\")");
    }
}

/// A reply with all its parts.
fn shown(value: Value) -> String {
    match value {
        Value::Array(items) => items.into_iter().map(shown).collect::<Vec<_>>().join(" "),
        Value::Bulk(_) => value.text(),
        other => format!("{other:?}"),
    }
}

/// Only a user who may run what is in the category admin changes how the proxy works.
#[test]
fn a_switch_of_the_strategy_needs_the_right() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let options = tandem().redis(&redis).postgres(&postgres).mode("redis_only");
    let users = [
        ("op", "+@admin +tandem"),
        ("app", "+@all -@admin ~* &*"),
        ("looks", "+tandem|status"),
        ("named", "+tandem -tandem|strategy"),
    ];
    let tandem = with_users(options, &users).start();
    for name in ["app", "looks", "named"] {
        let mut client = login(&tandem, name);
        assert!(shown(client.run("TANDEM STATUS")).contains("redis_only"), "{name}");
        for line in ["TANDEM STRATEGY cache_first", "TANDEM STRATEGY cache_first FORCE"] {
            let denied = "NOPERM this user has no permissions to run the 'tandem|strategy' command";
            assert!(shown(client.run(line)).contains(denied), "{name}");
        }
    }
    assert!(shown(login(&tandem, "app").run("TANDEM STRATEGY")).contains("redis_only"));
    assert_eq!(login(&tandem, "op").run("TANDEM STRATEGY cache_first"), Value::ok());
    let status = shown(login(&tandem, "app").run("TANDEM STATUS"));
    assert!(status.contains("user op, a client from"), "{status}");
}

fn hang_up(tandem: &Tandem, from: &str, to: &str) {
    let path = tandem.dir().join("proxy.toml");
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).expect("written");
    let before = tandem.log().matches("the configuration was").count();
    let pid = Pid::from_raw(tandem.process().pid().try_into().expect("a pid"));
    kill(pid, Signal::SIGHUP).expect("sent");
    wait_for("the configuration to be read", LIMIT, || {
        tandem.log().matches("the configuration was").count() > before
    });
}

#[test]
fn a_signal_changes_users_and_cuts_off_who_has_lost_rights() {
    let redis = Redis::options().with("requirepass", "hidden").start();
    let options = tandem().redis(&redis).mode("redis_only");
    let users = [("a", "+get ~a:*"), ("b", "+get ~b:*")];
    let mut tandem = with_users(options, &users).start();
    let (mut a, mut b, mut own) = (login(&tandem, "a"), login(&tandem, "b"), tandem.client());
    hang_up(&tandem, "~b:*", "~c:*");
    wait_for("b to be cut off", LIMIT, || b.closed());
    let mut b = login(&tandem, "b");
    assert_eq!(b.run("GET c:1"), Value::Nil);
    assert!(b.run("GET b:1").is_error());
    assert_eq!((a.run("GET a:1"), own.run("GET x")), (Value::Nil, Value::Nil));
    // Another password beside the first one disconnects nobody; a plain one is refused, and nothing changes.
    let second = format!("\"sha256:{HASH}\", \"sha256:{}\"", "0".repeat(64));
    hang_up(&tandem, &format!("\"sha256:{HASH}\""), &second);
    assert_eq!((a.run("GET a:1"), b.run("GET c:1")), (Value::Nil, Value::Nil));
    tandem.allow("the configuration was not read again");
    hang_up(&tandem, &format!("\"sha256:{}\"", "0".repeat(64)), "\"plain\"");
    assert!(!tandem.log().contains("plain"), "{}", tandem.log());
    assert_eq!(login(&tandem, "a").run("GET a:1"), Value::Nil);
    assert_eq!(a.run("GET a:1"), Value::Nil);
    hang_up(&tandem, "name = \"a\"", "name = \"z\"");
    hang_up(
        &tandem,
        "\"plain\"",
        "\"#0000000000000000000000000000000000000000000000000000000000000000\"",
    );
    wait_for("a to be cut off", LIMIT, || a.closed());
    assert!(tandem.raw_client().run("AUTH a secret").is_error());
}

#[test]
fn mistakes_are_named_before_anything_starts() {
    let redis = Redis::start();
    let check = |users: Vec<toml::Value>| {
        let tandem = tandem().redis(&redis).set("listen", "users", users).prepare();
        let config = tandem.dir().join("proxy.toml");
        let mut check = Command::new(env!("CARGO_BIN_EXE_tandem"));
        let run = check.arg("check-config").arg("--config").arg(config).output().expect("run");
        let mut said = String::from_utf8_lossy(&run.stdout).into_owned();
        write!(said, "{}", String::from_utf8_lossy(&run.stderr)).expect("written");
        (run.status.success(), said)
    };
    let user = |key: &str, value: toml::Value| {
        let mut user = listed("alice", "+@read ~*");
        user.as_table_mut().expect("a table").insert(key.into(), value);
        user
    };
    let (valid, said) = check(vec![user("keys", vec!["a:*"].into())]);
    assert!(valid, "{said}");
    for (user, word) in [
        (user("passwords", vec!["hidden"].into()), "sha256sum"),
        (user("commands", vec!["+@nosuch"].into()), "+@nosuch"),
        (user("nopass", true.into()), "exclude each other"),
        (user("passwords", toml::Value::Array(vec![])), "nopass = true"),
    ] {
        let (valid, said) = check(vec![user]);
        assert!(!valid && said.contains(word) && said.contains("alice"), "{said}");
        assert!(!said.contains("hidden"), "{said}");
    }
}

/// Whoever answers: the standby hands on what it has looked at itself, and PostgreSQL stands in for Redis.
#[test]
fn rights_hold_at_every_proxy_and_when_redis_is_gone() {
    let (mut redis, postgres) =
        (Redis::options().with("requirepass", "hidden").start(), Postgres::start());
    let users = [("app", "+@all -@admin -@scripting ~app:* &*")];
    let start = || {
        let options = tandem().redis(&redis).postgres(&postgres).mode("dual_write");
        with_users(options, &users).allow("").start()
    };
    let first = start();
    wait_for("a leader", LIMIT, || first.status()["role"] == "leader");
    first.wait_holding(true);
    let second = start();
    wait_for("a standby", LIMIT, || second.status()["role"] == "standby");
    let look = |round: &str| {
        for tandem in [&first, &second] {
            let mut client = login(tandem, "app");
            assert_eq!(client.call(["SET", "app:1", round]), Value::ok(), "{round}");
            assert_eq!(client.run("GET app:1"), Value::bulk(round));
            assert_eq!(client.run("ACL WHOAMI"), Value::bulk("app"));
            for line in ["SET other v", "GET other", "CONFIG GET *", "EVAL return(1) 0"] {
                let reply = format!("{:?}", client.run(line));
                assert!(reply.contains("NOPERM this user"), "{round}: {line}: {reply}");
            }
            let whole =
                [vec!["MULTI"], vec!["SET", "app:1", "q"], vec!["GET", "other"], vec!["EXEC"]];
            let replies = client.pipeline(whole);
            assert!(replies[2].is_error() && replies[3].is_error(), "{round}: {replies:?}");
            assert!(tandem.raw_client().run("GET app:1").is_error());
        }
    };
    look("redis");
    redis.kill9();
    wait_for("PostgreSQL to stand in", LIMIT, || first.status()["lead"] == "postgres");
    wait_for("the other to hand on", LIMIT, || second.status()["mode"] == "forwarding");
    look("postgres");
}

#[test]
fn redis_cli_logs_in_as_a_user() {
    let redis = Redis::start();
    let options = tandem().redis(&redis).mode("redis_only");
    let tandem = with_users(options, &[("app", "+@all -@scripting ~app:* &*")]).start();
    for protocol in ["-2", "-3"] {
        let run = |words: &[&str]| {
            let port = tandem.port().to_string();
            let login =
                ["-p", &port, protocol, "--user", "app", "--pass", "secret", "--no-auth-warning"];
            let run = Command::new("redis-cli").args(login).args(words).output().expect("run");
            String::from_utf8_lossy(&run.stdout).trim().to_owned()
        };
        assert_eq!(run(&["SET", "app:1", "v"]), "OK");
        assert_eq!(run(&["ACL", "WHOAMI"]), "app");
        assert!(run(&["SET", "b", "v"]).starts_with("NOPERM this user has no permissions"));
    }
}
