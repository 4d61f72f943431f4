//! The replication client: attaches to Redis as a replica and yields what Redis sends.
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>, `replication.c` of Redis 7.

mod acks;
mod commands;
mod error;
mod event;
mod handshake;
mod transfer;

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::ReadHalf;

pub use acks::Applied;
pub use error::ReplicaError;
pub use event::{Args, Command, Event, Resume};

use self::acks::Reporter;
use self::commands::CommandParser;
use self::transfer::{Progress, Transfer};
use crate::config;
use crate::upstream::{Connector, Stream};

/// A link on which nothing arrives for so long is dead: Redis sends `PING` every 10 s
/// (`repl-ping-replica-period`).
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Read from the socket at once, in bytes.
const READ_SIZE: usize = 256 * 1024;
/// Room in the buffer below which a new one is taken.
const MIN_SPARE: usize = 32 * 1024;

/// One replication link. Nothing is read ahead beyond one buffer: who does not call [`Replica::next`] holds Redis back,
/// whose `client-output-buffer-limit replica` then counts.
///
/// While it lives, a task of its own reports to Redis; it ends with this value.
#[derive(Debug)]
pub struct Replica {
    reader: ReadHalf<Stream>,
    reporter: Reporter,
    input: BytesMut,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The handshake's outcome has not been given out.
    Greeting(Event),
    Transfer(Box<Transfer>, i64),
    Streaming(CommandParser),
    /// Out of step with Redis after an error.
    Broken,
}

impl Replica {
    /// Connects and asks for the stream behind `resume`, or for everything. Returns when Redis has
    /// decided; the first event says how. Must be called within a tokio runtime.
    pub async fn connect(
        redis: &config::Redis,
        resume: Option<Resume>,
    ) -> Result<Replica, ReplicaError> {
        Replica::attach(&Connector::new(redis)?, resume).await
    }

    /// Like [`Replica::connect`], with certificates that have been read already.
    pub async fn attach(
        connector: &Connector,
        resume: Option<Resume>,
    ) -> Result<Replica, ReplicaError> {
        let mut stream = connector.connect().await?;
        let mut input = BytesMut::with_capacity(READ_SIZE);
        let greeting =
            handshake::run(&mut stream, &mut input, connector.url(), resume.as_ref(), READ_TIMEOUT)
                .await?;
        let (reader, writer) = tokio::io::split(stream);
        // A snapshot counts as applied only when the consumer says so.
        let applied = match &greeting {
            Event::Continue { offset, .. } => *offset,
            _ => 0,
        };
        let reporter = Reporter::spawn(writer, applied);
        Ok(Replica { reader, reporter, input, state: State::Greeting(greeting) })
    }

    /// The next event. Cancel safe. After an error the link is to be dropped.
    pub async fn next(&mut self) -> Result<Event, ReplicaError> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            if self.input.capacity() - self.input.len() < MIN_SPARE {
                self.input.reserve(READ_SIZE);
            }
            handshake::read_some(&mut self.reader, &mut self.input, READ_TIMEOUT).await?;
        }
    }

    /// The next event if it has arrived already; `None` does not mean the end.
    pub fn try_next(&mut self) -> Result<Option<Event>, ReplicaError> {
        let result = self.step();
        if result.is_err() {
            self.state = State::Broken;
        }
        result
    }

    /// Sets the offset that Redis is told: everything up to it is durable.
    pub fn set_applied(&self, offset: i64) {
        self.reporter.applied.set(offset);
    }

    /// A handle to set the applied offset from elsewhere.
    pub fn applied(&self) -> Applied {
        self.reporter.applied.clone()
    }

    fn step(&mut self) -> Result<Option<Event>, ReplicaError> {
        match &mut self.state {
            State::Streaming(parser) => {
                let Some(command) = parser.next(&mut self.input)? else { return Ok(None) };
                Ok(Some(self.classify(command)))
            }
            State::Transfer(transfer, offset) => match transfer.next(&mut self.input)? {
                Progress::Item(item) => Ok(Some(Event::Rdb(item))),
                Progress::Wait => Ok(None),
                Progress::Complete => {
                    let offset = *offset;
                    self.stream_from(offset);
                    self.step()
                }
            },
            State::Greeting(event) => {
                let event = event.clone();
                match &event {
                    Event::FullResync { offset, .. } => {
                        self.state = State::Transfer(Box::new(Transfer::new(*offset)), *offset);
                    }
                    Event::Continue { offset, .. } => self.stream_from(*offset),
                    _ => self.state = State::Broken,
                }
                Ok(Some(event))
            }
            State::Broken => Err(ReplicaError::Closed),
        }
    }

    fn stream_from(&mut self, offset: i64) {
        self.state = State::Streaming(CommandParser::new(offset));
        self.reporter.applied.start_streaming();
    }

    /// Answers what is meant for the link itself.
    fn classify(&self, command: Command) -> Event {
        let is = |at: usize, word: &[u8]| {
            command.args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
        };
        let end_offset = command.end_offset;
        if command.args.len() == 1 && is(0, b"PING") {
            return Event::KeepAlive { end_offset };
        }
        if command.args.len() == 3 && is(0, b"REPLCONF") && is(1, b"GETACK") {
            self.reporter.applied.asked(end_offset);
            return Event::KeepAlive { end_offset };
        }
        Event::Command(command)
    }
}
