//! Which commands of the stream concern PostgreSQL: `mirror = false` families live in Redis alone,
//! and keys that wait for a re-read are passed over.

use bytes::Bytes;

use super::reread::Rereads;
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
    Reread(Vec<Bytes>),
}

/// Commands whose keys do not depend on each other, by the number of arguments that belong to one key.
const INDEPENDENT: &[(&[u8], usize)] = &[(b"DEL", 1), (b"UNLINK", 1), (b"MSET", 2)];

/// Decides by the keys of a command. `keys` is empty for commands without keys.
pub fn route(args: &[Bytes], keys: &[&Bytes], db: Db, families: &Families, rereads: &Rereads) -> Route {
    let known = |key: &Bytes| families.mirrors(key) && !rereads.is_suspended(db, key);
    if keys.iter().all(|key| known(key)) {
        return Route::Run;
    }
    if !keys.iter().any(|key| known(key)) {
        return Route::Skip;
    }
    let independent = INDEPENDENT.iter().find(|(name, _)| args[0].eq_ignore_ascii_case(name));
    if let Some((_, width)) = independent {
        let kept = args[1..].chunks(*width).filter(|chunk| chunk.first().is_some_and(known));
        return Route::RunWith(args[..1].iter().chain(kept.flatten()).cloned().collect());
    }
    Route::Reread(keys.iter().filter(|key| families.mirrors(key)).map(|key| (*key).clone()).collect())
}
