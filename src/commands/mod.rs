//! The command table: which commands there are, what they need, and where their keys are.
//!
//! `table.tsv` is made from a real server's `COMMAND` reply by `examples/command_table.rs`. One line
//! per command or subcommand (`client|id`), separated by tabs: name, arity (negative: at least),
//! flags, key specifications `begin/find/flags` as in
//! <https://redis.io/docs/reference/key-specs/>, and ACL categories.

mod class;
mod flush;
mod group;
mod keys;
mod spec;

use std::sync::LazyLock;

use hashbrown::HashMap;

pub use class::Class;
pub use flush::{MEANT_FLUSH_ALL, MEANT_FLUSH_DB, is_meant_flush, meant_flush};
pub use group::Group;
pub use spec::{Begin, Find, Flags, KeySpec};

/// One command or subcommand.
#[derive(Clone, Debug)]
pub struct Command {
    /// Lower case; a subcommand is `container|name`.
    pub name: &'static str,
    /// Number of words, the name included; negative: at least that many.
    pub arity: i32,
    pub flags: Flags,
    /// All flags, as `COMMAND` names them.
    pub flag_names: Vec<&'static str>,
    pub keys: Vec<KeySpec>,
    /// The categories of `ACL CAT`, without `@`.
    pub categories: Vec<&'static str>,
    /// How the proxy has to treat it.
    pub class: Class,
    /// What it is counted by.
    pub group: Group,
    /// True when it changes data, or may: scripts and functions count, whatever they do.
    pub writes: bool,
    /// It has subcommands.
    pub container: bool,
    script: bool,
}

impl Command {
    /// True when it belongs to this category of `ACL CAT`.
    pub fn in_category(&self, name: &str) -> bool {
        self.categories.contains(&name)
    }

    /// True when a call changes data, or may. `sub` is its second word: of containers not all subcommands do.
    pub fn call_writes(&self, sub: Option<&[u8]>) -> bool {
        let sub = sub.filter(|_| self.writes).and_then(|word| lookup_sub(self, word));
        sub.map_or(self.writes, |sub| sub.writes)
    }

    /// True for commands that run a script or a function, which may take long.
    pub fn is_script(&self) -> bool {
        self.script
    }

    /// First key, last key (negative: from the end) and step as `COMMAND` shows them; zeros when the keys
    /// are no simple range.
    pub fn key_range(&self) -> (i64, i64, i64) {
        match self.keys.first().map(|keys| (&keys.begin, &keys.find)) {
            Some((Begin::Index(first), Find::Range { last, step, limit: 0 | 1 })) => {
                let first = *first as i64;
                let last = if *last < 0 { *last } else { first + last };
                (first, last, *step as i64)
            }
            _ => (0, 0, 0),
        }
    }

    /// True when a call with `words` words, the name included, has the right number of them.
    pub fn takes(&self, words: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { words >= wanted } else { words == wanted }
    }
}

/// Commands that only the proxy has, as lines of the table.
const OWN: &str = "\
tandem\t-2\tnoscript,loading,stale\t-\tslow
tandem|status\t2\tnoscript,loading,stale\t-\tslow
tandem|strategy\t-2\tadmin,noscript,loading,stale\t-\tadmin,slow,dangerous
tandem|peer\t3\tnoscript,loading,stale,no_auth\t-\tslow";

struct Table {
    commands: HashMap<&'static [u8], Command, ahash::RandomState>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut commands = HashMap::default();
    for line in include_str!("table.tsv").lines().filter(|line| !line.starts_with('#')) {
        let command = spec::parse_line(line);
        commands.insert(command.name.as_bytes(), command);
    }
    for line in OWN.lines() {
        let command = spec::parse_line(line);
        commands.insert(command.name.as_bytes(), command);
    }
    let subs: Vec<(&str, bool)> = commands
        .values()
        .filter_map(|sub: &Command| Some((sub.name.split_once('|')?.0, sub.writes)))
        .collect();
    for (name, writes) in subs {
        if let Some(command) = commands.get_mut(name.as_bytes()) {
            command.container = true;
            // Of containers the table says nothing: one with a subcommand that writes counts as writing.
            command.writes |= writes;
        }
    }
    Table { commands }
});

/// Longest name in the table is well below; anything longer is no command.
const MAX_NAME: usize = 32;

/// Finds a command by name, in any case. A container (`CLIENT`) is found without its subcommand.
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; MAX_NAME];
    let lower = lower.get_mut(..name.len())?;
    for (to, from) in lower.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    TABLE.commands.get(&*lower)
}

/// Finds the subcommand of a container, such as `CLIENT`, `ID`.
pub fn lookup_sub(container: &Command, name: &[u8]) -> Option<&'static Command> {
    if !container.container {
        return None;
    }
    let mut full = container.name.as_bytes().to_vec();
    full.push(b'|');
    full.extend(name.iter().map(u8::to_ascii_lowercase));
    TABLE.commands.get(full.as_slice())
}

/// The subcommand that a call of `command` names, otherwise the command itself.
pub fn called<W: AsRef<[u8]>>(command: &'static Command, words: &[W]) -> &'static Command {
    let sub = words.get(1).and_then(|word| lookup_sub(command, word.as_ref()));
    match sub.map_or("", |sub| sub.name) {
        // To ask for the strategy changes nothing.
        "tandem|strategy" if words.len() == 2 => command,
        _ => sub.unwrap_or(command),
    }
}

/// Every command and subcommand, in no order.
pub fn all() -> impl Iterator<Item = &'static Command> {
    TABLE.commands.values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert!(all().filter(|c| !c.name.contains('|')).count() >= 240);
        let get = lookup(b"GeT").expect("known");
        assert!((get.arity, get.takes(2), get.takes(3)) == (2, true, false) && !get.writes);
        let client = lookup(b"client").expect("known");
        assert_eq!(lookup_sub(client, b"ID").expect("known").name, "client|id");
        let function = lookup(b"function").expect("known");
        assert!(function.call_writes(Some(b"Load")) && !function.call_writes(Some(b"STATS")));
        assert!(function.call_writes(None) && get.call_writes(None) == get.writes);
        assert_eq!(Group::of(lookup(b"nosuch")), Group::Unknown);
        for (name, group) in
            [("ping", Group::Connection), ("evalsha", Group::Script), ("config", Group::Admin)]
        {
            assert_eq!(Group::of(lookup(name.as_bytes())), group, "{name}");
        }
        assert!(lookup(b"nosuch").is_none() && lookup(&[b'x'; 100]).is_none());
    }

    #[test]
    fn containers_of_writes_count_as_writes() {
        for (name, writes) in [("xgroup", true), ("function", true), ("xinfo", false)] {
            assert_eq!(lookup(name.as_bytes()).expect("known").writes, writes, "{name}");
        }
    }

    #[test]
    fn scripts_count_as_writes() {
        for name in ["eval", "evalsha", "fcall", "set", "xreadgroup", "pfcount", "sort"] {
            assert!(lookup(name.as_bytes()).expect("known").writes, "{name}");
        }
        for name in ["eval_ro", "get", "sort_ro", "xread", "publish"] {
            assert!(!lookup(name.as_bytes()).expect("known").writes, "{name}");
        }
    }
}
