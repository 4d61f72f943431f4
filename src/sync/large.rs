//! Values that are too large to be read whole are compared piece by piece, while the key is watched:
//! when nobody has touched it meanwhile, what differs differs. Of hashes and sets under constant traffic, the
//! members that differ are looked at once more where both sides are seen at one moment.

use bb8_redis::redis::{self, Cmd, Value};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::compare::{Aspect, shown};
use super::mark::needs;
use super::walk::{Suspect, Walk};
use super::{Name, SyncError};
use crate::engine::value::{Kind, StreamId};
use crate::engine::{self, Found, Need, Part};
use crate::store::Size;
use crate::strategy::Inspections;

/// From here on a value counts as large.
const ELEMENTS: u64 = 10_000;
const BYTES: u64 = 4 << 20;
/// What is read at once.
const PIECE: usize = 1000;
const PIECE_BYTES: usize = 1 << 20;
/// Passes over a value that changes meanwhile.
const PASSES: usize = 3;
/// Members that are looked at once more.
const MEMBERS: usize = 100;

pub fn is_large(size: Size) -> bool {
    size.len > ELEMENTS || size.bytes > BYTES
}

/// What a comparison has come to.
pub enum Finding {
    Equal,
    Different(Aspect),
    /// It has changed all the time.
    Unsettled,
}

/// One pass over a value.
struct Pass {
    aspect: Option<Aspect>,
    /// Hash fields or members that differ, the first of them.
    members: Vec<Bytes>,
    /// Nobody has touched the key.
    quiet: bool,
}

fn aspect(what: &'static str, detail: String) -> Option<Aspect> {
    Some(Aspect { what, detail })
}

