use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::commands::{self, Commands};
use tandem::engine::script::{Alone, Scripts};
use tandem::engine::{Answer, Call, Expiry, Keyspace, Need, Part as PartOf, Stop, execute, widen};
use tandem::resp::{Protocol, Reply};

use super::model_store::ModelStore;
use super::replies::{ordered, seen};
use super::{seed, shown, time, to_bytes};

/// Elements above which windows are asked for.
const LARGE: u64 = 0;

/// A keyspace of which little is in memory, and the store that it is loaded from.
struct Part {
    keyspace: Keyspace,
    store: ModelStore,
    loads: u64,
    windows: u64,
    dropped: usize,
}

impl Part {
    fn new(expiry: Expiry) -> Part {
        let mut keyspace = Keyspace::new(1, false, expiry, 1);
        keyspace.large = LARGE;
        Part { keyspace, store: ModelStore::default(), loads: 0, windows: 0, dropped: 0 }
    }

    /// Runs a command, loading what it says that it needs.
    fn run(&mut self, call: &Call<'_>) -> Answer<Reply> {
        self.try_run(call).unwrap_or_else(|| panic!("it never has enough: {call:?}"))
    }

    /// As [`Part::run`]; none when it asks for more and more.
    fn try_run(&mut self, call: &Call<'_>) -> Option<Answer<Reply>> {
        for tries in 0..200 {
            let mut needs = match execute(&mut self.keyspace, call) {
                Err(Stop::NotLoaded(needs)) => needs,
                answer => return Some(answer),
            };
            self.windows +=
                settle(&mut self.keyspace, &mut self.store, &mut needs, tries, self.loads);
            assert!(!needs.is_empty(), "something is lacking, but what?");
            for need in &needs {
                self.loads += 1;
                self.store.load(need, &mut self.keyspace);
            }
        }
        None
    }

    /// Commits, and forgets what was not used lately.
    fn commit(&mut self, max_bytes: usize) {
        let (delta, committed) = self.keyspace.take_delta();
        self.store.apply(delta);
        self.dropped += self.keyspace.sweep(max_bytes, committed);
    }
}

/// What has to happen before windows are loaded: everything is committed. After a few tries they are wanted no
/// more, and every third time the commit comes too late. The number of windows.
fn settle(
    keyspace: &mut Keyspace,
    store: &mut ModelStore,
    needs: &mut [Need],
    tries: usize,
    turn: u64,
) -> u64 {
    if tries >= 8 {
        widen(needs);
    }
    let windows = needs.iter().filter(|need| matches!(need.part, PartOf::Window(_))).count();
    if windows > 0 && !turn.is_multiple_of(3) {
        let (delta, committed) = keyspace.take_delta();
        store.apply(delta);
        keyspace.sweep(usize::MAX, committed);
    }
    windows as u64
}

fn compare(expiry: Expiry) {
    let seed = seed();
    let families = [
        commands::STRINGS,
        commands::BITS,
        commands::HYPERLOGLOG,
        commands::HASHES,
        commands::GENERIC,
        commands::LISTS,
        commands::SETS,
        commands::SORTED_SETS,
        commands::STREAMS,
    ];
    let mut commands = Commands::new(seed, &families);
    let mut whole = Keyspace::new(1, true, expiry, 1);
    let mut whole_store = ModelStore::default();
    let mut part = Part::new(expiry);
    let (start, mut count, mut now_ms) = (Instant::now(), 0u64, 1_700_000_000_000);
    let mut history = Vec::new();
    while start.elapsed() < time() {
        now_ms += commands.rng().random_range(0..2000);
        (whole.now_ms, part.keyspace.now_ms) = (now_ms, now_ms);
        let args = commands.next();
        let owned = to_bytes(&args);
        let db = u32::from(commands.rng().random_ratio(1, 5));
        let call = Call { db, protocol: Protocol::Resp2, args: &owned, from_log: false };
        history.push(format!("db {db}: {}", shown(&args)));
        let trace = || history[history.len().saturating_sub(30)..].join("\n");
        let expected = ordered(&args, seen(execute(&mut whole, &call), Protocol::Resp2));
        let answer = ordered(&args, seen(part.run(&call), Protocol::Resp2));
        assert_eq!(answer, expected, "after\n{}", trace());
        count += 1;
        if commands.rng().random_ratio(1, 8) {
            let max_bytes = commands.rng().random_range(0..4000);
            part.commit(max_bytes);
        }
        if count % 500 == 0 {
            part.commit(100);
            whole_store.apply(whole.take_delta().0);
            // By the clock a key whose time is over goes when somebody looks at it, and loading looks at more.
            let lasting = |store: &ModelStore| {
                let mut content = store.content();
                if matches!(expiry, Expiry::ByClock) {
                    content.retain(|_, (at_ms, _)| at_ms.is_none_or(|at_ms| at_ms > now_ms));
                }
                content
            };
            assert_eq!(lasting(&part.store), lasting(&whole_store), "after\n{}", trace());
        }
    }
    println!(
        "{count} commands, {} loads, {} windows, {} keys dropped from memory",
        part.loads, part.windows, part.dropped
    );
    assert!(part.windows > count / 1000);
    assert!(count > 500 && part.loads > count / 100 && part.dropped as u64 > count / 100);
}

