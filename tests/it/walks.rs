//! Walks over more keys than are kept in memory, in `postgres_only`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::load::Counters;
use support::{Client, Postgres, Tandem, Value, seed, wait_for};

const KEYS: usize = 20_000;

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn texts(value: Value) -> Vec<String> {
    value.items().into_iter().map(|item| item.text()).collect()
}

/// All names that a whole scan returns, while `between` is run between its calls.
fn scan(
    client: &mut Client,
    options: &str,
    mut between: impl FnMut(usize, &str),
) -> BTreeSet<String> {
    let (mut cursor, mut seen, mut calls) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        let mut reply = client.run(&format!("SCAN {cursor} {options}")).items().into_iter();
        cursor = reply.next().expect("a cursor").text();
        seen.extend(texts(reply.next().expect("a page")));
        if cursor == "0" {
            return seen;
        }
        calls += 1;
        assert!(calls < KEYS, "the scan does not end");
        between(calls, &cursor);
    }
}

/// One member of a hash, set or sorted set: how it is added and removed, and how a walk shows it.
struct Kind {
    scan: &'static str,
    add: fn(&str) -> String,
    remove: &'static str,
    /// Items of a page for each member.
    items: usize,
}

const KINDS: [Kind; 3] = [
    Kind { scan: "HSCAN", add: |m| format!("HSET hscan {m} v:{m}"), remove: "HDEL", items: 2 },
    Kind { scan: "SSCAN", add: |m| format!("SADD sscan {m}"), remove: "SREM", items: 1 },
    Kind {
        scan: "ZSCAN",
        add: |m| format!("ZADD zscan {} {m}", &m[2..]),
        remove: "ZREM",
        items: 2,
    },
];

/// A proxy with so much memory for keys, and so many of them.
fn filled(postgres: &Postgres, cache_bytes: i64, keys: usize) -> (Tandem, Client) {
    let tandem = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
        .postgres(postgres)
        .mode("postgres_only")
        .set("mirror", "cache_bytes", cache_bytes)
        .allow("PostgreSQL")
        .start();
    tandem.wait_serving();
    let mut client = tandem.client();
    for chunk in (0..keys).collect::<Vec<_>>().chunks(1000) {
        let mut set = vec!["MSET".to_owned()];
        set.extend(chunk.iter().flat_map(|n| [format!("stays:{n}"), "x".into()]));
        assert_eq!(client.call(&set), Value::ok());
    }
    (tandem, client)
}

#[test]
fn what_stays_is_seen_whatever_comes_and_goes() {
    let postgres = Postgres::start();
    let (tandem, mut client) = filled(&postgres, 100_000, KEYS);
    client.run("HSET a-hash f v");
    assert_eq!(client.run("DBSIZE"), Value::Int(KEYS as i64 + 1));

    let mut other = tandem.client();
    let seen = scan(&mut client, "COUNT 100", |n, _| {
        other.run(&format!("SET comes:{n} x"));
        other.run(&format!("DEL comes:{}", n - n % 7));
        other.run(&format!("SET stays:{} y", n * 31 % KEYS));
    });
    let stays = seen.iter().filter(|name| name.starts_with("stays:")).count();
    assert_eq!(stays, KEYS);
    assert_eq!(scan(&mut client, "MATCH *hash COUNT 5000", |_, _| ()).len(), 1);
    assert_eq!(scan(&mut client, "TYPE hash COUNT 5000", |_, _| ()).len(), 1);
    assert_eq!(texts(client.run("KEYS stays:1999?")).len(), 10);
    assert!(!client.run("RANDOMKEY").is_error());
    assert!(client.run("SCAN none").is_error());
    // What was not committed when it was asked is seen, and what was deleted is not.
    let replies = client.pipeline(["SET z x", "KEYS z", "DEL z", "KEYS z"].map(words));
    assert_eq!(texts(replies[1].clone()), ["z"]);
    assert!(texts(replies[3].clone()).is_empty());
    // In a transaction and in a script too.
    client.run("MULTI");
    client.run("KEYS stays:1999?");
    assert_eq!(texts(client.run("EXEC").items().remove(0)).len(), 10);
    let count = client.run("DBSIZE");
    assert_eq!(client.run("EVAL return(redis.call('dbsize')) 0"), count);
    client.run("SET soon x PX 1");
    client.run("FLUSHDB");
    assert_eq!(client.run("DBSIZE"), Value::Int(0));
    client.run("SET k v EX 1000");
    client.run("SELECT 0");
    assert!(client.run("INFO keyspace").text().contains("db0:keys=1,expires=1"));
}

