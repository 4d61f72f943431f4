//! Redis cannot go on from where it was left: all that it has is looked at.

use bb8_redis::redis;
use bb8_redis::redis::aio::MultiplexedConnection;
use bytes::Bytes;
use hashbrown::HashSet;

use super::tail::evicts;
use super::untouched::Change;
use super::{Failback, FailbackError};
use crate::engine::{Db, Need, Part, to_object};
use crate::local::follower::Name;
use crate::mirror::reach;
use crate::mirror::replica::{Event, Replica, Resume};
use crate::rdb::{self, Item, Object};
use crate::store::Store;

/// Keys looked at in one go.
const KEYS: usize = 200;

/// How Redis's history relates to the place at which PostgreSQL took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    /// It went on from there.
    Ahead,
    /// It is the same, from before.
    Behind,
    Foreign,
}

/// A key as Redis has it.
struct Found {
    name: Name,
    expires_at_ms: Option<i64>,
    value: Object,
}

impl Failback {
    /// Looks at a snapshot of Redis, key by key, and then for what it lacks.
    pub(super) async fn take_snapshot(
        &self,
        replica: &mut Replica,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), FailbackError> {
        let history = self.history(connection).await?;
        tracing::info!(?history, "Redis sends all that it has, to be compared");
        let store = Store::connect(&self.config.postgres).await?;
        let (mut db, mut some): (Db, Vec<Found>) = (0, Vec::new());
        loop {
            let Event::Rdb(item) = replica.next().await? else { return Err(FailbackError::Link) };
            match item {
                Item::SelectDb(selected) => db = selected,
                Item::Key { key, expire_at_ms, value } if self.families.mirrors(&key) => {
                    some.push(Found { name: (db, key), expires_at_ms: expire_at_ms, value });
                }
                Item::End { .. } => break,
                _ => {}
            }
            if some.len() >= KEYS {
                self.compare(std::mem::take(&mut some), history, &store, connection).await?;
            }
        }
        self.compare(some, history, &store, connection).await?;
        let deletes =
            history == History::Ahead && !self.follower.debts.all() && !evicts(connection).await?;
        self.look_for_rest(&store, connection, deletes).await
    }

