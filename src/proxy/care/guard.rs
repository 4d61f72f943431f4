//! Writes to one key each, as one script on the lane: it looks whether the key is there and runs the command
//! in one step, so that nothing can be evicted in between. The first command whose key is missing ends it.

use std::sync::LazyLock;

use super::read::call_many;
use super::{Careful, Way};
use crate::proxy::session::Session;
use crate::resp::{elements, push_command};
use crate::upstream::Captured;

const SCRIPT: &str = include_str!("guard.lua");

static SHA1: LazyLock<String> = LazyLock::new(|| {
    use sha1::{Digest, Sha1};
    Sha1::digest(SCRIPT).iter().map(|byte| format!("{byte:02x}")).collect()
});

/// Commands whose reply is the same when it comes out of a script (a number, a text, nil, `OK`), and that the
/// stream never shows as a `DEL`: alone that would look like an eviction.
const COMMANDS: &[&str] = &[
    "append",
    "decr",
    "decrby",
    "expire",
    "getset",
    "hdel",
    "hincrby",
    "hincrbyfloat",
    "hmset",
    "hset",
    "hsetnx",
    "incr",
    "incrby",
    "incrbyfloat",
    "linsert",
    "lpop",
    "lpush",
    "lpushx",
    "lrem",
    "lset",
    "ltrim",
    "persist",
    "pexpire",
    "pfadd",
    "rpop",
    "rpush",
    "rpushx",
    "sadd",
    "set",
    "setbit",
    "setnx",
    "setrange",
    "srem",
    "xack",
    "xadd",
    "xtrim",
    "zadd",
    "zrem",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
];

/// More words than this are too many for a call in Lua.
const MOST_WORDS: usize = 1000;

/// True when a script may run the command.
pub(super) fn fits(careful: &Careful) -> bool {
    let (request, needs) = (&careful.request, &careful.needs);
    let Some(command) = request.command else { return false };
    let option = |name: &[u8]| request.words.iter().skip(2).any(|w| w.eq_ignore_ascii_case(name));
    let plain = match command.name {
        "expire" | "pexpire" => request.words.get(2).is_some_and(|time| is_ahead(time)),
        "set" => !option(b"exat") && !option(b"pxat"),
        "lpop" | "rpop" => request.words.len() == 2,
        "zadd" => !option(b"incr"),
        _ => true,
    };
    let one = needs.way == Way::Watch && needs.keys.len() == 1;
    one && plain && request.words.len() <= MOST_WORDS && COMMANDS.contains(&command.name)
}

/// A time to live that does not end at once.
fn is_ahead(time: &[u8]) -> bool {
    time.first() != Some(&b'0') && time.iter().all(u8::is_ascii_digit)
}

impl Session {
    /// Runs what a script may run of the first commands, up to a key that Redis lacks. Returns how many
    /// have been answered.
    pub(super) async fn run_guarded(&mut self, batch: &[Careful]) -> usize {
        let count = batch.iter().take_while(|careful| fits(careful)).count();
        // Another user may not be allowed to run scripts.
        let own = self.key.credentials == self.home.credentials;
        if count == 0 || !own || self.worker.no_guard.get() {
            return 0;
        }
        let batch = &batch[..count];
        let captured = match self.call_guard("EVALSHA", &SHA1, batch).await {
            Some(captured) if captured.frame.starts_with(b"-NOSCRIPT") => {
                self.call_guard("EVAL", SCRIPT, batch).await
            }
            captured => captured,
        };
        let Some(captured) = captured else { return count };
        let Some(replies) = elements(&captured.frame) else {
            // Redis does not run it, so nothing has been done.
            self.worker.no_guard.set(captured.frame.starts_with(b"-NOPERM"));
            return 0;
        };
        for reply in &replies {
            let hold = captured.hold.as_ref();
            match elements(reply).as_deref() {
                Some([text]) => self.hand_over(&number(text), hold),
                _ => self.hand_over(reply, hold),
            }
        }
        replies.len()
    }

    /// The script's reply; none when Redis was lost, which the client has been told.
    async fn call_guard(&mut self, name: &str, what: &str, batch: &[Careful]) -> Option<Captured> {
        let mut words = vec![name.as_bytes().to_vec(), what.as_bytes().to_vec()];
        words.push(batch.len().to_string().into_bytes());
        words.extend(batch.iter().map(|careful| careful.needs.keys[0].1.to_vec()));
        for careful in batch {
            words.push(careful.request.words.len().to_string().into_bytes());
            words.extend(careful.request.words.iter().cloned());
        }
        let mut frame = Vec::new();
        push_command(&words, &mut frame);
        let called = match self.current_lane() {
            Ok(lane) => call_many(&lane, &frame, 1, true).await,
            Err(lost) => Err(lost),
        };
        called.map_err(|lost| self.refuse(&lost, batch.len())).ok()
    }
}

/// A number that came as text: `$16\r\n9007199254740993\r\n` is `:9007199254740993\r\n`.
fn number(text: &[u8]) -> Vec<u8> {
    let digits = memchr::memchr(b'\n', text).map_or(text, |end| &text[end + 1..]);
    [b":", digits].concat()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::commands;
    use crate::proxy::care::Needs;
    use crate::proxy::request::Request;

    #[test]
    fn what_a_script_may_run() {
        let fits = |line: &str| {
            let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
            let command = commands::lookup(&words[0]);
            let request = Request { command, frame: Vec::new(), words };
            let needs = Needs { way: Way::Watch, keys: vec![(0, Bytes::from("k"))] };
            fits(&Careful { request, needs, block: None })
        };
        for line in
            ["INCR k", "HINCRBY k f 1", "EXPIRE k 10", "SET k v NX PX 10", "LPOP k", "ZADD k 1 a"]
        {
            assert!(fits(line), "{line}");
        }
        for line in [
            "EXPIRE k 0",
            "EXPIRE k -1",
            "SET k v NX EXAT 1",
            "LPOP k 2",
            "ZADD k INCR 1 a",
            "GETDEL k",
        ] {
            assert!(!fits(line), "{line}");
        }
        for name in COMMANDS {
            assert!(commands::lookup(name.as_bytes()).is_some_and(|c| c.flags.write), "{name}");
        }
    }

    #[test]
    fn large_numbers_come_as_text() {
        assert_eq!(number(b"$16\r\n9007199254740993\r\n"), b":9007199254740993\r\n");
    }
}
