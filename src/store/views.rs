//! The views that `[[family]]` rules ask for: how they read the tables, and how the schema comes to have them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Row, Transaction};

use super::StoreError;
use super::connect::Connector;
use super::migrate::locked;
use super::session::Session;
use crate::config::{ColumnKind, KeyPattern, PartKind, Piece, View, ViewSource};

/// A change waits so long for readers of a view; whoever reads for longer keeps it as it is.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// Gives the schema the views of `views` and takes away those that Tandem made for rules that are gone.
/// What stands in the way of one is said, one text per view, and stops no other.
pub(super) async fn apply(
    connector: &Connector,
    session: &mut Session,
    views: &[&View],
) -> Result<Vec<String>, StoreError> {
    let transaction = locked(connector, session).await?;
    let made = "SELECT name, definition FROM family_views";
    let made = pairs(&transaction.query(made, &[]).await?)?;
    let names: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
    let taken = "SELECT relname::text, relkind::text FROM pg_class
                 WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
                   AND relname = ANY($2)";
    let taken = pairs(&transaction.query(taken, &[&connector.schema(), &names]).await?)?;
    let mut steps = Vec::new();
    for name in made.keys().filter(|name| !names.contains(&name.as_str())) {
        steps.push(Step::Drop(name.clone()));
    }
    let mut problems = Vec::new();
    for view in views {
        let definition = definition(view);
        match (made.get(&view.name), taken.get(&view.name)) {
            (None, Some(_)) => problems.push(format!(
                "view {}: the schema has something else of this name; choose another",
                view.name
            )),
            (Some(before), Some(_)) if *before == definition => {}
            _ => steps.push(Step::Make(view.name.clone(), definition)),
        }
    }
    if steps.is_empty() {
        transaction.commit().await?;
        return Ok(problems);
    }
    let mut transaction = transaction;
    transaction.batch_execute(LOCK_TIMEOUT).await?;
    for step in steps {
        let name = step.name().to_owned();
        match step.run(&mut transaction).await {
            Ok(()) => tracing::info!(view = name, done = step.what(), "view of a family"),
            Err(error) if error.is_connection() && !timed_out(&error) => return Err(error),
            Err(error) => problems.push(problem(&name, &error)),
        }
    }
    transaction.commit().await?;
    Ok(problems)
}

fn pairs(rows: &[Row]) -> Result<BTreeMap<String, String>, StoreError> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

enum Step {
    Make(String, String),
    Drop(String),
}

impl Step {
    fn name(&self) -> &str {
        let (Step::Make(name, _) | Step::Drop(name)) = self;
        name
    }

    fn what(&self) -> &'static str {
        match self {
            Step::Make(..) => "made",
            Step::Drop(_) => "dropped",
        }
    }

    /// Runs the step, or leaves all as it was.
    async fn run(&self, transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
        match self {
            Step::Make(name, definition) => {
                // A view keeps its grants unless its columns change other than by more at the end.
                let replace = format!("CREATE OR REPLACE VIEW \"{name}\" AS {definition}");
                match at_once(transaction, &replace).await {
                    Err(error) if is_server(&error, &SqlState::INVALID_TABLE_DEFINITION) => {
                        let anew =
                            format!("DROP VIEW \"{name}\"; CREATE VIEW \"{name}\" AS {definition}");
                        at_once(transaction, &anew).await?;
                    }
                    result => result?,
                }
                let remember = "INSERT INTO family_views (name, definition) VALUES ($1, $2)
                                ON CONFLICT (name) DO UPDATE
                                SET definition = excluded.definition, changed_at = now()";
                transaction.execute(remember, &[name, definition]).await?;
            }
            Step::Drop(name) => {
                at_once(transaction, &format!("DROP VIEW IF EXISTS \"{name}\"")).await?;
                transaction.execute("DELETE FROM family_views WHERE name = $1", &[name]).await?;
            }
        }
        Ok(())
    }
}

async fn at_once(transaction: &mut Transaction<'_>, sql: &str) -> Result<(), StoreError> {
    let savepoint = transaction.transaction().await?;
    savepoint.batch_execute(sql).await?;
    Ok(savepoint.commit().await?)
}

