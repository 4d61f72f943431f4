//! One fault after the other, under a client that counts: what it sees, what the proxy says of it, and that nothing
//! acknowledged is lost or done twice. docs/failures.md has a row for each.

mod postgres;
mod redis;
mod spool;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::compare::Sides;
use support::{Client, FaultProxy, Postgres, Redis, Tandem, TandemOptions, Value, wait_for};

use crate::admin::get;

const LIMIT: Duration = Duration::from_secs(60);

/// The proxy with lines to both backends that can fail.
struct Stand {
    tandem: Tandem,
    redis: Redis,
    to_redis: FaultProxy,
    postgres: Postgres,
    to_postgres: FaultProxy,
}

impl Stand {
    fn new() -> Stand {
        Stand::with(Redis::start(), Postgres::start(), |options| options)
    }

    fn with(
        redis: Redis,
        postgres: Postgres,
        change: impl FnOnce(TandemOptions) -> TandemOptions,
    ) -> Stand {
        let (to_redis, to_postgres) =
            (FaultProxy::new(redis.port()), FaultProxy::new(postgres.port()));
        let options = Tandem::new(env!("CARGO_BIN_EXE_tandem"))
            .mode("dual_write")
            .redis_url(&to_redis.url(&redis.url()))
            .set("postgres", "url", to_postgres.url(&postgres.url()))
            .set("postgres", "query_timeout_ms", 3_000)
            .set("postgres", "connect_timeout_ms", 2_000)
            .set("redis", "connect_timeout_ms", 1_000)
            .set("strategy", "ack_timeout_ms", 1_500)
            .allow("");
        let tandem = change(options).start();
        let stand = Stand { tandem, redis, to_redis, postgres, to_postgres };
        stand.wait_well();
        stand
    }

    /// Waits until `backend` is in this condition, and has everything that shows it say so, once.
    fn wait_condition(&self, backend: &str, condition: &str) {
        let field = format!("{backend}_state");
        wait_for(&format!("{backend} to be {condition}"), LIMIT, || {
            self.status(&field).is_some_and(|now| now == condition)
        });
        let metric = format!(
            "tandem_backend_condition{{backend=\"{backend}\",condition=\"{condition}\"}} 1\n"
        );
        wait_for(&metric, LIMIT, || get(&self.tandem, "/metrics").text.contains(&metric));
        // Redis's part of it is an error while nobody answers.
        let line = format!("tandem_{field}:{condition}\r\n");
        wait_for(&line, LIMIT, || match self.tandem.client().run("INFO tandem") {
            Value::Error(_) => false,
            info => info.text().contains(&line),
        });
        let to = format!("to=\"{condition}\"");
        let line = |line: &&str| line.contains("condition of a backend") && line.contains(&to);
        assert!(self.tandem.log().lines().any(|text| line(&text)), "{}", self.tandem.log());
    }

    /// While it is ill: the effective mode, and that the reason names the condition wherever there is one.
    fn assert_degraded(&self, mode: &str, condition: &str) {
        let word = condition.replace('_', " ");
        wait_for(&format!("the mode to be {mode}"), LIMIT, || {
            self.status("mode").is_some_and(|now| now == mode)
        });
        let status = self.tandem.status();
        assert!(status["mode_reason"].contains(&word), "{status:?}");
        let health = get(&self.tandem, "/admin/database/health").json();
        assert_ne!(health["data"]["status"], "healthy", "{health}");
        assert!(
            health["data"]["reasons"].as_array().is_some_and(|why| !why.is_empty()),
            "{health}"
        );
    }

    /// Lines of the log that say that the condition of `backend` has changed.
    fn changes(&self, backend: &str) -> usize {
        let named = format!("backend=\"{backend}\"");
        let log = self.tandem.log();
        let line = |line: &&str| line.contains("condition of a backend") && line.contains(&named);
        log.lines().filter(line).count()
    }

    fn status(&self, field: &str) -> Option<String> {
        self.tandem.answers().then(|| self.tandem.status().get(field).cloned()).flatten()
    }

    /// Redis leads, PostgreSQL has everything, and both are well.
    fn wait_well(&self) {
        let wanted = [
            ("lead", "redis"),
            ("mirror_state", "streaming"),
            ("ack_holding", "1"),
            ("redis_state", "well"),
            ("postgres_state", "well"),
            ("mode_reason", ""),
        ];
        wait_for("all to be well", LIMIT, || {
            self.tandem.answers() && {
                let status = self.tandem.status();
                wanted.iter().all(|(field, value)| status[*field] == *value)
            }
        });
    }

    fn assert_equal(&self) {
        Sides::new(&self.redis, &self.postgres).assert_equal();
    }

    /// All is well again, and the counter is what its client was told.
    fn assert_counted(&self, count: &Count) {
        self.wait_well();
        let held = self.tandem.client().run("GET n").int();
        assert!(
            (count.base + count.done..=count.base + count.done + count.unknown).contains(&held),
            "{held} after {count:?}"
        );
        self.assert_equal();
    }
}

/// A client that counts on one connection until it is told to end.
struct Counting {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Count>,
}

#[derive(Debug, Default)]
struct Count {
    /// What it began with.
    base: i64,
    /// Acknowledged.
    done: i64,
    /// With an unknown outcome.
    unknown: i64,
    /// First words of all other errors: nothing was done.
    errors: BTreeSet<String>,
    slowest: Duration,
}

impl Counting {
    fn start(tandem: &Tandem) -> Counting {
        let mut client = tandem.client();
        client.set_timeout(LIMIT);
        let base = match client.run("GET n") {
            Value::Nil => 0,
            number => number.int(),
        };
        let over = Arc::new(AtomicBool::new(false));
        let mine = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut count = Count { base, ..Count::default() };
            while !mine.load(Ordering::Relaxed) {
                count.step(&mut client);
            }
            count
        });
        Counting { over, thread }
    }

    fn end(self) -> Count {
        self.over.store(true, Ordering::Relaxed);
        let count = self.thread.join().expect("the connection lived");
        println!("{count:?}");
        count
    }
}

impl Count {
    fn step(&mut self, client: &mut Client) {
        let asked = Instant::now();
        let reply = client.try_call(["INCR", "n"]).expect("the connection lives");
        self.slowest = self.slowest.max(asked.elapsed());
        match reply {
            Value::Int(n) => {
                self.done += 1;
                let least = self.base + self.done;
                assert!((least..=least + self.unknown).contains(&n), "{n} after {self:?}");
                // Where it waits for nobody it would take the processor from those that have to recover.
                std::thread::sleep(Duration::from_millis(1));
            }
            Value::Error(error) if error.starts_with("UNKNOWNOUTCOME") => self.unknown += 1,
            Value::Error(error) => {
                self.errors.insert(error.split(' ').next().unwrap_or_default().to_owned());
                // Nobody asks as fast as it can.
                std::thread::sleep(Duration::from_millis(2));
            }
            other => panic!("{other:?}"),
        }
    }

    /// No error but these, and what was under way when the fault came.
    #[track_caller]
    fn assert_errors(&self, allowed: &[&str]) {
        let others: Vec<&String> =
            self.errors.iter().filter(|error| !allowed.contains(&error.as_str())).collect();
        assert!(others.is_empty(), "{others:?} in {self:?}");
        assert!(self.done > 0, "{self:?}");
    }
}
