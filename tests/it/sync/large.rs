//! Values that are too large to be compared whole.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value as Json;
use support::compare::Sides;
use support::{Client, Value};

use crate::admin::{Trio, get, post};

const CHECK: &str = "/admin/database/consistency-check";
/// Large begins at 10,000.
const ELEMENTS: usize = 10_100;

fn fill(client: &mut Client) {
    let each = |n: usize| format!("e{n:06}");
    for part in (0..ELEMENTS).collect::<Vec<_>>().chunks(1000) {
        let command = |name: &str, key: &str, item: &dyn Fn(usize) -> Vec<String>| {
            let mut command = vec![name.to_owned(), key.to_owned()];
            command.extend(part.iter().flat_map(|n| item(*n)));
            command
        };
        let mut commands = vec![
            command("HSET", "hash", &|n| vec![each(n), n.to_string()]),
            command("SADD", "set", &|n| vec![each(n)]),
            command("ZADD", "zset", &|n| vec![format!("{}", n as f64 / 3.0), each(n)]),
            command("RPUSH", "list", &|n| vec![each(n)]),
        ];
        commands.extend(part.iter().map(|n| {
            let entry = ["XADD", "stream", &format!("{}-1", n + 1), "f", &each(*n)];
            entry.map(str::to_owned).to_vec()
        }));
        let replies = client.pipeline(commands);
        assert!(!replies.iter().any(Value::is_error), "{replies:?}");
    }
    client.run("XGROUP CREATE stream group 0");
    client.run("XREADGROUP GROUP group consumer COUNT 2500 STREAMS stream >");
    let long = "x".repeat(5_000_000);
    assert_eq!(client.call(["SET", "string", &long]), Value::ok());
}

/// Aspects by key.
fn aspects(report: &Json) -> Vec<(String, String)> {
    let rows = report["differences"].as_array().expect("differences");
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> =
        rows.iter().map(|row| (text(&row["key"]), text(&row["aspect"]))).collect();
    all.sort_unstable();
    all
}

#[test]
fn they_are_compared_piece_by_piece() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    fill(&mut tandem.client());
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let check = || get(&tandem, &format!("{CHECK}?rate=0")).data();
    let report = check();
    assert_eq!(report["consistent"], true, "{report}");
    let id = |key: &str| format!("(SELECT id FROM keys WHERE key = '{key}')");
    // Each is undone by a repair.
    let plants = [
        (
            "hash",
            "value",
            format!(
                "UPDATE hashes SET value = 'x' WHERE key_id = {} AND field = 'e007777'",
                id("hash")
            ),
        ),
        ("hash", "value", format!("INSERT INTO hashes VALUES ({}, 'more', 'x')", id("hash"))),
        (
            "set",
            "value",
            format!("DELETE FROM sets WHERE key_id = {} AND member = 'e000001'", id("set")),
        ),
        (
            "zset",
            "score",
            format!(
                "UPDATE zsets SET score = score + 1 WHERE key_id = {} AND member = 'e010099'",
                id("zset")
            ),
        ),
        (
            "list",
            "value",
            format!(
                "UPDATE lists SET value = 'x' WHERE key_id = {} AND value = 'e005000'",
                id("list")
            ),
        ),
        (
            "list",
            "value",
            format!("DELETE FROM lists WHERE key_id = {} AND value = 'e005000'", id("list")),
        ),
        (
            "stream",
            "entries",
            format!(
                "UPDATE stream_entries SET fields = ARRAY['f', 'x']::bytea[] WHERE key_id = {} AND ms = 9000",
                id("stream")
            ),
        ),
        (
            "stream",
            "counters",
            format!("UPDATE streams SET entries_added = 1 WHERE key_id = {}", id("stream")),
        ),
        (
            "stream",
            "pending",
            format!("DELETE FROM stream_pending WHERE key_id = {} AND ms = 2400", id("stream")),
        ),
        (
            "stream",
            "groups",
            format!("UPDATE stream_groups SET last_ms = 7 WHERE key_id = {}", id("stream")),
        ),
        (
            "string",
            "value",
            format!(
                "UPDATE strings SET value = set_byte(value, 4999999, 65) WHERE key_id = {}",
                id("string")
            ),
        ),
        (
            "string",
            "ttl",
            "UPDATE keys SET expires_at_ms = 4000000000000 WHERE key = 'string'".to_owned(),
        ),
        ("set", "type", "UPDATE keys SET kind = 5 WHERE key = 'set'".to_owned()),
    ];
    for (key, aspect, sql) in plants {
        trio.postgres.sql(&format!("SET search_path = tandem; {sql}"));
        let report = get(&tandem, &format!("{CHECK}?rate=0&pattern={key}")).data();
        assert_eq!(aspects(&report), [(key.to_owned(), aspect.to_owned())], "{sql}: {report}");
        let body = format!(r#"{{"repair":"postgres","pattern":"{key}"}}"#);
        let done = post(&tandem, "/admin/database/consistency-fix", &body).data();
        assert_eq!((&done["repaired"], &done["errors"]), (&1.into(), &0.into()), "{sql}: {done}");
    }
    let report = check();
    assert_eq!(report["consistent"], true, "{report}");
}

#[test]
fn traffic_on_them_is_no_difference_and_hides_none() {
    let trio = Trio::new("dual_write");
    let tandem = trio.ready();
    fill(&mut tandem.client());
    Sides::new(&trio.redis, &trio.postgres).assert_equal();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = tandem.client();
            let lines = [
                "HINCRBY hash e000007 1",
                "ZINCRBY zset 1 e000007",
                "SADD set more",
                "SREM set more",
            ];
            while !ended.load(Ordering::Relaxed) {
                client.pipeline(lines.map(|line| line.split(' ')));
            }
        });
        for _ in 0..3 {
            let report = get(&tandem, &format!("{CHECK}?rate=0")).data();
            assert_eq!(aspects(&report), [], "{report}");
        }
        let id = "(SELECT id FROM tandem.keys WHERE key = 'hash')";
        trio.postgres.sql(&format!(
            "UPDATE tandem.hashes SET value = 'x' WHERE key_id = {id} AND field = 'e003333'"
        ));
        let report = get(&tandem, &format!("{CHECK}?rate=0&pattern=hash")).data();
        assert_eq!(aspects(&report), [("hash".to_owned(), "value".to_owned())], "{report}");
        assert!(
            report["differences"][0]["detail"].as_str().is_some_and(|d| d.contains("e003333")),
            "{report}"
        );
        ended.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends well");
    });
}
