use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// Commands by weight. A word in braces is filled in anew each time, see [`fill`]; keys of one type come from one
/// small pool, so that commands meet each other's data.
pub(super) const COMMANDS: &[(u32, &str)] = &[
    // Strings.
    (20, "SET {str} {value}"),
    (6, "SET {str} {value} PX {ttl}"),
    (3, "SET {str} {value} NX"),
    (3, "SET {str} {value} XX GET"),
    (3, "SET {str} {value} KEEPTTL"),
    (4, "SETEX {str} 1 {value}"),
    (4, "MSET {str} {value} {str} {value}"),
    (2, "MSETNX {str} {value} {str} {value}"),
    (3, "GETSET {str} {value}"),
    (2, "GETDEL {str}"),
    (3, "GETEX {str} PX {ttl}"),
    (2, "GETEX {str} PERSIST"),
    (5, "APPEND {str} {value}"),
    (3, "SETRANGE {str} {small} {value}"),
    (3, "SETBIT {str} {small} {bit}"),
    (2, "BITOP {bitop} {str} {str} {str}"),
    (
        3,
        "BITFIELD {str} SET u8 #{small} {small} INCRBY i16 {small} {int} OVERFLOW SAT INCRBY u4 {small} 7",
    ),
    (10, "INCR {num}"),
    (6, "INCRBY {num} {int}"),
    (3, "DECR {num}"),
    (6, "INCRBYFLOAT {float} {score}"),
    (3, "PFADD {hll} {member} {member} {member}"),
    (2, "PFMERGE {hll} {hll} {hll}"),
    (2, "PFCOUNT {hll} {hll}"),
    // Hashes.
    (15, "HSET {hash} {field} {value} {field} {value}"),
    (10, "HINCRBY {hash} n{small} {int}"),
    (4, "HINCRBYFLOAT {hash} f{small} {score}"),
    (3, "HSETNX {hash} {field} {value}"),
    (5, "HDEL {hash} {field} {field}"),
    (2, "HMSET {hash} {field} {value}"),
    // Lists.
    (8, "RPUSH {list} {value} {member}"),
    (8, "LPUSH {list} {member}"),
    (3, "LPUSHX {list} {member}"),
    (4, "LPOP {list}"),
    (3, "RPOP {list} 2"),
    (4, "LMOVE {list} {list} {end} {end}"),
    (2, "RPOPLPUSH {list} {list}"),
    (3, "LINSERT {list} {where} {member} {member}"),
    (3, "LSET {list} {index} {member}"),
    (3, "LREM {list} {index} {member}"),
    (4, "LTRIM {list} {index} {index}"),
    (2, "LMPOP 2 {list} {list} {end} COUNT 2"),
    (1, "BLPOP {list} {list} 0.01"),
    (1, "BLMOVE {list} {list} {end} {end} 0.01"),
    // Sets.
    (10, "SADD {set} {member} {member} {member}"),
    (4, "SREM {set} {member} {member}"),
    (4, "SPOP {set}"),
    (2, "SPOP {set} 3"),
    (3, "SMOVE {set} {set} {member}"),
    (2, "SUNIONSTORE {set} {set} {set}"),
    (2, "SINTERSTORE {set} {set} {set}"),
    (2, "SDIFFSTORE {set} {set} {set}"),
    // Sorted sets and geo.
    (12, "ZADD {zset} {score} {member} {score} {member}"),
    (3, "ZADD {zset} GT CH {score} {member}"),
    (3, "ZADD {zset} NX {score} {member}"),
    (3, "ZADD {zset} XX INCR {score} {member}"),
    (5, "ZINCRBY {zset} {score} {member}"),
    (4, "ZREM {zset} {member} {member}"),
    (2, "ZPOPMIN {zset}"),
    (2, "ZPOPMAX {zset} 2"),
    (2, "ZREMRANGEBYRANK {zset} {index} {index}"),
    (2, "ZREMRANGEBYSCORE {zset} -1 {score}"),
    (1, "ZREMRANGEBYLEX {zset} [a (c"),
    (2, "ZUNIONSTORE {zset} 2 {zset} {set} WEIGHTS 2 1 AGGREGATE MAX"),
    (2, "ZINTERSTORE {zset} 2 {zset} {zset}"),
    (2, "ZDIFFSTORE {zset} 2 {zset} {zset}"),
    (2, "ZRANGESTORE {zset} {zset} 0 5 REV"),
    (1, "ZMPOP 2 {zset} {zset} MIN COUNT 2"),
    (1, "BZPOPMIN {zset} {zset} 0.01"),
    (3, "GEOADD {geo} 13.361389 38.115556 {member} 15.087269 37.502669 {member}"),
    (1, "GEOSEARCHSTORE {zset} {geo} FROMLONLAT 15 37 BYRADIUS 300 km ASC"),
    // Streams.
    (12, "XADD {stream} * {field} {value}"),
    (4, "XADD {stream} MAXLEN ~ 50 * {field} {value} {field} {value}"),
    (3, "XADD {stream} MAXLEN = 20 * {field} {value}"),
    (1, "XADD {stream} {small}-1 {field} {value}"),
    (2, "XTRIM {stream} MAXLEN 15"),
    (4, "XGROUP CREATE {stream} {group} 0 MKSTREAM"),
    (2, "XGROUP CREATECONSUMER {stream} {group} {consumer}"),
    (1, "XGROUP DELCONSUMER {stream} {group} {consumer}"),
    (1, "XGROUP DESTROY {stream} {group}"),
    (1, "XGROUP SETID {stream} {group} $"),
    (10, "XREADGROUP GROUP {group} {consumer} COUNT 3 STREAMS {stream} >"),
    (2, "XREADGROUP GROUP {group} {consumer} COUNT 3 NOACK STREAMS {stream} >"),
    (3, "XAUTOCLAIM {stream} {group} {consumer} 0 0 COUNT 2"),
    // Acknowledges, claims and deletes entries that exist.
    (4, "EVAL {xack} 1 {stream} {group}"),
    (2, "EVAL {xclaim} 1 {stream} {group} {consumer}"),
    (3, "EVAL {xdel} 1 {stream}"),
    // Keys of any type.
    (6, "DEL {any}"),
    (3, "UNLINK {any} {any}"),
    (8, "PEXPIRE {any} {ttl}"),
    (3, "EXPIRE {any} 1"),
    (2, "EXPIRE {any} 100000 GT"),
    (2, "EXPIRE {any} -1"),
    (3, "PERSIST {any}"),
    (4, "RENAME {any} {any}"),
    (2, "RENAMENX {any} {any}"),
    (3, "COPY {any} {any} REPLACE"),
    (2, "COPY {any} {any} DB {db} REPLACE"),
    (2, "MOVE {any} {db}"),
    (1, "SORT {list} ALPHA STORE {list}"),
    (1, "SORT {set} ALPHA DESC LIMIT 0 5 STORE {list}"),
    (2, "EVAL {restore} 2 {any} {any} {ttl}"),
    // Scripts.
    (4, "EVAL {lease} 1 {zset} {score} {member}"),
    (3, "EVAL {spread} 3 {str} {hash} {list} {value}"),
    (2, "EVAL {random} 1 {set}"),
    (1, "EVAL {fails} 2 {str} {hash} {value}"),
    (1, "FUNCTION LOAD REPLACE {library}"),
    (2, "FCALL store{bit} 1 {str} {value}"),
    // Reads, so that replies of all sizes travel between the writes.
    (6, "GET {str}"),
    (4, "HGETALL {hash}"),
    (3, "LRANGE {list} 0 -1"),
    (3, "ZRANGE {zset} 0 -1 WITHSCORES"),
    (2, "SMEMBERS {set}"),
    (2, "XRANGE {stream} - + COUNT 5"),
    (2, "SCAN {small} COUNT 20"),
    (2, "TTL {any}"),
    (2, "TYPE {any}"),
    (1, "PUBLISH channel {value}"),
];

