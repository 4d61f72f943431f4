//! What PostgreSQL does with one row at a time: pgbench with 50 clients and prepared statements.

use std::process::Command;

use support::{Postgres, Scratch};

const SECONDS: &str = "5";

/// A statement that pgbench runs again and again.
pub struct PgBench<'a> {
    postgres: &'a Postgres,
    scratch: Scratch,
}

impl<'a> PgBench<'a> {
    /// Upserts of one row of 10,000.
    pub fn upserts(postgres: &'a Postgres) -> PgBench<'a> {
        postgres.sql("CREATE TABLE upserts (key text PRIMARY KEY, value text NOT NULL)");
        let statement = "\\set id random(1, 10000)\nINSERT INTO upserts VALUES ('key:' || :id, 'xxx') \
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value;\n";
        Self::new(postgres, statement)
    }

    /// Selects of one row of `rows`, each with a value of `bytes` bytes.
    pub fn selects(postgres: &'a Postgres, rows: usize, bytes: usize) -> PgBench<'a> {
        postgres.sql(&format!(
            "CREATE TABLE selects (key text PRIMARY KEY, value text NOT NULL); INSERT INTO selects \
             SELECT 'key:' || n, repeat('x', {bytes}) FROM generate_series(1, {rows}) n"
        ));
        postgres.sql("VACUUM ANALYZE selects");
        let statement = format!(
            "\\set id random(1, {rows})\nSELECT value FROM selects WHERE key = 'key:' || :id;\n"
        );
        Self::new(postgres, &statement)
    }

    fn new(postgres: &'a Postgres, statement: &str) -> PgBench<'a> {
        let bench = PgBench { postgres, scratch: Scratch::new("pgbench") };
        let script = bench.script();
        std::fs::write(&script, statement).unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        bench
    }

    fn script(&self) -> std::path::PathBuf {
        self.scratch.path().join("statement.sql")
    }

    /// Transactions per second of one round.
    pub fn round(&self) -> f64 {
        let mut command = Command::new(self.postgres.bin_dir().join("pgbench"));
        command.args(["-n", "-M", "prepared", "-c", "50", "-j", "2", "-T", SECONDS, "-f"]);
        let output = command.arg(self.script()).arg(self.postgres.url()).output();
        let output = output.unwrap_or_else(|e| panic!("pgbench: {e}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let tps =
            text.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}
