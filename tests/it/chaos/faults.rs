//! What is done to Redis, PostgreSQL, the proxy, and the lines between them.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use support::{FaultProxy, Line};

use super::stage::Stage;

/// Who has to be there for a fault to mean anything.
#[derive(Clone, Copy, PartialEq)]
pub enum Needs {
    Nothing,
    Redis,
    /// A spool on a disk that can be filled.
    SmallSpool,
    /// PostgreSQL on a disk that can be filled.
    SmallData,
}

/// One fault, until it is over.
pub struct Fault {
    pub name: &'static str,
    pub needs: Needs,
    pub strike: fn(&mut Stage, &mut StdRng, Duration),
}

const fn fault(
    name: &'static str,
    needs: Needs,
    strike: fn(&mut Stage, &mut StdRng, Duration),
) -> Fault {
    Fault { name, needs, strike }
}

use Needs::{Nothing, Redis, SmallData, SmallSpool};

pub const FAULTS: [Fault; 26] = [
    fault("Redis killed", Redis, |stage, _, time| {
        stage.redis.kill9();
        std::thread::sleep(time);
        stage.redis.restart();
    }),
    fault("Redis killed, back with what it had", Redis, |stage, _, time| {
        stage.save_redis();
        std::thread::sleep(Duration::from_millis(200));
        stage.redis.kill9();
        std::thread::sleep(time);
        stage.redis.restart();
    }),
    fault("Redis killed, back with an old dump", Redis, |stage, _, time| {
        stage.redis.kill9();
        stage.put_old_dump();
        std::thread::sleep(time);
        stage.redis.restart();
        stage.save_redis();
        stage.keep_dump();
    }),
    fault("Redis killed, back empty", Redis, |stage, _, time| {
        stage.redis.kill9();
        stage.redis.wipe_disk();
        std::thread::sleep(time);
        stage.redis.restart();
    }),
    fault("Redis paused", Redis, |stage, _, time| {
        stage.redis.pause();
        std::thread::sleep(time + Duration::from_millis(500));
        stage.redis.resume();
    }),
    fault("Redis out of memory", Redis, |stage, _, time| {
        let mut direct = stage.redis.client();
        direct.run("CONFIG SET maxmemory 1");
        std::thread::sleep(time);
        direct.run("CONFIG SET maxmemory 0");
    }),
    fault("Redis with another password after a restart", Redis, |stage, _, time| {
        stage.redis.kill9();
        stage.redis.restart();
        let mut direct = stage.redis.client();
        direct.run("CONFIG SET requirepass another");
        direct.run("CLIENT KILL TYPE normal SKIPME yes");
        direct.run("CLIENT KILL TYPE replica");
        std::thread::sleep(time);
        direct.call(["CONFIG", "SET", "requirepass", ""]);
    }),
    fault("PostgreSQL killed", Nothing, |stage, _, time| {
        stage.postgres.kill9();
        std::thread::sleep(time);
        stage.postgres.restart();
    }),
    fault("PostgreSQL paused", Nothing, |stage, _, time| {
        stage.postgres.pause();
        std::thread::sleep(time * 2);
        stage.postgres.resume();
    }),
    fault("PostgreSQL read-only", Nothing, |stage, _, time| {
        stage.postgres.alter_system("default_transaction_read_only", Some("on"));
        std::thread::sleep(time);
        stage.postgres.alter_system("default_transaction_read_only", None);
    }),
    fault("PostgreSQL lets nobody in", Nothing, |stage, _, time| {
        stage.postgres.let_in(false);
        std::thread::sleep(time);
        stage.postgres.let_in(true);
    }),
    fault("the proxy killed", Nothing, |stage, _, time| {
        stage.tandem.kill9();
        std::thread::sleep(time / 4);
        stage.tandem.restart();
    }),
    fault("the proxy paused", Nothing, |stage, _, time| {
        stage.tandem.pause();
        std::thread::sleep(time * 3);
        stage.tandem.resume();
    }),
    fault("Redis and the proxy killed", Redis, |stage, _, time| {
        stage.redis.kill9();
        std::thread::sleep(time);
        stage.tandem.kill9();
        stage.redis.restart();
        stage.tandem.restart();
    }),
    fault("PostgreSQL and the proxy killed", Nothing, |stage, _, time| {
        stage.postgres.kill9();
        std::thread::sleep(time);
        stage.tandem.kill9();
        stage.tandem.spawn();
        std::thread::sleep(time / 4);
        stage.postgres.restart();
        stage.tandem.restart();
    }),
    fault("Redis killed, then PostgreSQL", Redis, |stage, _, time| {
        stage.redis.kill9();
        std::thread::sleep(time);
        stage.postgres.kill9();
        std::thread::sleep(time / 2);
        stage.redis.restart();
        std::thread::sleep(time / 4);
        stage.postgres.restart();
    }),
    fault("the line to Redis cut", Redis, |stage, _, _| stage.to_redis().cut()),
    fault("the line to Redis refused", Redis, |stage, _, time| {
        for_a_while(stage.to_redis(), Line::Refused, time);
    }),
    fault("the line to Redis broken", Redis, |stage, rng, time| {
        let line = if rng.random_bool(0.5) { Line::Silent } else { Line::HalfOpen };
        for_a_while(stage.to_redis(), line, time + Duration::from_millis(500));
    }),
    fault("the line to Redis slow", Redis, |stage, rng, time| {
        let line = slow(rng);
        for_a_while(stage.to_redis(), line, time);
    }),
    fault("the line to PostgreSQL cut", Nothing, |stage, _, _| stage.to_postgres.cut()),
    fault("the line to PostgreSQL refused", Nothing, |stage, _, time| {
        for_a_while(&stage.to_postgres, Line::Refused, time);
    }),
    fault("the line to PostgreSQL broken", Nothing, |stage, rng, time| {
        let line = if rng.random_bool(0.5) { Line::Silent } else { Line::HalfOpen };
        for_a_while(&stage.to_postgres, line, time);
    }),
    fault("the line to PostgreSQL slow", Nothing, |stage, rng, time| {
        let line = slow(rng);
        for_a_while(&stage.to_postgres, line, time);
    }),
    fault("the spool's disk full, PostgreSQL killed", SmallSpool, |stage, _, time| {
        let Some(disk) = &stage.spool else { return };
        disk.fill();
        stage.postgres.kill9();
        std::thread::sleep(time);
        disk.free();
        stage.postgres.restart();
    }),
    fault("PostgreSQL's disk full", SmallData, |stage, _, time| {
        let Some(disk) = &stage.data else { return };
        disk.fill();
        std::thread::sleep(time);
        disk.free();
        if stage.postgres.ended() {
            stage.postgres.restart();
        }
    }),
];

fn slow(rng: &mut StdRng) -> Line {
    match rng.random_range(0..3) {
        0 => Line::Delayed(Duration::from_millis(rng.random_range(2..80))),
        1 => Line::Throttled(rng.random_range(20_000..200_000)),
        _ => Line::Split(rng.random_range(1..20)),
    }
}

fn for_a_while(line: &FaultProxy, what: Line, time: Duration) {
    println!("  {what:?}");
    line.set(what);
    std::thread::sleep(time);
    line.set(Line::Clear);
}
