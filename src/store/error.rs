use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::strategy::Condition;

/// What went wrong with PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration does not allow to connect; the text names the key.
    #[error("{0}")]
    Config(String),
    /// No connection, or it broke.
    #[error("PostgreSQL: {message}")]
    Connection {
        message: String,
        /// COMMIT was on its way: the transaction may have arrived or not. Read the position.
        outcome_unknown: bool,
        condition: Condition,
    },
    #[error("PostgreSQL did not answer within {} ms", after.as_millis())]
    Timeout {
        after: Duration,
        /// As in [`StoreError::Connection`].
        outcome_unknown: bool,
    },
    /// PostgreSQL refused a statement; the transaction was rolled back.
    #[error("PostgreSQL: {message} (SQLSTATE {code})")]
    Server { code: String, message: String },
    #[error(
        "another proxy has taken over the schema: it writes, this one must not; \
         connect again to take it back"
    )]
    Fenced,
    #[error("{holder} serves from this schema; this proxy takes over when that one ends")]
    Held { holder: String },
    #[error("{what} of {bytes} bytes is more than a PostgreSQL column holds (1 GB)")]
    TooLarge { what: &'static str, bytes: usize },
    #[error("in PostgreSQL, {0}")]
    Corrupt(String),
    #[error(
        "the schema in PostgreSQL has migration {found}, this version of Tandem knows only \
         {known}: start a newer version"
    )]
    NewerSchema { found: i32, known: i32 },
    #[error(
        "migration {number} in PostgreSQL is not the one of this version of Tandem (checksums \
         differ): the schema was made by another build; use that build or another schema name"
    )]
    ChangedMigration { number: i32 },
}

impl StoreError {
    /// True when it may go away by itself: connect again later.
    pub fn is_connection(&self) -> bool {
        match self {
            StoreError::Connection { .. } | StoreError::Timeout { .. } => true,
            StoreError::Server { code, .. } => is_outage(code),
            _ => false,
        }
    }

    /// True when the transaction may or may not have been committed: the position tells.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            StoreError::Connection { outcome_unknown: true, .. }
                | StoreError::Timeout { outcome_unknown: true, .. }
        )
    }

    /// True when PostgreSQL cannot take these very data: the same again fails again.
    pub fn is_data(&self) -> bool {
        match self {
            StoreError::TooLarge { .. } => true,
            StoreError::Server { code, .. } => {
                ["22", "23", "54"].iter().any(|class| code.starts_with(class))
            }
            _ => false,
        }
    }

    /// What it says of PostgreSQL; `None`: nothing.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            StoreError::Connection { condition, .. } => Some(*condition),
            StoreError::Timeout { .. } => Some(Condition::Silent),
            StoreError::Server { code, .. } => Some(condition_of(code)),
            StoreError::Fenced | StoreError::Held { .. } => None,
            _ => Some(Condition::Failing),
        }
    }

    /// Marks that COMMIT had been sent when the error came.
    pub(super) fn during_commit(mut self) -> StoreError {
        if let StoreError::Connection { outcome_unknown, .. }
        | StoreError::Timeout { outcome_unknown, .. } = &mut self
        {
            *outcome_unknown = true;
        }
        self
    }
}

/// SQLSTATEs that say something of the server's state and nothing of the statement.
/// Source: <https://www.postgresql.org/docs/17/errcodes-appendix.html>.
fn is_outage(code: &str) -> bool {
    const CLASSES: &[&str] = &["08", "53", "57", "58"];
    const CODES: &[&str] = &["25006", "25P03", "40001", "40P01", "55P03", "3D000"];
    CLASSES.iter().any(|class| code.starts_with(class)) || CODES.contains(&code)
}

/// What a SQLSTATE says of the server.
fn condition_of(code: &str) -> Condition {
    match code {
        "25006" => Condition::ReadOnly,
        "53100" => Condition::DiskFull,
        "53200" => Condition::OutOfMemory,
        "53300" => Condition::TooManyConnections,
        "57P03" => Condition::Loading,
        "57P01" | "57P02" => Condition::Lost,
        "57014" => Condition::Silent,
        code if code.starts_with("28") => Condition::WrongPassword,
        _ => Condition::Failing,
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> StoreError {
        if let Some(db) = error.as_db_error() {
            if *db.code() == SqlState::NOT_NULL_VIOLATION && db.column() == Some("epoch") {
                return StoreError::Fenced;
            }
            // The server ends the session with these, whatever was under way.
            if db.code().code().starts_with("57P") || db.severity() == "FATAL" {
                let message = db.message().to_owned();
                let condition = condition_of(db.code().code());
                return StoreError::Connection { message, outcome_unknown: false, condition };
            }
            let mut message = db.message().to_owned();
            if let Some(detail) = db.detail() {
                message = format!("{message}: {detail}");
            }
            return StoreError::Server { code: db.code().code().to_owned(), message };
        }
        let (mut message, mut condition) = (error.to_string(), Condition::Lost);
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                condition = io.into();
            }
            source = cause.source();
        }
        StoreError::Connection { message, outcome_unknown: false, condition }
    }
}
