//! The merge of a snapshot in temporary tables (`new_…`) with what the tables hold.

use std::time::Duration;

use super::{BulkOutcome, Merge};
use crate::store::StoreError;
use crate::store::session::Session;

/// A merge goes over everything there is.
const LIMIT: Duration = Duration::from_secs(3600);
/// Conflicts that are listed; all are counted.
const LISTED_CONFLICTS: i64 = 1000;

/// Tables of values and how a row of one is matched with the same row of the other side.
/// Per key the matching rows are counted: as many as both sides have means equal.
const MATCHES: &[(&str, &str)] = &[
    ("strings", "o.value = n.value"),
    ("opaque", "o.dump = n.dump"),
    ("sets", "index_form(o.member) = index_form(n.member)"),
    (
        "zsets",
        // As bytes: -0 and 0 are equal numbers.
        "index_form(o.member) = index_form(n.member) AND float8send(o.score) = float8send(n.score)",
    ),
    ("hashes", "index_form(o.field) = index_form(n.field) AND o.value = n.value"),
    (
        "streams",
        "(o.last_ms, o.last_seq, o.max_deleted_ms, o.max_deleted_seq, o.entries_added)
         = (n.last_ms, n.last_seq, n.max_deleted_ms, n.max_deleted_seq, n.entries_added)",
    ),
    ("stream_entries", "(o.ms, o.seq, o.fields) = (n.ms, n.seq, n.fields)"),
    (
        "stream_groups",
        "(o.name, o.last_ms, o.last_seq) = (n.name, n.last_ms, n.last_seq)
         AND o.entries_read IS NOT DISTINCT FROM n.entries_read",
    ),
    (
        "stream_consumers",
        "(o.group_name, o.name, o.seen_at_ms) = (n.group_name, n.name, n.seen_at_ms)
         AND o.active_at_ms IS NOT DISTINCT FROM n.active_at_ms",
    ),
    (
        "stream_pending",
        "(o.group_name, o.ms, o.seq, o.consumer, o.delivered_at_ms, o.delivery_count)
         = (n.group_name, n.ms, n.seq, n.consumer, n.delivered_at_ms, n.delivery_count)",
    ),
];

pub async fn merge(
    session: &Session,
    merge: Merge,
    outcome: &mut BulkOutcome,
) -> Result<(), StoreError> {
    compare(session).await?;
    match merge {
        Merge::Authoritative => {
            outcome.removed = execute(
                session,
                "INSERT INTO merge_drop (id)
                 SELECT k.id FROM keys k WHERE NOT EXISTS (SELECT FROM pairs p WHERE p.old_id = k.id)",
            )
            .await?;
            outcome.replaced = execute(session, TAKE_DIFFERENT).await?;
            execute(session, "DELETE FROM functions").await?;
            execute(session, "DELETE FROM redis_behind").await?;
        }
        Merge::PostgresLeads => postgres_leads(session, outcome).await?,
    }
    outcome.added = execute(
        session,
        "INSERT INTO merge_take (id, version)
         SELECT n.id, 1 FROM new_keys n WHERE NOT EXISTS (SELECT FROM pairs p WHERE p.new_id = n.id)",
    )
    .await?;
    take(session).await?;
    // The values that were to be read again are in the snapshot.
    execute(session, "DELETE FROM rereads").await?;
    Ok(())
}

/// What differs is replaced.
const TAKE_DIFFERENT: &str = "WITH changed AS (
        INSERT INTO merge_take (id, version)
        SELECT p.new_id, k.version + 1 FROM pairs p JOIN keys k ON k.id = p.old_id
        WHERE NOT p.same
        RETURNING id)
    INSERT INTO merge_drop (id) SELECT p.old_id FROM pairs p JOIN changed c ON c.id = p.new_id";

async fn postgres_leads(session: &Session, outcome: &mut BulkOutcome) -> Result<(), StoreError> {
    // Of keys that are to be read again, PostgreSQL's value is known to be stale.
    let stale = "UPDATE pairs p SET wanted = true
        FROM rereads r JOIN new_keys n ON n.db = r.db AND index_form(n.key) = index_form(r.key)
        WHERE p.new_id = n.id";
    execute(session, stale).await?;
    let wanted = TAKE_DIFFERENT.replace("WHERE NOT p.same", "WHERE NOT p.same AND p.wanted");
    outcome.replaced = execute(session, &wanted).await?;
    let listed = format!(
        "INSERT INTO conflicts (db, key, reason)
         SELECT k.db, k.key, CASE WHEN k.kind <> n.kind THEN 'type'
                                  WHEN k.expires_at_ms IS DISTINCT FROM n.expires_at_ms THEN 'expiry'
                                  WHEN k.len <> n.len THEN 'length' ELSE 'value' END
         FROM pairs p JOIN keys k ON k.id = p.old_id JOIN new_keys n ON n.id = p.new_id
         WHERE NOT p.same AND NOT p.wanted ORDER BY k.id LIMIT {LISTED_CONFLICTS}"
    );
    execute(session, &listed).await?;
    execute(session, "DELETE FROM redis_behind").await?;
    outcome.conflicts = execute(
        session,
        "INSERT INTO redis_behind (db, key, differs)
         SELECT k.db, k.key, true FROM pairs p JOIN keys k ON k.id = p.old_id
         WHERE NOT p.same AND NOT p.wanted",
    )
    .await?;
    outcome.missing_in_redis = execute(
        session,
        "INSERT INTO redis_behind (db, key, differs)
         SELECT k.db, k.key, false FROM keys k
         WHERE NOT EXISTS (SELECT FROM pairs p WHERE p.old_id = k.id)",
    )
    .await?;
    let known = "DELETE FROM new_functions n USING functions f
                 WHERE index_form(f.name) = index_form(n.name)";
    execute(session, known).await?;
    Ok(())
}