const LEASE: &str = "redis.call('zremrangebyscore', KEYS[1], '-inf', -100) \
    redis.call('zadd', KEYS[1], ARGV[1], ARGV[2]) redis.call('pexpire', KEYS[1], 5000) \
    return redis.call('zcard', KEYS[1])";
const SPREAD: &str = "redis.call('set', KEYS[1], ARGV[1]) redis.call('hset', KEYS[2], 'a', ARGV[1], 'b', 1) \
    redis.call('lpush', KEYS[3], ARGV[1]) return redis.call('ltrim', KEYS[3], 0, 20)";
const RANDOM: &str = "return redis.call('sadd', KEYS[1], redis.call('time')[2])";
const FAILS: &str = "redis.call('set', KEYS[1], ARGV[1]) redis.call('lpush', KEYS[2], 'wrong type') \
    redis.call('hset', KEYS[2], 'a', 1) return redis.call('incr', KEYS[1])";
const XACK: &str = "local p = redis.call('xpending', KEYS[1], ARGV[1], '-', '+', 1) \
    if #p > 0 then return redis.call('xack', KEYS[1], ARGV[1], p[1][1]) end";
const XCLAIM: &str = "local p = redis.call('xpending', KEYS[1], ARGV[1], '-', '+', 2) \
    if #p > 0 then return redis.call('xclaim', KEYS[1], ARGV[1], ARGV[2], 0, p[#p][1]) end";
