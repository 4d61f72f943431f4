use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use crate::{Client, RespError, Value, encode};

/// A command as its arguments.
pub type Command = Vec<Vec<u8>>;

/// A recording of a service's commands, as batches that arrived in one socket read each.
#[derive(Debug)]
pub struct Trace {
    /// In the order of the recording; a connection's batches follow each other.
    batches: Vec<Batch>,
    recorded: Duration,
}

#[derive(Debug)]
struct Batch {
    connection: u64,
    bytes: Vec<u8>,
    commands: Vec<Command>,
}

/// What a replay came to.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    pub time: Duration,
    pub batches: usize,
    pub commands: usize,
    /// Error replies; a recording has some by its nature.
    pub errors: usize,
}

impl Trace {
    /// The relay's trace beside the repository, or where `TANDEM_RELAY_TRACE` says. None, visibly, where
    /// there is none.
    pub fn relay(repository: &Path) -> Option<Trace> {
        let path = std::env::var_os("TANDEM_RELAY_TRACE").map(PathBuf::from);
        let path = path.unwrap_or_else(|| repository.join("../shared/relay-trace/trace.jsonl.gz"));
        if !path.is_file() {
            eprintln!("SKIPPED: no trace at {}; set TANDEM_RELAY_TRACE", path.display());
            return None;
        }
        let trace = Trace::read(&path);
        Some(trace.unwrap_or_else(|e| panic!("read {}: {e}", path.display())))
    }

    /// Reads gzipped JSON lines: `t` the time in ms, `c` the connection, `b` the batch, an array of arrays of arguments whose bytes
    /// are written as Latin-1 code points.
    pub fn read(path: &Path) -> io::Result<Trace> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let (mut batches, mut times) = (Vec::new(), Vec::new());
        for line in BufReader::new(GzDecoder::new(File::open(path)?)).lines() {
            let line: serde_json::Value = serde_json::from_str(&line?)?;
            times.extend(line["t"].as_f64());
            let connection = line["c"].as_u64().ok_or_else(|| bad("no connection"))?;
            let commands = line["b"].as_array().ok_or_else(|| bad("no batch"))?;
            let mut batch = Batch { connection, bytes: Vec::new(), commands: Vec::new() };
            for command in commands {
                let args = command.as_array().ok_or_else(|| bad("a command is no array"))?;
                let args: Option<Command> = args.iter().map(|a| latin1(a.as_str()?)).collect();
                let args = args.ok_or_else(|| bad("an argument is no Latin-1 text"))?;
                batch.bytes.extend(encode(&args));
                batch.commands.push(args);
            }
            batches.push(batch);
        }
        let span = times.last().zip(times.first()).map_or(0.0, |(last, first)| last - first);
        Ok(Trace { batches, recorded: Duration::from_secs_f64(span.max(0.0) / 1000.0) })
    }

    /// How long the recording took.
    pub fn recorded(&self) -> Duration {
        self.recorded
    }

    /// The first `batches` alone.
    pub fn first(mut self, batches: usize) -> Trace {
        self.batches.truncate(batches);
        self
    }

    /// All commands in the order of the recording.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.batches.iter().flat_map(|batch| &batch.commands)
    }

    /// Replays each connection in order, one write per batch, as fast as replies come, with at most `window`
    /// batches unanswered.
    pub fn replay(&self, address: SocketAddr, window: usize) -> Result<Replay, RespError> {
        self.replay_and(address, window, |_, _| ())
    }

    /// As [`Trace::replay`]; every command is shown with its reply, in their order.
    pub fn replay_and(
        &self,
        address: SocketAddr,
        window: usize,
        mut seen: impl FnMut(&Command, Value),
    ) -> Result<Replay, RespError> {
        let start = Instant::now();
        let mut replay = Replay { time: Duration::ZERO, batches: 0, commands: 0, errors: 0 };
        let mut rest = &self.batches[..];
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|b| b.connection == first.connection).count();
            let (connection, later) = rest.split_at(same);
            replay_connection(connection, address, window.max(1), &mut replay, &mut seen)?;
            rest = later;
        }
        replay.time = start.elapsed();
        Ok(replay)
    }
}

fn replay_connection(
    batches: &[Batch],
    address: SocketAddr,
    window: usize,
    replay: &mut Replay,
    seen: &mut impl FnMut(&Command, Value),
) -> Result<(), RespError> {
    let mut client = Client::connect(address)?;
    let mut unanswered: VecDeque<&Batch> = VecDeque::with_capacity(window);
    for batch in batches {
        if unanswered.len() == window {
            answer(&mut client, &mut unanswered, replay, seen)?;
        }
        client.send(&batch.bytes)?;
        unanswered.push_back(batch);
    }
    while !unanswered.is_empty() {
        answer(&mut client, &mut unanswered, replay, seen)?;
    }
    Ok(())
}

fn answer(
    client: &mut Client,
    unanswered: &mut VecDeque<&Batch>,
    replay: &mut Replay,
    seen: &mut impl FnMut(&Command, Value),
) -> Result<(), RespError> {
    for command in unanswered.pop_front().iter().flat_map(|batch| &batch.commands) {
        let reply = client.receive()?;
        replay.errors += usize::from(reply.is_error());
        replay.commands += 1;
        seen(command, reply);
    }
    replay.batches += 1;
    Ok(())
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}