impl Walk<'_> {
    pub async fn compare_large(&mut self, name: &Name) -> Result<Finding, SyncError> {
        let mut members = None;
        for _ in 0..PASSES {
            let Some(pass) = self.pass(name).await? else { continue };
            match pass.aspect {
                None => return Ok(Finding::Equal),
                Some(aspect) if pass.quiet => return Ok(Finding::Different(aspect)),
                Some(_) => members = Some(pass.members),
            }
        }
        match members {
            Some(members) if !members.is_empty() => self.compare_members(name, members).await,
            _ => Ok(Finding::Unsettled),
        }
    }

    async fn query<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> Result<T, SyncError> {
        Ok(command.query_async(&mut self.redis.connection).await?)
    }

    /// `None`: it cannot be told now.
    async fn pass(&mut self, name: &Name) -> Result<Option<Pass>, SyncError> {
        let syncs = self.syncer.full_syncs();
        let wanted = needs(std::slice::from_ref(name), Part::Meta);
        let (number, answered) = self.syncer.presence.inspections.ask(wanted, None);
        let message = Inspections::message(number);
        let mark = (self.syncer.gate.channel(), message.as_str());
        let (kind, expires_at_ms) = self.redis.watch_kind_at(name, mark).await?;
        let seen = self.syncer.answered(answered, syncs).await?;
        let Some(Some(loaded)) = seen.map(|mut seen| seen.pop().flatten()) else {
            self.redis.unwatch().await?;
            return Ok(None);
        };
        let found = match loaded.found {
            Some(found) if found.kind() != Kind::Opaque && kind != "none" => found,
            _ => {
                self.redis.unwatch().await?;
                // It is no large value any more.
                self.suspects.push_back(Suspect::content(name.clone()));
                let quiet = true;
                return Ok(Some(Pass { aspect: None, members: Vec::new(), quiet }));
            }
        };
        let mut members = Vec::new();
        let ours = found.kind().as_str();
        let aspect = if kind != ours {
            aspect("type", format!("a {kind}, in PostgreSQL a {ours}"))
        } else if let Some(ttl) = self.expiry(expires_at_ms, &found) {
            Some(ttl)
        } else {
            Box::pin(self.body(name, &found, &mut members)).await?
        };
        let quiet = self.redis.untouched().await?;
        Ok(Some(Pass { aspect, members, quiet }))
    }

    fn expiry(&self, expires_at_ms: Option<i64>, found: &Found) -> Option<Aspect> {
        super::compare::expiry_difference(expires_at_ms, found.expires_at_ms, self.tolerance_ms)
    }

    async fn body(
        &mut self,
        name: &Name,
        found: &Found,
        members: &mut Vec<Bytes>,
    ) -> Result<Option<Aspect>, SyncError> {
        match found.kind() {
            Kind::String => self.string(&name.1, found).await,
            Kind::List => self.list(name, found).await,
            Kind::Stream => self.stream(name, found).await,
            kind => self.members(name, found, kind, members).await,
        }
    }

    /// By length and checksum.
    async fn string(&mut self, key: &Bytes, found: &Found) -> Result<Option<Aspect>, SyncError> {
        let Some((len, digest)) = self.store.digest(found.id).await? else {
            return Ok(aspect("value", "it has no row in PostgreSQL".into()));
        };
        let mut sum = Sha256::new();
        let mut read = 0;
        loop {
            let mut range = redis::cmd("GETRANGE");
            range.arg(&key[..]).arg(read).arg(read + PIECE_BYTES - 1);
            let piece: Vec<u8> = self.query(&range).await?;
            sum.update(&piece);
            read += piece.len();
            if piece.len() < PIECE_BYTES {
                break;
            }
        }
        if read as u64 != len {
            return Ok(aspect("value", format!("{read} bytes, in PostgreSQL {len}")));
        }
        let same = sum.finalize()[..] == digest[..];
        Ok(if same { None } else { aspect("value", format!("{len} bytes with another checksum")) })
    }

    async fn part(&self, name: &Name, part: Part) -> Result<Option<Found>, SyncError> {
        let need = Need { db: name.0, key: name.1.clone(), part };
        Ok(self.store.load(&[need]).await?.pop().and_then(|loaded| loaded.found))
    }

    async fn list(&mut self, name: &Name, found: &Found) -> Result<Option<Aspect>, SyncError> {
        let rows = self.store.rows(found.id, Kind::List).await?;
        let len: u64 = self.query(redis::cmd("LLEN").arg(&name.1[..])).await?;
        if rows != len {
            return Ok(aspect("value", format!("{len} elements, in PostgreSQL {rows}")));
        }
        let (mut at, mut after) = (0, None);
        loop {
            let mut range = redis::cmd("LRANGE");
            range.arg(&name.1[..]).arg(at).arg(at + PIECE - 1);
            let elements: Vec<Vec<u8>> = self.query(&range).await?;
            let part = Part::Front { after, count: PIECE as u64 };
            let Some(engine::Value::List(list)) =
                self.part(name, part).await?.map(|found| found.value)
            else {
                return Ok(aspect("value", "PostgreSQL has no list any more".into()));
            };
            for (offset, (ours, (_, theirs))) in elements.iter().zip(&list.front).enumerate() {
                if ours[..] != theirs[..] {
                    let (at, ours, theirs) = (at + offset, shown(ours), shown(theirs));
                    let detail = format!("element {at} is {ours}, in PostgreSQL {theirs}");
                    return Ok(aspect("value", detail));
                }
            }
            if elements.len() < PIECE {
                return Ok(None);
            }
            at += elements.len();
            after = list.front.back().map(|(pos, _)| *pos);
        }
    }

    /// Hashes, sets and sorted sets: every member of Redis, and as many rows.
    async fn members(
        &mut self,
        name: &Name,
        found: &Found,
        kind: Kind,
        differing: &mut Vec<Bytes>,
    ) -> Result<Option<Aspect>, SyncError> {
        let (scan, len) = match kind {
            Kind::Hash => ("HSCAN", "HLEN"),
            Kind::Set => ("SSCAN", "SCARD"),
            _ => ("ZSCAN", "ZCARD"),
        };
        let len: u64 = self.query(redis::cmd(len).arg(&name.1[..])).await?;
        let mut first = None;
        let mut cursor = 0_u64;
        loop {
            let mut page = redis::cmd(scan);
            page.arg(&name.1[..]).arg(cursor).arg("COUNT").arg(PIECE);
            let (next, items): (u64, Vec<Vec<u8>>) = self.query(&page).await?;
            let step = if kind == Kind::Set { 1 } else { 2 };
            let items: Vec<Bytes> = items.into_iter().map(Bytes::from).collect();
            let members: Vec<Bytes> = items.iter().step_by(step).cloned().collect();
            let there = self.part(name, Part::Members(members)).await?;
            for item in items.chunks(step) {
                let found = there.as_ref().map(|found| &found.value);
                if let Some(aspect) = member_difference(item, found) {
                    if differing.len() < MEMBERS {
                        differing.push(item[0].clone());
                    }
                    first.get_or_insert(aspect);
                }
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        if first.is_some() {
            return Ok(first);
        }
        let rows = self.store.rows(found.id, kind).await?;
        Ok(if rows == len {
            None
        } else {
            aspect("value", format!("{len} members, in PostgreSQL {rows}"))
        })
    }

    /// These members where both sides are seen at one moment.
    async fn compare_members(
        &mut self,
        name: &Name,
        members: Vec<Bytes>,
    ) -> Result<Finding, SyncError> {
        let syncs = self.syncer.full_syncs();
        let part = Part::Members(members.clone());
        let wanted = needs(std::slice::from_ref(name), part);
        let (number, answered) = self.syncer.presence.inspections.ask(wanted, None);
        let message = Inspections::message(number);
        let mark = (self.syncer.gate.channel(), message.as_str());
        let values = self.redis.members_at(name, &members, mark).await?;
        let seen = self.syncer.answered(answered, syncs).await?;
        let Some(Some(loaded)) = seen.map(|mut seen| seen.pop().flatten()) else {
            return Ok(Finding::Unsettled);
        };
        let found = loaded.found.map(|found| found.value);
        for (member, value) in members.iter().zip(values) {
            let item: Vec<Bytes> = match value {
                Value::Nil | Value::Int(0) => continue,
                Value::Int(_) => vec![member.clone()],
                Value::BulkString(value) => vec![member.clone(), value.into()],
                Value::Double(score) => vec![member.clone(), score.to_string().into()],
                _ => return Ok(Finding::Unsettled),
            };
            if let Some(aspect) = member_difference(&item, found.as_ref()) {
                return Ok(Finding::Different(aspect));
            }
        }
        Ok(Finding::Equal)
    }

    /// Entries, counters, groups, consumers, and pending entries without their times, which Redis tells of
    /// many entries only as time passed.
    async fn stream(&mut self, name: &Name, found: &Found) -> Result<Option<Aspect>, SyncError> {
        let engine::Value::Stream(meta) = &found.value else { return Ok(None) };
        let rows = self.store.rows(found.id, Kind::Stream).await?;
        let len: u64 = self.query(redis::cmd("XLEN").arg(&name.1[..])).await?;
        if rows != len {
            return Ok(aspect("entries", format!("{len} entries, in PostgreSQL {rows}")));
        }
        let mut after = StreamId::default();
        loop {
            let mut range = redis::cmd("XRANGE");
            // Redis 5 and 6.0 know no exclusive ranges.
            let from = match after.seq.checked_add(1) {
                Some(seq) => format!("{}-{seq}", after.ms),
                None => format!("{}-0", after.ms.saturating_add(1)),
            };
            range.arg(&name.1[..]).arg(from).arg("+").arg("COUNT").arg(PIECE);
            let entries: Vec<(String, Vec<Vec<u8>>)> = self.query(&range).await?;
            let part = Part::Oldest { after, count: PIECE as u64 };
            let Some(engine::Value::Stream(there)) =
                self.part(name, part).await?.map(|found| found.value)
            else {
                return Ok(aspect("entries", "PostgreSQL has no stream any more".into()));
            };
            let pairs = entries.iter().zip(&there.front);
            for ((id, fields), (their_id, their_fields)) in pairs {
                let same = *id == format!("{}-{}", their_id.ms, their_id.seq)
                    && fields.iter().map(|f| &f[..]).eq(their_fields.iter().map(|f| &f[..]));
                if !same {
                    return Ok(aspect("entries", format!("entries differ from {id} on")));
                }
            }
            match there.front.last_key_value() {
                Some((last, _)) if entries.len() == PIECE => after = *last,
                _ => break,
            }
        }
        let (info, groups) = self.redis.stream_info(name).await?;
        if let Some((last, deleted, added)) = info {
            let text = |id: StreamId| format!("{}-{}", id.ms, id.seq);
            let theirs = (text(meta.last_id), text(meta.max_deleted_id), meta.entries_added);
            if (&last, &deleted, added) != (&theirs.0, &theirs.1, theirs.2) {
                let detail = format!(
                    "last id {last}, greatest deleted {deleted}, {added} added; in PostgreSQL {}, {}, {}",
                    theirs.0, theirs.1, theirs.2
                );
                return Ok(aspect("counters", detail));
            }
        }
        if groups.len() != meta.groups.len() {
            let (ours, theirs) = (groups.len(), meta.groups.len());
            return Ok(aspect("groups", format!("{ours} groups, in PostgreSQL {theirs}")));
        }
        for (group, last, pending) in groups {
            let group = Bytes::from(group);
            let shown = shown(&group);
            let Some(theirs) = meta.groups.get(&group) else {
                return Ok(aspect("groups", format!("PostgreSQL lacks group {shown}")));
            };
            let their_last = format!("{}-{}", theirs.last_id.ms, theirs.last_id.seq);
            if last != their_last {
                let detail =
                    format!("group {shown}: last delivered {last}, in PostgreSQL {their_last}");
                return Ok(aspect("groups", detail));
            }
            let mut consumers = self.redis.consumers(name, &group).await?;
            consumers.sort_unstable();
            if !consumers.iter().map(|c| &c[..]).eq(theirs.consumers.keys().map(|c| &c[..])) {
                return Ok(aspect("consumers", format!("group {shown}: other consumers")));
            }
            let same = pending == theirs.pending.len() as u64
                && self.pending_are(name, &group, &theirs.pending).await?;
            if !same {
                return Ok(aspect("pending", format!("group {shown}: other pending entries")));
            }
        }
        Ok(None)
    }

    async fn pending_are(
        &mut self,
        name: &Name,
        group: &Bytes,
        theirs: &std::collections::BTreeMap<StreamId, engine::value::Pending>,
    ) -> Result<bool, SyncError> {
        let mut rest = theirs.iter();
        let mut from = "-".to_owned();
        loop {
            let mut page = redis::cmd("XPENDING");
            page.arg(&name.1[..]).arg(&group[..]).arg(&from).arg("+").arg(PIECE);
            let pending: Vec<(String, Vec<u8>, i64, u64)> = self.query(&page).await?;
            for (id, consumer, _, count) in &pending {
                let Some((their_id, theirs)) = rest.next() else { return Ok(false) };
                let same = *id == format!("{}-{}", their_id.ms, their_id.seq)
                    && consumer[..] == theirs.consumer[..]
                    && *count == theirs.delivery_count;
                if !same {
                    return Ok(false);
                }
                from = match their_id.seq.checked_add(1) {
                    Some(seq) => format!("{}-{seq}", their_id.ms),
                    None => format!("{}-0", their_id.ms.saturating_add(1)),
                };
            }
            if pending.len() < PIECE {
                return Ok(rest.next().is_none());
            }
        }
    }
}

/// In what a member that Redis has differs: a field and its value, a member, a member and its score.
fn member_difference(item: &[Bytes], found: Option<&engine::Value>) -> Option<Aspect> {
    let member = item.first()?;
    let lacks = || aspect("value", format!("PostgreSQL lacks member {}", shown(member)));
    let value = item.get(1);
    match found {
        Some(engine::Value::Hash(hash)) => match (hash.get(member).flatten(), value) {
            (Some(theirs), Some(ours)) if theirs == ours => None,
            (Some(theirs), Some(ours)) => {
                let (field, ours, theirs) = (shown(member), shown(ours), shown(theirs));
                aspect("value", format!("field {field} is {ours}, in PostgreSQL {theirs}"))
            }
            _ => lacks(),
        },
        Some(engine::Value::Set(set)) => match set.get(member).flatten() {
            Some(()) => None,
            None => lacks(),
        },
        Some(engine::Value::ZSet(zset)) => {
            let ours: Option<f64> = std::str::from_utf8(value?).ok().and_then(|t| t.parse().ok());
            match (zset.score(member).flatten(), ours) {
                (Some(theirs), Some(ours)) if theirs.to_bits() == ours.to_bits() => None,
                (Some(theirs), Some(ours)) => {
                    let member = shown(member);
                    let detail =
                        format!("member {member} has the score {ours:?}, in PostgreSQL {theirs:?}");
                    aspect("score", detail)
                }
                _ => lacks(),
            }
        }
        _ => lacks(),
    }
}
