//! `dual_write` with `ack = "postgres"` against what pgbench reaches alone with one-row upserts, 50 clients each,
//! on the same server.

use support::{Postgres, Redis};

use crate::clients::redis_benchmark;
use crate::pgbench::PgBench;
use crate::report::{Report, median, thousands};
use crate::systems::binary;

pub fn against_pgbench(report: &mut Report, rounds: usize) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let pgbench = PgBench::upserts(&postgres);
    let options = binary().redis(&redis).postgres(&postgres);
    let tandem = options.mode("dual_write").set("strategy", "ack", "postgres").start();
    tandem.wait_streaming();
    let (mut upserts, mut sets) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        upserts.push(pgbench.round());
        let rows = redis_benchmark(tandem.port(), "-t set -c 50 -n 100000 -r 10000");
        sets.push(rows["SET"].rate);
        println!("pgbench {:.0}/s, SET {:.0}/s", upserts[upserts.len() - 1], sets[sets.len() - 1]);
    }
    let (upserts, sets) = (median(upserts), median(sets));
    let text = format!(
        "tandem {}/s, {:.2} × pgbench ({}/s)",
        thousands(sets),
        sets / upserts,
        thousands(upserts)
    );
    let target = "≥ 1.0 × pgbench's one-row upserts";
    report.add("dual_write ack=postgres, SET, 50 clients", &text, target, Some(sets >= upserts));
}
