use super::{Class, Command, Group};

/// The flags that matter here, out of those that `COMMAND` reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub write: bool,
    pub readonly: bool,
    pub blocking: bool,
    pub movablekeys: bool,
    pub no_auth: bool,
    pub noscript: bool,
    pub pubsub: bool,
    pub admin: bool,
    /// Needs memory: refused beyond `maxmemory`.
    pub denyoom: bool,
}

/// Where a key specification starts to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this word; 0 is the name.
    Index(usize),
    /// Behind this keyword; a negative start counts from the end and looks backwards.
    Keyword(&'static str, i64),
    Unknown,
}

/// Which words from there are keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    /// `last` is relative to the first key, negative from the end of the words; `limit` 2 takes
    /// the first half of what is left, 3 a third, and so on.
    Range {
        last: i64,
        step: usize,
        limit: usize,
    },
    /// A word says how many keys there are.
    Count {
        index: usize,
        first: usize,
        step: usize,
    },
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub begin: Begin,
    pub find: Find,
    /// False when the command only reads these keys.
    pub writes: bool,
    /// True when the key is overwritten whatever it held.
    pub replaces: bool,
    /// The flags as `COMMAND` shows them.
    pub flags: &'static str,
    /// True when the words look like keys and are none (channels).
    pub not_key: bool,
}

/// Parses a line of `table.tsv`. The table is part of the program: a line that does not parse
/// yields empty fields, and the table's own test says so.
pub(super) fn parse_line(line: &'static str) -> Command {
    let mut fields = line.split('\t');
    let mut field = || fields.next().unwrap_or_default();
    let (name, arity, flags, keys, categories) = (field(), field(), field(), field(), field());
    let has = |wanted: &str| flags.split(',').any(|flag| flag == wanted);
    let flag_names = flags.split(',').filter(|name| *name != "-").collect();
    let flags = Flags {
        write: has("write"),
        readonly: has("readonly"),
        blocking: has("blocking"),
        movablekeys: has("movablekeys"),
        no_auth: has("no_auth"),
        noscript: has("noscript"),
        pubsub: has("pubsub"),
        admin: has("admin"),
        denyoom: has("denyoom"),
    };
    let keys = keys.split(' ').filter(|text| *text != "-").map(key_spec).collect();
    let class = Class::of(name, &flags);
    let script = name.starts_with("eval") || name.starts_with("fcall");
    // `COMMAND` does not say that these may write: scripts by what they call, PFCOUNT by its cache.
    let may_write = script && !name.ends_with("_ro") || name == "pfcount";
    let writes = flags.write || may_write;
    let group = Group::new(name, class, &flags, script);
    let categories = categories.split(',').filter(|name| *name != "-").collect();
    let arity = number(arity) as i32;
    let container = false;
    Command {
        name,
        arity,
        flags,
        flag_names,
        keys,
        categories,
        class,
        group,
        writes,
        container,
        script,
    }
}

fn key_spec(text: &'static str) -> KeySpec {
    let mut parts = text.splitn(3, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (begin, find, flags) = (part(), part(), part());
    let has = |wanted: &str| flags.split(',').any(|flag| flag == wanted);
    let begin = match begin.split_once(':') {
        Some(("index", index)) => Begin::Index(number(index) as usize),
        Some(("keyword", rest)) => {
            let (word, from) = rest.split_once(',').unwrap_or((rest, "1"));
            Begin::Keyword(word, number(from))
        }
        _ => Begin::Unknown,
    };
    let find = match find.split_once(':') {
        Some((kind, numbers)) => {
            let mut numbers = numbers.split(',').map(number);
            let mut next = || numbers.next().unwrap_or_default();
            let (a, b, c) = (next(), next(), next());
            match kind {
                "range" => Find::Range { last: a, step: b.max(1) as usize, limit: c as usize },
                _ => Find::Count { index: a as usize, first: b as usize, step: c.max(1) as usize },
            }
        }
        None => Find::Unknown,
    };
    KeySpec {
        begin,
        find,
        writes: !has("RO"),
        replaces: has("OW") && !has("insert"),
        flags,
        not_key: has("not_key"),
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_default()
}