fn is_server(error: &StoreError, state: &SqlState) -> bool {
    matches!(error, StoreError::Server { code, .. } if code == state.code())
}

fn timed_out(error: &StoreError) -> bool {
    is_server(error, &SqlState::LOCK_NOT_AVAILABLE)
}

fn problem(name: &str, error: &StoreError) -> String {
    let advice = if timed_out(error) {
        "; somebody is reading it, so it stays as it is until the next start"
    } else if is_server(error, &SqlState::DEPENDENT_OBJECTS_STILL_EXIST) {
        "; drop what is built on it, start again, and make that anew"
    } else {
        ""
    };
    format!("view {name}: {error}{advice}")
}

/// The query of a view.
fn definition(view: &View) -> String {
    let branches: Vec<String> = view.key.iter().map(|pattern| branch(view, pattern)).collect();
    branches.join("\nUNION ALL\n")
}

/// The rows whose keys are made up as `pattern` says. A field is looked up by index for each row, and
/// only those that a query uses are.
fn branch(view: &View, pattern: &KeyPattern) -> String {
    let mut columns = Vec::new();
    let mut captures = 0;
    let mut parts = Vec::new();
    for piece in &pattern.pieces {
        match piece {
            Piece::Text(_) => {}
            Piece::Fixed { name, text } => parts.push((name, format!("{}::text", literal(text)))),
            Piece::Part { name, kind } => {
                captures += 1;
                parts.push((name, part(*kind, &format!("p.parts[{captures}]"))));
            }
        }
    }
    for name in view.part_names() {
        let own = parts.iter().find(|(own, _)| *own == name).map(|(_, sql)| sql.as_str());
        let null = || format!("NULL::{}", part_type(view, name));
        columns.push(format!("{} AS \"{name}\"", own.map_or_else(null, str::to_owned)));
    }
    for (field, name, kind) in view.fields() {
        let cell = match view.from {
            ViewSource::Hash => typed(kind, &hash_field(field)),
            ViewSource::Json => typed(kind, &json_member(field)),
            ViewSource::String => typed(kind, "s.value"),
            ViewSource::Any => {
                let (hash, json) = (hash_field(field), json_member(field));
                typed(kind, &format!("CASE k.kind WHEN 5 THEN {hash} ELSE {json} END"))
            }
        };
        columns.push(format!("{cell} AS \"{name}\""));
    }
    columns.push("as_time(k.expires_at_ms) AS key_expires_at".into());
    columns.push("k.updated_at AS key_updated_at".into());
    let strings = match view.from {
        ViewSource::Hash => "",
        ViewSource::String => "\n     JOIN strings s ON s.key_id = k.id",
        // OFFSET 0 keeps it one evaluation per row.
        ViewSource::Json => {
            "\n     JOIN strings s ON s.key_id = k.id
     CROSS JOIN LATERAL (SELECT as_jsonb(s.value) AS members OFFSET 0) j"
        }
        ViewSource::Any => {
            "\n     LEFT JOIN LATERAL (SELECT as_jsonb(value) AS members FROM strings
                          WHERE key_id = k.id OFFSET 0) j ON k.kind = 1"
        }
    };
    let kinds = match view.from {
        ViewSource::Hash => "k.kind = 5",
        ViewSource::Json => "k.kind = 1 AND jsonb_typeof(j.members) = 'object'",
        ViewSource::String => "k.kind = 1",
        ViewSource::Any => "(k.kind = 5 OR k.kind = 1 AND jsonb_typeof(j.members) = 'object')",
    };
    format!(
        "SELECT {}
FROM keys k
     CROSS JOIN LATERAL regexp_match(as_text(k.key), {}) p(parts){strings}
WHERE k.db = {}{}
  AND {kinds} AND p.parts IS NOT NULL
  AND (k.expires_at_ms IS NULL OR k.expires_at_ms > (extract(epoch FROM now()) * 1000)::bigint)",
        columns.join(",\n       "),
        literal(&expression(pattern)),
        view.db,
        range(pattern),
    )
}

fn hash_field(field: &str) -> String {
    let field = bytes(field.as_bytes());
    format!(
        "(SELECT h.value FROM hashes h WHERE h.key_id = k.id AND index_form(h.field) = index_form({field}))"
    )
}

