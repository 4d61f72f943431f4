//! The numbers of the RDB format. Source: `rdb.h` of Redis 7.4 and Valkey 8.

pub const STRING: u8 = 0;
pub const LIST: u8 = 1;
pub const SET: u8 = 2;
pub const ZSET: u8 = 3;
pub const HASH: u8 = 4;
pub const ZSET_2: u8 = 5;
pub const MODULE_PRE_GA: u8 = 6;
pub const MODULE_2: u8 = 7;
pub const HASH_ZIPMAP: u8 = 9;
pub const LIST_ZIPLIST: u8 = 10;
pub const SET_INTSET: u8 = 11;
pub const ZSET_ZIPLIST: u8 = 12;
pub const HASH_ZIPLIST: u8 = 13;
pub const LIST_QUICKLIST: u8 = 14;
pub const STREAM_LISTPACKS: u8 = 15;
pub const HASH_LISTPACK: u8 = 16;
pub const ZSET_LISTPACK: u8 = 17;
pub const LIST_QUICKLIST_2: u8 = 18;
pub const STREAM_LISTPACKS_2: u8 = 19;
pub const SET_LISTPACK: u8 = 20;
pub const STREAM_LISTPACKS_3: u8 = 21;
/// Release candidates of Redis 7.4: like [`HASH_METADATA`], without the minimum.
pub const HASH_METADATA_PRE_GA: u8 = 22;
pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
pub const HASH_METADATA: u8 = 24;
pub const HASH_LISTPACK_EX: u8 = 25;

pub const OP_SLOT_INFO: u8 = 244;
pub const OP_FUNCTION2: u8 = 245;
pub const OP_FUNCTION_PRE_GA: u8 = 246;
pub const OP_MODULE_AUX: u8 = 247;
pub const OP_IDLE: u8 = 248;
pub const OP_FREQ: u8 = 249;
pub const OP_AUX: u8 = 250;
pub const OP_RESIZE_DB: u8 = 251;
pub const OP_EXPIRE_MS: u8 = 252;
pub const OP_EXPIRE_S: u8 = 253;
pub const OP_SELECT_DB: u8 = 254;
pub const OP_EOF: u8 = 255;

/// The newest RDB version that is read (Redis 7.4); Valkey 8 writes 11.
pub const MAX_VERSION: u32 = 12;

/// True for the types of a hash whose fields have expiry times.
pub fn is_hash(type_byte: u8) -> bool {
    (HASH_METADATA_PRE_GA..=HASH_LISTPACK_EX).contains(&type_byte)
}
