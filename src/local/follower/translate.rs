//! A delta as commands for Redis. They lead from the value that Redis has to the one that PostgreSQL
//! gets, whatever commands of clients were behind it.

use bb8_redis::redis::{self, Cmd};
use bytes::Bytes;
use hashbrown::HashMap;

use super::{Name, streams};
use crate::commands::{MEANT_FLUSH_ALL, MEANT_FLUSH_DB};
use crate::engine::Db;
use crate::engine::delta::{Changes, Delta, KeyChange, Rows, Step};

/// Elements in one command.
const AT_ONCE: usize = 500;

/// One command for Redis.
#[derive(Clone, Debug)]
pub struct Run {
    pub db: Db,
    /// The key that it changes; `None`: many.
    pub key: Option<Bytes>,
    pub command: Cmd,
    /// That Redis refuses it is no news: the group is there already.
    pub may_fail: bool,
    /// It swaps these databases.
    pub swaps: Option<(Db, Db)>,
}

/// What Redis is to be told of a commit.
#[derive(Debug, Default)]
pub struct Plan {
    pub runs: Vec<Run>,
    /// Keys for which only the whole value will do.
    pub owed: Vec<Name>,
}

impl Plan {
    pub fn new(delta: &Delta) -> Plan {
        let mut plan = Plan::default();
        for step in &delta.steps {
            plan.step(step);
        }
        plan
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Changes(changes) => self.changes(changes),
            Step::FlushDb(db) => self.whole(*db, words(&[MEANT_FLUSH_DB])),
            Step::FlushAll => self.whole(0, words(&[MEANT_FLUSH_ALL])),
            Step::SwapDb(a, b) => {
                let command = words(&["SWAPDB", &a.to_string(), &b.to_string()]);
                let swaps = Some((*a, *b));
                self.runs.push(Run { db: 0, key: None, command, may_fail: false, swaps });
            }
            Step::Function(_, Some(source)) => {
                self.whole(0, words(&["FUNCTION", "LOAD", "REPLACE"]).arg(&source[..]).to_owned());
            }
            Step::Function(name, None) => {
                self.whole(0, words(&["FUNCTION", "DELETE"]).arg(&name[..]).to_owned());
            }
            Step::FlushFunctions => self.whole(0, words(&["FUNCTION", "FLUSH"])),
        }
    }

    pub(super) fn whole(&mut self, db: Db, command: Cmd) {
        self.runs.push(Run { db, key: None, command, may_fail: false, swaps: None });
    }

    fn changes(&mut self, changes: &Changes) {
        let named: HashMap<(Db, &Bytes), &KeyChange> =
            changes.keys.values().map(|change| ((change.db, &change.key), change)).collect();
        for (db, key) in &changes.rebound {
            let made = named.get(&(*db, key)).is_some_and(|change| change.created);
            if made || !named.contains_key(&(*db, key)) {
                self.run(*db, key, "UNLINK", &[]);
            }
        }
        for change in changes.keys.values() {
            if self.change(change).is_none() {
                self.owed.push((change.db, change.key.clone()));
            }
        }
    }

    /// `None`: the changed rows do not tell.
    fn change(&mut self, change: &KeyChange) -> Option<()> {
        if change.renamed && !change.created {
            return None;
        }
        let KeyChange { db, key, .. } = change;
        match &change.rows {
            Rows::String(Some(value)) => {
                let mut set = words(&["SET"]);
                set.arg(&key[..]).arg(&value[..]);
                if let Some(at_ms) = change.expires_at_ms {
                    set.arg("PXAT").arg(at_ms);
                }
                self.push(*db, key, set);
                return Some(());
            }
            Rows::String(None) | Rows::Opaque(None) => {}
            Rows::Opaque(Some(_)) => return None,
            Rows::Hash(fields) => {
                let set = fields.iter().filter_map(|(f, v)| Some([f, v.as_ref()?]));
                let set: Vec<&[u8]> = set.flatten().map(|bytes| &bytes[..]).collect();
                self.chunks(*db, key, "HSET", &set, 2);
                self.gone(*db, key, "HDEL", fields.iter().map(|(f, v)| (f, v.is_none())));
            }
            Rows::Set(members) => {
                let there = members.iter().filter(|(_, there)| there.is_some());
                let there: Vec<&[u8]> = there.map(|(member, _)| &member[..]).collect();
                self.chunks(*db, key, "SADD", &there, 1);
                self.gone(*db, key, "SREM", members.iter().map(|(m, there)| (m, there.is_none())));
            }
            Rows::ZSet(members) => {
                let scores: Vec<(&Bytes, String)> = members
                    .iter()
                    .filter_map(|(member, score)| Some((member, format!("{:e}", (*score)?))))
                    .collect();
                let pairs = scores.iter().flat_map(|(m, score)| [score.as_bytes(), &m[..]]);
                self.chunks(*db, key, "ZADD", &pairs.collect::<Vec<_>>(), 2);
                self.gone(*db, key, "ZREM", members.iter().map(|(m, score)| (m, score.is_none())));
            }
            Rows::List(rows) if change.created => {
                let values: Vec<&[u8]> = rows.values().flatten().map(|value| &value[..]).collect();
                self.chunks(*db, key, "RPUSH", &values, 1);
            }
            Rows::List(_) => self.list(change)?,
            Rows::Stream(_) if change.created => return None,
            Rows::Stream(rows) => self.runs.extend(streams::runs(*db, key, rows)?),
        }
        self.expiry(change);
        Some(())
    }

    fn expiry(&mut self, change: &KeyChange) {
        match change.expires_at_ms {
            Some(at_ms) => {
                let at_ms = at_ms.to_string();
                self.run(change.db, &change.key, "PEXPIREAT", &[at_ms.as_bytes()]);
            }
            None if change.created => {}
            None => self.run(change.db, &change.key, "PERSIST", &[]),
        }
    }

    /// Pushes and pops at the ends of a list; `None` when it was changed in between.
    fn list(&mut self, change: &KeyChange) -> Option<()> {
        let Rows::List(rows) = &change.rows else { return None };
        let [before, after] = change.ends?;
        let was_there = |position: i64| before.0 <= position && position <= before.1;
        let (mut first, mut last) = (0u64, 0u64);
        let (mut in_front, mut behind) = (Vec::new(), Vec::new());
        for (&position, value) in rows {
            match value {
                Some(_) if was_there(position) => return None,
                Some(value) if position < before.0 => in_front.push(&value[..]),
                Some(value) => behind.push(&value[..]),
                None if !was_there(position) => {}
                None if position < after.0 => first += 1,
                None if position > after.1 => last += 1,
                None => return None,
            }
        }
        let (db, key) = (change.db, &change.key);
        for (count, pop) in [(first, "LPOP"), (last, "RPOP")] {
            if count > 0 {
                self.run(db, key, pop, &[count.to_string().as_bytes()]);
            }
        }
        in_front.reverse();
        self.chunks(db, key, "LPUSH", &in_front, 1);
        self.chunks(db, key, "RPUSH", &behind, 1);
        Some(())
    }

    /// Those of the names that are gone.
    fn gone<'a>(
        &mut self,
        db: Db,
        key: &Bytes,
        command: &str,
        names: impl Iterator<Item = (&'a Bytes, bool)>,
    ) {
        let names: Vec<&[u8]> =
            names.filter(|(_, gone)| *gone).map(|(name, _)| &name[..]).collect();
        self.chunks(db, key, command, &names, 1);
    }

    /// `command key` with these arguments, as many commands as it takes; `each` belong together.
    fn chunks(&mut self, db: Db, key: &Bytes, command: &str, arguments: &[&[u8]], each: usize) {
        for chunk in arguments.chunks(AT_ONCE * each) {
            self.run(db, key, command, chunk);
        }
    }

    fn run(&mut self, db: Db, key: &Bytes, command: &str, arguments: &[&[u8]]) {
        let mut full = words(&[command]);
        full.arg(&key[..]);
        for argument in arguments {
            full.arg(*argument);
        }
        self.push(db, key, full);
    }

    fn push(&mut self, db: Db, key: &Bytes, command: Cmd) {
        self.runs.push(Run { db, key: Some(key.clone()), command, may_fail: false, swaps: None });
    }
}

