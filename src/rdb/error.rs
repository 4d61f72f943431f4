/// What is wrong with an RDB file or a `DUMP` payload, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {kind}")]
pub struct RdbError {
    /// From the first byte of the file or payload; for a fault inside a value, where that value begins.
    pub offset: u64,
    pub kind: RdbErrorKind,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RdbErrorKind {
    #[error("this is not an RDB file: it begins with {0:?}")]
    BadMagic(String),
    #[error(
        "RDB version {0} is not supported; versions 1 to 12 are (Redis up to 7.4, Valkey up to 8)"
    )]
    UnsupportedVersion(u32),
    #[error("the RDB ends too early, inside {0}")]
    Truncated(&'static str),
    #[error("type byte {0} is not known")]
    UnknownType(u8),
    #[error("a value of module API version 1 (type byte 6) cannot be skipped")]
    ModuleVersion1,
    #[error("functions of a Redis 7.0 release candidate are not supported")]
    PreReleaseFunction,
    #[error("bad {what}: {problem}")]
    BadEncoding { what: &'static str, problem: &'static str },
    /// Redis removes a value with its last element, so that none without any is ever saved.
    #[error("a {0} without elements")]
    Empty(&'static str),
    #[error("CRC64 is {actual:016x}, the file says {expected:016x}")]
    Checksum { expected: u64, actual: u64 },
    /// For `RESTORE`: `ERR DUMP payload version or checksum are wrong`.
    #[error("DUMP payload version or checksum are wrong")]
    DumpFooter,
}

impl RdbError {
    /// The words in which `RESTORE` refuses such a payload (Redis 7.0, `cluster.c`).
    pub fn restore_reply(&self) -> &'static str {
        match self.kind {
            RdbErrorKind::DumpFooter => "ERR DUMP payload version or checksum are wrong",
            _ => "ERR Bad data format",
        }
    }

    /// The words in which `FUNCTION RESTORE` refuses such a payload (Redis 7.0, `functions.c`).
    pub fn function_restore_reply(&self) -> &'static str {
        match self.kind {
            RdbErrorKind::DumpFooter => "ERR DUMP payload version or checksum are wrong",
            RdbErrorKind::UnknownType(_) => "ERR given type is not a function",
            _ => "ERR failed loading the given functions payload",
        }
    }
}
