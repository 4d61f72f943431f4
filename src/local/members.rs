//! `HSCAN`, `SSCAN` and `ZSCAN` of large values that are not in memory: PostgreSQL is asked page by page, as for
//! [`super::walk`], so that nothing has to be loaded. In transactions and scripts, where nothing may come in between, all of
//! the value is.

use bytes::Bytes;

use super::keeper::Gone;
use super::peer::Peer;
use super::period::Period;
use super::session::Session;
use super::walk::{PAGE, Question};
use crate::engine::delta::KeyId;
use crate::engine::number::double_text;
use crate::engine::scan::{self, Scan};
use crate::engine::value::{Kind, Value};
use crate::engine::{Answer, Db, Stop};
use crate::resp::Reply;
use crate::store::Content;

/// A member as PostgreSQL has it, and what goes with it.
pub(super) type Member = (Bytes, Content);

/// Loads of the key's row before the engine gets the command.
const TRIES: usize = 8;

impl Session {
    /// A page of the members of a value of this type; `None`: the engine answers.
    pub(super) async fn scan_members(
        &mut self,
        kind: Kind,
        args: &[Bytes],
    ) -> Result<Option<Answer<Reply>>, Gone> {
        let (cursor, scan) = (scan::cursor(&args[2]), Scan::parse(&args[3..], false));
        let (Ok(cursor), Ok(scan)) = (cursor, scan) else { return Ok(None) };
        let (period, db, key) = (self.period.clone(), self.db, &args[1]);
        for _ in 0..TRIES {
            match period.large(&self.peer, db, key, kind) {
                Ok(Some(id)) => {
                    let place = Place { db, key, value: (kind, id) };
                    return Ok(Some(Ok(period.scan_members(&place, cursor, &scan).await?)));
                }
                Ok(None) | Err(Stop::Error(_)) => break,
                Err(Stop::NotLoaded(needs)) => period.load(needs).await?,
            }
        }
        Ok(None)
    }
}

/// A value, and where it was found.
struct Place<'a> {
    db: Db,
    key: &'a Bytes,
    value: (Kind, KeyId),
}

impl Period {
    /// The identity of a value that is too large to be loaded for a page.
    fn large(&self, peer: &Peer, db: Db, key: &Bytes, kind: Kind) -> Answer<Option<KeyId>> {
        self.act(peer, |keyspace| {
            let large = keyspace.large(db, key, kind)?;
            Ok(large.and_then(|_| keyspace.peek(db, key)).map(|entry| entry.id))
        })
    }

    async fn scan_members(
        &self,
        place: &Place<'_>,
        cursor: u64,
        scan: &Scan<'_>,
    ) -> Result<Reply, Gone> {
        let (value, limit) = (place.value, scan.count.min(PAGE));
        let behind = self.cursors.borrow().name(cursor);
        let page = self.ask(|asker| Question::Members { value, behind, limit, asker }).await?;
        let keyspace = self.keyspace.borrow();
        // Something else may have come under the name meanwhile.
        let now = keyspace.peek(place.db, place.key);
        let is_gone = match now {
            Some(entry) => entry.id != value.1,
            None => keyspace.is_absent(place.db, place.key),
        };
        if is_gone {
            return Ok(scan::empty());
        }
        let next = match page.last() {
            Some((last, _)) if page.len() == limit => {
                self.cursors.borrow_mut().remember(last.clone())
            }
            _ => 0,
        };
        let shown = page.into_iter().filter(|(member, _)| scan.matches(member));
        let shown = shown.filter_map(|(member, content)| {
            let content = match now {
                Some(entry) => current(&entry.value, &member, content)?,
                None => content,
            };
            Some((member, content))
        });
        let words = shown.flat_map(|(member, content)| [Some(member), text(content)]);
        Ok(scan::reply(next, words.flatten()))
    }
}

/// What goes with a member by now, which may have changed since PostgreSQL was asked; `None`: it is gone.
fn current(value: &Value, member: &Bytes, then: Content) -> Option<Content> {
    match value {
        Value::Hash(fields) => match fields.get(member) {
            Some(now) => now.cloned().map(Content::Value),
            None => Some(then),
        },
        Value::Set(members) => match members.get(member) {
            Some(now) => now.map(|()| Content::Nothing),
            None => Some(then),
        },
        Value::ZSet(zset) => match zset.score(member) {
            Some(now) => now.map(Content::Score),
            None => Some(then),
        },
        Value::String(_) | Value::List(_) | Value::Stream(_) | Value::Opaque(_) => Some(then),
    }
}

fn text(content: Content) -> Option<Bytes> {
    match content {
        Content::Nothing => None,
        Content::Value(value) => Some(value),
        Content::Score(score) => Some(double_text(score).into()),
    }
}
