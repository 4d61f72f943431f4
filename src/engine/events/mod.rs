//! Keyspace events: what commands mean to those who listen.
//!
//! They are made from what has really changed and from the command's row in [`table`], so that the commands
//! themselves know nothing of them. Names and order are those of Redis 7.0.

mod class;
mod table;

use bytes::Bytes;

pub use class::{Class, Classes};

use self::table::Rule;
use super::keyspace::{Touch, What};
use super::stop::{Answer, Stop};
use super::{Call, Db, Keyspace};
use crate::commands;
use crate::resp::Reply;

/// What others may want to hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    Event {
        class: Class,
        name: &'static str,
        db: Db,
        key: Bytes,
    },
    /// A key has changed, or is gone, or a command has acted on it in a way that counts as a change in Redis.
    Changed {
        db: Db,
        key: Bytes,
        /// Who has done it; 0: its time was over.
        by: u64,
    },
    /// Somebody who keeps what is read has read a key.
    Read {
        key: Bytes,
        by: u64,
    },
    /// A script has called a command.
    Called {
        db: Db,
        words: Vec<Bytes>,
    },
    /// All keys of a database, or of all of them, are gone.
    Flushed(Option<Db>),
    Swapped(Db, Db),
    /// A message on its way to subscribers.
    Published {
        channel: Bytes,
        text: Bytes,
        sharded: bool,
    },
}

/// What a whole command did to one key.
struct Fate {
    db: Db,
    key: Bytes,
    before: bool,
    after: bool,
    /// Its own content or time is another, not only something beside it.
    changed: bool,
    besides: Vec<&'static str>,
}

/// Turns what a command has touched into events.
pub fn tell(ks: &mut Keyspace, call: &Call<'_>, name: &str, answer: &Answer<Reply>) {
    let touches = ks.take_touches();
    if let Err(Stop::NotLoaded(_)) = answer {
        return;
    }
    if touches.is_empty() && answer.is_err() {
        return;
    }
    let rule = table::rule(name);
    let fates = fates(ks, touches);
    // What belongs to a stream's groups is no change of the stream.
    let silent = |fate: &&Fate| fate.before && rule.is_some_and(Rule::is_silent);
    for fate in fates.iter().filter(|fate| fate.changed && !silent(fate)) {
        signal(ks, fate.db, &fate.key);
    }
    match (rule, answer) {
        (Some(rule), Ok(reply)) => apply(ks, call, rule, reply, &fates),
        (None, Ok(_)) => reads(ks, call, name),
        _ => {}
    }
}

/// What became of each key, in the order in which they were touched first.
fn fates(ks: &Keyspace, touches: Vec<Touch>) -> Vec<Fate> {
    let mut fates: Vec<Fate> = Vec::new();
    let mut places = hashbrown::HashMap::<(Db, Bytes), usize, ahash::RandomState>::default();
    for Touch { db, key, what } in touches {
        let at = *places.entry((db, key.clone())).or_insert_with(|| {
            let (before, after) = (what != What::Made, ks.peek(db, &key).is_some());
            fates.push(Fate { db, key, before, after, changed: false, besides: Vec::new() });
            fates.len() - 1
        });
        match what {
            What::Besides(event) => fates[at].besides.push(event),
            _ => fates[at].changed = true,
        }
    }
    fates
}

/// What a reader has found, for who keeps it, and not found.
fn reads(ks: &mut Keyspace, call: &Call<'_>, name: &str) {
    let (kept, misses) = (ks.notes_reads(), ks.wants(Class::Miss));
    if !kept && !misses {
        return;
    }
    let Some(command) = commands::lookup(name.as_bytes()) else { return };
    let keys = match call.args.get(1).and_then(|sub| commands::lookup_sub(command, sub)) {
        Some(sub) if sub.flags.readonly => sub.keys(call.args),
        None if command.flags.readonly => command.keys(call.args),
        _ => return,
    };
    // In a script the keys that it was called with count, as in Redis.
    let declared = ks.declared().filter(|_| kept).map(<[Bytes]>::to_vec);
    for key in declared.iter().flatten() {
        ks.happen(Happened::Read { key: key.clone(), by: ks.actor() });
    }
    for (at, _) in keys {
        let key = &call.args[at];
        if kept && declared.is_none() {
            ks.happen(Happened::Read { key: key.clone(), by: ks.actor() });
        }
        if name != "object" && ks.peek(call.db, key).is_none() {
            ks.event(Class::Miss, "keymiss", call.db, key);
        }
    }
}

