use crate::commands::{self, Class, Command};
use crate::resp::{RequestLimits, RequestScanner, Scan};

/// Some requests that stand together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Bytes.
    pub length: usize,
    /// Commands, each of which has one reply.
    pub commands: usize,
    /// Some of them may change data.
    pub writes: bool,
    pub script: bool,
    /// Some of them do more than read.
    pub more_than_reads: bool,
}

impl Part {
    /// A request of `length` bytes with this second word.
    pub fn one(length: usize, command: Option<&Command>, second: Option<&[u8]>) -> Part {
        Part {
            length,
            commands: 1,
            writes: command.is_some_and(|command| command.call_writes(second)),
            script: command.is_some_and(|command| command.is_script()),
            more_than_reads: !command.is_some_and(|command| command.flags.readonly),
        }
    }

    /// Adds what stands right behind it.
    pub fn add(&mut self, more: Part) {
        self.length += more.length;
        self.commands += more.commands;
        self.writes |= more.writes;
        self.script |= more.script;
        self.more_than_reads |= more.more_than_reads;
    }
}

/// A transaction: MULTI and what is queued, then EXEC or DISCARD, which is what writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub queued: Part,
    pub end: Part,
    /// It ends with EXEC.
    pub runs: bool,
}

/// The transaction that `data` begins with, if it is all there and every command in it may be sent by a
/// connection that serves others too. `may` says of a command, its frame and where its words are whether it may be sent at all.
pub(super) fn whole(
    data: &[u8],
    limits: &RequestLimits,
    may: impl Fn(&'static Command, &[u8], &[(u32, u32)]) -> bool,
) -> Option<Block> {
    let mut scanner = RequestScanner::default();
    let mut part = Part::default();
    loop {
        let Ok(Scan::Command(length)) = scanner.scan(&data[part.length..], limits, true) else {
            return None;
        };
        let arguments = scanner.take_arguments();
        let (from, to) = arguments[0];
        let name = &data[part.length + from as usize..part.length + to as usize];
        let command = commands::lookup(name)?;
        let takes = command.takes(arguments.len());
        let second = arguments
            .get(1)
            .map(|&(from, to)| &data[part.length + from as usize..part.length + to as usize]);
        if !may(command, &data[part.length..], &arguments) {
            return None;
        }
        scanner.recycle(arguments);
        match command.class {
            Class::Multi if part.commands == 0 && takes => {}
            Class::Exec | Class::Discard if takes => {
                let Part { writes, script, .. } = part;
                let runs = command.class == Class::Exec;
                let writes = writes && runs;
                let end = Part { length, commands: 1, writes, script, more_than_reads: true };
                return Some(Block { queued: Part { writes: false, ..part }, end, runs });
            }
            // In a transaction nothing waits.
            Class::Plain | Class::BlockingOption if part.commands > 0 => {}
            _ => return None,
        }
        part.add(Part::one(length, Some(command), second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> RequestLimits {
        RequestLimits::from(&crate::config::Config::default().limits)
    }

    fn frames(commands: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for command in commands {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            crate::resp::push_command(&words, &mut out);
        }
        out
    }

    #[test]
    fn a_whole_transaction_is_found_with_what_is_behind_it_left_alone() {
        let block = frames(&["MULTI", "lpush l a", "GET k", "exec"]);
        let data = [&block[..], &frames(&["GET k", "EXEC"])].concat();
        let Block { queued, end, runs } = whole(&data, &limits(), |_, _, _| true).expect("whole");
        assert_eq!((queued.commands, queued.writes, runs), (3, false, true));
        let length = frames(&["exec"]).len();
        assert!(end.writes && end.more_than_reads && !end.script);
        assert_eq!((end.length, end.commands), (length, 1));
        assert_eq!(queued.length + end.length, block.len());
        let dropped = whole(&frames(&["multi", "set k v", "discard"]), &limits(), |_, _, _| true)
            .expect("whole");
        assert!(!dropped.end.writes && !dropped.runs);
    }

    #[test]
    fn what_is_cut_short_or_leaves_state_behind_is_not() {
        let block = frames(&["MULTI", "SET k v", "EXEC"]);
        for cut in 0..block.len() {
            assert_eq!(whole(&block[..cut], &limits(), |_, _, _| true), None, "cut at {cut}");
        }
        for commands in [
            &["MULTI", "SELECT 1", "EXEC"][..],
            &["MULTI", "MULTI", "EXEC"],
            &["MULTI", "WATCH k", "EXEC"],
            &["MULTI", "SUBSCRIBE c", "EXEC"],
            &["MULTI", "no-such-command", "EXEC"],
            &["MULTI", "BLPOP l 0", "EXEC"],
            &["MULTI", "SET k v", "EXEC now"],
            &["MULTI x", "EXEC"],
            &["SET k v", "EXEC"],
        ] {
            assert_eq!(whole(&frames(commands), &limits(), |_, _, _| true), None, "{commands:?}");
        }
    }
}