    async fn history(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<History, FailbackError> {
        let Some(left) = self.follower.debts.left() else { return Ok(History::Foreign) };
        Ok(match reach(connection, &left.replid).await? {
            None => History::Foreign,
            Some(upto) if upto >= left.offset => History::Ahead,
            Some(_) => History::Behind,
        })
    }

    /// The stream of a Redis that came back with older data, from that moment on, if it still has it.
    pub(super) async fn since_return(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<Replica>, FailbackError> {
        let Some(left) = self.follower.debts.left() else { return Ok(None) };
        let Some(offset) = reach(connection, &left.replid).await? else { return Ok(None) };
        if offset >= left.offset {
            return Ok(None);
        }
        let resume = Some(Resume { replid: left.replid, offset });
        let mut replica = Replica::attach(&self.redis, resume).await?;
        let Event::Continue { replid, offset } = replica.next().await? else { return Ok(None) };
        self.stream.begin(replid, offset);
        Ok(Some(replica))
    }

    /// What others have written to it until the snapshot that was taken at `offset`.
    pub(super) async fn look_for_fresh(
        &self,
        since_return: Option<Replica>,
        offset: i64,
    ) -> Result<(), FailbackError> {
        self.fresh.take();
        let Some(mut replica) = since_return else { return Ok(()) };
        while self.stream.at().offset < offset {
            let event = replica.next().await?;
            self.pass(&event);
        }
        *self.fresh.borrow_mut() = Some(self.stream.take_foreign());
        Ok(())
    }

    async fn compare(
        &self,
        found: Vec<Found>,
        history: History,
        store: &Store,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), FailbackError> {
        let debts = &self.follower.debts;
        let found: Vec<Found> = found.into_iter().filter(|one| !debts.has(&one.name)).collect();
        let needs: Vec<Need> = found.iter().map(|one| need(&one.name)).collect();
        let (mut taken, mut dropped) = (Vec::new(), Vec::new());
        for (one, loaded) in found.into_iter().zip(store.load(&needs).await?) {
            let mine =
                loaded.found.and_then(|mine| Some((to_object(&mine.value)?, mine.expires_at_ms)));
            let news = history == History::Ahead && !debts.all();
            match mine {
                Some((value, expires_at_ms))
                    if expires_at_ms == one.expires_at_ms && is_same(value.clone(), &one.value) => {
                }
                Some(_) if news => taken.push((one, true)),
                Some(_) => {
                    if !self.replaces() {
                        self.count_conflict(store, &one.name).await?;
                    }
                    self.owed.borrow_mut().push(one.name);
                }
                // PostgreSQL has deleted it.
                None if self.replaces() => dropped.push(one.name),
                None if news || history == History::Foreign => taken.push((one, news)),
                None if self.is_fresh(&one.name) => taken.push((one, false)),
                // PostgreSQL had it, and has deleted it since.
                None => dropped.push(one.name),
            }
        }
        self.take(taken).await?;
        drop_from(connection, &dropped).await
    }

    /// Whether the key may have been written since Redis came back.
    fn is_fresh(&self, name: &Name) -> bool {
        self.fresh.borrow().as_ref().is_none_or(|fresh| fresh.contains(name))
    }

    /// Has the engine take these values over; those that may not replace another only where there is none.
    async fn take(&self, found: Vec<(Found, bool)>) -> Result<(), FailbackError> {
        let change = |(Found { name, expires_at_ms, value }, replace): (Found, bool)| {
            let dump = rdb::encode_dump(&value).to_vec();
            let expires_at_ms = expires_at_ms.unwrap_or(0);
            (name, Change::Restore { dump, expires_at_ms, replace })
        };
        let touched = self.change_untouched(found.into_iter().map(change).collect()).await?;
        self.owed.borrow_mut().extend(touched);
        Ok(())
    }

    /// Keys that Redis lacks: to be brought to it, or `deletes`: it has deleted them.
    async fn look_for_rest(
        &self,
        store: &Store,
        connection: &mut MultiplexedConnection,
        deletes: bool,
    ) -> Result<(), FailbackError> {
        let mut last = 0;
        loop {
            let keys = store.keys_after(last, KEYS * 10).await?;
            let Some((id, ..)) = keys.last() else { return Ok(()) };
            last = *id;
            let names: Vec<Name> = keys
                .into_iter()
                .map(|(_, db, key)| (db, key))
                .filter(|name| self.families.mirrors(&name.1) && !self.follower.debts.has(name))
                .collect();
            let mut pipe = redis::pipe();
            for (db, key) in &names {
                pipe.cmd("SELECT").arg(*db).ignore().cmd("EXISTS").arg(&key[..]);
            }
            let there: Vec<bool> =
                pipe.cmd("SELECT").arg(0).ignore().query_async(connection).await?;
            let missing = names.into_iter().zip(there).filter(|(_, there)| !there);
            let missing: Vec<Name> = missing.map(|(name, _)| name).collect();
            match deletes {
                // What clients have changed is owed anyway.
                true => {
                    let changes = missing.into_iter().map(|name| (name, Change::Delete)).collect();
                    drop(self.change_untouched(changes).await?);
                }
                false => self.owed.borrow_mut().extend(missing),
            }
        }
    }

    /// Redis gets everything that PostgreSQL has, and keeps nothing else.
    pub(super) async fn replace_all(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), FailbackError> {
        let store = Store::connect(&self.config.postgres).await?;
        let mut wanted = HashSet::new();
        let mut last = 0;
        loop {
            let keys = store.keys_after(last, KEYS * 10).await?;
            let Some((id, ..)) = keys.last() else { break };
            last = *id;
            wanted.extend(keys.into_iter().map(|(_, db, key)| (db, key)));
        }
        for db in self.databases(connection).await? {
            redis::cmd("SELECT").arg(db).exec_async(connection).await?;
            let mut cursor = 0u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("COUNT").arg(1000);
                let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
                let names = names.into_iter().map(|name| (db, Bytes::from(name)));
                let gone: Vec<Name> = names.filter(|name| !wanted.contains(name)).collect();
                drop_from(connection, &gone).await?;
                redis::cmd("SELECT").arg(db).exec_async(connection).await?;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        redis::cmd("SELECT").arg(0).exec_async(connection).await?;
        self.owed.borrow_mut().extend(wanted);
        Ok(())
    }
}

fn need((db, key): &Name) -> Need {
    Need { db: *db, key: key.clone(), part: Part::All }
}

/// Deletes keys on whichever server this is.
pub(super) async fn drop_from(
    connection: &mut MultiplexedConnection,
    names: &[Name],
) -> Result<(), FailbackError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut pipe = redis::pipe();
    for (db, key) in names {
        pipe.cmd("SELECT").arg(*db).ignore().cmd("UNLINK").arg(&key[..]).ignore();
    }
    pipe.cmd("SELECT").arg(0).ignore();
    Ok(pipe.exec_async(connection).await?)
}

/// Whether both are the same value, in whatever order their members come.
fn is_same(one: Object, other: &Object) -> bool {
    ordered(one) == ordered(other.clone())
}

fn ordered(object: Object) -> Object {
    match object {
        Object::Set(mut members) => {
            members.sort_unstable();
            Object::Set(members)
        }
        Object::ZSet(mut members) => {
            members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            Object::ZSet(members)
        }
        Object::Hash(mut fields) => {
            fields.sort_unstable();
            Object::Hash(fields)
        }
        other => other,
    }
}
