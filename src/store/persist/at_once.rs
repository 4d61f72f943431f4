//! A commit of ordinary size as one statement.
//!
//! PostgreSQL answers each statement of a pipeline by itself, which wakes the proxy each time. So every
//! session makes a function of its own out of the statements that commits consist of; a call
//! runs those that have parameters, in one transaction. Whoever may not create temporary functions commits by the
//! pipeline.

use bytes::BytesMut;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::batch::Call;
use super::statements::Statements;
use crate::store::StoreError;
use crate::store::session::{Param, Session};

/// Bytes of parameters up to which a commit goes out at once: PostgreSQL's time limit for a statement
/// is for all of it.
const MOST_BYTES: usize = 1 << 20;

/// The statements in the order in which they have to run. A function takes 100 parameters, so what is
/// rare is not among them.
fn slots(s: &Statements) -> [&Statement; 34] {
    [
        &s.fence,
        &s.position,
        &s.keys_delete,
        &s.strings_drop,
        &s.lists_drop,
        &s.sets_drop,
        &s.zsets_drop,
        &s.hashes_drop,
        &s.keys_park,
        &s.keys_insert,
        &s.keys_rename,
        &s.keys_update,
        &s.strings_insert,
        &s.strings_update,
        &s.hashes_delete,
        &s.sets_delete,
        &s.zsets_delete,
        &s.sets_insert,
        &s.hashes_insert,
        &s.hashes_upsert,
        &s.zsets_insert,
        &s.zsets_upsert,
        &s.lists_delete,
        &s.lists_insert,
        &s.lists_upsert,
        &s.entries_delete,
        &s.pending_delete,
        &s.streams_upsert,
        &s.entries_upsert,
        &s.groups_upsert,
        &s.consumers_upsert,
        &s.pending_upsert,
        &s.rereads_remove,
        &s.rereads_add,
    ]
}

/// The session's function, prepared.
pub struct AtOnce(Statement);

impl AtOnce {
    /// `None` when the role may not create it.
    pub async fn prepare(
        session: &Session,
        statements: &Statements,
    ) -> Result<Option<AtOnce>, StoreError> {
        let (mut types, mut body) = (Vec::new(), String::new());
        for statement in slots(statements) {
            let before = types.len();
            types.extend(statement.params().iter().map(|of| format!("pg_catalog.{}", of.name())));
            let text = renumbered(statements.text(statement), before);
            body.push_str(&format!("IF ${} IS NOT NULL THEN {text}; END IF;\n", before + 1));
        }
        let create = format!(
            "CREATE FUNCTION pg_temp.tandem_commit({}) RETURNS void LANGUAGE plpgsql
             AS $commit$ BEGIN\n{body}END $commit$",
            types.join(", ")
        );
        let created = session.client().batch_execute(&create).await;
        if let Err(error) = created {
            if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                return Ok(None);
            }
            return Err(error.into());
        }
        let numbers: Vec<String> = (1..=types.len()).map(|number| format!("${number}")).collect();
        let call = format!("SELECT pg_temp.tandem_commit({})", numbers.join(", "));
        Ok(Some(AtOnce(session.client().prepare(&call).await?)))
    }

    pub fn statement(&self) -> &Statement {
        &self.0
    }
}

/// The parameters of a call that does all of `calls`, which come in their order; the calls themselves
/// when one call cannot do them.
pub fn parameters<'a>(
    statements: &Statements,
    calls: Vec<Call<'a>>,
) -> Result<Vec<Param<'a>>, Vec<Call<'a>>> {
    let slots = slots(statements);
    let mut rest = slots.iter();
    let fits = calls.iter().map(|call| call.bytes).sum::<usize>() <= MOST_BYTES
        && calls.iter().all(|call| rest.any(|slot| std::ptr::eq(*slot, call.statement)));
    if !fits {
        return Err(calls);
    }
    let mut params: Vec<Param<'a>> = Vec::with_capacity(100);
    let mut calls = calls.into_iter().peekable();
    for slot in slots {
        match calls.next_if(|call| std::ptr::eq(call.statement, slot)) {
            Some(call) => params.extend(call.params),
            None => params.extend(slot.params().iter().map(|_| Box::new(Null) as Param<'a>)),
        }
    }
    Ok(params)
}

/// `sql` with every parameter's number raised by `by`.
fn renumbered(sql: &str, by: usize) -> String {
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let number: usize = part[..end].parse().unwrap_or_default();
        text.push_str(&format!("${}{}", number + by, &part[end..]));
    }
    text
}

/// SQL's NULL, of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
