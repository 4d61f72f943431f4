use super::{Begin, Command, Find, KeySpec};

impl Command {
    /// The words of a call that are keys: their indices, and whether the command may change them.
    /// Keys that no specification can name (`SORT … BY`) are not among them.
    pub fn keys<W: AsRef<[u8]>>(&self, words: &[W]) -> Vec<(usize, bool)> {
        if let Some(found) = self.keys_by_options(words) {
            return found.into_iter().map(|(at, flags)| (at, !flags.starts_with("RO"))).collect();
        }
        let mut found = Vec::new();
        for spec in self.keys.iter().filter(|spec| !spec.not_key) {
            spec.find(words, &mut found);
        }
        found
    }

    /// As [`Command::keys`], with the flags of their specification; where they depend on the options, those of this call.
    pub fn keys_and_flags<W: AsRef<[u8]>>(&self, words: &[W]) -> Vec<(usize, &'static str)> {
        if let Some(found) = self.keys_by_options(words) {
            return found;
        }
        let mut all = Vec::new();
        for spec in self.keys.iter().filter(|spec| !spec.not_key) {
            let mut found = Vec::new();
            spec.find(words, &mut found);
            let varies = spec.flags.contains("variable_flags");
            let flags = if varies { self.flags_by_options(words) } else { spec.flags };
            all.extend(found.into_iter().map(|(at, _)| (at, flags)));
        }
        all
    }

    /// Flags of the key of SET and BITFIELD.
    fn flags_by_options<W: AsRef<[u8]>>(&self, words: &[W]) -> &'static str {
        let gets = |word: &W| word.as_ref().eq_ignore_ascii_case(b"get");
        match self.name {
            "set" if !words.iter().skip(3).any(gets) => "OW,update",
            "bitfield" if only_gets(words.get(2..).unwrap_or_default()) => "RO,access",
            _ => "RW,access,update",
        }
    }

    /// Where only the command's own way through its options finds the keys: a specification takes the value of
    /// one option for another option. None: the specifications do.
    fn keys_by_options<W: AsRef<[u8]>>(&self, words: &[W]) -> Option<Vec<(usize, &'static str)>> {
        if !self.flags.movablekeys {
            return None;
        }
        let (_, from, options) = OPTIONS.iter().find(|(name, ..)| *name == self.name)?;
        let mut found = Vec::new();
        let fixed = match self.name {
            "migrate" => Some((3, "RW,access,delete")),
            "xread" | "xreadgroup" => None,
            _ => Some((1, "RO,access")),
        };
        // With KEYS the place of MIGRATE's single key is empty.
        found.extend(fixed.filter(|(at, _)| {
            words.get(*at).is_some_and(|word| self.name != "migrate" || !word.as_ref().is_empty())
        }));
        let mut stored = None;
        let mut at = *from;
        while let Some(word) = words.get(at) {
            let word = word.as_ref();
            let option =
                options.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
            at += 1;
            match option.map(|(_, values)| values) {
                None => {}
                Some(Values::Skip(count)) => at += count,
                Some(Values::Stored) => {
                    // SORT knows that the last one counts; the others name them all.
                    if at < words.len() {
                        let earlier = stored.replace((at, "OW,update"));
                        found.extend(earlier.filter(|_| self.name != "sort"));
                    }
                    at += 1;
                }
                Some(Values::Keys) => {
                    found.extend((at..words.len()).map(|at| (at, "RW,access,delete")));
                    break;
                }
                Some(Values::Streams) => {
                    let keys = words.len().saturating_sub(at) / 2;
                    found.extend((at..at + keys).map(|at| (at, "RO,access")));
                    break;
                }
            }
        }
        found.extend(stored);
        Some(found)
    }

    /// The places of the keys whose former value matters to the outcome, reply included; the others are
    /// overwritten. With the number of another database where the key is there (`MOVE`, `COPY … DB`).
    pub fn depends_on<W: AsRef<[u8]>>(&self, words: &[W]) -> Vec<(usize, Option<u32>)> {
        let option = |from: usize, wanted: &[&str]| {
            words.iter().skip(from).any(|word| {
                wanted.iter().any(|wanted| word.as_ref().eq_ignore_ascii_case(wanted.as_bytes()))
            })
        };
        match self.name {
            "set" if !option(3, &["nx", "xx", "get", "keepttl"]) => return Vec::new(),
            "restore" | "restore-asking" if option(4, &["replace"]) => return Vec::new(),
            _ => {}
        }
        let mut found = Vec::new();
        for spec in self.keys.iter().filter(|spec| !spec.not_key) {
            let conditional = match self.name {
                "restore" | "restore-asking" => true,
                "copy" => !option(3, &["replace"]),
                _ => false,
            };
            if !spec.replaces || conditional {
                spec.find(words, &mut found);
            }
        }
        let mut found: Vec<(usize, Option<u32>)> =
            found.into_iter().map(|(at, _)| (at, None)).collect();
        let number = |at: usize| std::str::from_utf8(words.get(at)?.as_ref()).ok()?.parse().ok();
        match self.name {
            "move" => found.extend(number(2).map(|db| (1, Some(db)))),
            "copy" => {
                let option =
                    (3..words.len()).rfind(|at| words[*at].as_ref().eq_ignore_ascii_case(b"db"));
                let db = option.and_then(|at| number(at + 1));
                found.iter_mut().filter(|(at, _)| *at == 2).for_each(|(_, other)| *other = db);
            }
            _ => {}
        }
        found.retain(|(at, _)| *at < words.len());
        found
    }
}

