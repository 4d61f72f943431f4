use std::collections::BTreeMap;

use super::{Entry, FUNCTIONS, Group, KeyName, Keyspace, Stream, StreamId, Value};
use crate::{Client, RespError, Value as Reply, encode};

const PAGE: usize = 500;

/// Reads all databases with SCAN and a read per key that fits its type.
pub fn read(client: &mut Client) -> Result<Keyspace, RespError> {
    let mut keyspace = Keyspace::new();
    let info = client.try_call(["INFO", "keyspace"])?.text();
    let dbs = info.lines().filter_map(|l| l.strip_prefix("db")?.split_once(':')?.0.parse().ok());
    for db in dbs {
        client.try_call(["SELECT", &format!("{db}")])?;
        for page in scan(client)?.chunks(PAGE) {
            read_page(client, db, page, &mut keyspace)?;
        }
    }
    for library in client.try_call(["FUNCTION", "LIST", "WITHCODE"])?.items() {
        let mut library = parts(library);
        let name = take(&mut library, "library_name")?.bytes().to_vec();
        let source = take(&mut library, "library_code")?.bytes().to_vec();
        let entry = Entry { expires_at_ms: None, value: Value::Function(source) };
        keyspace.insert(KeyName { db: FUNCTIONS, key: name }, entry);
    }
    Ok(keyspace)
}

fn scan(client: &mut Client) -> Result<Vec<Vec<u8>>, RespError> {
    let mut keys = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let page = client.try_call(["SCAN", &cursor, "COUNT", "1000"])?.items();
        let [next, found] = page.try_into().map_err(|_| unexpected("SCAN"))?;
        keys.extend(found.items().iter().map(|key| key.bytes().to_vec()));
        cursor = next.text();
        if cursor == "0" {
            return Ok(keys.into_iter().collect());
        }
    }
}

fn read_page(
    client: &mut Client,
    db: i32,
    keys: &[Vec<u8>],
    keyspace: &mut Keyspace,
) -> Result<(), RespError> {
    let types = pipeline(client, keys.iter().map(|key| encode([b"TYPE", &key[..]])))?;
    let reads = keys.iter().zip(&types).flat_map(|(key, kind)| {
        let expiry = encode([b"PEXPIRETIME", &key[..]]);
        let value = match kind.text().as_str() {
            "string" => encode([b"GET", &key[..]]),
            "hash" => encode([b"HGETALL", &key[..]]),
            "set" => encode([b"SMEMBERS", &key[..]]),
            "zset" => encode([&b"ZRANGE"[..], &key[..], b"0", b"-1", b"WITHSCORES"]),
            "list" => encode([&b"LRANGE"[..], &key[..], b"0", b"-1"]),
            "stream" => encode([&b"XINFO"[..], b"STREAM", &key[..], b"FULL", b"COUNT", b"0"]),
            _ => encode([b"DUMP", &key[..]]),
        };
        [expiry, value]
    });
    let mut replies = pipeline(client, reads)?.into_iter();
    for (key, kind) in keys.iter().zip(&types) {
        let (Some(expiry), Some(value)) = (replies.next(), replies.next()) else { break };
        let expiry = expiry.int();
        // −2: the key has expired since the scan.
        if expiry == -2 || kind.text() == "none" || value.is_error() || value == Reply::Nil {
            continue;
        }
        let value = decode(&kind.text(), value)?;
        let expires_at_ms = (expiry >= 0).then_some(expiry);
        keyspace.insert(KeyName { db, key: key.clone() }, Entry { expires_at_ms, value });
    }
    Ok(())
}

fn pipeline(
    client: &mut Client,
    commands: impl Iterator<Item = Vec<u8>>,
) -> Result<Vec<Reply>, RespError> {
    let commands: Vec<Vec<u8>> = commands.collect();
    // Small enough that both sides' socket buffers take it while no reply is read yet.
    let mut replies = Vec::with_capacity(commands.len());
    for part in commands.chunks(100) {
        client.send(&part.concat())?;
        for _ in part {
            replies.push(client.receive()?);
        }
    }
    Ok(replies)
}

