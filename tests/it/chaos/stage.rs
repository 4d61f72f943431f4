//! The servers of a run: Redis, PostgreSQL and the proxy, with lines between them that can fail.

use std::path::PathBuf;
use std::time::Duration;

use support::compare::Sides;
use support::{Client, FaultProxy, Postgres, Redis, SmallDisk, Tandem, wait_for};

use super::faults::{Fault, Needs};

const LIMIT: Duration = Duration::from_secs(60);

pub struct Stage {
    pub mode: &'static str,
    pub tandem: Tandem,
    pub redis: Redis,
    pub to_redis: Option<FaultProxy>,
    pub postgres: Postgres,
    pub to_postgres: FaultProxy,
    pub spool: Option<SmallDisk>,
    pub data: Option<SmallDisk>,
    /// A dump of some time ago.
    old_dump: PathBuf,
}

impl Stage {
    /// PostgreSQL's disk has room for what a run of `seconds` writes.
    pub fn new(mode: &'static str, seconds: u64) -> Stage {
        let redis = Redis::start();
        let (spool, data) = (SmallDisk::new(8), SmallDisk::new((320 + 4 * seconds).min(4096)));
        let settings = [("min_wal_size", "32MB"), ("max_wal_size", "64MB")];
        let postgres = match &data {
            Some(disk) => Postgres::on_disk(disk, &settings),
            None => Postgres::start(),
        };
        let to_postgres = FaultProxy::new(postgres.port());
        let with_redis = mode != "postgres_only";
        let to_redis = with_redis.then(|| FaultProxy::new(redis.port()));
        let mut options = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .mode(mode)
            .set("postgres", "url", to_postgres.url(&postgres.url()))
            .set("postgres", "query_timeout_ms", 3_000)
            .set("postgres", "connect_timeout_ms", 1_000)
            .set("redis", "connect_timeout_ms", 1_000)
            .set("strategy", "ack_timeout_ms", 8_000)
            .allow("");
        if let Some(line) = &to_redis {
            options = options.redis_url(&line.url(&redis.url()));
        }
        if let Some(disk) = &spool {
            options = options.set("mirror", "spool_dir", disk.path().display().to_string());
        }
        let tandem = options.start();
        let old_dump = redis.dir().join("old.rdb");
        let mut stage =
            Stage { mode, tandem, redis, to_redis, postgres, to_postgres, spool, data, old_dump };
        stage.wait_well();
        stage
    }

    pub fn to_redis(&self) -> &FaultProxy {
        self.to_redis.as_ref().expect("a line to Redis")
    }

    pub fn suffers(&self, fault: &Fault) -> bool {
        match fault.needs {
            Needs::Nothing => true,
            Needs::Redis => self.to_redis.is_some(),
            Needs::SmallSpool => self.spool.is_some() && self.mode == "dual_write",
            Needs::SmallData => self.data.is_some(),
        }
    }

    pub fn save_redis(&self) {
        let saved = self.redis.client().run("SAVE");
        assert!(!saved.is_error() || format!("{saved:?}").contains("progress"), "{saved:?}");
    }

    /// The dump of now becomes the old one of later.
    pub fn keep_dump(&self) {
        std::fs::copy(self.redis.dir().join("dump.rdb"), &self.old_dump).expect("copied");
    }

    /// What Redis finds when it starts.
    pub fn put_old_dump(&self) {
        if self.old_dump.exists() {
            std::fs::copy(&self.old_dump, self.redis.dir().join("dump.rdb")).expect("copied");
        }
    }

    /// Whoever leads by the configuration leads, everybody has everything, and writes are taken.
    pub fn wait_well(&mut self) {
        wait_for("all to be well", LIMIT, || {
            self.tandem.assert_running();
            self.is_well()
        });
    }

    fn is_well(&self) -> bool {
        let Ok(mut client) = Client::connect(("127.0.0.1", self.tandem.port())) else {
            return false;
        };
        client.set_timeout(Duration::from_secs(10));
        if !client.try_call(["PING"]).is_ok_and(|reply| !reply.is_error()) {
            return false;
        }
        let status = self.tandem.status();
        let is = |name: &str, value: &str| status.get(name).is_some_and(|found| found == value);
        let well = match self.mode {
            "dual_write" => {
                is("lead", "redis") && is("ack_holding", "1") && is("mirror_state", "streaming")
            }
            "database_first" => is("mode", "database_first") && is("follower_state", "whole"),
            _ => true,
        };
        well && client.try_call(["SET", "probe", "1"]).is_ok_and(|reply| !reply.is_error())
    }

    /// What autovacuum would do if PostgreSQL lived for longer than the time between two looks of it.
    pub fn vacuum(&self) {
        self.postgres.sql("VACUUM");
    }

    /// Redis, where there is one, has what PostgreSQL has.
    pub fn assert_equal(&self) {
        let sides = Sides::new(&self.redis, &self.postgres);
        match self.mode {
            "dual_write" => sides.assert_equal(),
            // What is written to Redis does not go to PostgreSQL, so there is nothing to wait for but the outcome.
            "database_first" => {
                wait_for("both sides to be equal", LIMIT, || {
                    sides.differences().is_ok_and(|differences| differences.is_empty())
                });
            }
            _ => {}
        }
    }
}