fn json_member(field: &str) -> String {
    format!("convert_to(j.members ->> {}, 'UTF8')", literal(field))
}

fn typed(kind: ColumnKind, bytes: &str) -> String {
    let function = match kind {
        ColumnKind::Text => "as_text",
        ColumnKind::Bigint => "as_bigint",
        ColumnKind::Numeric => "as_numeric",
        ColumnKind::Double => "as_double",
        ColumnKind::Boolean => "as_boolean",
        ColumnKind::Timestamptz => "as_timestamptz",
        ColumnKind::Date => "as_date",
        ColumnKind::Uuid => "as_uuid",
        ColumnKind::Jsonb => "as_jsonb",
    };
    format!("{function}({bytes})")
}

fn part(kind: PartKind, text: &str) -> String {
    let function = match kind {
        PartKind::Text | PartKind::Rest => return text.to_owned(),
        PartKind::Bigint => "as_bigint",
        PartKind::Date | PartKind::Month => "as_date",
        PartKind::Hour => "as_hour",
        PartKind::Uuid => "as_uuid",
    };
    format!("{function}(convert_to({text}, 'UTF8'))")
}

/// The type that a part's column has, from the first pattern with the part.
fn part_type(view: &View, name: &str) -> &'static str {
    let pieces = view.key.iter().flat_map(|pattern| &pattern.pieces);
    let kinds = pieces.filter_map(|piece| match piece {
        Piece::Part { name: own, kind } if own == name => Some(*kind),
        _ => None,
    });
    match { kinds }.next() {
        None | Some(PartKind::Text | PartKind::Rest) => "text",
        Some(PartKind::Bigint) => "bigint",
        Some(PartKind::Date | PartKind::Month) => "date",
        Some(PartKind::Hour) => "timestamp",
        Some(PartKind::Uuid) => "uuid",
    }
}

/// The pattern as a regular expression with one capture per part.
fn expression(pattern: &KeyPattern) -> String {
    let mut expression = String::from("^");
    for piece in &pattern.pieces {
        match piece {
            Piece::Text(text) | Piece::Fixed { text, .. } => {
                for char in text.chars() {
                    if char.is_ascii_punctuation() {
                        expression.push('\\');
                    }
                    expression.push(char);
                }
            }
            Piece::Part { kind, .. } => expression.push_str(match kind {
                PartKind::Text => "([^:]+)",
                PartKind::Rest => "(.+)",
                PartKind::Bigint => r"(-?\d+)",
                PartKind::Date => r"(\d{4}-\d\d-\d\d)",
                PartKind::Month => r"(\d{4}-\d\d)",
                PartKind::Hour => r"(\d{4}-\d\d-\d\d:\d\d)",
                PartKind::Uuid => {
                    "([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})"
                }
            }),
        }
    }
    expression.push('$');
    expression
}

/// Where the index has the keys that begin as the pattern does.
fn range(pattern: &KeyPattern) -> String {
    let mut prefix = Vec::new();
    for piece in &pattern.pieces {
        let (Piece::Text(text) | Piece::Fixed { text, .. }) = piece else { break };
        prefix.extend_from_slice(text.as_bytes());
    }
    // UTF-8 has no byte 0xff, so there is a next one.
    let mut behind = prefix.clone();
    match behind.last_mut() {
        None => return String::new(),
        Some(last) => *last = last.saturating_add(1),
    }
    format!(
        "\n  AND index_form(k.key) >= {} AND index_form(k.key) < {}",
        bytes(&prefix),
        bytes(&behind)
    )
}

fn literal(text: &str) -> String {
    let plain = text.replace('\'', "''");
    match text.contains('\\') {
        // Whatever standard_conforming_strings is.
        true => format!("E'{}'", plain.replace('\\', "\\\\")),
        false => format!("'{plain}'"),
    }
}

fn bytes(bytes: &[u8]) -> String {
    let mut sql = String::from("decode('");
    for byte in bytes {
        let _ = write!(sql, "{byte:02x}");
    }
    sql.push_str("', 'hex')");
    sql
}
