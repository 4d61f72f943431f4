//! Which event a command means for the keys that it has changed.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::Class;
use Class::{Generic, Hash, List, Set, Stream, String, ZSet};

/// How a command's touches become events. A key that is gone afterwards is followed by `del`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// This event for each key that has changed.
    Each(Class, &'static str),
    /// Likewise; what was there before is deleted first, so the key always counts as new.
    Fresh(Class, &'static str),
    /// A result that is stored; an empty one is only a `del`.
    Store(Class, &'static str),
    /// At most `del`.
    Remove,
    /// A string that is set, perhaps with an expiry.
    SetString,
    /// Keys and strings in turn; a key may come twice.
    SetMany,
    /// By the reply: the expiry was set, or the key deleted since the time was over.
    Expire,
    GetEx,
    /// The event comes whenever the key is there.
    Always(Class, &'static str),
    /// Two keys: what happens to the first, what to the second.
    Pair(Class, &'static str, &'static str),
    /// From one place to another, which counts as new.
    Moved(&'static str, &'static str),
    /// An element goes from one list to another.
    Shift,
    /// Popped from the end that an argument names.
    PopList,
    PopSorted,
    /// `zincr` or `zadd`.
    Score,
    /// By subcommand.
    Group,
    SetId,
    /// Nothing of its own.
    Silent,
}

impl Rule {
    /// True when clients that watch or cache a key do not hear of the command, unless it has made the key.
    pub fn is_silent(self) -> bool {
        matches!(self, Rule::Group | Rule::SetId | Rule::Silent)
    }
}

const RULES: &[(&str, Rule)] = &[
    ("append", Rule::Each(String, "append")),
    ("bitfield", Rule::Each(String, "setbit")),
    ("bitop", Rule::Store(String, "set")),
    ("blmove", Rule::Shift),
    ("blmpop", Rule::PopList),
    ("blpop", Rule::Each(List, "lpop")),
    ("brpop", Rule::Each(List, "rpop")),
    ("brpoplpush", Rule::Shift),
    ("bzmpop", Rule::PopSorted),
    ("bzpopmax", Rule::Each(ZSet, "zpopmax")),
    ("bzpopmin", Rule::Each(ZSet, "zpopmin")),
    ("copy", Rule::Fresh(Generic, "copy_to")),
    ("decr", Rule::Each(String, "incrby")),
    ("decrby", Rule::Each(String, "incrby")),
    ("del", Rule::Remove),
    ("expire", Rule::Expire),
    ("expireat", Rule::Expire),
    ("geoadd", Rule::Each(ZSet, "zadd")),
    ("georadius", Rule::Store(ZSet, "georadiusstore")),
    ("georadiusbymember", Rule::Store(ZSet, "georadiusstore")),
    ("geosearchstore", Rule::Store(ZSet, "geosearchstore")),
    ("getdel", Rule::Remove),
    ("getex", Rule::GetEx),
    ("getset", Rule::SetString),
    ("hdel", Rule::Each(Hash, "hdel")),
    ("hincrby", Rule::Each(Hash, "hincrby")),
    ("hincrbyfloat", Rule::Each(Hash, "hincrbyfloat")),
    ("hmset", Rule::Each(Hash, "hset")),
    ("hset", Rule::Each(Hash, "hset")),
    ("hsetnx", Rule::Each(Hash, "hset")),
    ("incr", Rule::Each(String, "incrby")),
    ("incrby", Rule::Each(String, "incrby")),
    ("incrbyfloat", Rule::Each(String, "incrbyfloat")),
    ("linsert", Rule::Each(List, "linsert")),
    ("lmove", Rule::Shift),
    ("lmpop", Rule::PopList),
    ("lpop", Rule::Each(List, "lpop")),
    ("lpush", Rule::Each(List, "lpush")),
    ("lpushx", Rule::Each(List, "lpush")),
    ("lrem", Rule::Each(List, "lrem")),
    ("lset", Rule::Each(List, "lset")),
    ("ltrim", Rule::Always(List, "ltrim")),
    ("move", Rule::Moved("move_from", "move_to")),
    ("mset", Rule::SetMany),
    ("msetnx", Rule::SetMany),
    ("persist", Rule::Each(Generic, "persist")),
    ("pexpire", Rule::Expire),
    ("pexpireat", Rule::Expire),
    ("pfadd", Rule::Each(String, "pfadd")),
    ("pfcount", Rule::Remove),
    ("pfmerge", Rule::Each(String, "pfadd")),
    ("psetex", Rule::SetString),
    ("rename", Rule::Moved("rename_from", "rename_to")),
    ("renamenx", Rule::Moved("rename_from", "rename_to")),
    ("restore", Rule::Fresh(Generic, "restore")),
    ("rpop", Rule::Each(List, "rpop")),
    ("rpoplpush", Rule::Shift),
    ("rpush", Rule::Each(List, "rpush")),
    ("rpushx", Rule::Each(List, "rpush")),
    ("sadd", Rule::Each(Set, "sadd")),
    ("sdiffstore", Rule::Store(Set, "sdiffstore")),
    ("set", Rule::SetString),
    ("setbit", Rule::Each(String, "setbit")),
    ("setex", Rule::SetString),
    ("setnx", Rule::SetString),
    ("setrange", Rule::Each(String, "setrange")),
    ("sinterstore", Rule::Store(Set, "sinterstore")),
    ("smove", Rule::Pair(Set, "srem", "sadd")),
    ("sort", Rule::Store(List, "sortstore")),
    ("spop", Rule::Each(Set, "spop")),
    ("srem", Rule::Each(Set, "srem")),
    ("sunionstore", Rule::Store(Set, "sunionstore")),
    ("unlink", Rule::Remove),
    ("xack", Rule::Silent),
    ("xadd", Rule::Each(Stream, "xadd")),
    ("xautoclaim", Rule::Silent),
    ("xclaim", Rule::Silent),
    ("xdel", Rule::Each(Stream, "xdel")),
    ("xgroup", Rule::Group),
    ("xreadgroup", Rule::Silent),
    ("xsetid", Rule::SetId),
    ("xtrim", Rule::Each(Stream, "xtrim")),
    ("zadd", Rule::Score),
    ("zdiffstore", Rule::Store(ZSet, "zdiffstore")),
    ("zincrby", Rule::Each(ZSet, "zincr")),
    ("zinterstore", Rule::Store(ZSet, "zinterstore")),
    ("zmpop", Rule::PopSorted),
    ("zpopmax", Rule::Each(ZSet, "zpopmax")),
    ("zpopmin", Rule::Each(ZSet, "zpopmin")),
    ("zrangestore", Rule::Store(ZSet, "zrangestore")),
    ("zrem", Rule::Each(ZSet, "zrem")),
    ("zremrangebylex", Rule::Each(ZSet, "zremrangebylex")),
    ("zremrangebyrank", Rule::Each(ZSet, "zremrangebyrank")),
    ("zremrangebyscore", Rule::Each(ZSet, "zremrangebyscore")),
    ("zunionstore", Rule::Store(ZSet, "zunionstore")),
];

static BY_NAME: LazyLock<HashMap<&'static str, Rule, ahash::RandomState>> =
    LazyLock::new(|| RULES.iter().copied().collect());

/// The rule of a command that changes keys, by its name in small letters.
pub fn rule(name: &str) -> Option<Rule> {
    BY_NAME.get(name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;

    /// Commands that may write and touch no single key of the engine's.
    const WITHOUT: &[&str] = &["flushall", "flushdb", "function", "migrate", "pfdebug", "swapdb"];

    #[test]
    fn every_command_that_writes_has_a_rule() {
        for command in commands::all().filter(|command| command.flags.write) {
            let name = command.name.split('|').next().unwrap_or_default();
            let known =
                rule(name).is_some() || WITHOUT.contains(&name) || name.ends_with("-asking");
            assert!(known, "{name}");
        }
        assert!(RULES.iter().all(|(name, _)| commands::lookup(name.as_bytes()).is_some()));
    }
}
