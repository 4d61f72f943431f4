//! Random changes of all types, run on a keyspace that holds everything and on one that forgets and
//! loads; PostgreSQL has to hold what the first one has.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use support::Postgres;
use tandem::engine::value::{Consumer, Group, Pending, StreamId, Value};
use tandem::engine::{Db, End, Expiry, Keyspace, Need, Stop};
use tandem::store::{Commit, Position, Store};

use super::{Contents, block_on, content, open, stored};

const DBS: Db = 3;

/// One change; the same on both keyspaces.
#[derive(Clone, Debug)]
enum Op {
    SetString(Bytes, Option<i64>),
    Append(Bytes),
    HashSet(Vec<(Bytes, Bytes)>),
    HashRemove(Bytes),
    SetAdd(Vec<Bytes>),
    SetRemove(Bytes),
    ZSetSet(Vec<(Bytes, f64)>),
    ZSetRemove(Bytes),
    Push(End, Vec<Bytes>),
    Pop(End, u64),
    Insert(Bytes),
    Opaque(Bytes),
    StreamAdd(StreamId, Vec<Bytes>),
    StreamTrim,
    Group(Bytes, StreamId, Option<u64>),
    GroupGone(Bytes),
    GroupReset(Bytes),
    Deliver(Bytes, Bytes, StreamId, u64),
    Acknowledge(Bytes, StreamId),
    Expire(Option<i64>),
    Remove,
    Rename(Db, Bytes),
    FlushDb,
    FlushAll,
    Swap(Db, Db),
}

fn bytes(rng: &mut SmallRng, names: usize) -> Bytes {
    match rng.random_range(0..40) {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0\xff\\x00'\";--\r\n\x80"),
        // Beyond what a btree entry holds, differing only at the end.
        2 => {
            let mut long = vec![b'x'; 5000];
            long.push(rng.random_range(0..3));
            long.into()
        }
        3 => vec![0xfe; 1024 + rng.random_range(0..2)].into(),
        _ => format!("name{}", rng.random_range(0..names)).into(),
    }
}

fn id(rng: &mut SmallRng) -> StreamId {
    match rng.random_range(0..6) {
        0 => StreamId { ms: u64::MAX - rng.random_range(0..2), seq: u64::MAX },
        1 => StreamId { ms: 1 << 63, seq: rng.random_range(0..3) },
        _ => StreamId { ms: rng.random_range(1..40), seq: rng.random_range(0..3) * 10_000 },
    }
}

fn score(rng: &mut SmallRng) -> f64 {
    match rng.random_range(0..6) {
        0 => -0.0,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => f64::from_bits(rng.random_range(1..99)),
        _ => rng.random_range(-5..5) as f64 / 3.0,
    }
}

fn op(rng: &mut SmallRng) -> Op {
    let end = if rng.random_bool(0.5) { End::Front } else { End::Back };
    let count = rng.random_range(1..5);
    match rng.random_range(0..100) {
        0..8 => {
            Op::SetString(bytes(rng, 99), rng.random_bool(0.3).then_some(rng.random_range(0..99)))
        }
        8..12 => Op::Append(bytes(rng, 9)),
        12..24 => Op::HashSet((0..count).map(|_| (bytes(rng, 30), bytes(rng, 99))).collect()),
        24..28 => Op::HashRemove(bytes(rng, 30)),
        28..34 => Op::SetAdd((0..count).map(|_| bytes(rng, 30)).collect()),
        34..38 => Op::SetRemove(bytes(rng, 30)),
        38..46 => Op::ZSetSet((0..count).map(|_| (bytes(rng, 30), score(rng))).collect()),
        46..50 => Op::ZSetRemove(bytes(rng, 30)),
        50..58 => Op::Push(end, (0..count).map(|_| bytes(rng, 99)).collect()),
        58..62 => Op::Pop(end, count),
        62..64 => Op::Insert(bytes(rng, 99)),
        64..65 => Op::Opaque(bytes(rng, 9)),
        65..71 => Op::StreamAdd(id(rng), (0..2 * count).map(|_| bytes(rng, 9)).collect()),
        71..73 => Op::StreamTrim,
        73..76 => Op::Group(bytes(rng, 3), id(rng), rng.random_bool(0.5).then_some(rng.next_u64())),
        76 => Op::GroupGone(bytes(rng, 3)),
        77 => Op::GroupReset(bytes(rng, 3)),
        78..82 => Op::Deliver(bytes(rng, 3), bytes(rng, 3), id(rng), rng.next_u64()),
        82..84 => Op::Acknowledge(bytes(rng, 3), id(rng)),
        84..88 => Op::Expire(rng.random_bool(0.7).then_some(rng.random_range(-5..1 << 50))),
        88..92 => Op::Remove,
        92..98 => Op::Rename(rng.random_range(0..DBS), bytes(rng, 8)),
        _ => match rng.random_range(0..12) {
            0 => Op::FlushDb,
            1 => Op::FlushAll,
            2..5 => Op::Swap(rng.random_range(0..DBS), rng.random_range(0..DBS)),
            _ => Op::Remove,
        },
    }
}