pub fn words(words: &[&str]) -> Cmd {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::delta::ListEnds;

    fn change(rows: Rows, ends: [ListEnds; 2]) -> KeyChange {
        KeyChange {
            db: 0,
            key: Bytes::from_static(b"l"),
            kind: crate::engine::value::Kind::List,
            expires_at_ms: None,
            len: 3,
            version: 2,
            created: false,
            renamed: false,
            rows,
            ends: Some(ends),
        }
    }

    fn shown(plan: &Plan) -> Vec<String> {
        let text = |run: &Run| String::from_utf8_lossy(&run.command.get_packed_command()).into();
        let words = |packed: String| {
            let parts = packed.split("\r\n").filter(|p| !p.starts_with(['*', '$']));
            parts.collect::<Vec<_>>().join(" ").trim().to_owned()
        };
        plan.runs.iter().map(text).map(words).collect()
    }

    fn rows(rows: &[(i64, Option<&'static str>)]) -> Rows {
        let row = |&(at, value): &(i64, Option<&'static str>)| (at, value.map(Bytes::from));
        Rows::List(rows.iter().map(row).collect())
    }

    #[test]
    fn ends_of_lists_are_pushed_and_popped() {
        let mut plan = Plan::default();
        let both = rows(&[(-1, Some("b")), (-2, Some("a")), (9, None), (10, None)]);
        plan.change(&change(both, [(0, 10), (-2, 8)])).expect("ends only");
        assert_eq!(shown(&plan), ["RPOP l 2", "LPUSH l b a", "PERSIST l"]);
    }

    #[test]
    fn the_middle_of_a_list_takes_the_whole_value() {
        for (middle, after) in [(rows(&[(5, Some("x"))]), (0, 10)), (rows(&[(5, None)]), (0, 10))] {
            assert!(Plan::default().change(&change(middle, [(0, 10), after])).is_none());
        }
    }
}
