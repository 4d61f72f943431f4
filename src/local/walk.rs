//! `SCAN`, `KEYS` and `RANDOMKEY` over databases that are not in memory, or too large for a look at every key:
//! PostgreSQL is asked page by page, in the order of the names.
//!
//! A cursor of `SCAN` stands for the last name of a page, which is remembered for a while; one that nobody
//! remembers begins anew. So what is there from the first call to the last is returned, as Redis
//! promises. In transactions and scripts, where nothing may come in between, all names are loaded.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::keeper::Gone;
use super::members::Member;
use super::period::Period;
use super::session::Session;
use crate::engine::delta::KeyId;
use crate::engine::scan::{self, Scan};
use crate::engine::value::Kind;
use crate::engine::{Answer, Db, Stop, glob};
use crate::resp::Reply;
use crate::store::{KeyRow, Store, StoreError};

/// Databases up to this size are brought to memory and walked there.
const FEW: i64 = 1000;
/// Of databases up to this size each key is looked at, where all are in memory already.
const FEW_KNOWN: i64 = 20_000;
/// Names asked for at once.
pub(super) const PAGE: usize = 10_000;
/// Cursors that are remembered.
const CURSORS: usize = 10_000;
/// Tries to find a random key that has not expired.
const TRIES: usize = 100;

/// A key as PostgreSQL has it.
#[derive(Clone, Debug)]
pub struct Named {
    pub key: Bytes,
    pub kind: Option<Kind>,
    /// Unix time in ms.
    pub expires_at_ms: Option<i64>,
}

/// Whom to tell.
type Asker<T> = oneshot::Sender<Vec<T>>;

/// What PostgreSQL is asked once everything that has been run is committed.
pub(super) enum Question {
    /// The names behind this one, in order.
    Behind { db: Db, name: Option<Bytes>, limit: usize, asker: Asker<Named> },
    /// Some key.
    Random { db: Db, asker: Asker<Named> },
    /// The members of a value behind this one, in order.
    Members { value: (Kind, KeyId), behind: Option<Bytes>, limit: usize, asker: Asker<Member> },
}

/// Last names of pages, by cursor.
pub(super) struct Cursors {
    names: HashMap<u64, Bytes>,
    order: VecDeque<u64>,
    next: u64,
}

impl Default for Cursors {
    fn default() -> Cursors {
        // A former process's cursors are not taken for ours.
        // Nor are those of the engine, which are smaller.
        let next = 1 << 52 | u64::from(rand::random::<u32>()) << 20;
        Cursors { names: HashMap::new(), order: VecDeque::new(), next }
    }
}

impl Cursors {
    /// The last name of the page behind which this cursor is; of one that nobody remembers there is none.
    pub fn name(&self, cursor: u64) -> Option<Bytes> {
        self.names.get(&cursor).cloned()
    }

    pub fn remember(&mut self, name: Bytes) -> u64 {
        let cursor = self.next;
        self.next += 1;
        self.names.insert(cursor, name);
        self.order.push_back(cursor);
        if self.order.len() > CURSORS
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        cursor
    }
}

impl Period {
    /// Answers what is asked of PostgreSQL; false when nothing is.
    pub async fn answer_questions(&self, store: &Store) -> Result<bool, StoreError> {
        let asked = self.questions.take();
        if asked.is_empty() {
            return Ok(false);
        }
        self.commit(store).await?;
        for question in asked {
            // Who has left needs nothing any more.
            match question {
                Question::Behind { db, name, limit, asker } => {
                    let found = store.names_behind(db, name.as_ref(), limit).await?;
                    let _ = asker.send(found.into_iter().map(named).collect());
                }
                Question::Random { db, asker } => {
                    let _ =
                        asker.send(store.random_key(db).await?.into_iter().map(named).collect());
                }
                Question::Members { value, behind, limit, asker } => {
                    let _ = asker.send(store.members_behind(value, behind.as_ref(), limit).await?);
                }
            }
        }
        Ok(true)
    }

    pub(super) async fn ask<T>(
        &self,
        question: impl FnOnce(Asker<T>) -> Question,
    ) -> Result<Vec<T>, Gone> {
        let (asker, answered) = oneshot::channel();
        self.questions.borrow_mut().push(question(asker));
        self.work.notify_one();
        answered.await.map_err(|_| Gone)
    }