/// Whether none of the operations of a `BITFIELD` was carried out, because of `OVERFLOW FAIL`.
fn all_failed(call: &Call<'_>, reply: &Reply) -> bool {
    let Reply::Array(results) = reply else { return false };
    let writes =
        |word: &&Bytes| word.eq_ignore_ascii_case(b"set") || word.eq_ignore_ascii_case(b"incrby");
    call.args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"bitfield"))
        && results.iter().filter(|result| matches!(result, Reply::Nil)).count()
            == call.args.iter().filter(writes).count()
}

fn apply(ks: &mut Keyspace, call: &Call<'_>, rule: Rule, reply: &Reply, fates: &[Fate]) {
    match rule {
        // What only made the string longer is no news to Redis.
        Rule::Each(..) if all_failed(call, reply) => fates.iter().for_each(|fate| new(ks, fate)),
        Rule::Each(class, name) => each(ks, fates, class, name),
        Rule::Fresh(class, name) => {
            for fate in fates.iter().filter(|fate| fate.after) {
                ks.event(Class::New, "new", fate.db, &fate.key);
                ks.event(class, name, fate.db, &fate.key);
            }
        }
        Rule::Store(class, name) => {
            for fate in fates {
                new(ks, fate);
                if fate.after {
                    ks.event(class, name, fate.db, &fate.key);
                }
                gone(ks, fate);
            }
        }
        Rule::Remove => fates.iter().for_each(|fate| gone(ks, fate)),
        Rule::SetString => {
            each(ks, fates, Class::String, "set");
            let timed = call.args.len() > 3 && !option(call, "keepttl");
            let expires = |fate: &&Fate| {
                timed && ks.peek(fate.db, &fate.key).is_some_and(|e| e.expires_at_ms.is_some())
            };
            if let Some(fate) = fates.iter().find(expires) {
                ks.event(Class::Generic, "expire", fate.db, &fate.key);
            }
        }
        Rule::SetMany if !fates.is_empty() => {
            for (at, key) in call.args.iter().enumerate().skip(1).step_by(2) {
                let again = || call.args[1..at].iter().step_by(2).any(|other| other == key);
                if let Some(fate) = fates.iter().find(|fate| fate.key == *key && !again()) {
                    new(ks, fate);
                }
                ks.event(Class::String, "set", call.db, key);
            }
        }
        Rule::Expire if *reply == Reply::Int(1) => expired(ks, call, fates),
        Rule::GetEx if option(call, "persist") => each(ks, fates, Class::Generic, "persist"),
        Rule::GetEx if call.args.len() > 2 && *reply != Reply::Nil => expired(ks, call, fates),
        Rule::Always(class, name) => match fates {
            [] => {
                if let Some(key) = call.args.get(1).filter(|key| ks.peek(call.db, key).is_some()) {
                    signal(ks, call.db, key);
                    ks.event(class, name, call.db, key);
                }
            }
            fates => each(ks, fates, class, name),
        },
        Rule::Pair(class, first, second) => {
            for fate in fates {
                let source = call.args.get(1) == Some(&fate.key);
                each(ks, std::slice::from_ref(fate), class, if source { first } else { second });
            }
        }
        Rule::Moved(from, to) => {
            for fate in fates.iter().filter(|fate| fate.after) {
                ks.event(Class::New, "new", fate.db, &fate.key);
            }
            for (there, name) in [(false, from), (true, to)] {
                for fate in fates.iter().filter(|fate| fate.after == there) {
                    ks.event(Class::Generic, name, fate.db, &fate.key);
                }
            }
        }
        Rule::Shift => shift(ks, call, reply, fates),
        Rule::PopList => {
            let left = option(call, "left");
            each(ks, fates, Class::List, if left { "lpop" } else { "rpop" });
        }
        Rule::PopSorted => {
            let least = option(call, "min");
            each(ks, fates, Class::ZSet, if least { "zpopmin" } else { "zpopmax" });
        }
        Rule::Score => {
            let options =
                call.args.iter().skip(2).take_while(|word| {
                    word[..].is_ascii() && word.iter().any(u8::is_ascii_alphabetic)
                });
            let incr = options.into_iter().any(|word| word.eq_ignore_ascii_case(b"incr"));
            each(ks, fates, Class::ZSet, if incr { "zincr" } else { "zadd" });
        }
        Rule::Group => {
            let name = match call.args.get(1).map(|name| name.to_ascii_lowercase()).as_deref() {
                Some(b"create") => Some("xgroup-create"),
                Some(b"setid") => Some("xgroup-setid"),
                Some(b"destroy") => Some("xgroup-destroy"),
                Some(b"delconsumer") => Some("xgroup-delconsumer"),
                _ => None,
            };
            match name {
                Some(name) => each(ks, fates, Class::Stream, name),
                None => besides(ks, fates),
            }
        }
        Rule::SetId => each(ks, fates, Class::Stream, "xsetid"),
        Rule::Silent => besides(ks, fates),
        Rule::SetMany | Rule::Expire | Rule::GetEx => {}
    }
}

