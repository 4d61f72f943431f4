//! Which commands of the stream concern PostgreSQL: `mirror = false` families live in Redis alone,
//! and keys that wait for a re-read are passed over.

use bytes::Bytes;

use super::reread::Rereads;
use crate::commands;
use crate::engine::Db;
use crate::strategy::Families;

/// What to do with a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    Run,
    /// Nothing of it concerns PostgreSQL now.
    Skip,
    /// Run it without these keys (`DEL` and its like).
    RunWith(Vec<Bytes>),
    /// Its result depends on keys that PostgreSQL does not have as Redis has them: re-read these.
    Reread(Vec<(Db, Bytes)>),
}

/// Commands whose keys do not depend on each other, by the number of arguments that belong to one key.
const INDEPENDENT: &[(&[u8], usize)] = &[(b"DEL", 1), (b"UNLINK", 1), (b"MSET", 2)];

/// A key of a command, the database it is in, and whether the command may change it.
pub type KeyUse = (Db, Bytes, bool);

/// The keys of a command by the table; empty for one that it does not know.
pub fn keys_of(db: Db, args: &[Bytes]) -> Vec<KeyUse> {
    let Some(command) = args.first().and_then(|name| commands::lookup(name)) else {
        return Vec::new();
    };
    let command =
        args.get(1).and_then(|name| commands::lookup_sub(command, name)).unwrap_or(command);
    let keys = command.keys(args).into_iter();
    let mut keys: Vec<KeyUse> =
        keys.filter_map(|(at, writes)| Some((db, args.get(at)?.clone(), writes))).collect();
    match (command.name, keys.as_mut_slice()) {
        ("move", [(_, key, _)]) => {
            let key = key.clone();
            keys.extend(args.get(2).and_then(number).map(|target| (target, key, true)));
        }
        ("copy", [_, (target, ..)]) => {
            let option = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"DB"));
            *target =
                option.filter(|at| *at > 2).and_then(|at| number(args.get(at + 1)?)).unwrap_or(db);
        }
        _ => {}
    }
    keys
}

fn number(text: &Bytes) -> Option<Db> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The two databases of a `SWAPDB`.
pub fn swapped(args: &[Bytes]) -> Option<(Db, Db)> {
    let swap = args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"SWAPDB"));
    swap.then(|| Some((number(args.get(1)?)?, number(args.get(2)?)?))).flatten()
}

/// Decides by the keys of a command. `keys` is empty for commands without keys.
pub fn route(args: &[Bytes], keys: &[KeyUse], families: &Families, rereads: &Rereads) -> Route {
    let known = |db: Db, key: &Bytes| families.mirrors(key) && !rereads.is_suspended(db, key);
    if keys.iter().all(|(db, key, _)| known(*db, key)) {
        return Route::Run;
    }
    let local = |(_, key, _): &KeyUse| !families.mirrors(key);
    if keys.iter().all(local) {
        return Route::Skip;
    }
    if let [(db, key, _)] = keys {
        debug_assert!(rereads.is_suspended(*db, key));
        return Route::Skip;
    }
    let independent = INDEPENDENT.iter().find(|(name, _)| args[0].eq_ignore_ascii_case(name));
    if let (Some((_, width)), Some((db, ..))) = (independent, keys.first()) {
        let kept = args[1..]
            .chunks(*width)
            .filter(|chunk| chunk.first().is_some_and(|key| known(*db, key)));
        let args: Vec<Bytes> = args[..1].iter().chain(kept.flatten()).cloned().collect();
        return if args.len() > 1 { Route::RunWith(args) } else { Route::Skip };
    }
    let changed = keys.iter().filter(|(_, key, writes)| *writes && families.mirrors(key));
    Route::Reread(changed.map(|(db, key, _)| (*db, key.clone())).collect())
}