    /// Whether a walk over the keys of a database asks PostgreSQL.
    fn is_walked_outside(&self, db: Db, name: &str) -> bool {
        let keyspace = self.keyspace.borrow();
        let few = match keyspace.is_whole(db) {
            // The engine has the keys in order.
            true if name == "scan" => return false,
            true => FEW_KNOWN,
            false => FEW,
        };
        keyspace.census(db).is_some_and(|count| count.keys > few)
    }

    /// False for keys that have gone since PostgreSQL was asked.
    fn still_there(&self, db: Db, named: &Named) -> bool {
        let keyspace = self.keyspace.borrow();
        let expires_at_ms = match keyspace.peek(db, &named.key) {
            Some(entry) => entry.expires_at_ms,
            None if keyspace.is_absent(db, &named.key) => return false,
            None => named.expires_at_ms,
        };
        expires_at_ms.is_none_or(|at_ms| at_ms >= super::run::now_ms())
    }
}

fn named((key, kind, expires_at_ms): KeyRow) -> Named {
    Named { key, kind: Kind::from_code(kind), expires_at_ms }
}

impl Session {
    /// A walk over many keys or members; `None`: the engine answers.
    pub async fn walk(
        &mut self,
        name: &str,
        args: &[Bytes],
    ) -> Result<Option<Answer<Reply>>, Gone> {
        let kind = match name {
            "hscan" => Some(Kind::Hash),
            "sscan" => Some(Kind::Set),
            "zscan" => Some(Kind::ZSet),
            _ => None,
        };
        if let Some(kind) = kind {
            return self.scan_members(kind, args).await;
        }
        if !matches!(name, "scan" | "keys" | "randomkey")
            || !self.period.is_walked_outside(self.db, name)
        {
            return Ok(None);
        }
        let period = self.period.clone();
        let db = self.db;
        Ok(Some(match name {
            "keys" => Ok(period.keys(db, &args[1]).await?),
            "randomkey" => Ok(period.random_key(db).await?),
            _ => match (scan::cursor(&args[1]), Scan::parse(&args[2..], true)) {
                (Ok(cursor), Ok(scan)) => Ok(period.scan(db, cursor, &scan).await?),
                (Err(stop), _) | (_, Err(stop)) => Err(stop),
            },
        }))
    }
}

impl Period {
    async fn scan(&self, db: Db, cursor: u64, scan: &Scan<'_>) -> Result<Reply, Gone> {
        let name = self.cursors.borrow().name(cursor);
        let limit = scan.count.min(PAGE);
        let page = self.ask(|asker| Question::Behind { db, name, limit, asker }).await?;
        let next = match page.last() {
            Some(last) if page.len() == limit => {
                self.cursors.borrow_mut().remember(last.key.clone())
            }
            _ => 0,
        };
        let of_kind = |kind: Option<Kind>| {
            let name = kind.map_or("", Kind::as_str);
            scan.kind.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()))
        };
        let shown = page.into_iter().filter(|named| {
            of_kind(named.kind) && scan.matches(&named.key) && self.still_there(db, named)
        });
        Ok(scan::reply(next, shown.map(|named| named.key)))
    }

    async fn keys(&self, db: Db, pattern: &Bytes) -> Result<Reply, Gone> {
        let (mut found, mut name) = (Vec::new(), None);
        loop {
            let page = self.ask(|asker| Question::Behind { db, name, limit: PAGE, asker }).await?;
            name = page.last().map(|last| last.key.clone());
            let whole = page.len() == PAGE;
            let matching = page
                .into_iter()
                .filter(|named| glob::matches(pattern, &named.key) && self.still_there(db, named));
            found.extend(matching.map(|named| Reply::Bulk(named.key)));
            if !whole {
                return Ok(Reply::Array(found));
            }
        }
    }

    async fn random_key(&self, db: Db) -> Result<Reply, Gone> {
        for _ in 0..TRIES {
            let found = self.ask(|asker| Question::Random { db, asker }).await?;
            if let Some(named) = found.into_iter().find(|named| self.still_there(db, named)) {
                return Ok(Reply::Bulk(named.key));
            }
        }
        Ok(Reply::Nil)
    }
}

/// The reply to a walk.
pub(super) fn replied(answer: Answer<Reply>) -> Reply {
    match answer {
        Ok(reply) => reply,
        Err(Stop::Error(text)) => Reply::Error(text),
        Err(Stop::NotLoaded(_)) => super::run::too_small(),
    }
}
