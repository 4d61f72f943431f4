//! RESP, the Redis serialization protocol: replies as values, and their encoding in RESP2 and RESP3.
//! Source: <https://redis.io/docs/reference/protocol-spec/>.

mod reply;

pub use reply::{Protocol, Reply};
