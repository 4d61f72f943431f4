use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::stop::{Answer, Stop};
use crate::resp::Reply;

/// The script that runs now, seen from other threads: a script takes its keyspace for itself, and who
/// waits for it asks here whether it is slow, and may have it killed.
#[derive(Debug, Default)]
pub struct Running(Mutex<Option<Current>>);

#[derive(Debug)]
struct Current {
    since: Instant,
    kind: Kind,
    /// Of a function, with the command that calls it.
    name: String,
    command: Vec<Bytes>,
    /// How many libraries and functions there are.
    counts: (usize, usize),
    wrote: bool,
    killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Eval,
    Function,
}

impl Kind {
    /// What other clients hear while a slow script runs.
    pub fn busy(self) -> Stop {
        Stop::error(match self {
            Kind::Eval => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            }
            Kind::Function => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
            }
        })
    }
}

impl Running {
    /// The error for other clients once a script has run for `threshold`
    /// (`busy-reply-threshold`); none while no script is slow.
    pub fn busy(&self, threshold: Duration) -> Option<Stop> {
        let current = self.0.lock();
        let current = current.as_ref()?;
        (current.since.elapsed() >= threshold).then(|| current.kind.busy())
    }

    /// `SCRIPT KILL` and `FUNCTION KILL`.
    pub fn kill(&self, kind: Kind) -> Answer<Reply> {
        let mut current = self.0.lock();
        let Some(current) = current.as_mut() else {
            return Err(Stop::error("NOTBUSY No scripts in execution right now."));
        };
        if current.wrote {
            return Err(Stop::error(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. \
                 You can either wait the script termination or kill the server in a hard way using \
                 the SHUTDOWN NOSAVE command.",
            ));
        }
        if current.kind != kind {
            return Err(current.kind.busy());
        }
        current.killed = true;
        Ok(Reply::OK)
    }

    /// `FUNCTION STATS` while something runs.
    pub fn function_stats(&self) -> Answer<Reply> {
        let counts = self.0.lock().as_ref().map(|current| current.counts).unwrap_or_default();
        Ok(function_stats(self.stats()?, counts))
    }

    /// `running_script` of `FUNCTION STATS`: nil, or the function that runs.
    pub fn stats(&self) -> Answer<Reply> {
        let current = self.0.lock();
        let Some(current) = current.as_ref() else { return Ok(Reply::Nil) };
        if current.kind == Kind::Eval {
            return Err(Kind::Eval.busy());
        }
        let command = current.command.iter().cloned().map(Reply::Bulk).collect();
        let duration = current.since.elapsed().as_millis();
        Ok(Reply::Map(vec![
            (Reply::bulk("name"), Reply::bulk(current.name.clone())),
            (Reply::bulk("command"), Reply::Array(command)),
            (Reply::bulk("duration_ms"), Reply::Int(i64::try_from(duration).unwrap_or(i64::MAX))),
        ]))
    }

    pub(super) fn begin(&self, name: &str, kind: Kind, command: &[Bytes], counts: (usize, usize)) {
        // Nobody is told which script runs.
        let (name, command) = if kind == Kind::Function { (name, command) } else { ("", &[][..]) };
        *self.0.lock() = Some(Current {
            since: Instant::now(),
            kind,
            name: name.into(),
            command: command.to_vec(),
            counts,
            wrote: false,
            killed: false,
        });
    }

    pub(super) fn wrote(&self) {
        if let Some(current) = self.0.lock().as_mut() {
            current.wrote = true;
        }
    }

    pub(super) fn is_killed(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|current| current.killed)
    }

    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

/// The reply to `FUNCTION STATS`, with the number of libraries and of functions.
pub fn function_stats(running: Reply, (libraries, functions): (usize, usize)) -> Reply {
    let count = |count: usize| Reply::Int(i64::try_from(count).unwrap_or(i64::MAX));
    let lua = Reply::Map(vec![
        (Reply::bulk("libraries_count"), count(libraries)),
        (Reply::bulk("functions_count"), count(functions)),
    ]);
    Reply::Map(vec![
        (Reply::bulk("running_script"), running),
        (Reply::bulk("engines"), Reply::Map(vec![(Reply::bulk("LUA"), lua)])),
    ])
}
