//! What becomes of PostgreSQL, and of the line to it, with `on_unavailable = "degrade"`.

use std::time::Duration;

use support::{Line, Postgres, Redis, SmallDisk, Value, wait_for};

use super::{Counting, LIMIT, Stand};

/// Redis alone serves while `strike` lasts, and PostgreSQL gets what it missed after `heal`.
fn degraded(
    stand: &mut Stand,
    condition: &str,
    strike: impl FnOnce(&mut Stand),
    heal: impl FnOnce(&mut Stand),
) {
    let syncs = stand.tandem.status()["mirror_full_syncs"].clone();
    let counting = Counting::start(&stand.tandem);
    strike(stand);
    stand.wait_condition("postgres", condition);
    stand.assert_degraded("redis_only", condition);
    wait_for("Redis's acknowledgement to do", LIMIT, || {
        stand.tandem.status()["ack_holding"] == "0"
    });
    // Attempts to come back change nothing, and say nothing.
    let before = stand.changes("PostgreSQL");
    let (log, gone) = (stand.tandem.log(), "PostgreSQL is away; the replication stream is kept");
    let times = |log: &str| log.matches(gone).count();
    let done = stand.tandem.client().run("INCR other");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(done, Value::Int(1));
    assert_eq!(stand.changes("PostgreSQL"), before, "{}", stand.tandem.log());
    assert_eq!(times(&stand.tandem.log()), times(&log), "{}", stand.tandem.log());
    heal(stand);
    stand.wait_well();
    let count = counting.end();
    assert_eq!((count.unknown, count.errors.len()), (0, 0), "{count:?}");
    stand.assert_counted(&count);
    assert_eq!(stand.tandem.status()["mirror_full_syncs"], syncs, "the spool has told all");
}

#[test]
fn a_postgres_that_refuses_connections() {
    degraded(
        &mut Stand::new(),
        "refused",
        |stand| stand.to_postgres.set(Line::Refused),
        |stand| stand.to_postgres.set(Line::Clear),
    );
}

#[test]
fn a_postgres_behind_a_silent_line() {
    degraded(
        &mut Stand::new(),
        "silent",
        |stand| stand.to_postgres.set(Line::Silent),
        |stand| stand.to_postgres.set(Line::Clear),
    );
}

#[test]
fn a_postgres_at_the_end_of_a_half_open_line() {
    degraded(
        &mut Stand::new(),
        "silent",
        |stand| stand.to_postgres.set(Line::HalfOpen),
        |stand| stand.to_postgres.set(Line::Clear),
    );
}

#[test]
fn a_postgres_that_is_read_only() {
    let name = "default_transaction_read_only";
    degraded(
        &mut Stand::new(),
        "read_only",
        |stand| stand.postgres.alter_system(name, Some("on")),
        |stand| stand.postgres.alter_system(name, None),
    );
}

#[test]
fn a_postgres_that_lets_nobody_in() {
    degraded(
        &mut Stand::new(),
        "wrong_password",
        |stand| stand.postgres.let_in(false),
        |stand| stand.postgres.let_in(true),
    );
}

#[test]
fn a_postgres_without_room_on_its_disk() {
    let Some(disk) = SmallDisk::new(192) else { return };
    let settings = [("min_wal_size", "32MB"), ("max_wal_size", "64MB")];
    let postgres = Postgres::on_disk(&disk, &settings);
    let mut stand = Stand::with(Redis::start(), postgres, |options| options);
    degraded(
        &mut stand,
        "disk_full",
        |stand| {
            disk.fill();
            // More than what is left in the files that it has.
            let value = "x".repeat(100_000);
            let mut direct = stand.redis.client();
            for n in 0..200 {
                direct.call(["SET", &format!("large:{n}"), &value]);
            }
        },
        |stand| {
            disk.free();
            if stand.postgres.ended() {
                stand.postgres.restart();
            }
        },
    );
}

/// As long as it answers in time Redis's acknowledgement does not have to do.
#[test]
fn a_line_to_postgres_that_is_slow_or_cut() {
    let stand = Stand::new();
    let counting = Counting::start(&stand.tandem);
    for line in [Line::Delayed(Duration::from_millis(30)), Line::Split(50), Line::Clear] {
        stand.to_postgres.set(line);
        std::thread::sleep(Duration::from_millis(700));
    }
    for _ in 0..5 {
        stand.to_postgres.cut();
        std::thread::sleep(Duration::from_millis(200));
    }
    let count = counting.end();
    assert_eq!((count.unknown, count.errors.len()), (0, 0), "{count:?}");
    stand.assert_counted(&count);
}

/// What PostgreSQL said nothing to for a second is said, although nothing has failed yet.
#[test]
fn a_postgres_that_hangs_is_noticed_at_once() {
    let stand = Stand::new();
    let paused = std::time::Instant::now();
    stand.postgres.pause();
    stand.wait_condition("postgres", "silent");
    println!("noticed after {:?}", paused.elapsed());
    stand.postgres.resume();
    stand.wait_well();
}