#[test]
fn replies_and_rows_are_those_of_a_keyspace_in_memory() {
    compare(Expiry::ByClock);
}

#[test]
fn also_when_the_log_decides_on_expiry() {
    compare(Expiry::ByLog);
}

/// Values that go from name to name and from database to database within one batch, while the store
/// has them where they were.
#[test]
fn values_are_found_wherever_they_have_gone() {
    let first = seed();
    for seed in first..first + 60 {
        relocate(seed);
    }
}

fn relocate(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut whole, mut whole_store) =
        (Keyspace::new(1, true, Expiry::ByLog, 1), ModelStore::default());
    let mut part = Part::new(Expiry::ByLog);
    let mut history = Vec::new();
    for step in 0..600 {
        let mut key = || format!("key{}", rng.random_range(0..5));
        let (a, b) = (key(), key());
        let (db, other, n) =
            (rng.random_range(0..3u32), rng.random_range(0..3), rng.random_range(0..30));
        let line = match rng.random_range(0..100) {
            0..18 => format!("RENAME {a} {b}"),
            18..24 => format!("RENAMENX {a} {b}"),
            24..32 => format!("MOVE {a} {other}"),
            32..40 => format!("COPY {a} {b} DB {other} REPLACE"),
            40..45 => format!("SWAPDB {db} {other}"),
            45..48 => format!("DEL {a}"),
            48..52 => format!("SET {a} {n}"),
            52..58 => format!("HSET {a} {n} 1 {} 2", n + 1),
            58..64 => format!("HINCRBY {a} {n} 1"),
            64..70 => format!("RPUSH {a} {n} {n} {n} {n} {n} {n}"),
            70..76 => format!("LINDEX {a} {n}"),
            76..78 => format!("ZADD {a} {n} {n} 3 three -1 {b}"),
            78..80 => format!("ZRANGE {a} {} -1 REV WITHSCORES", n / 4),
            80..82 => format!("ZRANGEBYSCORE {a} (-1 {n} LIMIT 1 5"),
            82..83 => format!("ZREVRANK {a} three"),
            83..85 => format!("XADD {a} {}-1 {n} {n}", step + 1),
            85..86 => format!("XREVRANGE {a} + - COUNT {n}"),
            86..90 => format!("HGETALL {a}"),
            90..94 => format!("APPEND {a} {n}"),
            94..95 => format!("EXPIRE {a} 100"),
            95..97 => format!("TYPE {a}"),
            97..99 => format!("SORT {a} ALPHA STORE {b}"),
            _ if n < 5 => "FLUSHALL".into(),
            _ => "FLUSHDB".into(),
        };
        history.push(format!("db {db}: {line}"));
        let trace = || history[history.len().saturating_sub(80)..].join("\n");
        let args: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let owned = to_bytes(&args);
        let call = Call { db, protocol: Protocol::Resp2, args: &owned, from_log: false };
        let expected = ordered(&args, seen(execute(&mut whole, &call), Protocol::Resp2));
        let answer = match part.try_run(&call) {
            Some(answer) => ordered(&args, seen(answer, Protocol::Resp2)),
            None => {
                panic!("seed {seed}, step {step}: it asks for more and more after\n{}", trace())
            }
        };
        assert_eq!(answer, expected, "seed {seed}, step {step}, after\n{}", trace());
        if rng.random_ratio(1, 40) {
            part.commit(rng.random_range(0..2000));
            whole_store.apply(whole.take_delta().0);
            assert_eq!(
                part.store.content(),
                whole_store.content(),
                "seed {seed}, step {step}, after\n{}",
                trace()
            );
            history.push("commit".into());
        }
    }
}

