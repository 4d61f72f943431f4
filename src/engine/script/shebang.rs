//! The first line of a script, such as `#!lua flags=no-writes,allow-stale`.
//! Source: <https://redis.io/docs/latest/develop/programmability/lua-api/#script_flags>.

use crate::engine::stop::{Answer, Stop, shown};
use crate::resp::split_arguments;

/// The names of the flags, in the order in which `FUNCTION LIST` shows them.
pub const FLAGS: [&str; 5] =
    ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

/// Which of [`FLAGS`] a script or function has, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Adds the flag of this name; false when there is none.
    pub fn add(&mut self, name: &[u8], any_case: bool) -> bool {
        let is = |flag: &&str| match any_case {
            true => flag.as_bytes().eq_ignore_ascii_case(name),
            false => flag.as_bytes() == name,
        };
        let found = FLAGS.iter().position(is);
        found.inspect(|bit| self.0 |= 1 << bit).is_some()
    }

    pub fn no_writes(self) -> bool {
        self.0 & 1 != 0
    }

    pub fn allow_oom(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FLAGS
            .iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & 1 << bit != 0)
            .map(|(_, name)| *name)
    }
}

/// The flags of a script, none when it has no such line, and the length of the line without its end.
pub fn flags(source: &[u8]) -> Answer<(Option<Flags>, usize)> {
    if !source.starts_with(b"#!") {
        return Ok((None, 0));
    }
    let end = memchr::memchr(b'\n', source).ok_or(Stop::error("ERR Invalid script shebang"))?;
    let words = split_arguments(&source[..end]).filter(|words| !words.is_empty());
    let words = words.ok_or(Stop::error("ERR Invalid engine in script shebang"))?;
    if words[0] != b"#!lua".as_slice() {
        let engine = shown(&words[0]);
        return Err(Stop::failed(format!("ERR Unexpected engine in script shebang: {engine}")));
    }
    let mut flags = Flags::default();
    for word in &words[1..] {
        let Some(names) = word.strip_prefix(b"flags=") else {
            let word = shown(word);
            return Err(Stop::failed(format!("ERR Unknown lua shebang option: {word}")));
        };
        for name in names.split(|byte| *byte == b',').filter(|_| !names.is_empty()) {
            if !flags.add(name, false) {
                let name = shown(name);
                return Err(Stop::failed(format!("ERR Unexpected flag in script shebang: {name}")));
            }
        }
    }
    Ok((Some(flags), end))
}
