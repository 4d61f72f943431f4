//! The quick path of a session: from the bytes that a client sent to the lane, the client's own
//! connection, or a closer look.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::access::Listed;
use super::block::{self, Block, Part};
use super::care::Batch;
use super::request::{Request, Stop};
use super::session::{ReplyMode, Session};
use crate::commands::{self, Class, Command, Group};
use crate::resp::{Scan, push_command};
use crate::strategy::Tally;
use crate::upstream::{Conn, Lost, Target};

/// Where a command goes.
enum Route {
    Lane,
    /// A whole transaction, to the lane.
    Block(Block),
    Pin,
    Slow,
}

/// Consecutive requests for the lane, sent as one piece.
#[derive(Default)]
struct Run {
    from: usize,
    part: Part,
}

impl Run {
    /// Adds what begins at `at`, right behind the rest.
    fn add(&mut self, at: usize, part: Part) {
        if self.part.commands == 0 {
            self.from = at;
        }
        self.part.add(part);
    }
}

impl Session {
    /// The quick path: hands whole requests to the lane in runs, as they are. Returns how many bytes
    /// are dealt with, and why it stopped.
    pub fn forward(&mut self, data: &[u8]) -> (usize, Stop) {
        if self.has_to_settle() {
            return (0, Stop::Settle);
        }
        let shared = Arc::clone(&self.worker.shared);
        let mut run = Run::default();
        let mut at = 0;
        let mut tally = Tally::default();
        let mut name = "";
        let mut careful = Batch::new(shared.presence.partial());
        let refusing = shared.gate.refusing();
        let user = self.user.clone();
        let stop = loop {
            let rest = &data[at..];
            let scan = self.scanner.scan(rest, &shared.limits, self.trusted);
            if careful.ends_before(&scan) {
                break careful.stop();
            }
            match scan {
                Err(error) => break Stop::Protocol(error),
                Ok(Scan::Incomplete) => break Stop::More,
                Ok(Scan::Nothing(length)) => {
                    self.send_run(&mut run, data);
                    at += length;
                }
                Ok(Scan::Inline(length, words)) => {
                    self.send_run(&mut run, data);
                    let mut frame = Vec::new();
                    push_command(&words, &mut frame);
                    let (used, stop) = self.forward(&frame);
                    let later = matches!(stop, Stop::Drain | Stop::Settle | Stop::Place(_));
                    at += if used > 0 || !later { length } else { 0 };
                    if !matches!(stop, Stop::More) {
                        break stop;
                    }
                }
                Ok(Scan::Command(length)) => {
                    let frame = &rest[..length];
                    let arguments = self.scanner.take_arguments();
                    let (from, to) = arguments[0];
                    let command = commands::lookup(&frame[from as usize..to as usize]);
                    let second =
                        arguments.get(1).map(|&(from, to)| &frame[from as usize..to as usize]);
                    let one = Part::one(length, command, second);
                    let refused = refusing && self.refuses(command, second)
                        || user.as_ref().is_some_and(|user| {
                            self.stands_aside(user, command, frame, &arguments)
                        });
                    let route = match self.route(command, frame, &arguments) {
                        _ if refused => Route::Slow,
                        Route::Pin if refusing => Route::Pin,
                        Route::Pin => self.unless_whole(command, rest, user.as_ref()),
                        route => route,
                    };
                    let families = &shared.families;
                    let needs = match &route {
                        Route::Lane => {
                            careful.needs(self.key.db, command, frame, &arguments, families)
                        }
                        Route::Block(block) => careful.needs_of_block(
                            self.key.db,
                            rest,
                            block,
                            &shared.limits,
                            families,
                        ),
                        _ => None,
                    };
                    if !careful.takes(needs.as_ref()) {
                        self.scanner.recycle(arguments);
                        break careful.stop();
                    }
                    if let Some(needs) = needs {
                        self.send_run(&mut run, data);
                        let mut request = Request::new(command, frame, &arguments);
                        let mut taken = one;
                        let block = match route {
                            Route::Block(block) => Some(block),
                            _ => None,
                        };
                        if let Some(block) = block {
                            taken = block.queued;
                            taken.add(block.end);
                            request.frame = rest[..taken.length].to_vec();
                        }
                        careful.push(request, needs, block);
                        self.scanner.recycle(arguments);
                        at += taken.length;
                        tally.add(Group::of(command), taken.commands);
                        name = command.map_or(name, |command| command.name);
                        continue;
                    }
                    let mut taken = one;
                    let stop = match route {
                        Route::Lane => {
                            let alone = self.replies != ReplyMode::On;
                            if alone {
                                self.send_run(&mut run, data);
                            }
                            self.join_run(&mut run, data, at, taken);
                            if alone {
                                self.send_run(&mut run, data);
                            }
                            None
                        }
                        Route::Block(Block { queued, end, .. }) => {
                            self.join_run(&mut run, data, at, queued);
                            self.join_run(&mut run, data, at + queued.length, end);
                            taken = queued;
                            taken.add(end);
                            None
                        }
                        Route::Pin => {
                            self.send_run(&mut run, data);
                            // Requests ahead of it may just have been handed to a lane.
                            if self.pin.is_none() && self.outbox.outstanding() > 0 {
                                Some(Stop::Drain)
                            } else {
                                self.pin_with_care(command, frame, &arguments)
                            }
                        }
                        Route::Slow => {
                            self.send_run(&mut run, data);
                            Some(Stop::Slow(Request::new(command, frame, &arguments)))
                        }
                    };
                    self.scanner.recycle(arguments);
                    if let Some(stop @ (Stop::Drain | Stop::Place(_))) = stop {
                        break stop;
                    }
                    at += taken.length;
                    tally.add(Group::of(command), taken.commands);
                    name = command.map_or(name, |command| command.name);
                    if let Some(stop) = stop {
                        break stop;
                    }
                }
            }
        };
        self.send_run(&mut run, data);
        let total = tally.settle(&self.worker.pool.context().meter);
        if total > 0 {
            shared.status.commands_total.fetch_add(total, Ordering::Relaxed);
            self.info.touch(name);
        }
        (at, stop)
    }