fn decode(kind: &str, reply: Reply) -> Result<Value, RespError> {
    let bytes = |reply: &Reply| reply.bytes().to_vec();
    Ok(match kind {
        "string" => Value::String(bytes(&reply)),
        "hash" => Value::Hash(pairs(reply).map(|(k, v)| (bytes(&k), bytes(&v))).collect()),
        "set" => Value::Set(reply.items().iter().map(bytes).collect()),
        "list" => Value::List(reply.items().iter().map(bytes).collect()),
        "zset" => {
            let mut members = BTreeMap::new();
            for (member, score) in pairs(reply) {
                let score: f64 = score.text().parse().map_err(|_| unexpected("ZRANGE"))?;
                members.insert(bytes(&member), score.to_bits());
            }
            Value::ZSet(members)
        }
        "stream" => Value::Stream(Box::new(stream(reply)?)),
        _ => Value::Other(bytes(&reply)),
    })
}

fn pairs(reply: Reply) -> impl Iterator<Item = (Reply, Reply)> {
    let mut items = reply.items().into_iter();
    std::iter::from_fn(move || Some((items.next()?, items.next()?)))
}

/// The named parts of an `XINFO` reply.
fn parts(reply: Reply) -> BTreeMap<String, Reply> {
    pairs(reply).map(|(name, value)| (name.text(), value)).collect()
}

fn take(parts: &mut BTreeMap<String, Reply>, name: &str) -> Result<Reply, RespError> {
    parts.remove(name).ok_or_else(|| unexpected(name))
}

fn stream(reply: Reply) -> Result<Stream, RespError> {
    let mut parts = parts(reply);
    let mut stream = Stream {
        last_id: id(&take(&mut parts, "last-generated-id")?)?,
        max_deleted_id: id(&take(&mut parts, "max-deleted-entry-id")?)?,
        entries_added: take(&mut parts, "entries-added")?.int().cast_unsigned(),
        ..Stream::default()
    };
    for entry in take(&mut parts, "entries")?.items() {
        let [entry_id, fields] = entry.items().try_into().map_err(|_| unexpected("entry"))?;
        let fields = fields.items().iter().map(|f| f.bytes().to_vec()).collect();
        stream.entries.insert(id(&entry_id)?, fields);
    }
    for reply in take(&mut parts, "groups")?.items() {
        let (name, group) = group(reply)?;
        stream.groups.insert(name, group);
    }
    Ok(stream)
}

fn group(reply: Reply) -> Result<(Vec<u8>, Group), RespError> {
    let mut parts = parts(reply);
    let name = take(&mut parts, "name")?.bytes().to_vec();
    let mut group =
        Group { last_id: id(&take(&mut parts, "last-delivered-id")?)?, ..Group::default() };
    for pending in take(&mut parts, "pending")?.items() {
        let parts: [Reply; 4] = pending.items().try_into().map_err(|_| unexpected("pending"))?;
        let [entry, consumer, time, count] = parts;
        let delivery = (consumer.bytes().to_vec(), time.int(), count.int());
        group.pending.insert(id(&entry)?, delivery);
    }
    for consumer in take(&mut parts, "consumers")?.items() {
        let name = take(&mut self::parts(consumer), "name")?;
        group.consumers.insert(name.bytes().to_vec());
    }
    Ok((name, group))
}

fn id(reply: &Reply) -> Result<StreamId, RespError> {
    let text = reply.text();
    let parsed =
        text.split_once('-').and_then(|(ms, seq)| Some((ms.parse().ok()?, seq.parse().ok()?)));
    parsed.ok_or_else(|| unexpected("stream id"))
}

fn unexpected(what: &str) -> RespError {
    RespError::Protocol(format!("unexpected {what}"))
}
