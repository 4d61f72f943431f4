//! `MAXLEN` and `MINID`, of XADD and XTRIM.

use bytes::Bytes;

use super::id;
use crate::engine::keyspace::StreamChange;
use crate::engine::number::int;
use crate::engine::stop::{Answer, Stop};
use crate::engine::value::StreamId;
use crate::engine::{Call, Db, Keyspace};
use crate::resp::Reply;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    MaxLen(u64),
    MinId(StreamId),
}

/// What to trim.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trim {
    bound: Option<Bound>,
    approximate: bool,
    /// Entries removed at most; 0: no limit.
    limit: u64,
}

/// The options of XADD and XTRIM.
#[derive(Debug)]
pub struct Options {
    pub trim: Trim,
    pub no_mkstream: bool,
    /// Where the options end: XADD's id.
    pub end: usize,
}

/// Reads the options from the third argument on; of XADD up to its id.
pub fn options(ks: &Keyspace, call: &Call<'_>, xadd: bool) -> Answer<Options> {
    let args = call.args;
    let (mut trim, mut no_mkstream, mut limit) = (Trim::default(), false, None);
    let mut at = 2;
    while let Some(option) = args.get(at) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let more = args.len() - at - 1;
        if xadd && option == "*" {
            break;
        } else if (is(b"maxlen") || is(b"minid")) && more > 0 {
            if trim.bound.is_some() {
                return Err(Stop::error(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            at += 1;
            if more > 1 && (args[at] == "~" || args[at] == "=") {
                trim.approximate = args[at] == "~";
                at += 1;
            }
            trim.bound = Some(if is(b"maxlen") {
                let len = int(&args[at])?;
                let negative = Stop::error("ERR The MAXLEN argument must be >= 0.");
                Bound::MaxLen(u64::try_from(len).map_err(|_| negative)?)
            } else {
                Bound::MinId(id::strict(&args[at], 0)?)
            });
        } else if is(b"limit") && more > 0 {
            at += 1;
            let negative = Stop::error("ERR The LIMIT argument must be >= 0.");
            limit = Some(u64::try_from(int(&args[at])?).map_err(|_| negative)?);
        } else if xadd && is(b"nomkstream") {
            no_mkstream = true;
        } else if xadd {
            break;
        } else {
            return Err(Stop::SYNTAX);
        }
        at += 1;
    }
    if let Some(id) = args.get(at).filter(|_| xadd) {
        // The id is read with the options: its error comes before theirs.
        id::new_id(id)?;
    }
    if limit.is_some_and(|limit| limit > 0) && trim.bound.is_none() {
        return Err(Stop::error(
            "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
        ));
    }
    if !xadd && trim.bound.is_none() {
        return Err(Stop::error("ERR syntax error, XTRIM must be called with a trimming strategy"));
    }
    // In the stream the bound was made exact and LIMIT stays behind without a meaning.
    if !call.from_log {
        if limit.is_some() && !trim.approximate {
            return Err(Stop::error(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        trim.limit =
            if trim.approximate { limit.unwrap_or(ks.stream_node.saturating_mul(100)) } else { 0 };
    }
    Ok(Options { trim, no_mkstream, end: at })
}

pub fn xtrim(ks: &mut Keyspace, call: &Call<'_>) -> Answer<Reply> {
    let key = call.key()?;
    let trim = options(ks, call, false)?.trim;
    let count = trim.count(ks, call.db, key, None)?;
    if count > 0 {
        ks.stream_change(call.db, key, |change| remove_oldest(change, count))?;
    }
    Ok(Reply::Int(count as i64))
}

impl Trim {
    /// How many of the oldest entries go once `new` has been added. Those that are there already are
    /// in memory afterwards.
    pub fn count(
        &self,
        ks: &mut Keyspace,
        db: Db,
        key: &Bytes,
        new: Option<StreamId>,
    ) -> Answer<u64> {
        let (len, added, known_below, known) = match ks.stream(db, key)? {
            Some(stream) => {
                let known = stream.front.len() as u64;
                (stream.len(), stream.entries_added, stream.known_below(), known)
            }
            None => (0, 0, StreamId::default(), 0),
        };
        let count = match self.bound {
            None => 0,
            Some(Bound::MaxLen(most)) => (len + u64::from(new.is_some())).saturating_sub(most),
            Some(Bound::MinId(min)) => {
                if known_below < min {
                    // One more than there are in memory, unless that is all.
                    ks.stream_want_oldest(db, key, known + 1)?;
                }
                let stream = ks.stream(db, key)?;
                let old = stream.map_or(0, |stream| stream.front.range(..min).count() as u64);
                old + u64::from(new.is_some_and(|new| new < min))
            }
        };
        // Nodes begin at every so many entries that were ever added; the last one may be short.
        let all = len + u64::from(new.is_some());
        let node = ks.stream_node.max(1);
        let oldest = added.saturating_sub(len) % node;
        let whole_nodes = |count: u64| match count {
            count if count == all => count,
            count => count.saturating_sub((oldest + count) % node),
        };
        let count = match (self.approximate, self.limit) {
            (false, _) => count,
            (true, 0) => whole_nodes(count),
            (true, limit) => whole_nodes(count.min(limit)),
        };
        ks.stream_want_oldest(db, key, count.min(len))?;
        Ok(count)
    }
}

/// Removes the `count` oldest entries, which are in memory.
pub fn remove_oldest(mut change: StreamChange<'_>, count: u64) {
    for _ in 0..count {
        let Some((oldest, _)) = change.stream.front.first_key_value() else { return };
        let oldest = *oldest;
        change.remove(oldest);
    }
}
