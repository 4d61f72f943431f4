//! What becomes of the stream that waits for PostgreSQL.

use std::path::PathBuf;
use std::time::Duration;

use support::{Postgres, Redis, SmallDisk, Value, wait_for};

use super::{LIMIT, Stand};

/// More than a spool of 1 MiB takes.
const MANY: usize = 40;

/// Without PostgreSQL; the spool is bounded.
fn stand(on_full: &str) -> Stand {
    let mut stand = Stand::with(Redis::start(), Postgres::start(), |options| {
        options.set("mirror", "spool_max_bytes", 1 << 20).set("mirror", "on_spool_full", on_full)
    });
    assert_eq!(stand.tandem.client().run("SET before 1"), Value::ok());
    stand.postgres.stop();
    wait_for("the outage", LIMIT, || stand.tandem.status()["mirror_state"] == "spooling");
    stand.tandem.wait_holding(false);
    stand
}

fn write_much(stand: &Stand) {
    let (mut client, value) = (stand.tandem.client(), "x".repeat(100_000));
    for n in 0..MANY {
        assert_eq!(client.call(["SET", &format!("large:{n}"), &value]), Value::ok());
    }
}

fn bytes(stand: &Stand) -> u64 {
    stand.tandem.status()["mirror_spool_bytes"].parse().expect("a number")
}

/// PostgreSQL is back: everything is there.
fn recover(stand: &mut Stand) {
    if stand.postgres.ended() {
        stand.postgres.restart();
    }
    stand.wait_well();
    stand.assert_equal();
}

fn segments(stand: &Stand) -> Vec<PathBuf> {
    let files = std::fs::read_dir(stand.tandem.dir().join("spool")).expect("readable");
    let paths = files.flatten().map(|file| file.path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "spool")).collect()
}

/// Flips a bit in the middle of the longest segment.
fn damage(stand: &Stand) {
    let mut all: Vec<(u64, PathBuf)> = segments(stand)
        .into_iter()
        .map(|p| (std::fs::metadata(&p).expect("there").len(), p))
        .collect();
    all.sort();
    let (length, path) = all.pop().expect("a segment");
    let mut content = std::fs::read(&path).expect("readable");
    content[usize::try_from(length / 2).expect("short")] ^= 1;
    std::fs::write(&path, content).expect("written");
}

#[test]
fn a_full_spool_is_given_up_and_a_snapshot_taken() {
    let mut stand = stand("resync");
    write_much(&stand);
    wait_for("the spool to be given up", LIMIT, || stand.tandem.log().contains("is given up"));
    assert!(bytes(&stand) <= 2 << 20, "{}", bytes(&stand));
    assert_eq!(stand.tandem.client().run("GET before"), Value::bulk("1"));
    recover(&mut stand);
    assert_eq!(stand.tandem.status()["mirror_full_syncs"], "2");
}

#[test]
fn a_full_spool_holds_redis_back_and_no_snapshot_is_needed() {
    let mut stand = stand("backpressure");
    // It has what the stream says meanwhile.
    stand.redis.client().run("CONFIG SET repl-backlog-size 64mb");
    write_much(&stand);
    wait_for("the spool to be full", LIMIT, || bytes(&stand) >= 1 << 20);
    std::thread::sleep(Duration::from_millis(200));
    assert!(bytes(&stand) <= 6 << 20, "{}", bytes(&stand));
    assert_eq!(stand.tandem.client().run("SET more 1"), Value::ok());
    recover(&mut stand);
    assert_eq!(stand.tandem.status()["mirror_full_syncs"], "1");
}

#[test]
fn a_spool_without_room_on_its_disk() {
    let Some(disk) = SmallDisk::new(4) else { return };
    let mut stand = Stand::with(Redis::start(), Postgres::start(), |options| {
        options.set("mirror", "spool_dir", disk.path().display().to_string())
    });
    stand.postgres.stop();
    wait_for("the outage", LIMIT, || stand.tandem.status()["mirror_state"] == "spooling");
    stand.tandem.wait_holding(false);
    disk.fill();
    write_much(&stand);
    wait_for("the spool to be given up", LIMIT, || stand.tandem.log().contains("is given up"));
    assert_eq!(stand.tandem.client().run("SET on 1"), Value::ok());
    disk.free();
    recover(&mut stand);
}

/// What is behind the damage comes from Redis once more.
#[test]
fn a_segment_that_is_damaged_while_the_proxy_is_away() {
    let mut stand = Stand::new();
    stand.postgres.stop();
    wait_for("the outage", LIMIT, || stand.tandem.status()["mirror_state"] == "spooling");
    stand.tandem.wait_holding(false);
    write_much(&stand);
    wait_for("the spool", LIMIT, || bytes(&stand) > 3 << 20);
    stand.tandem.kill9();
    damage(&stand);
    stand.tandem.restart();
    recover(&mut stand);
}

#[test]
fn a_segment_that_is_damaged_under_the_running_proxy() {
    let mut stand = Stand::new();
    stand.postgres.stop();
    wait_for("the outage", LIMIT, || stand.tandem.status()["mirror_state"] == "spooling");
    stand.tandem.wait_holding(false);
    write_much(&stand);
    wait_for("the spool", LIMIT, || bytes(&stand) > 3 << 20);
    damage(&stand);
    recover(&mut stand);
}