/// True when one of the arguments behind the key is this word.
fn option(call: &Call<'_>, word: &str) -> bool {
    call.args.iter().skip(2).any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}

fn signal(ks: &mut Keyspace, db: Db, key: &Bytes) {
    ks.happen(Happened::Changed { db, key: key.clone(), by: ks.actor() });
}

fn new(ks: &mut Keyspace, fate: &Fate) {
    if fate.after && !fate.before {
        ks.event(Class::New, "new", fate.db, &fate.key);
    }
}

fn gone(ks: &mut Keyspace, fate: &Fate) {
    if fate.before && !fate.after {
        ks.event(Class::Generic, "del", fate.db, &fate.key);
    }
}

fn each(ks: &mut Keyspace, fates: &[Fate], class: Class, name: &'static str) {
    for fate in fates {
        new(ks, fate);
        if fate.changed {
            ks.event(class, name, fate.db, &fate.key);
        }
        for name in &fate.besides {
            ks.event(class, name, fate.db, &fate.key);
        }
        gone(ks, fate);
    }
}

fn besides(ks: &mut Keyspace, fates: &[Fate]) {
    for fate in fates {
        for name in &fate.besides {
            ks.event(Class::Stream, name, fate.db, &fate.key);
        }
    }
}

/// The key has a new time, or none of its own any more.
fn expired(ks: &mut Keyspace, call: &Call<'_>, fates: &[Fate]) {
    let Some(key) = call.args.get(1) else { return };
    if fates.iter().any(|fate| !fate.after) {
        return fates.iter().for_each(|fate| gone(ks, fate));
    }
    if fates.is_empty() {
        signal(ks, call.db, key);
    }
    ks.event(Class::Generic, "expire", call.db, key);
}

fn shift(ks: &mut Keyspace, call: &Call<'_>, reply: &Reply, fates: &[Fate]) {
    let (Reply::Bulk(_), [name, source, target, ..]) = (reply, call.args) else { return };
    let end = |at: usize, left: &'static str, right: &'static str| {
        let is_left = call.args.get(at).is_some_and(|end| end.eq_ignore_ascii_case(b"left"));
        if is_left { left } else { right }
    };
    let (push, pop) = match name.to_ascii_lowercase().ends_with(b"rpoplpush") {
        true => ("lpush", "rpop"),
        false => (end(4, "lpush", "rpush"), end(3, "lpop", "rpop")),
    };
    let of = |key: &Bytes| fates.iter().find(|fate| fate.key == *key);
    // Also when the element went back to where it was.
    for key in [source, target].into_iter().filter(|key| of(key).is_none()) {
        signal(ks, call.db, key);
    }
    if let Some(fate) = of(target) {
        new(ks, fate);
    }
    ks.event(Class::List, push, call.db, target);
    ks.event(Class::List, pop, call.db, source);
    if let Some(fate) = of(source) {
        gone(ks, fate);
    }
}
