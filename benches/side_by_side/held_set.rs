//! `dual_write` with `ack = "postgres"` against what pgbench reaches alone with one-row upserts, 50 clients each,
//! on the same server.

use std::process::Command;

use support::{Postgres, Redis, Scratch};

use crate::report::{Report, median, thousands};
use crate::systems::binary;

const SECONDS: &str = "5";

pub fn against_pgbench(report: &mut Report, rounds: usize) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let scratch = Scratch::new("pgbench");
    let script = scratch.path().join("upsert.sql");
    std::fs::write(
        &script,
        "\\set id random(1, 10000)\nINSERT INTO upserts VALUES ('key:' || :id, 'xxx') \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value;\n",
    )
    .unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    postgres.sql("CREATE TABLE upserts (key text PRIMARY KEY, value text NOT NULL)");
    let pgbench = || {
        let mut command = Command::new(postgres.bin_dir().join("pgbench"));
        command.args(["-n", "-M", "prepared", "-c", "50", "-j", "2", "-T", SECONDS, "-f"]);
        let output = command.arg(&script).arg(postgres.url()).output();
        let output = output.unwrap_or_else(|e| panic!("pgbench: {e}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tps =
            text.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let options = binary().redis(&redis).postgres(&postgres);
    let tandem = options.mode("dual_write").set("strategy", "ack", "postgres").start();
    tandem.wait_streaming();
    let (mut upserts, mut sets) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        upserts.push(pgbench());
        let rows =
            crate::clients::redis_benchmark(tandem.port(), "-t set -c 50 -n 100000 -r 10000");
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
