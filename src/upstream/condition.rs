//! What errors of connections to Redis say of it.

use bb8_redis::redis::{ErrorKind, RedisError};

use super::connect::ConnectError;
use super::handshake::OpenError;
use super::side::SideError;
use crate::strategy::Condition;

/// By the first word of an error that Redis has answered.
fn of_reply(code: &str) -> Condition {
    match code {
        "LOADING" => Condition::Loading,
        "NOAUTH" | "WRONGPASS" => Condition::WrongPassword,
        "READONLY" | "MASTERDOWN" => Condition::ReadOnly,
        "OOM" => Condition::OutOfMemory,
        "MISCONF" => Condition::CannotSave,
        _ => Condition::Failing,
    }
}

impl From<&ConnectError> for Condition {
    fn from(error: &ConnectError) -> Condition {
        match error {
            ConnectError::Io { source, .. } => source.into(),
            ConnectError::Timeout { .. } => Condition::Silent,
            ConnectError::Tls(_) => Condition::Untrusted,
            ConnectError::Url(_) => Condition::Failing,
        }
    }
}

impl From<&SideError> for Condition {
    fn from(error: &SideError) -> Condition {
        match error {
            SideError::Connect(error) => error.into(),
            SideError::Redis(error) => error.into(),
            SideError::Busy => Condition::Silent,
        }
    }
}

impl From<&RedisError> for Condition {
    fn from(error: &RedisError) -> Condition {
        match error.code() {
            _ if error.kind() == ErrorKind::AuthenticationFailed => Condition::WrongPassword,
            Some(code) => of_reply(code),
            None if error.is_timeout() => Condition::Silent,
            None => Condition::Lost,
        }
    }
}

impl From<&OpenError> for Condition {
    fn from(error: &OpenError) -> Condition {
        match error {
            OpenError::Connect(error) => error.into(),
            OpenError::Failed { .. } => Condition::Lost,
            OpenError::Refused { reply } | OpenError::Database { reply } => {
                of_reply(reply.split(' ').next().unwrap_or_default())
            }
        }
    }
}