/// Pairs the keys of both sides by name and finds those that are the same.
async fn compare(session: &Session) -> Result<(), StoreError> {
    let pairs = "ANALYZE new_keys;
        CREATE TEMP TABLE merge_take (id bigint PRIMARY KEY, version bigint NOT NULL) ON COMMIT DROP;
        CREATE TEMP TABLE merge_drop (id bigint PRIMARY KEY) ON COMMIT DROP;
        CREATE TEMP TABLE pairs ON COMMIT DROP AS
        SELECT n.id AS new_id, k.id AS old_id, false AS same, false AS wanted, 0::bigint AS matched,
               n.kind, n.len,
               k.kind = n.kind AND k.len = n.len
               AND k.expires_at_ms IS NOT DISTINCT FROM n.expires_at_ms AS alike
        FROM new_keys n JOIN keys k ON k.db = n.db AND index_form(k.key) = index_form(n.key);
        CREATE UNIQUE INDEX ON pairs (new_id); CREATE UNIQUE INDEX ON pairs (old_id);
        ANALYZE pairs;
        CREATE TEMP TABLE differing (new_id bigint NOT NULL) ON COMMIT DROP";
    run(session, pairs).await?;
    for (table, matches) in MATCHES {
        run(session, &differing(&format!("new_{table}"), table, matches)).await?;
    }
    run(session, DIFFERING_LISTS).await?;
    let same = "ANALYZE differing;
        UPDATE pairs p SET same = true
        WHERE alike AND NOT EXISTS (SELECT FROM differing d WHERE d.new_id = p.new_id)";
    run(session, same).await
}

/// The pairs of which a row has no match, on either side.
fn differing(new: &str, old: &str, matches: &str) -> String {
    format!(
        "ANALYZE {new};
         INSERT INTO differing
         SELECT p.new_id FROM pairs p JOIN {new} n ON n.key_id = p.new_id
         LEFT JOIN {old} o ON o.key_id = p.old_id AND {matches}
         WHERE p.alike AND o.key_id IS NULL
         UNION
         SELECT new_id FROM
             (SELECT p.new_id, count(*) FROM pairs p JOIN {new} n ON n.key_id = p.new_id
              WHERE p.alike GROUP BY p.new_id) c
         FULL JOIN
             (SELECT p.new_id, count(*) FROM pairs p JOIN {old} o ON o.key_id = p.old_id
              WHERE p.alike GROUP BY p.new_id) d USING (new_id)
         WHERE c.count IS DISTINCT FROM d.count"
    )
}

/// Lists are compared by order; positions have gaps.
const DIFFERING_LISTS: &str = "ANALYZE new_lists;
    INSERT INTO differing
    SELECT DISTINCT coalesce(a.new_id, b.new_id) FROM
        (SELECT p.new_id, row_number() OVER (PARTITION BY n.key_id ORDER BY n.pos) AS i, n.value
         FROM pairs p JOIN new_lists n ON n.key_id = p.new_id WHERE p.alike) a
    FULL JOIN
        (SELECT p.new_id, row_number() OVER (PARTITION BY o.key_id ORDER BY o.pos) AS i, o.value
         FROM pairs p JOIN lists o ON o.key_id = p.old_id WHERE p.alike) b
    USING (new_id, i)
    WHERE a.value IS DISTINCT FROM b.value";

/// Removes the keys of `merge_drop` and takes over those of `merge_take`.
async fn take(session: &Session) -> Result<(), StoreError> {
    run(session, "ANALYZE merge_take; ANALYZE merge_drop").await?;
    let values =
        super::tables::TABLES.iter().filter(|(table, _)| !matches!(*table, "keys" | "functions"));
    for (table, _) in values.clone() {
        let delete = format!("DELETE FROM {table} v USING merge_drop d WHERE v.key_id = d.id");
        execute(session, &delete).await?;
    }
    execute(session, "DELETE FROM keys k USING merge_drop d WHERE k.id = d.id").await?;
    let keys = "INSERT INTO keys (id, db, key, kind, expires_at_ms, len, version)
        SELECT n.id, n.db, n.key, n.kind, n.expires_at_ms, n.len, t.version
        FROM new_keys n JOIN merge_take t USING (id)";
    execute(session, keys).await?;
    for (table, columns) in values {
        let insert = format!(
            "INSERT INTO {table} ({columns})
             SELECT {columns} FROM new_{table} n JOIN merge_take t ON t.id = n.key_id"
        );
        execute(session, &insert).await?;
    }
    let functions = "INSERT INTO functions (name, source) SELECT name, source FROM new_functions";
    execute(session, functions).await?;
    Ok(())
}

/// Rows affected.
async fn execute(session: &Session, sql: &str) -> Result<u64, StoreError> {
    session.within(LIMIT, session.client().execute(sql, &[])).await
}

async fn run(session: &Session, sql: &str) -> Result<(), StoreError> {
    session.within(LIMIT, session.client().batch_execute(sql)).await
}