const XDEL: &str = "local e = redis.call('xrange', KEYS[1], '-', '+', 'COUNT', 2) \
    if #e > 0 then return redis.call('xdel', KEYS[1], e[#e][1]) end";
const RESTORE: &str = "local d = redis.call('dump', KEYS[1]) \
    if d then return redis.call('restore', KEYS[2], ARGV[1], d, 'REPLACE') end";

const TYPES: &[&str] =
    &["str", "num", "float", "hll", "hash", "list", "set", "zset", "geo", "stream"];

/// One command with all its words filled in. Keys are numbered below `keys`.
pub(super) fn command(rng: &mut StdRng, total: u32, keys: u32) -> Vec<Vec<u8>> {
    let mut at = rng.random_range(0..total);
    let template = COMMANDS.iter().find(|(weight, _)| {
        let here = at < *weight;
        at = at.saturating_sub(*weight);
        here
    });
    let template = template.map_or("PING", |(_, template)| template);
    template.split(' ').map(|word| fill(word, rng, keys)).collect()
}

/// Replaces the part of `word` in braces.
fn fill(word: &str, rng: &mut StdRng, keys: u32) -> Vec<u8> {
    let Some((before, rest)) = word.split_once('{') else { return word.into() };
    let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
    let mut out = before.as_bytes().to_vec();
    match name {
        "value" => out.extend(value(rng)),
        "any" => {
            let kind = TYPES[rng.random_range(0..TYPES.len())];
            out.extend(format!("{kind}:{}", rng.random_range(0..keys)).into_bytes());
        }
        kind if TYPES.contains(&kind) => {
            // Now and then a key of another type: errors in the middle of pipelines are normal.
            let kind = if rng.random_ratio(1, 50) { "str" } else { kind };
            out.extend(format!("{kind}:{}", rng.random_range(0..keys)).into_bytes());
        }
        other => out.extend(word_of(other, rng).into_bytes()),
    }
    out.extend_from_slice(after.as_bytes());
    out
}

fn word_of(name: &str, rng: &mut StdRng) -> String {
    let one_of =
        |rng: &mut StdRng, words: &[&str]| words[rng.random_range(0..words.len())].to_owned();
    match name {
        "field" => format!("f{}", rng.random_range(0..30)),
        "member" => format!("m{}", rng.random_range(0..60)),
        "group" => format!("g{}", rng.random_range(0..3)),
        "consumer" => format!("c{}", rng.random_range(0..3)),
        "small" => rng.random_range(0..40).to_string(),
        "int" => rng.random_range(-1000..1000i64).to_string(),
        "index" => rng.random_range(-8..12).to_string(),
        "bit" => rng.random_range(0..2).to_string(),
        "db" => rng.random_range(0..3).to_string(),
        "ttl" => rng.random_range(1..3000).to_string(),
        "score" => match rng.random_range(0..20) {
            0 => "-0.0".into(),
            1 => "1e300".into(),
            2 => "5e-324".into(),
            n if n < 8 => rng.random_range(-100..100).to_string(),
            _ => rng.random_range(-1e6..1e6f64).to_string(),
        },
        "bitop" => one_of(rng, &["AND", "OR", "XOR"]),
        "end" => one_of(rng, &["LEFT", "RIGHT"]),
        "where" => one_of(rng, &["BEFORE", "AFTER"]),
        "library" => {
            let n = rng.random_range(0..2);
            format!(
                "#!lua name=lib{n}\nredis.register_function('store{n}', function(keys, args) \
                 return redis.call('set', keys[1], args[1]) end)"
            )
        }
        "lease" => LEASE.into(),
        "spread" => SPREAD.into(),
        "random" => RANDOM.into(),
        "fails" => FAILS.into(),
        "xack" => XACK.into(),
        "xclaim" => XCLAIM.into(),
        "xdel" => XDEL.into(),
        "restore" => RESTORE.into(),
        other => panic!("unknown word {{{other}}}"),
    }
}

/// Mostly short text; also empty, binary, integers and long ones.
fn value(rng: &mut StdRng) -> Vec<u8> {
    let len = match rng.random_range(0..100) {
        0 => 0,
        1..=3 => rng.random_range(1000..20_000),
        4..=30 => return rng.random::<i32>().to_string().into_bytes(),
        31..=50 => rng.random_range(20..100),
        _ => rng.random_range(1..20),
    };
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    if rng.random_ratio(3, 4) {
        bytes.iter_mut().for_each(|b| *b = b'a' + *b % 26);
    }
    bytes
}