/// What the store shows while it does not know a change is not what there is.
#[test]
fn a_window_counts_when_the_store_knew_everything() {
    let mut part = Part::new(Expiry::ByClock);
    let call = |part: &mut Part, line: &str| {
        let args: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        execute(
            &mut part.keyspace,
            &Call { db: 0, protocol: Protocol::Resp2, args: &to_bytes(&args), from_log: false },
        )
    };
    let needs = |answer: Answer<Reply>| match answer {
        Err(Stop::NotLoaded(needs)) => needs,
        answer => panic!("{answer:?} without a load"),
    };
    let load = |part: &mut Part, needs: &[Need]| {
        needs.iter().for_each(|need| part.store.load(need, &mut part.keyspace));
    };
    let range = "ZRANGE z 0 1";
    part.store = ModelStore::default();
    part.keyspace.load_keys(0, []);
    assert_eq!(call(&mut part, "ZADD z 1 a 2 b 3 c"), Ok(Reply::Int(3)));
    part.commit(0);
    for needed in ["ZADD z 0 first", range] {
        let needs = needs(call(&mut part, needed));
        load(&mut part, &needs);
    }
    let shown = |names: [&'static str; 2]| {
        Ok(Reply::Array(names.map(|name| Reply::Bulk(name.into())).into()))
    };
    assert_eq!(call(&mut part, range), shown(["a", "b"]));
    assert_eq!(call(&mut part, "ZADD z 0 first"), Ok(Reply::Int(1)));
    let window = needs(call(&mut part, range));
    assert!(matches!(window[0].part, PartOf::Window(_)), "{window:?}");
    load(&mut part, &window);
    assert_eq!(needs(call(&mut part, range)), window, "the store has not known the change");
    part.commit(usize::MAX);
    load(&mut part, &window);
    assert_eq!(call(&mut part, range), shown(["first", "a"]));
    let savepoint = part.keyspace.savepoint();
    assert_eq!(call(&mut part, "ZADD z 7 first"), Ok(Reply::Int(0)));
    let all = needs(call(&mut part, range));
    assert_eq!(all[0].part, PartOf::All, "the store will not know what is taken back");
    part.keyspace.rollback(savepoint);
    assert_eq!(call(&mut part, range), shown(["first", "a"]), "as before");
}

/// Runs the commands in its arguments, each behind the number of its words.
const SEVERAL: &str = "local replies, i = {}, 1 \
    while ARGV[i] do \
    local command = {} \
    for j = 1, ARGV[i] do command[j] = ARGV[i + j] end \
    i = i + 1 + #command \
    redis.pcall(unpack(command)) \
    replies[#replies + 1] = redis.pcall(unpack(command)) \
    end \
    return {replies, math.random(1000000)}";

/// Scripts that stop anywhere in their middle leave no trace, and come to the same in the end.
#[test]
fn scripts_that_stop_are_run_again() {
    let seed = seed();
    let families = [
        commands::STRINGS,
        commands::HASHES,
        commands::GENERIC,
        commands::LISTS,
        commands::SETS,
        commands::SORTED_SETS,
        commands::STREAMS,
    ];
    let mut commands = Commands::new(seed, &families);
    let mut whole = Keyspace::new(1, true, Expiry::ByClock, 1);
    let mut whole_scripts = Scripts::new(Box::new(Alone));
    let mut whole_store = ModelStore::default();
    let mut part = Part::new(Expiry::ByClock);
    let mut part_scripts = Scripts::new(Box::new(Alone));
    let (start, mut count, mut again) = (Instant::now(), 0u64, 0u64);
    let mut now_ms = 1_700_000_000_000;
    while start.elapsed() < time() / 2 {
        now_ms += commands.rng().random_range(0..2000);
        (whole.now_ms, part.keyspace.now_ms) = (now_ms, now_ms);
        let mut args = vec![b"EVAL".to_vec(), SEVERAL.into(), b"0".to_vec()];
        let mut history = Vec::new();
        for _ in 0..commands.rng().random_range(1..6) {
            let command = commands.next();
            let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
            // What has no order, or is at random, is compared elsewhere.
            let unordered = ["scan", "keys", "random", "rand", "sort", "pop", "members", "hgetall"];
            let sets = ["hkeys", "hvals", "sinter", "sunion", "sdiff", "dump", "object"];
            if unordered.iter().any(|part| name.contains(part)) || sets.contains(&name.as_str()) {
                continue;
            }
            history.push(shown(&command));
            args.push(command.len().to_string().into_bytes());
            args.extend(command);
        }
        let owned = to_bytes(&args);
        let call = Call { db: 0, protocol: Protocol::Resp2, args: &owned, from_log: false };
        let expected = seen(whole_scripts.execute(&mut whole, &call), Protocol::Resp2);
        let mut tries = 0;
        let answer = loop {
            match part_scripts.execute(&mut part.keyspace, &call) {
                Err(Stop::NotLoaded(mut needs)) => {
                    settle(&mut part.keyspace, &mut part.store, &mut needs, tries, again);
                    needs.iter().for_each(|need| part.store.load(need, &mut part.keyspace));
                    again += 1;
                    tries += 1;
                    assert!(tries < 500, "it never has enough: {history:?}");
                }
                answer => break seen(answer, Protocol::Resp2),
            }
        };
        assert_eq!(answer, expected, "seed {seed}, after {}", history.join("\n"));
        count += 1;
        if commands.rng().random_ratio(1, 6) {
            let max_bytes = commands.rng().random_range(0..3000);
            part.commit(max_bytes);
        }
        if count.is_multiple_of(100) {
            part.commit(100);
            whole_store.apply(whole.take_delta().0);
            assert_eq!(part.store.content(), whole_store.content(), "seed {seed}");
        }
    }
    println!("{count} scripts, {again} times again");
    assert!(count > 100 && again > count / 10);
}
