use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::template::{COMMANDS, command};
use crate::{Client, encode};

/// Random commands of all types from several clients at once, in pipelines and transactions, over several databases.
/// Each client's commands follow from the seed; how they interleave does not.
#[derive(Clone, Debug)]
pub struct RandomLoad {
    pub address: SocketAddr,
    pub seed: u64,
    pub clients: u64,
    pub time: Duration,
    /// Keys of each type.
    pub keys: u32,
    /// While it is set, the clients wait.
    pub paused: Arc<AtomicBool>,
}

impl RandomLoad {
    pub fn new(port: u16, seed: u64, time: Duration) -> RandomLoad {
        RandomLoad {
            address: ([127, 0, 0, 1], port).into(),
            seed,
            clients: 8,
            time,
            keys: 25,
            paused: Arc::default(),
        }
    }

    /// Runs the load to its end and returns the number of commands answered. Panics when a reply is missing,
    /// or when nearly all replies are errors.
    pub fn run(&self) -> u64 {
        let (commands, errors) = std::thread::scope(|scope| {
            let clients = (0..self.clients).map(|index| scope.spawn(move || self.client(index)));
            let clients: Vec<_> = clients.collect();
            let counts = clients.into_iter().map(|client| match client.join() {
                Ok(counts) => counts,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
        });
        println!("random load: {commands} commands, {errors} of them answered with an error");
        assert!(commands > 0 && errors * 2 < commands, "{errors} errors in {commands} replies");
        commands
    }

    fn client(&self, index: u64) -> (u64, u64) {
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_mul(1000).wrapping_add(index));
        let total = COMMANDS.iter().map(|(weight, _)| weight).sum();
        let mut client = Client::connect(self.address).unwrap_or_else(|e| panic!("connect: {e}"));
        client.set_timeout(Duration::from_secs(60));
        let (start, mut commands, mut errors) = (Instant::now(), 0, 0);
        while start.elapsed() < self.time {
            if self.paused.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let batch = batch(&mut rng, total, self.keys);
            let bytes: Vec<u8> = batch.iter().flat_map(encode).collect();
            client.send(&bytes).unwrap_or_else(|e| panic!("client {index}: send: {e}"));
            for sent in &batch {
                let reply = client.receive().unwrap_or_else(|e| {
                    let sent: Vec<_> =
                        sent.iter().map(|arg| arg.escape_ascii().to_string()).collect();
                    panic!("client {index}: no reply to {sent:?}: {e}")
                });
                commands += 1;
                errors += u64::from(reply.is_error());
            }
        }
        (commands, errors)
    }
}

type Command = Vec<Vec<u8>>;

/// What a client sends in one write.
fn batch(rng: &mut StdRng, total: u32, keys: u32) -> Vec<Command> {
    let words =
        |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Command>();
    let mut batch: Vec<Command> = Vec::new();
    match rng.random_range(0..100) {
        // Rare and sweeping.
        0 if rng.random_ratio(1, 20) => batch.push(words("FLUSHDB")),
        1 if rng.random_ratio(1, 10) => batch.push(words("SWAPDB 0 1")),
        2..=9 => batch.push(words(&format!("SELECT {}", rng.random_range(0..3)))),
        10..=24 => {
            batch.push(words("MULTI"));
            // A blocking command does not wait in a transaction, and DISCARD is rarer than EXEC.
            for _ in 0..rng.random_range(1..8) {
                batch.push(command(rng, total, keys));
            }
            batch.push(words(if rng.random_ratio(1, 10) { "DISCARD" } else { "EXEC" }));
        }
        25..=39 => {
            for _ in 0..rng.random_range(2..60) {
                batch.push(command(rng, total, keys));
            }
        }
        _ => batch.push(command(rng, total, keys)),
    }
    batch
}
