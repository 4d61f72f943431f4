//! `HELLO` and `AUTH`: who connects, and what the server says of itself.

use bytes::Bytes;

use super::period::Credentials;
use crate::engine::{Answer, Stop};
use crate::resp::{Protocol, Reply};

const WRONGPASS: Stop =
    Stop::error("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD: Stop = Stop::error(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
     your configuration is correct?",
);
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

impl Credentials {
    /// True when clients have to say a password.
    pub fn asks(&self) -> bool {
        !self.password.is_empty()
    }

    pub fn name(&self) -> &str {
        if self.user.is_empty() { "default" } else { &self.user }
    }

    /// The words of `AUTH`: the proxy's connections come with the user and password of `redis.url`.
    pub fn check(&self, words: &[Bytes]) -> Answer<()> {
        let (user, password) = match words {
            [password] => (&b"default"[..], password),
            [user, password] => (&user[..], password),
            _ => return Err(Stop::SYNTAX),
        };
        if words.len() == 1 && !self.asks() {
            return Err(NO_PASSWORD);
        }
        let same: bool =
            subtle::ConstantTimeEq::ct_eq(self.password.as_bytes(), &password[..]).into();
        let known = user == self.name().as_bytes() || user == b"default";
        if known && (same || !self.asks()) { Ok(()) } else { Err(WRONGPASS) }
    }
}
