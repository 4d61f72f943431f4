//! `[[listen.users]]`: users of the proxy have the rights and hear the words that Redis's ACL gives them.

mod clients;
mod rights;
mod rules;

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Client, Postgres, Redis, Tandem, TandemOptions, Value, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

/// `secret`.
const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// A user with the password `secret` and these rules in the words of `ACL SETUSER`, for proxy.toml.
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
    assert_eq!(client.run("PUBLISH c m"), Value::Int(0));
    assert!(text(client.run("PUBLISH __tandem:x pass-over")).contains("NOPERM"));
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