    /// Decides without side effects, except that a pin that holds nothing is given back.
    fn route(
        &mut self,
        command: Option<&'static Command>,
        frame: &[u8],
        arguments: &[(u32, u32)],
    ) -> Route {
        if !self.trusted || self.broken_multi.is_some() {
            return Route::Slow;
        }
        let class = command.map_or(Class::Unknown, |command| command.class);
        if let Some(pin) = &self.pin {
            if !pin.conn.usable() {
                return Route::Slow;
            }
            let leaving = command.is_some_and(|c| c.name == "quit" || c.name == "reset");
            if pin.multi.is_some() && !leaving {
                let selects = pin.multi.as_ref().is_some_and(|multi| !multi.selects.is_empty());
                let slow = class == Class::Exec && selects;
                return if slow { Route::Slow } else { Route::Pin };
            }
            if matches!(class, Class::Own | Class::Unknown | Class::Replication) {
                return Route::Slow;
            }
            if pin.holds() || self.outbox.outstanding() > 0 {
                return Route::Pin;
            }
            self.give_back();
        }
        match class {
            Class::Plain | Class::Exec | Class::Discard | Class::Unwatch => self.shared_route(),
            Class::BlockingOption => {
                let blocks = arguments.iter().skip(1).any(|&(from, to)| {
                    frame[from as usize..to as usize].eq_ignore_ascii_case(b"block")
                });
                if blocks { Route::Pin } else { self.shared_route() }
            }
            Class::Own | Class::Unknown | Class::Replication => Route::Slow,
            _ => Route::Pin,
        }
    }

    /// True for what has to be refused while writes are: a transaction is when it is to run.
    pub fn refuses(&self, command: Option<&Command>, second: Option<&[u8]>) -> bool {
        if !self.trusted || self.broken_multi.is_some() {
            return false;
        }
        match self.pin.as_ref().and_then(|pin| pin.multi.as_ref()) {
            Some(multi) => multi.writes && command.is_some_and(|c| c.class == Class::Exec),
            None => command.is_none_or(|command| command.call_writes(second)),
        }
    }

    /// A transaction that is all there needs no connection of its own: nothing of it stays behind.
    fn unless_whole(
        &self,
        command: Option<&'static Command>,
        rest: &[u8],
        user: Option<&Listed>,
    ) -> Route {
        let shared = &self.worker.shared;
        let multi = command.is_some_and(|command| command.class == Class::Multi);
        if !multi || self.pin.is_some() || self.replies != ReplyMode::On || shared.paused() {
            return Route::Pin;
        }
        let may_queue = |command, frame: &[u8], arguments: &[(u32, u32)]| {
            user.is_none_or(|user| !self.stands_aside(user, Some(command), frame, arguments))
        };
        block::whole(rest, &shared.limits, may_queue).map_or(Route::Pin, Route::Block)
    }

    /// While a CLIENT PAUSE is in force, a waiting client must not hold up the others of its lane.
    fn shared_route(&self) -> Route {
        if self.worker.shared.paused() { Route::Pin } else { Route::Lane }
    }

    /// Adds `part` of `data` to the run. What is ahead of a write that is held does not wait with it.
    fn join_run(&mut self, run: &mut Run, data: &[u8], at: usize, part: Part) {
        if part.writes && !run.part.writes && self.worker.shared.gate.holding() {
            self.send_run(run, data);
        }
        run.add(at, part);
    }

    fn send_run(&mut self, run: &mut Run, data: &[u8]) {
        if run.part.commands == 0 {
            return;
        }
        let run = std::mem::take(run);
        let answered = self.replies == ReplyMode::On;
        let target = self.target();
        match self.current_lane() {
            Ok(lane) => {
                let part = run.part;
                let bytes = &data[run.from..run.from + part.length];
                self.note_asked(bytes, part, answered);
                lane.submit(bytes, part.commands, part.writes, target);
                if part.script {
                    self.worker.pool.stand_by(&self.key);
                }
            }
            Err(lost) => self.refuse(&lost, run.part.commands),
        }
    }

    /// The lane that the client is bound to. It changes only when nothing is outstanding.
    pub fn current_lane(&mut self) -> Result<Rc<Conn>, Lost> {
        if let Some(lane) = &self.lane {
            let busy = self.outbox.outstanding() > 0;
            if lane.usable() && lane.key() == &self.key && (busy || !lane.stalled()) {
                return Ok(Rc::clone(lane));
            }
        }
        let lane = self.worker.pool.lane(&self.key)?;
        self.lane = Some(Rc::clone(&lane));
        Ok(lane)
    }

    pub fn target(&mut self) -> Target {
        match self.replies {
            ReplyMode::On => Target::Client(Rc::clone(&self.outbox)),
            mode => {
                if mode == ReplyMode::Skip {
                    self.replies = ReplyMode::On;
                }
                Target::Silent(Rc::clone(&self.outbox))
            }
        }
    }
}
