use std::borrow::Cow;

use bytes::Bytes;

/// The protocol version a client has chosen with `HELLO`; a connection starts in RESP2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// A reply before it is encoded: what a command answers, whichever protocol the client speaks.
/// Types that RESP2 lacks are flattened when encoded for it, as Redis does (a map becomes a flat
/// array, a double its shortest text, a null the nil bulk string).
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`.
    Simple(Cow<'static, str>),
    /// `-ERR …`, without the leading dash and without the line end.
    Error(Cow<'static, str>),
    Int(i64),
    Bulk(Bytes),
    /// A missing value: `$-1` in RESP2, `_` in RESP3.
    Nil,
    /// A missing array: `*-1` in RESP2, `_` in RESP3.
    NilArray,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Double(f64),
    Bool(bool),
    BigNumber(Bytes),
    /// Text with a three-letter format, such as `txt`.
    Verbatim(Cow<'static, str>, Bytes),
    /// An out-of-band message (RESP3 push; an array in RESP2).
    Push(Vec<Reply>),
}

impl Reply {
    pub const OK: Reply = Reply::Simple(Cow::Borrowed("OK"));

    pub fn bulk(bytes: impl Into<Bytes>) -> Reply {
        Reply::Bulk(bytes.into())
    }

    pub fn error(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply::Error(text.into())
    }

    pub fn bulk_or_nil(value: Option<Bytes>) -> Reply {
        value.map_or(Reply::Nil, Reply::Bulk)
    }
}
