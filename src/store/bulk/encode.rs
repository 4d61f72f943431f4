//! Rows in PostgreSQL's binary `COPY` format.
//! Source: <https://www.postgresql.org/docs/17/sql-copy.html>, "Binary Format".

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::{ToSql, Type};

use crate::store::StoreError;
use crate::store::numeric::U64;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const BYTEA: i32 = 17;
/// What PostgreSQL takes in one value.
const VALUE_BYTES: usize = 1_000_000_000;

/// Rows of one table that are not sent yet.
#[derive(Debug, Default)]
pub struct CopyRows {
    buffer: BytesMut,
    too_large: Option<usize>,
}

impl CopyRows {
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Begins a row.
    pub fn row(&mut self, columns: i16) -> &mut CopyRows {
        if self.buffer.is_empty() {
            self.buffer.put_slice(HEADER);
        }
        self.buffer.put_i16(columns);
        self
    }

    /// The rows so far as the data of one `COPY`; `None` when there are none.
    pub fn take(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(bytes) = self.too_large {
            return Err(StoreError::TooLarge { what: "a value", bytes });
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        self.buffer.put_i16(-1);
        Ok(Some(self.buffer.split().freeze()))
    }

    pub fn i16(&mut self, value: i16) -> &mut CopyRows {
        self.buffer.put_i32(2);
        self.buffer.put_i16(value);
        self
    }

    pub fn i32(&mut self, value: i32) -> &mut CopyRows {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
        self
    }

    pub fn i64(&mut self, value: i64) -> &mut CopyRows {
        self.buffer.put_i32(8);
        self.buffer.put_i64(value);
        self
    }

    pub fn optional_i64(&mut self, value: Option<i64>) -> &mut CopyRows {
        match value {
            Some(value) => self.i64(value),
            None => self.null(),
        }
    }

    pub fn f64(&mut self, value: f64) -> &mut CopyRows {
        self.buffer.put_i32(8);
        self.buffer.put_f64(value);
        self
    }

    pub fn null(&mut self) -> &mut CopyRows {
        self.buffer.put_i32(-1);
        self
    }

    pub fn bytes(&mut self, value: &[u8]) -> &mut CopyRows {
        if value.len() > VALUE_BYTES {
            self.too_large = Some(value.len());
            return self;
        }
        self.buffer.put_i32(value.len() as i32);
        self.buffer.put_slice(value);
        self
    }

    pub fn numeric(&mut self, value: u64) -> &mut CopyRows {
        let at = self.buffer.len();
        self.buffer.put_i32(0);
        // Writes to memory: it cannot fail.
        let _ = U64(value).to_sql(&Type::NUMERIC, &mut self.buffer);
        let size = (self.buffer.len() - at - 4) as i32;
        self.buffer[at..at + 4].copy_from_slice(&size.to_be_bytes());
        self
    }

    /// A `bytea[]`.
    pub fn array<'a>(&mut self, values: impl Iterator<Item = &'a [u8]> + Clone) -> &mut CopyRows {
        let (count, bytes) =
            values.clone().fold((0i32, 0usize), |(n, bytes), v| (n + 1, bytes + 4 + v.len()));
        if bytes > VALUE_BYTES {
            self.too_large = Some(bytes);
            return self;
        }
        let dimensions = i32::from(count > 0);
        self.buffer.put_i32(12 + 8 * dimensions + bytes as i32);
        self.buffer.put_i32(dimensions);
        self.buffer.put_i32(0); // no nulls
        self.buffer.put_i32(BYTEA);
        if count > 0 {
            self.buffer.put_i32(count);
            self.buffer.put_i32(1); // first index
        }
        for value in values {
            self.buffer.put_i32(value.len() as i32);
            self.buffer.put_slice(value);
        }
        self
    }
}
