//! PostgreSQL is gone, and Redis has everything that was acknowledged: it answers reads.
//!
//! Each of the proxy's connections gets a connection to Redis of its own. Writes, and whatever
//! would have to be known when PostgreSQL is back, are refused.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::follower::Follower;
use crate::commands::{self, Class};
use crate::resp::{ReplyScanner, RequestLimits, RequestScanner, Scan, encode_error, push_command};
use crate::strategy::{Barrier, CommitGate};
use crate::upstream::{Connector, Stream};

/// Read at once, in bytes.
const READ: usize = 64 * 1024;

const READS_ONLY: &str =
    "READONLY PostgreSQL is away: Redis answers reads, and writes are refused until it is back";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

/// What is needed to serve from Redis.
#[derive(Clone)]
pub(super) struct Away {
    pub redis: Connector,
    pub follower: Rc<Follower>,
    pub gate: Arc<CommitGate>,
    pub limits: RequestLimits,
    /// PostgreSQL is back.
    pub over: CancellationToken,
}

/// The connection ends.
struct Closed;

impl From<std::io::Error> for Closed {
    fn from(_: std::io::Error) -> Closed {
        Closed
    }
}

/// One of the proxy's connections, and Redis behind it.
struct Link {
    away: Away,
    client: DuplexStream,
    redis: Stream,
    out: Vec<u8>,
    /// Bytes for Redis, and how many replies they will bring.
    forward: (Vec<u8>, usize),
    replies: ReplyScanner,
    /// Inside of MULTI, and whether a command of it was refused.
    multi: Option<bool>,
}

impl Away {
    /// Serves in a task of its own, until PostgreSQL is back.
    pub fn serve(self, client: DuplexStream) {
        tokio::task::spawn_local(async move {
            let Ok(redis) = self.redis.connect().await else { return };
            let over = self.over.clone();
            let mut link = Link {
                away: self,
                client,
                redis,
                out: Vec::new(),
                forward: (Vec::new(), 0),
                replies: ReplyScanner::default(),
                multi: None,
            };
            tokio::select! {
                _ = link.talk() => {}
                () = over.cancelled() => {}
            }
        });
    }
}

impl Link {
    async fn talk(&mut self) -> Result<(), Closed> {
        let (mut input, mut scanner) = (Vec::new(), RequestScanner::default());
        loop {
            input.reserve(READ.min(scanner.awaited().max(4096)));
            if self.client.read_buf(&mut input).await? == 0 {
                return Err(Closed);
            }
            let mut at = 0;
            loop {
                let limits = &self.away.limits;
                let args: Vec<Bytes> = match scanner.scan(&input[at..], limits, true) {
                    Ok(Scan::Incomplete) => break,
                    Ok(Scan::Nothing(length)) => {
                        at += length;
                        continue;
                    }
                    Ok(Scan::Inline(length, words)) => {
                        at += length;
                        words.into_iter().map(Bytes::from).collect()
                    }
                    Ok(Scan::Command(length)) => {
                        let frame = &input[at..at + length];
                        let word = |&(from, to): &(u32, u32)| {
                            Bytes::copy_from_slice(&frame[from as usize..to as usize])
                        };
                        let args = scanner.arguments().iter().map(word).collect();
                        at += length;
                        args
                    }
                    Err(error) => {
                        self.flush().await?;
                        error.push_reply(&mut self.out);
                        self.client.write_all(&self.out).await?;
                        return Err(Closed);
                    }
                };
                self.handle(&args).await?;
            }
            input.drain(..at);
            self.flush().await?;
            if !self.out.is_empty() {
                self.client.write_all(&self.out).await?;
                self.out.clear();
            }
        }
    }

    async fn handle(&mut self, args: &[Bytes]) -> Result<(), Closed> {
        let command = commands::lookup(&args[0]);
        let class = command.map_or(Class::Unknown, |command| command.class);
        let name = command.map_or("", |command| command.name);
        if name == "publish" && args.get(1).is_some_and(|c| *c == self.away.gate.channel()) {
            // Nothing was written that a reply could wait for.
            let barrier = args.get(2).and_then(|text| Barrier::parse(text));
            self.away.gate.commit(&barrier.into_iter().collect::<Vec<_>>());
            self.flush().await?;
            self.out.extend_from_slice(b":0\r\n");
            return Ok(());
        }
        let tracking = name == "client"
            && args.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"tracking"));
        let writes = command
            .is_some_and(|command| command.call_writes(args.get(1).map(|word| &word[..])))
            && !matches!(class, Class::Exec | Class::Multi | Class::Discard);
        let refused = writes
            || tracking
            || matches!(class, Class::Subscribe | Class::Monitor | Class::Replication)
            || !self.away.follower.is_whole();
        if refused && !matches!(name, "hello" | "auth" | "select" | "ping" | "quit" | "reset") {
            if let Some(broken) = &mut self.multi {
                *broken = true;
            }
            return self.say(READS_ONLY).await;
        }
        match (class, self.multi) {
            (Class::Multi, None) => self.multi = Some(false),
            (Class::Exec, Some(true)) => {
                self.multi = None;
                push_command(&["DISCARD"], &mut self.forward.0);
                self.forward.1 += 1;
                let before = self.out.len();
                self.flush().await?;
                // The client has asked for something else.
                self.out.truncate(before.max(self.out.len().saturating_sub(b"+OK\r\n".len())));
                return self.say(ABORTED).await;
            }
            (Class::Exec | Class::Discard, _) => self.multi = None,
            _ => {}
        }
        push_command(args, &mut self.forward.0);
        self.forward.1 += 1;
        Ok(())
    }

    /// An answer of our own, behind those of Redis.
    async fn say(&mut self, error: &str) -> Result<(), Closed> {
        self.flush().await?;
        encode_error(error, &mut self.out);
        Ok(())
    }

    /// Asks Redis what is to be asked, and takes its replies.
    async fn flush(&mut self) -> Result<(), Closed> {
        let (bytes, mut wanted) = std::mem::take(&mut self.forward);
        if wanted == 0 {
            return Ok(());
        }
        let mut buffer = Vec::with_capacity(READ);
        let (mut reader, mut writer) = tokio::io::split(&mut self.redis);
        let mut writing = std::pin::pin!(async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        });
        let mut written = false;
        while wanted > 0 {
            tokio::select! {
                result = &mut writing, if !written => {
                    result?;
                    written = true;
                }
                read = reader.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Err(Closed);
                    }
                    let mut at = 0;
                    while at < buffer.len() {
                        let fed = self.replies.feed(&buffer[at..]).map_err(|_| Closed)?;
                        let (length, ended) = fed;
                        at += length;
                        wanted -= usize::from(ended);
                        if wanted == 0 {
                            break;
                        }
                    }
                    self.out.extend_from_slice(&buffer);
                    buffer.clear();
                }
            }
        }
        Ok(())
    }
}
