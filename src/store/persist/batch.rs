//! Rows as array parameters: one array per column, cut into statements of a few megabytes.

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::store::StoreError;
use crate::store::session::Param;

/// Bytes of one statement's parameters, roughly; a single row may be larger.
const STATEMENT_BYTES: usize = 4 << 20;
const STATEMENT_ROWS: usize = 16_384;
/// What PostgreSQL takes in one value, with room for the message around it.
const VALUE_BYTES: usize = 1_000_000_000;
/// The columns of a row beside its byte strings, roughly.
const ROW_BYTES: usize = 40;

/// A statement and its parameters.
pub struct Call<'a> {
    pub statement: &'a Statement,
    pub params: Vec<Param<'a>>,
    /// Size of the parameters, roughly.
    pub bytes: usize,
}

/// A row: a tuple of column values.
pub trait Row<'a> {
    type Columns: Default;
    fn push(self, columns: &mut Self::Columns);
    fn params(columns: Self::Columns) -> Vec<Param<'a>>;
}

macro_rules! row {
    ($($value:ident . $n:tt),+) => {
        impl<'a, $($value: ToSql + Sync + Send + 'a),+> Row<'a> for ($($value,)+) {
            type Columns = ($(Vec<$value>,)+);

            fn push(self, columns: &mut Self::Columns) {
                $(columns.$n.push(self.$n);)+
            }

            fn params(columns: Self::Columns) -> Vec<Param<'a>> {
                vec![$(Box::new(columns.$n) as Param<'a>),+]
            }
        }
    };
}
row!(A.0);
row!(A.0, B.1);
row!(A.0, B.1, C.2);
row!(A.0, B.1, C.2, D.3);
row!(A.0, B.1, C.2, D.3, E.4);
row!(A.0, B.1, C.2, D.3, E.4, F.5);
row!(A.0, B.1, C.2, D.3, E.4, F.5, G.6);

/// The rows of one statement.
pub struct Batch<'a, R: Row<'a>> {
    statement: &'a Statement,
    columns: R::Columns,
    rows: usize,
    bytes: usize,
    full: Vec<Call<'a>>,
    /// The longest byte string.
    longest: usize,
}

impl<'a, R: Row<'a>> Batch<'a, R> {
    pub fn new(statement: &'a Statement) -> Self {
        let columns = R::Columns::default();
        Batch { statement, columns, rows: 0, bytes: 0, full: Vec::new(), longest: 0 }
    }

    /// Adds a row whose byte strings have `bytes` bytes together.
    pub fn add(&mut self, bytes: usize, row: R) {
        if self.rows >= STATEMENT_ROWS
            || self.rows > 0 && self.bytes.saturating_add(bytes) > STATEMENT_BYTES
        {
            self.cut();
        }
        row.push(&mut self.columns);
        self.rows += 1;
        self.bytes += bytes + ROW_BYTES;
        self.longest = self.longest.max(bytes);
    }

    /// Adds a row that has to be in the same statement as the one before it.
    pub fn add_to_last(&mut self, bytes: usize, row: R) {
        row.push(&mut self.columns);
        self.rows += 1;
        self.bytes += bytes + ROW_BYTES;
        self.longest = self.longest.max(bytes);
    }

    fn cut(&mut self) {
        let columns = std::mem::take(&mut self.columns);
        let (statement, bytes) = (self.statement, self.bytes);
        self.full.push(Call { statement, params: R::params(columns), bytes });
        (self.rows, self.bytes) = (0, 0);
    }

    /// Appends the statements to `calls`; none when there were no rows.
    pub fn finish(mut self, calls: &mut Vec<Call<'a>>) -> Result<(), StoreError> {
        if self.longest > VALUE_BYTES {
            return Err(StoreError::TooLarge { what: "a row", bytes: self.longest });
        }
        if self.rows > 0 {
            self.cut();
        }
        calls.append(&mut self.full);
        Ok(())
    }
}
