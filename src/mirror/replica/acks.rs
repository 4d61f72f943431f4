//! What goes to Redis over the link: newlines while a snapshot is being received, then the applied
//! offset once a second and whenever Redis asks. In a task of its own, so that a consumer that is
//! busy for long does not look dead to Redis (`repl-timeout`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::handshake::command;
use crate::upstream::Stream;

/// As `replication.c`: a replica reports once a second.
const INTERVAL: Duration = Duration::from_secs(1);
/// Redis sends the stream behind a diskless transfer only after a report that comes when it has seen
/// its child end, which it looks for ten times a second: so the first reports come quickly.
const EAGER: Duration = Duration::from_millis(50);
const EAGER_REPORTS: u32 = 20;

#[derive(Debug, Default)]
struct Shared {
    applied: AtomicI64,
    /// Offset behind the last question of Redis.
    asked: AtomicI64,
    streaming: AtomicBool,
    wake: Notify,
}

/// Tells Redis how far the stream has been applied. Clones speak for the same link.
#[derive(Clone, Debug)]
pub struct Applied(Arc<Shared>);

impl Applied {
    /// Everything up to this replication offset is durable. Redis hears it within a second, and at
    /// once when it has asked (`WAIT`).
    pub fn set(&self, offset: i64) {
        let before = self.0.applied.swap(offset, Ordering::AcqRel);
        if before < offset && before < self.0.asked.load(Ordering::Acquire) {
            self.0.wake.notify_one();
        }
    }

    pub fn get(&self) -> i64 {
        self.0.applied.load(Ordering::Acquire)
    }

    /// `REPLCONF GETACK` has come, ending at `offset`.
    pub(super) fn asked(&self, offset: i64) {
        self.0.asked.store(offset, Ordering::Release);
        self.0.wake.notify_one();
    }

    /// The command stream begins.
    pub(super) fn start_streaming(&self) {
        self.0.streaming.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

/// The writing task; ends with this value.
#[derive(Debug)]
pub(super) struct Reporter {
    pub applied: Applied,
    task: JoinHandle<()>,
}

impl Reporter {
    pub fn spawn(writer: WriteHalf<Stream>, applied: i64) -> Reporter {
        let shared = Arc::new(Shared { applied: AtomicI64::new(applied), ..Shared::default() });
        let task = tokio::spawn(report(shared.clone(), writer));
        Reporter { applied: Applied(shared), task }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when the link breaks; the reading side notices that by itself.
async fn report(shared: Arc<Shared>, mut writer: WriteHalf<Stream>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut eager = EAGER_REPORTS;
    loop {
        let streaming = shared.streaming.load(Ordering::Acquire);
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(EAGER), if streaming && eager > 0 => eager -= 1,
        }
        let message = if shared.streaming.load(Ordering::Acquire) {
            let offset = shared.applied.load(Ordering::Acquire).to_string();
            command(&[b"REPLCONF", b"ACK", offset.as_bytes()])
        } else {
            b"\n".to_vec()
        };
        let sent = async {
            writer.write_all(&message).await?;
            writer.flush().await
        };
        if let Err(error) = sent.await {
            tracing::debug!(%error, "cannot report to Redis");
            return;
        }
    }
}
