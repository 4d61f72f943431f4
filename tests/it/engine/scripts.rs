//! Scripts answer as in Redis: each of `scripts.txt` runs on a real Redis and in the engine, in both
//! protocols, and the replies are compared.

use std::time::Duration;

use bytes::Bytes;
use support::{Client, Redis, Value};
use tandem::engine::script::{Alone, Kind, Scripts};
use tandem::engine::{Answer, Call, Expiry, Keyspace, Stop, execute};
use tandem::resp::{Protocol, Reply};

use super::replies::seen;

/// Redis and the engine, side by side.
struct Pair {
    client: Client,
    keyspace: Keyspace,
    scripts: Scripts,
    protocol: Protocol,
}

impl Pair {
    fn new(redis: &Redis, protocol: Protocol) -> Pair {
        let mut client = redis.client();
        if protocol == Protocol::Resp3 {
            client.run("HELLO 3");
        }
        for line in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"] {
            client.run(line);
        }
        let keyspace = Keyspace::new(1, true, Expiry::ByClock, 1);
        Pair { client, keyspace, scripts: Scripts::new(Box::new(Alone)), protocol }
    }

    fn engine(&mut self, words: &[Vec<u8>]) -> Answer<Reply> {
        let args: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
        let call = Call { db: 0, protocol: self.protocol, args: &args, from_log: false };
        match Scripts::takes(&args[0]) {
            true => self.scripts.execute(&mut self.keyspace, &call),
            false => execute(&mut self.keyspace, &call),
        }
    }

    /// The difference between both answers, if there is one.
    fn differs(&mut self, words: &[Vec<u8>]) -> Option<String> {
        let theirs = self.client.call(words);
        let protocol = self.protocol;
        let ours = seen(self.engine(words), protocol);
        let (theirs, ours) = (format!("{theirs:?}"), format!("{ours:?}"));
        (theirs != ours).then(|| format!("Redis:  {theirs}\nengine: {ours}"))
    }
}

