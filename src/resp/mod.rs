//! RESP, the Redis serialization protocol: replies as values, their encoding in RESP2 and RESP3, and
//! scanners that find where a request or a reply ends without building anything.
//! Source: <https://redis.io/docs/reference/protocol-spec/>.

mod bridge;
mod encode;
mod frames;
mod inline;
mod reply;
mod request;

pub use bridge::{DecodeError, decode_reply};
pub use encode::{command, encode, encode_error, push_bulk, push_command};
pub use frames::{FrameError, ReplyScanner, elements};
pub use inline::split_arguments;
pub use reply::{Protocol, Reply};
pub use request::{ProtocolError, RequestLimits, RequestScanner, Scan, strict_number};