/// Commits alone could keep PostgreSQL's session busy for ever: walks, loads and what expires have their turns.
#[test]
fn the_others_have_their_turn_under_writes_that_never_pause() {
    let postgres = Postgres::start();
    let (tandem, mut client) = filled(&postgres, 100_000, KEYS);
    for n in 0..100 {
        client.run(&format!("SET goes:{n} x PX 1000"));
    }
    let load = Counters::start(tandem.port(), 1, 4);
    let began = Instant::now();
    let seen = scan(&mut client, "COUNT 500", |_, _| ());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(seen.iter().filter(|name| name.starts_with("stays:")).count(), KEYS);
    for n in [7, 7_007, 17_007] {
        assert_eq!(client.run(&format!("GET stays:{n}")), Value::bulk("x"));
    }
    let gone = "SELECT count(*) = 0 FROM tandem.keys WHERE key LIKE 'goes:%'::bytea";
    wait_for("what has expired to be removed", Duration::from_secs(20), || {
        postgres.sql(gone) == "t"
    });
    assert!(load.finish().values().any(|tally| tally.acknowledged > 0));
}

/// Keys that are all in memory are walked there, others in PostgreSQL; a walk on which that changes misses nothing.
#[test]
fn a_walk_may_begin_in_memory_and_end_in_postgresql_and_the_other_way_round() {
    let postgres = Postgres::start();
    let all = KEYS + 5000;
    let (tandem, mut client) = filled(&postgres, 20_000_000, all);
    let misses_nothing = |seen: &BTreeSet<String>, what: &str| {
        let stays = seen.iter().filter(|name| name.starts_with("stays:")).count();
        assert_eq!(stays, all, "{what}");
    };
    let mut other = tandem.client();
    let mut walked = String::new();
    let seen = scan(&mut client, "COUNT 500", |call, cursor| {
        let in_memory = cursor.parse().is_ok_and(|cursor: u64| cursor <= 1 << 32);
        let place = if in_memory { 'm' } else { 'p' };
        if !walked.ends_with(place) {
            walked.push(place);
        }
        match call {
            20 => {
                // More than fits.
                let value = "x".repeat(1_000_000);
                for n in 0..30 {
                    other.call(&["SET".to_owned(), format!("large:{n}"), value.clone()]);
                }
            }
            // All names are loaded.
            35 => drop(other.run("EVAL return(#redis.call('keys','*')) 0")),
            _ => {}
        }
    });
    assert_eq!(walked, "mpm");
    misses_nothing(&seen, "there and back");
    let seen = scan(&mut client, "COUNT 500", |_, _| ());
    misses_nothing(&seen, "undisturbed");
}

/// The members of one key, in memory or dropped from it between two pages.
#[test]
fn members_that_stay_are_seen_whatever_comes_and_goes() {
    walk_members(1_000_000, seed(26));
}

/// The members of a key that is larger than what stays in memory.
#[test]
fn members_in_postgresql_that_stay_are_seen_whatever_comes_and_goes() {
    walk_members(50_000, seed(27));
}