fn words(line: &[&str]) -> Vec<Vec<u8>> {
    line.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn compare(scripts: &str, prepare: &[&str]) {
    let redis = Redis::start();
    let (mut differences, mut count) = (Vec::new(), 0);
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut pair = Pair::new(&redis, protocol);
        for line in prepare {
            let line: Vec<&str> = line.split(' ').collect();
            assert_eq!(pair.differs(&words(&line)), None, "{line:?}");
        }
        for script in scripts.split("\n\n").map(str::trim).filter(|script| !script.is_empty()) {
            for command in ["EVAL", "EVAL_RO"] {
                let line = words(&[command, script, "2", "key1", "key2", "one", "2", "three"]);
                count += 1;
                if let Some(difference) = pair.differs(&line) {
                    differences.push(format!("{command} {protocol:?}\n{script}\n{difference}\n"));
                }
            }
        }
    }
    println!("{count} scripts");
    assert!(count > 20);
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// What the scripts find.
const DATA: &[&str] = &[
    "SET s value",
    "SET n 10",
    "RPUSH l a b c",
    "HSET h f 1",
    "SADD st x",
    "ZADD z 1.5 a 2 b",
    "XADD x 1-1 f v",
];

#[test]
fn calls_conversions_and_the_sandbox() {
    compare(include_str!("scripts/core.txt"), DATA);
}

#[test]
fn libraries() {
    compare(include_str!("scripts/libraries.txt"), DATA);
}

/// Libraries, functions and what is said of them.
#[test]
fn functions() {
    const LIBRARY: &str = "#!lua name=lib\n\
        local function get(keys, args) return redis.call('get', keys[1]) end\n\
        redis.register_function('get', get)\n\
        redis.register_function{function_name='read', callback=get, flags={'no-writes'}, \
        description='reads'}\n\
        redis.register_function('set', function(keys, args)\n\
        return redis.call('set', keys[1], args[1]) end)\n\
        redis.register_function('fails', function() error('oops') end)\n\
        redis.register_function('both', function(keys, args) return {keys, args} end)\n\
        redis.register_function('global', function() leaked = 1 end)\n\
        redis.register_function('late', function() redis.register_function('x', get) end)\n";
    let bad = [
        "return 1",
        "#!lua\nreturn 1",
        "#!lua name=bad",
        "#!lua name=bad\n",
        "#!lua name=bad\nreturn 1",
        "#!lua name=bad-name\nreturn 1",
        "#!lua name=a name=b\nreturn 1",
        "#!lua what=x\nreturn 1",
        "#!python name=bad\nreturn 1",
        "#!lua name=bad\nsyntax error",
        "#!lua name=bad\nerror('at load')",
        "#!lua name=bad\nredis.call('get', 'x')",
        "#!lua name=bad\nmath.random()",
        "#!lua name=bad\nx = 1",
        "#!lua name=bad\nredis.register_function()",
        "#!lua name=bad\nredis.register_function('a')",
        "#!lua name=bad\nredis.register_function('a', 1)",
        "#!lua name=bad\nredis.register_function(1, function() end)",
        "#!lua name=bad\nredis.register_function({}, function() end)",
        "#!lua name=bad\nredis.register_function('a-b', function() end)",
        "#!lua name=bad\nredis.register_function{}",
        "#!lua name=bad\nredis.register_function{function_name='a'}",
        "#!lua name=bad\nredis.register_function{function_name={}}",
        "#!lua name=bad\nredis.register_function{function_name='a', callback=1}",
        "#!lua name=bad\nredis.register_function{function_name='a', callback=error, flags=1}",
        "#!lua name=bad\nredis.register_function{function_name='a', callback=error, flags={'x'}}",
        "#!lua name=bad\nredis.register_function{function_name='a', callback=error, what=1}",
        "#!lua name=bad\nlocal f = function() end redis.register_function('a', f) \
         redis.register_function('a', f)",
        "#!lua name=bad\nredis.register_function('get', function() end)",
        LIBRARY,
    ];
    let mut lines: Vec<Vec<&str>> = vec![
        vec!["FCALL", "get", "1", "s"],
        vec!["FUNCTION", "LIST"],
        vec!["FUNCTION", "STATS"],
        vec!["FUNCTION", "LOAD", LIBRARY],
    ];
    lines.extend(bad.map(|source| vec!["FUNCTION", "LOAD", source]));
    for line in [
        "FUNCTION LOAD",
        "FUNCTION LOAD WHAT x",
        "FUNCTION STATS",
        "FUNCTION KILL",
        "FUNCTION",
        "FUNCTION NOSUCH",
        "FUNCTION HELP",
        "FUNCTION STATS x",
        "FUNCTION LIST LIBRARYNAME",
        "FUNCTION LIST WHAT",
        "FUNCTION LIST LIBRARYNAME no*",
        "FUNCTION DELETE",
        "SCRIPT",
        "FUNCTION DELETE nosuch",
        "FCALL get 1 s",
        "FCALL read 1 s",
        "FCALL_RO read 1 s",
        "FCALL_RO get 1 s",
        "FCALL set 1 k v",
        "FCALL get 1 k",
        "FCALL fails 0",
        "FCALL nosuch 0",
        "FCALL both 2 a b c d",
        "FCALL both 3 a b",
        "FCALL both -1",
        "FCALL both x",
        "FCALL both",
        "FCALL global 0",
        "FCALL late 0",
        "FCALL GET 1 s",
        "FUNCTION FLUSH WHAT",
        "FUNCTION FLUSH SYNC ASYNC",
        "FUNCTION RESTORE x",
        "FUNCTION RESTORE x WHAT",
        "FUNCTION RESTORE",
        "FUNCTION DUMP x",
        "SCRIPT NOSUCH",
        "SCRIPT HELP",
        "SCRIPT LOAD",
        "SCRIPT FLUSH WHAT",
        "SCRIPT FLUSH",
        "SCRIPT EXISTS",
        "SCRIPT KILL",
        "SCRIPT KILL x",
        "EVALSHA x 0",
        "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
        "EVAL",
        "EVAL x",
        "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x",
    ] {
        lines.push(line.split(' ').collect());
    }
    lines.push(vec!["SCRIPT", "LOAD", "return 1"]);
    lines.push(vec!["SCRIPT", "LOAD", "return ="]);
    lines.push(vec!["EVALSHA", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", "0"]);
    lines.push(vec!["SCRIPT", "EXISTS", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "x"]);
    for count in ["x", "-1", "2", ""] {
        lines.push(vec!["EVAL", "return 1", count, "a"]);
    }
    for line in ["FUNCTION LIST", "FUNCTION LIST WITHCODE LIBRARYNAME LI*"] {
        lines.push(line.split(' ').collect());
    }
    let redis = Redis::start();
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut pair = Pair::new(&redis, protocol);
        assert_eq!(pair.differs(&words(&["SET", "s", "value"])), None);
        let mut differences = Vec::new();
        for line in &lines {
            // The functions of a library have no order in Redis.
            let list = line[..2.min(line.len())] == ["FUNCTION", "LIST"];
            let difference =
                if list { pair.lists_differ(&words(line)) } else { pair.differs(&words(line)) };
            if let Some(difference) = difference {
                differences.push(format!("{protocol:?} {line:?}\n{difference}\n"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        pair.dumps_are_exchanged(LIBRARY);
    }
}

/// With every list of lists in one order.
fn sorted(value: Value) -> Value {
    let Value::Array(items) = value else {
        let Value::Map(pairs) = value else { return value };
        return Value::Map(pairs.into_iter().map(|(k, v)| (sorted(k), sorted(v))).collect());
    };
    let mut items: Vec<Value> = items.into_iter().map(sorted).collect();
    if items.iter().all(|item| matches!(item, Value::Array(_) | Value::Map(_))) {
        items.sort_by_key(|item| format!("{item:?}"));
    }
    Value::Array(items)
}

impl Pair {
    fn lists_differ(&mut self, words: &[Vec<u8>]) -> Option<String> {
        let theirs = self.client.call(words);
        let ours = seen(self.engine(words), self.protocol);
        let [theirs, ours] = [theirs, ours].map(|list| format!("{:?}", sorted(list)));
        (theirs != ours).then(|| format!("Redis:  {theirs:?}\nengine: {ours:?}"))
    }

    /// Each side restores what the other has dumped.
    fn dumps_are_exchanged(&mut self, library: &str) {
        let dump = |value: Value| match value {
            Value::Bulk(dump) => dump,
            other => panic!("{other:?}"),
        };
        // Of two libraries either may be the first that is in the way.
        assert_eq!(self.differs(&words(&["FUNCTION", "DELETE", "bad"])), None);
        let theirs = dump(self.client.run("FUNCTION DUMP"));
        let ours = dump(seen(self.engine(&words(&["FUNCTION", "DUMP"])), self.protocol));
        let restore = |payload: &[u8], policy: &str| {
            [words(&["FUNCTION", "RESTORE"]), vec![payload.to_vec(), policy.into()]].concat()
        };
        let ok = Value::ok();
        assert_eq!(self.client.call(restore(&ours, "REPLACE")), ok);
        assert_eq!(seen(self.engine(&restore(&theirs, "REPLACE")), self.protocol), ok);
        assert_eq!(self.differs(&restore(&ours, "APPEND")), None);
        assert_eq!(self.differs(&restore(&ours, "FLUSH")), None);
        assert_eq!(self.differs(&words(&["FCALL", "get", "1", "s"])), None);
        assert_eq!(self.differs(&words(&["FUNCTION", "LOAD", "REPLACE", library])), None);
        assert_eq!(self.differs(&words(&["FUNCTION", "DELETE", "lib"])), None);
        assert_eq!(self.differs(&words(&["FCALL", "get", "1", "s"])), None);
        assert_eq!(self.differs(&words(&["FUNCTION", "FLUSH"])), None);
    }
}

/// A script that does not end, whatever it catches, is killed from another thread.
#[test]
fn an_endless_script_is_killed() {
    let mut keyspace = Keyspace::new(1, true, Expiry::ByClock, 1);
    let mut scripts = Scripts::new(Box::new(Alone));
    let running = scripts.running();
    assert_eq!(
        running.kill(Kind::Eval),
        Err(Stop::error("NOTBUSY No scripts in execution right now."))
    );
    let killer = std::thread::spawn(move || {
        while running.busy(Duration::from_millis(50)).is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(running.kill(Kind::Function).is_err());
        assert_eq!(running.kill(Kind::Eval), Ok(Reply::OK));
    });
    let source = "while true do pcall(function() while true do end end) end";
    let args = ["EVAL", source, "0"].map(Bytes::from);
    let call = Call { db: 0, protocol: Protocol::Resp2, args: &args, from_log: false };
    let answer = scripts.execute(&mut keyspace, &call);
    killer.join().expect("the killer");
    let Err(Stop::Error(text)) = answer else { panic!("{answer:?}") };
    assert!(text.starts_with("ERR Script killed by user with SCRIPT KILL... script: "), "{text}");
    assert!(text.ends_with(", on @user_script:1."), "{text}");
    let args = ["EVAL", "return 1", "0"].map(Bytes::from);
    let call = Call { args: &args, ..call };
    assert_eq!(scripts.execute(&mut keyspace, &call), Ok(Reply::Int(1)));
}

/// A script that takes more memory than it may fails, and the next one runs.
#[test]
fn memory_is_bounded() {
    let mut keyspace = Keyspace::new(1, true, Expiry::ByClock, 1);
    let mut scripts = Scripts::new(Box::new(Alone));
    scripts.max_bytes = 8 << 20;
    let hungry = "local t = {} while true do t[#t + 1] = string.rep('x', 1000) .. #t end";
    // Of small replies many do not fit either, nor does one that is large.
    let replies = "for i = 1, 500 do redis.call('RPUSH', 'k', i) end
                   local t = {} while true do t[#t + 1] = redis.call('LRANGE', 'k', 0, -1) end";
    let large = "redis.call('SET', 'l', string.rep('x', 3000000)) redis.call('APPEND', 'l', 'x')
                 for i = 1, 4 do redis.call('RPUSH', 'n', redis.call('GET', 'l') .. i) end
                 return redis.call('LRANGE', 'n', 0, -1)";
    let fine = ("return 1", true);
    for (source, works) in
        [(hungry, false), fine, (hungry, false), (replies, false), fine, (large, false)]
    {
        let args = ["EVAL", source, "0"].map(Bytes::from);
        let call = Call { db: 0, protocol: Protocol::Resp2, args: &args, from_log: false };
        let answer = scripts.execute(&mut keyspace, &call);
        assert_eq!(answer.is_ok(), works, "{answer:?}");
    }
}