fn apply(ks: &mut Keyspace, db: Db, key: &Bytes, op: &Op) -> Result<(), Stop> {
    match op.clone() {
        Op::SetString(value, at) => ks.set_string(db, key, value, at)?,
        Op::Append(more) => {
            let old = ks.string(db, key)?.unwrap_or_default();
            ks.update_string(db, key, [old, more].concat().into())?;
        }
        Op::HashSet(pairs) => {
            for (field, _) in &pairs {
                ks.hash_get(db, key, field)?;
            }
            for (field, value) in pairs {
                ks.hash_set(db, key, &field, value)?;
            }
        }
        Op::HashRemove(field) => drop(ks.hash_remove(db, key, &field)?),
        Op::SetAdd(members) => drop(ks.set_add(db, key, &members)?),
        Op::SetRemove(member) => drop(ks.set_remove(db, key, &[member])?),
        Op::ZSetSet(scores) => ks.zset_set(db, key, &scores)?,
        Op::ZSetRemove(member) => drop(ks.zset_remove(db, key, &[member])?),
        Op::Push(end, elements) => drop(ks.list_push(db, key, end, &elements)?),
        Op::Pop(end, count) => drop(ks.list_pop(db, key, end, count)?),
        Op::Insert(element) => {
            let len = ks.list_all(db, key)?.map_or(0, |list| list.len() as usize);
            if len > 1 {
                ks.list_insert(db, key, len / 2, element)?;
            }
        }
        Op::Opaque(dump) => ks.put(db, key, Value::Opaque(Some(dump)), None)?,
        Op::Expire(at) => drop(ks.set_expiry(db, key, at)?),
        Op::Remove => drop(ks.remove(db, key)?),
        Op::Rename(to, name) => drop(ks.rename((db, key), (to, &name))?),
        Op::FlushDb => ks.flush_db(db),
        Op::FlushAll => ks.flush_all(),
        Op::Swap(a, b) => ks.swap_db(a, b),
        stream => apply_stream(ks, db, key, stream)?,
    }
    Ok(())
}

fn apply_stream(ks: &mut Keyspace, db: Db, key: &Bytes, op: Op) -> Result<(), Stop> {
    let Some(stream) = ks.stream(db, key)? else {
        if let Op::StreamAdd(id, fields) = op {
            ks.stream_change(db, key, |mut change| {
                change.append(id, fields);
                (change.stream.last_id, change.stream.entries_added) = (id, 1);
            })?;
        }
        return Ok(());
    };
    let (last, groups) = (stream.last_id, stream.groups.clone());
    match op {
        Op::StreamAdd(id, fields) if id > last => {
            ks.stream_change(db, key, |mut change| {
                change.append(id, fields);
                change.stream.last_id = id;
                change.stream.entries_added += 1;
            })?;
        }
        Op::StreamTrim => {
            ks.stream_want_oldest(db, key, 1)?;
            let first = ks.stream(db, key)?.and_then(|stream| Some(*stream.front.keys().next()?));
            if let Some(first) = first {
                ks.stream_change(db, key, |mut change| {
                    change.remove(first);
                    change.stream.max_deleted_id = first;
                })?;
            }
        }
        Op::Group(name, last_id, entries_read) => {
            ks.stream_change(db, key, |mut change| {
                let group = change.stream.groups.entry(name.clone()).or_default();
                (group.last_id, group.entries_read) = (last_id, entries_read);
                change.group(&name);
            })?;
        }
        Op::GroupGone(name) if groups.contains_key(&name) => {
            ks.stream_change(db, key, |mut change| {
                change.stream.groups.remove(&name);
                change.group(&name);
            })?;
        }
        Op::GroupReset(name) if groups.contains_key(&name) => {
            ks.stream_change(db, key, |mut change| {
                change.stream.groups.insert(name.clone(), Group::default());
                change.group_reset(&name);
            })?;
        }
        Op::Deliver(name, consumer, id, delivery_count) if groups.contains_key(&name) => {
            ks.stream_change(db, key, |mut change| {
                let Some(group) = change.stream.groups.get_mut(&name) else { return };
                let seen = Consumer { seen_at_ms: 7, active_at_ms: Some(8) };
                group.consumers.insert(consumer.clone(), seen);
                let pending =
                    Pending { consumer: consumer.clone(), delivered_at_ms: 9, delivery_count };
                group.pending.insert(id, pending);
                change.consumer(&name, &consumer);
                change.pending(&name, id);
            })?;
        }
        Op::Acknowledge(name, id) if groups.contains_key(&name) => {
            ks.stream_change(db, key, |mut change| {
                let Some(group) = change.stream.groups.get_mut(&name) else { return };
                group.pending.remove(&id);
                change.pending(&name, id);
            })?;
        }
        _ => {}
    }
    Ok(())
}

