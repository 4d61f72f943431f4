use std::time::Instant;

use rand::RngExt;
use support::commands::{self, Commands};
use tandem::engine::{Answer, Call, Expiry, Keyspace, Stop, execute};
use tandem::resp::{Protocol, Reply};

use super::model_store::ModelStore;
use super::replies::{ordered, seen};
use super::{seed, shown, time, to_bytes};

/// A keyspace of which little is in memory, and the store that it is loaded from.
struct Part {
    keyspace: Keyspace,
    store: ModelStore,
    loads: u64,
    dropped: usize,
}

impl Part {
    fn new(expiry: Expiry) -> Part {
        let keyspace = Keyspace::new(1, false, expiry, 1);
        Part { keyspace, store: ModelStore::default(), loads: 0, dropped: 0 }
    }

    /// Runs a command, loading what it says that it needs.
    fn run(&mut self, call: &Call<'_>) -> Answer<Reply> {
        let mut last = Vec::new();
        for _ in 0..200 {
            let needs = match execute(&mut self.keyspace, call) {
                Err(Stop::NotLoaded(needs)) => needs,
                answer => return answer,
            };
            assert!(!needs.is_empty(), "something is lacking, but what?");
            for need in &needs {
                self.loads += 1;
                self.store.load(need, &mut self.keyspace);
            }
            last = needs;
        }
        panic!("it never has enough: {call:?} lacks {last:?}");
    }

    /// Commits, and forgets what was not used lately.
    fn commit(&mut self, max_bytes: usize) {
        let (delta, committed) = self.keyspace.take_delta();
        self.store.apply(delta);
        self.dropped += self.keyspace.sweep(max_bytes, committed);
    }
}

fn compare(expiry: Expiry) {
    let seed = seed();
    let families = [
        commands::STRINGS,
        commands::BITS,
        commands::HYPERLOGLOG,
        commands::HASHES,
        commands::GENERIC,
        commands::LISTS,
        commands::SETS,
        commands::SORTED_SETS,
        commands::STREAMS,
    ];
    let mut commands = Commands::new(seed, &families);
    let mut whole = Keyspace::new(1, true, expiry, 1);
    let mut whole_store = ModelStore::default();
    let mut part = Part::new(expiry);
    let (start, mut count, mut now_ms) = (Instant::now(), 0u64, 1_700_000_000_000);
    let mut history = Vec::new();
    while start.elapsed() < time() {
        now_ms += commands.rng().random_range(0..2000);
        (whole.now_ms, part.keyspace.now_ms) = (now_ms, now_ms);
        let args = commands.next();
        let owned = to_bytes(&args);
        let db = u32::from(commands.rng().random_ratio(1, 5));
        let call = Call { db, protocol: Protocol::Resp2, args: &owned, from_log: false };
        history.push(format!("db {db}: {}", shown(&args)));
        let trace = || history[history.len().saturating_sub(30)..].join("\n");
        let expected = ordered(&args, seen(execute(&mut whole, &call), Protocol::Resp2));
        let answer = ordered(&args, seen(part.run(&call), Protocol::Resp2));
        assert_eq!(answer, expected, "after\n{}", trace());
        count += 1;
        if commands.rng().random_ratio(1, 8) {
            let max_bytes = commands.rng().random_range(0..4000);
            part.commit(max_bytes);
        }
        if count % 500 == 0 {
            part.commit(100);
            whole_store.apply(whole.take_delta().0);
            assert_eq!(part.store.content(), whole_store.content(), "after\n{}", trace());
        }
    }
    println!("{count} commands, {} loads, {} keys dropped from memory", part.loads, part.dropped);
    assert!(count > 500 && part.loads > count / 100 && part.dropped as u64 > count / 100);
}

#[test]
fn replies_and_rows_are_those_of_a_keyspace_in_memory() {
    compare(Expiry::ByClock);
}

#[test]
fn also_when_the_log_decides_on_expiry() {
    compare(Expiry::ByLog);
}
