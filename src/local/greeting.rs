//! `HELLO`: what the server says of itself.

use crate::engine::Stop;
use crate::resp::{Protocol, Reply};

pub(super) const NOT_TRUSTED: Stop = Stop::error(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
     <user> <pass> option can be used to authenticate the client and select the RESP protocol \
     version at the same time",
);

/// The reply to `HELLO`.
pub(super) fn greeting(protocol: Protocol, id: u64) -> Reply {
    let number = if protocol == Protocol::Resp3 { 3 } else { 2 };
    let pair = |name: &'static str, value| (Reply::bulk(name), value);
    Reply::Map(vec![
        pair("server", Reply::bulk("redis")),
        pair("version", Reply::bulk(super::info::REDIS_VERSION)),
        pair("proto", Reply::Int(number)),
        pair("id", Reply::Int(id as i64)),
        pair("mode", Reply::bulk("standalone")),
        pair("role", Reply::bulk("master")),
        pair("modules", Reply::Array(Vec::new())),
    ])
}