/// True when all operations of a BITFIELD read.
fn only_gets<W: AsRef<[u8]>>(operations: &[W]) -> bool {
    let mut rest = operations;
    while let [name, more @ ..] = rest {
        let takes = match name.as_ref().to_ascii_lowercase().as_slice() {
            b"get" => 2,
            b"overflow" => 1,
            _ => return false,
        };
        let Some(more) = more.get(takes..) else { return false };
        rest = more;
    }
    true
}

/// What follows an option.
#[derive(Clone, Copy)]
enum Values {
    /// So many words that are no keys.
    Skip(usize),
    /// A key that is overwritten.
    Stored,
    /// Keys up to the end.
    Keys,
    /// Keys, then as many other words.
    Streams,
}

type Options = &'static [(&'static str, Values)];

const GEORADIUS: Options =
    &[("count", Values::Skip(1)), ("store", Values::Stored), ("storedist", Values::Stored)];

/// Commands whose options name keys: where these begin, and those that are followed by something.
const OPTIONS: &[(&str, usize, Options)] = &[
    (
        "sort",
        2,
        &[
            ("by", Values::Skip(1)),
            ("get", Values::Skip(1)),
            ("limit", Values::Skip(2)),
            ("store", Values::Stored),
        ],
    ),
    ("georadius", 6, GEORADIUS),
    ("georadiusbymember", 5, GEORADIUS),
    (
        "migrate",
        6,
        &[("auth", Values::Skip(1)), ("auth2", Values::Skip(2)), ("keys", Values::Keys)],
    ),
    (
        "xread",
        1,
        &[("block", Values::Skip(1)), ("count", Values::Skip(1)), ("streams", Values::Streams)],
    ),
    (
        "xreadgroup",
        1,
        &[
            ("group", Values::Skip(2)),
            ("block", Values::Skip(1)),
            ("count", Values::Skip(1)),
            ("streams", Values::Streams),
        ],
    ),
];

impl KeySpec {
    fn find<W: AsRef<[u8]>>(&self, words: &[W], found: &mut Vec<(usize, bool)>) {
        let Some(first) = self.first(words) else { return };
        let end = words.len();
        match self.find {
            Find::Range { last, step, limit } => {
                let last = match last {
                    last if last >= 0 => first + last as usize,
                    _ if limit > 1 => first + (end - first) / limit - 1,
                    last => end.saturating_sub(last.unsigned_abs() as usize),
                };
                let last = last.min(end - 1);
                found.extend((first..=last).step_by(step).map(|at| (at, self.writes)));
            }
            Find::Count { index, first: offset, step } => {
                let count = words.get(first + index).and_then(|word| {
                    std::str::from_utf8(word.as_ref()).ok()?.parse::<usize>().ok()
                });
                let from = first + offset;
                let keys = (from..end).step_by(step);
                // A call that says more than there are fails, and touches none.
                let count = count.filter(|count| *count <= keys.len()).unwrap_or(0);
                found.extend(keys.take(count).map(|at| (at, self.writes)));
            }
            Find::Unknown => {}
        }
    }

