use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::stop::{Answer, Stop};
use crate::engine::{Db, Keyspace};

/// Where `BY` and `GET` look for the value that belongs to an element.
pub enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// Without a `*` there is nothing to look up.
    Nothing,
    /// `before*behind`, or `before*behind->field`, with the element in place of the star.
    Key { before: &'a [u8], behind: &'a [u8], field: Option<Bytes> },
}

impl<'a> Pattern<'a> {
    pub fn new(text: &'a Bytes) -> Pattern<'a> {
        if text.as_ref() == b"#" {
            return Pattern::Element;
        }
        let Some(star) = memchr::memchr(b'*', text) else { return Pattern::Nothing };
        let (before, behind) = (&text[..star], &text[star + 1..]);
        let arrow = memchr::memmem::find(behind, b"->").filter(|at| at + 2 < behind.len());
        match arrow {
            Some(at) => {
                let field = Some(Bytes::copy_from_slice(&behind[at + 2..]));
                Pattern::Key { before, behind: &behind[..at], field }
            }
            None => Pattern::Key { before, behind, field: None },
        }
    }

    /// `None` when there is no such key or field, or it is of another type.
    pub fn look_up(&self, ks: &mut Keyspace, db: Db, element: &Bytes) -> Answer<Option<Bytes>> {
        let (before, behind, field) = match self {
            Pattern::Element => return Ok(Some(element.clone())),
            Pattern::Nothing => return Ok(None),
            Pattern::Key { before, behind, field } => (before, behind, field),
        };
        let mut key = BytesMut::with_capacity(before.len() + element.len() + behind.len());
        key.put_slice(before);
        key.put_slice(element);
        key.put_slice(behind);
        let key = key.freeze();
        let found = match field {
            Some(field) => ks.hash_get(db, &key, field),
            None => ks.string(db, &key),
        };
        match found {
            Err(Stop::Error(_)) => Ok(None),
            other => other,
        }
    }
}
