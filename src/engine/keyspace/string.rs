use bytes::Bytes;

use super::Keyspace;
use crate::engine::Db;
use crate::engine::delta::Rows;
use crate::engine::stop::{Answer, Part, Stop};
use crate::engine::value::{Kind, Value};

impl Keyspace {
    /// The content of a string.
    pub fn string(&mut self, db: Db, key: &Bytes) -> Answer<Option<Bytes>> {
        match self.typed(db, key, Kind::String, || Part::All)? {
            None => Ok(None),
            Some(Value::String(Some(content))) => Ok(Some(content.clone())),
            Some(_) => Err(Stop::need(db, key, Part::All)),
        }
    }

    /// `SET`: replaces a value of any type and its expiry.
    pub fn set_string(
        &mut self,
        db: Db,
        key: &Bytes,
        content: Bytes,
        expires_at_ms: Option<i64>,
    ) -> Answer<()> {
        let kind = self.kind(db, key)?;
        if kind != Some(Kind::String) {
            return self.put(db, key, Value::String(Some(content)), expires_at_ms);
        }
        self.write_expiry(db, key, expires_at_ms);
        self.write_string(db, key, content);
        Ok(())
    }

    /// Changes the content of a string, keeping its expiry; creates it when it is not there.
    pub fn update_string(&mut self, db: Db, key: &Bytes, content: Bytes) -> Answer<()> {
        self.ensure(db, key, Kind::String, || Part::Meta)?;
        self.write_string(db, key, content);
        Ok(())
    }

    fn write_string(&mut self, db: Db, key: &Bytes, content: Bytes) {
        self.grown += content.len();
        self.change(db, key, |value, rows| {
            *rows = Rows::String(Some(content.clone()));
            *value = Value::String(Some(content));
        });
    }
}