    fn first<W: AsRef<[u8]>>(&self, words: &[W]) -> Option<usize> {
        let first = match self.begin {
            Begin::Index(index) => index,
            Begin::Keyword(keyword, from) => {
                let matches = |word: &W| word.as_ref().eq_ignore_ascii_case(keyword.as_bytes());
                let from_end = usize::try_from(from.unsigned_abs()).ok()?;
                let at = if from >= 0 {
                    from_end + words.get(from_end..)?.iter().position(matches)?
                } else {
                    words.get(..=words.len().checked_sub(from_end)?)?.iter().rposition(matches)?
                };
                at + 1
            }
            Begin::Unknown => return None,
        };
        (first < words.len()).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::lookup;

    fn keys(line: &str) -> Vec<&str> {
        let words: Vec<&str> = line.split(' ').collect();
        let command = lookup(words[0].as_bytes()).expect("known");
        command.keys(&words).into_iter().map(|(at, _)| words[at]).collect()
    }

    #[test]
    fn keys_are_found_as_command_getkeys_does() {
        for (line, expected) in [
            ("get a", &["a"][..]),
            ("mset a 1 b 2", &["a", "b"]),
            ("del a b c", &["a", "b", "c"]),
            ("zunionstore d 2 a b weights 1 2", &["d", "a", "b"]),
            ("eval s 2 a b c", &["a", "b"]),
            ("xread count 2 streams a b 0 0", &["a", "b"]),
            ("xreadgroup group g c streams a 0", &["a"]),
            ("blpop a b 0", &["a", "b"]),
            ("sort a by x store d", &["a", "d"]),
            ("sort a store d by store", &["a", "d"]),
            ("sort a get store store d", &["a", "d"]),
            ("sort a limit 0 store", &["a"]),
            ("georadius a 1 2 3 m count store storedist d", &["a", "d"]),
            ("georadiusbymember a m 3 km store d store e", &["a", "d", "e"]),
            ("sort a store d store e store f", &["a", "f"]),
            ("eval s 3 a b", &[]),
            ("xreadgroup count 1 group streams c streams a b 0 0", &["a", "b"]),
            ("xread block 0 streams streams 0", &["streams"]),
            ("migrate h 1  0 10 auth keys keys a keys b", &["a", "keys", "b"]),
            ("bitop and d a b", &["d", "a", "b"]),
            ("lmpop 2 a b left", &["a", "b"]),
            ("object encoding a", &[]),
            ("migrate h 1  0 10 keys a b", &["a", "b"]),
            ("ping", &[]),
        ] {
            assert_eq!(keys(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_overwritten_whole_depends_on_nothing() {
        for (line, expected) in [
            ("set a 1", &[][..]),
            ("set a nx", &[]),
            ("set a 1 EX 10", &[]),
            ("set a 1 nx", &["a"]),
            ("set a 1 KEEPTTL", &["a"]),
            ("set a 1 get", &["a"]),
            ("setex a 1 v", &[]),
            ("mset a 1 b 2", &[]),
            ("msetnx a 1 b 2", &["a", "b"]),
            ("setnx a 1", &["a"]),
            ("del a b", &["a", "b"]),
            ("incr a", &["a"]),
            ("get a", &["a"]),
            ("rename a b", &["a"]),
            ("renamenx a b", &["a", "b"]),
            ("copy a b", &["a", "b"]),
            ("copy a b replace", &["a"]),
            ("restore a 0 x", &["a"]),
            ("restore a 0 x replace", &[]),
            ("sunionstore d a b", &["a", "b"]),
            ("bitop and d a b", &["a", "b"]),
            ("sort a store d", &["a"]),
            ("eval s 2 a b c", &["a", "b"]),
            ("lmove a b left right", &["a", "b"]),
            ("publish c m", &[]),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let command = lookup(words[0].as_bytes()).expect("known");
            let found: Vec<&str> =
                command.depends_on(&words).into_iter().map(|(at, _)| words[at]).collect();
            assert_eq!(found, expected, "{line}");
        }
    }
}
