//! `postgres_only`: the server around the data, as clients and operators see it.

use std::time::Duration;

use support::{Postgres, Value, wait_for};

use crate::served::start;

const LIMIT: Duration = Duration::from_secs(20);

/// A script that does not end holds the only thread: others hear so, queue nothing, and can end it.
#[test]
fn a_slow_script_is_answered_for_and_killed() {
    let postgres = Postgres::start();
    let tandem = start(&postgres);
    let (mut client, mut other) = (tandem.client(), tandem.client());
    assert_eq!(client.run("CONFIG SET busy-reply-threshold 20"), Value::ok());
    assert_eq!(other.run("MULTI"), Value::ok());
    assert!(!other.run("SET k 1").is_error());
    let mut script = tandem.raw_client();
    script.send(b"EVAL \"while true do end\" 0\r\n").expect("sent");
    // Who asks sooner may share the script's connection, and waits with it.
    std::thread::sleep(Duration::from_millis(400));
    let is_busy = |value: &Value| format!("{value:?}").contains("BUSY Redis is busy");
    wait_for("the script to be slow", LIMIT, || is_busy(&client.run("PING")));
    assert!(is_busy(&other.run("SET k 2")));
    let kill = client.run("FUNCTION KILL");
    assert!(is_busy(&kill), "{kill:?}");
    // Somebody new is let in meanwhile.
    assert!(is_busy(&tandem.raw_client().run("GET k")));
    assert_eq!(client.run("SCRIPT KILL"), Value::ok());
    let ended = script.receive().expect("an end");
    assert!(format!("{ended:?}").contains("killed by user"), "{ended:?}");
    let exec = other.run("EXEC");
    assert!(format!("{exec:?}").contains("EXECABORT"), "{exec:?}");
    assert_eq!(client.run("GET k"), Value::Nil);
    let endless = "#!lua name=l\nwhile true do end";
    let refused = client.call(["FUNCTION", "LOAD", endless]);
    assert!(format!("{refused:?}").contains("FUNCTION LOAD timeout"), "{refused:?}");
}

/// A user may do what the rules say, also within scripts, and nothing else.
#[test]
fn users_are_held_to_their_rules() {
    let postgres = Postgres::start();
    let mut tandem = start(&postgres);
    let (mut admin, mut bob) = (tandem.client(), tandem.client());
    let rules = "ACL SETUSER bob on >secret +@scripting +set +client|id ~x* -evalsha";
    assert_eq!(admin.run(rules), Value::ok());
    assert!(bob.run("AUTH bob wrong").is_error());
    assert_eq!(bob.run("AUTH bob secret"), Value::ok());
    assert_eq!(bob.run("SET x1 v"), Value::ok());
    for refused in ["SET y v", "GET x1", "CONFIG GET *", "EVALSHA x 0", "ACL WHOAMI", "PUBLISH c m"]
    {
        let answer = bob.run(refused);
        assert!(format!("{answer:?}").contains("NOPERM"), "{refused}: {answer:?}");
    }
    let script = "return redis.pcall('get','x1')";
    assert!(bob.call(["EVAL", script, "1", "x1"]).is_error());
    assert!(!admin.call(["EVAL", script, "1", "x1"]).is_error());
    assert!(admin.run("ACL SETUSER eve (+get)").is_error());
    assert_eq!(admin.run("ACL DELUSER bob"), Value::Int(1));
    assert!(tandem.client().run("AUTH bob secret").is_error());
    // Who is deleted loses the connections.
    tandem.allow("connection to PostgreSQL lost");
}

#[test]
fn slow_commands_are_listed() {
    let postgres = Postgres::start();
    let tandem = start(&postgres);
    let mut client = tandem.client();
    for setting in ["slowlog-log-slower-than 0", "slowlog-max-len 3"] {
        assert_eq!(client.run(&format!("CONFIG SET {setting}")), Value::ok());
    }
    client.run("SLOWLOG RESET");
    for n in 0..5 {
        client.run(&format!("SET k {n}"));
    }
    assert_eq!(client.run("SLOWLOG LEN"), Value::Int(3));
    let newest = client.run("SLOWLOG GET 2").items().remove(1).items().remove(3);
    assert_eq!(newest, Value::bulks(["SET", "k", "4"]));
}

/// Beyond `maxmemory` with noeviction what needs memory is refused, in transactions and scripts too.
#[test]
fn memory_beyond_the_limit_is_refused() {
    let postgres = Postgres::start();
    let tandem = start(&postgres);
    let mut client = tandem.client();
    client.run("SET k 1");
    assert_eq!(client.run("CONFIG SET maxmemory 1"), Value::ok());
    for refused in ["SET k 2", "EVAL return(redis.call('set','k',2)) 0"] {
        let answer = client.run(refused);
        assert!(format!("{answer:?}").contains("OOM command not allowed"), "{answer:?}");
    }
    assert_eq!(client.run("GET k"), Value::bulk("1"));
    assert_eq!(client.run("DEL k"), Value::Int(1));
    assert_eq!(client.run("CONFIG SET maxmemory 0"), Value::ok());
    assert_eq!(client.run("SET k 2"), Value::ok());
}
