//! Families beside the first ones: places, consumer groups, ranges of all kinds, commands that would block.
//! What they answer depends on no clock.

use super::Family;

pub const PLACES: Family = &[
    "GEOADD {zset} {13.361389|15.087269|-180|180|181|x} {38.115556|37.502669|85|-86} {member}",
    "GEOADD {zset} {NX|XX|CH|x} 13.361389 38.115556 {member} 15.087269 37.502669 {member}",
    "GEOPOS {zset} {member} {member}",
    "GEODIST {zset} {member} {member}",
    "GEODIST {zset} {member} {member} {m|km|mi|ft|x}",
    "GEOHASH {zset} {member} {member}",
    "GEOSEARCH {zset} FROMLONLAT 15 37 BYRADIUS {200|300|-1|x} km ASC WITHDIST",
    "GEOSEARCH {zset} FROMLONLAT 15 37 BYBOX 400 400 km DESC COUNT {small}",
    "GEOSEARCH {zset} FROMMEMBER {member} BYRADIUS 300 km ASC WITHCOORD WITHHASH",
    "GEOSEARCHSTORE {zset} {zset} FROMLONLAT 15 37 BYRADIUS 300 km ASC {STOREDIST|COUNT|ANY}",
];

pub const GROUPS: Family = &[
    "XADD {stream} {count}-{count} {member} {value}",
    "XADD {stream} NOMKSTREAM {count}{count}-* {member} {value}",
    "XADD {stream} MINID = {count} {count}{count}-* {member} {value}",
    "XGROUP CREATE {stream} g{1|2} {0|$|3-3} MKSTREAM",
    "XGROUP CREATECONSUMER {stream} g{1|2} c{1|2}",
    "XGROUP DELCONSUMER {stream} g{1|2} c{1|2}",
    "XGROUP SETID {stream} g{1|2} {id}",
    "XREADGROUP GROUP g{1|2} c{1|2} COUNT {count} STREAMS {stream} >",
    "XREADGROUP GROUP g{1|2} c{1|2} COUNT {count} NOACK STREAMS {stream} >",
    "XREADGROUP GROUP g{1|2} c{1|2} STREAMS {stream} {id}",
    "XREAD COUNT {count} STREAMS {stream} {stream} {id} {id}",
    "XACK {stream} g{1|2} {count}-{count} {count}-{count}",
    "XPENDING {stream} g{1|2}",
    "XCLAIM {stream} g{1|2} c{1|2} 0 {count}-{count} {count}-{count} {JUSTID|FORCE}",
    "XAUTOCLAIM {stream} g{1|2} c{1|2} 0 {id} COUNT {count} JUSTID",
    "XTRIM {stream} MINID {id}",
    "XRANGE {stream} ({count}-{count} +",
    "XINFO GROUPS {stream}",
    "XLEN {stream}",
];

/// Without ranges by name: they mean something only where all scores are the same.
pub const RANGES: Family = &[
    "ZRANGE {zset} {small} {small} {REV|WITHSCORES|BYSCORE|x}",
    "ZRANGE {zset} {(1|-inf|1|x} {+inf|(3|3} BYSCORE LIMIT {small} {small} WITHSCORES",
    "ZRANGE {zset} {+inf|(3|3} {(1|-inf|1} BYSCORE REV",
    "ZREVRANGEBYSCORE {zset} +inf {small} WITHSCORES LIMIT 0 {count}",
    "ZREVRANGE {zset} {small} {small} WITHSCORES",
    "ZREVRANK {zset} {member}",
    "ZUNION 2 {zset} {zset} WITHSCORES",
    "ZINTER 2 {zset} {set} WEIGHTS {float} 1 WITHSCORES",
    "ZDIFF 2 {zset} {zset}",
    "ZINTERCARD 2 {zset} {zset} LIMIT {small}",
    "ZMPOP 2 {zset} {zset} {MIN|MAX|x} COUNT {small}",
    "LPOS {list} {member} RANK {small} COUNT {small} MAXLEN {small}",
    "LRANGE {list} {int} {int}",
    "LINDEX {list} {int}",
    "BLPOP {list} {list} 0.01",
    "BLMOVE {list} {list} {LEFT|RIGHT} {LEFT|RIGHT} 0.01",
    "BZPOPMIN {zset} {zset} 0.01",
    "BLMPOP 0.01 2 {list} {list} {LEFT|RIGHT}",
    "EXPIREAT {any} {expiry}",
    "PEXPIREAT {any} {expiry}",
    "SET {str} {value} {EXAT|PXAT} {expiry}",
    "GETEX {str} {EXAT|PXAT} {expiry}",
    "PEXPIRETIME {any}",
    "EXPIRETIME {any}",
    "TYPE {any}",
];
