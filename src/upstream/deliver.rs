//! From the bytes that Redis sends to the outboxes of the clients that asked.

use std::rc::Rc;

use super::conn::Reader;
use super::pending::{Captured, Pending, Wait};
use super::pubsub::Verdict;
use super::{Conn, Outbox, Target};
use crate::resp::FrameError;

/// Redis sent something that cannot be.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliverError {
    #[error("not RESP: {0}")]
    Frame(#[from] FrameError),
    #[error("a reply that nobody asked for")]
    Unasked,
}

impl Conn {
    /// Hands out what has just been read, then writes to every client that got something.
    pub(super) fn take(&self, data: &[u8]) -> Result<(), DeliverError> {
        let mut reader = self.reader.borrow_mut();
        let result = self.route(data, &mut reader);
        for outbox in reader.touched.drain(..) {
            outbox.flush();
        }
        self.stopwatch.handed_on();
        result
    }

    fn route(&self, mut data: &[u8], reader: &mut Reader) -> Result<(), DeliverError> {
        while let Some(&first) = data.first() {
            let at_start = !reader.scanner.in_frame();
            if at_start {
                reader.in_special = first == b'>' || self.inspects.get();
            }
            if reader.in_special {
                let (used, done) = reader.scanner.feed(data)?;
                reader.special.extend_from_slice(&data[..used]);
                data = &data[used..];
                if done {
                    let frame = std::mem::take(&mut reader.special);
                    self.special(&frame, reader)?;
                }
                continue;
            }
            let mut pending = self.pending.borrow_mut();
            let front = pending.front_mut().ok_or(DeliverError::Unasked)?;
            let errors_differ = front.wait != Wait::No;
            let (mut at, mut complete) = (0, 0);
            while complete < front.replies && at < data.len() {
                // A push may come between replies; and the rest of a reply belongs to what has come
                // of it, whatever the others wait for.
                let other =
                    data[at] == b'>' || errors_differ && (first == b'-' || data[at] == b'-');
                if complete > 0 && (other || !at_start) {
                    break;
                }
                let (used, done) = reader.scanner.feed(&data[at..])?;
                at += used;
                complete += usize::from(done);
            }
            let open = reader.scanner.in_frame();
            let wait = wait_of(front.wait, &data[..at], at_start && !open);
            self.hand_over(front, wait, &data[..at], complete, open, reader);
            if front.replies == 0 {
                pending.pop_front();
            }
            data = &data[at..];
        }
        Ok(())
    }

    /// Gives `bytes`, in which `complete` replies end, to the target of `entry`.
    fn hand_over(
        &self,
        entry: &mut Pending,
        wait: Wait,
        bytes: &[u8],
        complete: usize,
        open: bool,
        reader: &mut Reader,
    ) {
        entry.replies -= complete;
        let timed = self.stopwatch.answered(complete, self.progress.get());
        match &entry.target {
            Target::Client(outbox) => {
                let hold = self.hold(wait);
                if let (Some(hold), true) = (&hold, timed) {
                    self.stopwatch.held(hold);
                }
                outbox.deliver(hold, bytes, complete, open);
                outbox.settle(complete);
                touch(outbox, reader);
            }
            Target::Silent(outbox) => outbox.settle(complete),
            Target::Nobody => {}
            Target::Capture(_) | Target::Barrier(_) => {
                reader.captured.extend_from_slice(bytes);
                if entry.replies > 0 {
                    return;
                }
                let frame = std::mem::take(&mut reader.captured);
                match std::mem::replace(&mut entry.target, Target::Nobody) {
                    Target::Capture(sender) => {
                        let hold = self.hold(wait_of(entry.wait, &frame, true));
                        // The session that asked may be gone.
                        let _ = sender.send(Ok(Captured { frame, hold }));
                    }
                    Target::Barrier(source) => source.answered(&frame, self.driver()),
                    _ => {}
                }
            }
        }
    }

    /// A whole frame that may be a message, a confirmation, a line of MONITOR or a reply.
    fn special(&self, frame: &[u8], reader: &mut Reader) -> Result<(), DeliverError> {
        let mut pending = self.pending.borrow_mut();
        let mut watching = self.watching.borrow_mut();
        let asked = pending.front_mut().and_then(|entry| entry.confirmations.as_mut());
        let verdict = match watching.as_mut() {
            Some(watching) => watching.judge(frame, asked),
            // A push on a connection without listeners: nobody is left to read it.
            None if frame[0] == b'>' => Verdict::Hidden,
            None => Verdict::Reply,
        };
        match verdict {
            Verdict::Hidden => {}
            Verdict::Message => {
                if let Some(watching) = watching.as_ref() {
                    watching.owner.deliver(None, frame, 0, false);
                    touch(&watching.owner, reader);
                }
            }
            Verdict::Reply | Verdict::Confirmed(true) => {
                let front = pending.front_mut().ok_or(DeliverError::Unasked)?;
                let wait = wait_of(front.wait, frame, true);
                self.hand_over(front, wait, frame, 1, false, reader);
                if front.replies == 0 {
                    pending.pop_front();
                }
            }
            Verdict::Confirmed(false) => {
                let front = pending.front_mut().ok_or(DeliverError::Unasked)?;
                self.hand_over(front, Wait::No, frame, 0, false, reader);
            }
        }
        Ok(())
    }
}

/// What `bytes` wait for, whose commands wait for `wait`. An error that has come as a whole waits for
/// nothing: it acknowledges no write, and while a script keeps Redis busy no barrier comes by.
fn wait_of(wait: Wait, bytes: &[u8], whole: bool) -> Wait {
    if whole && bytes.first() == Some(&b'-') { Wait::No } else { wait }
}

fn touch(outbox: &Rc<Outbox>, reader: &mut Reader) {
    if outbox.touch() {
        reader.touched.push(Rc::clone(outbox));
    }
}