/// Of a large value that is not in memory nothing is read but what is shown.
#[test]
fn a_page_of_members_costs_what_it_shows() {
    let postgres = Postgres::start();
    let (mut tandem, mut client) = filled(&postgres, 64 << 20, 0);
    for kind in KINDS {
        client.pipeline((0..20_000).map(|n| words(&(kind.add)(&format!("m:{n}")))));
    }
    tandem.stop(Duration::from_secs(20));
    tandem.restart();
    tandem.wait_serving();
    let fetched = || -> i64 {
        // Sessions tell what they did a second later.
        std::thread::sleep(Duration::from_secs(3));
        let query = "SELECT sum(idx_tup_fetch + seq_tup_read)::bigint FROM pg_stat_user_tables
                     WHERE schemaname = 'tandem' AND relname IN ('hashes', 'sets', 'zsets')";
        postgres.sql(query).trim().parse().expect("a number")
    };
    let before = fetched();
    let mut client = tandem.client();
    for Kind { scan, items, .. } in KINDS {
        let key = scan.to_lowercase();
        let mut cursor = "0".to_owned();
        for _ in 0..3 {
            let page = client.run(&format!("{scan} {key} {cursor} COUNT 100"));
            let mut page = page.items().into_iter();
            cursor = page.next().expect("a cursor").text();
            assert_eq!(texts(page.next().expect("a page")).len(), 100 * items);
        }
        assert!(client.run(&format!("{scan} none 0")).items()[1].clone().items().is_empty());
        assert!(client.run(&format!("{scan} {key} none")).is_error());
    }
    let read = fetched() - before;
    assert!((900..2000).contains(&read), "{read} rows were read for 900");
    // In a transaction nothing comes in between.
    client.run("MULTI");
    client.run("HSCAN hscan 0 COUNT 30000");
    let page = client.run("EXEC").items().remove(0);
    assert_eq!(page.items()[1].clone().items().len(), 40_000);
}

fn walk_members(cache_bytes: i64, seed: u64) {
    let postgres = Postgres::start();
    let (tandem, mut client) = filled(&postgres, cache_bytes, 0);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut other = tandem.client();
    let large = "x".repeat(1_000_000);
    for kind in KINDS {
        let key = kind.scan.to_lowercase();
        // Members of even number stay.
        other.pipeline((0..6000).step_by(2).map(|n| words(&(kind.add)(&format!("m:{n}")))));
        let (mut there, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let (mut cursor, mut pages) = ("0".to_owned(), 0);
        loop {
            let page = client.run(&format!("{} {key} {cursor} COUNT 100", kind.scan));
            let mut page = page.items().into_iter();
            cursor = page.next().expect("a cursor").text();
            for member in texts(page.next().expect("a page")).chunks(kind.items) {
                let number: u32 = member[0][2..].parse().expect("a number");
                let expected = match kind.scan {
                    "HSCAN" => Some(format!("v:m:{number}")),
                    "ZSCAN" => Some(number.to_string()),
                    _ => None,
                };
                assert_eq!(member.get(1), expected.as_ref());
                assert!(
                    number.is_multiple_of(2) || there.contains(&number),
                    "{key} shows {number}, which is gone"
                );
                seen.insert(number);
            }
            pages += 1;
            if cursor == "0" {
                break;
            }
            for _ in 0..20 {
                let number = 2 * rng.random_range(0..3000) + 1;
                let member = format!("m:{number}");
                match there.insert(number) {
                    true => drop(other.run(&(kind.add)(&member))),
                    false => {
                        there.remove(&number);
                        other.run(&format!("{} {key} {member}", kind.remove));
                    }
                }
            }
            if rng.random_bool(0.2) {
                other.call(&[
                    "SET".to_owned(),
                    format!("large:{}", rng.random_range(0..3)),
                    large.clone(),
                ]);
            }
        }
        assert!(pages >= 30, "{pages} pages of {key}");
        let missed: Vec<u32> = (0..6000).step_by(2).filter(|n| !seen.contains(n)).collect();
        assert!(missed.is_empty(), "{key}: {missed:?}");
    }
}