/// Everything that a keyspace with everything in memory has.
fn contents(model: &Keyspace) -> Contents {
    let mut contents = Contents::new();
    for db in model.databases() {
        for (key, entry) in model.iter(db) {
            let (kind, content) = (entry.value.kind().as_str(), content(&entry.value));
            contents.insert((db, key.clone()), (kind, entry.expires_at_ms, 0, content));
        }
    }
    contents
}

async fn compare(store: &Store, postgres: &Postgres, model: &Keyspace) {
    let expected = contents(model);
    let keys: Vec<(Db, Bytes)> = expected.keys().cloned().collect();
    let mut found = stored(store, &keys).await;
    found.values_mut().for_each(|(_, _, version, _)| *version = 0);
    for (key, value) in &expected {
        assert_eq!(Some(value), found.get(key), "{key:?}");
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM tandem.keys"), expected.len().to_string());
    let strays = "SELECT (SELECT count(*) FROM tandem.strings WHERE key_id NOT IN (SELECT id FROM tandem.keys))
        + (SELECT count(*) FROM tandem.hashes WHERE key_id NOT IN (SELECT id FROM tandem.keys WHERE kind = 5))
        + (SELECT count(*) FROM tandem.zsets WHERE key_id NOT IN (SELECT id FROM tandem.keys WHERE kind = 4))
        + (SELECT count(*) FROM tandem.lists WHERE key_id NOT IN (SELECT id FROM tandem.keys WHERE kind = 2))
        + (SELECT count(*) FROM tandem.stream_pending WHERE key_id NOT IN (SELECT id FROM tandem.keys WHERE kind = 6))";
    assert_eq!(postgres.sql(strays), "0", "rows without a key");
}

#[test]
fn random_changes_arrive_and_come_back() {
    let seed = support::seed(20);
    let postgres = Postgres::start();
    block_on(async {
        let store = open(&postgres).await;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut model = Keyspace::new(1, true, Expiry::ByLog, seed);
        let mut mirror = Keyspace::new(1, false, Expiry::ByLog, seed);
        for step in 0..150 {
            let batch = rng.random_range(1..60);
            for _ in 0..batch {
                let (db, key, op) = (rng.random_range(0..DBS), bytes(&mut rng, 8), op(&mut rng));
                let expected = apply(&mut model, db, &key, &op);
                let mut loads = 0;
                let answer = loop {
                    match apply(&mut mirror, db, &key, &op) {
                        Err(Stop::NotLoaded(needs)) => {
                            loads += 1;
                            assert!(loads < 20, "step {step}: {op:?} asks on for {needs:?}");
                            let here = |need: Need| {
                                let (db, key) = mirror.stored(need.db, &need.key);
                                Need { db, key, ..need }
                            };
                            let needs: Vec<Need> = needs.into_iter().map(here).collect();
                            for loaded in store.load(&needs).await.expect("loads") {
                                mirror.load(loaded);
                            }
                        }
                        answer => break answer,
                    }
                };
                assert_eq!(answer, expected, "step {step}: {op:?} on {key:?}");
            }
            let (delta, seq) = mirror.take_delta();
            let position = Position { replid: "r".into(), offset: step, db: 1 };
            let commit = Commit { delta, position: Some(position), ..Commit::default() };
            store.persist(&commit).await.expect("persists");
            // Most of it is forgotten, and has to be loaded again.
            mirror.sweep(rng.random_range(0..20_000), seq);
            if step % 30 == 29 {
                compare(&store, &postgres, &model).await;
            }
        }
        let position = store.position().await.expect("reads").expect("is there");
        assert_eq!(position, Position { replid: "r".into(), offset: 149, db: 1 });
    });
}
