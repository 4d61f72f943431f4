use crate::store::session::statements;

/// Deletes the rows of a table that hang on the ids.
macro_rules! drop_rows {
    ($table:literal) => {
        concat!("DELETE FROM ", $table, " WHERE key_id = ANY($1::bigint[])")
    };
}

statements! {
    /// What a commit consists of, prepared once per session.
    Statements {
    begin = "BEGIN";
    commit = "COMMIT";
    rollback = "ROLLBACK";
    // epoch is NOT NULL: another writer's number makes the transaction fail.
    fence = "UPDATE replication SET epoch = CASE WHEN epoch = $1 THEN epoch END";
    position = "UPDATE replication
        SET epoch = CASE WHEN epoch = $1 THEN epoch END,
            replid = $2, repl_offset = $3, db = $4, updated_at = now()";

    keys_delete = "DELETE FROM keys WHERE id = ANY($1::bigint[])";
    // A name that is on its way from one key to another is in nobody's way here.
    keys_park = "UPDATE keys SET db = -1, key = int8send(id) WHERE id = ANY($1::bigint[])";
    keys_insert = "INSERT INTO keys (id, db, key, kind, expires_at_ms, len, version)
        SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bytea[], $4::smallint[],
                             $5::bigint[], $6::bigint[], $7::bigint[])";
    keys_update = "UPDATE keys k
        SET expires_at_ms = u.expires_at_ms, len = u.len, version = u.version, updated_at = now()
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
             AS u (id, expires_at_ms, len, version)
        WHERE k.id = u.id";
    keys_rename = "UPDATE keys k SET db = u.db, key = u.key
        FROM unnest($1::bigint[], $2::integer[], $3::bytea[]) AS u (id, db, key)
        WHERE k.id = u.id";

    strings_drop = drop_rows!("strings");
    strings_insert = "INSERT INTO strings (key_id, value)
        SELECT * FROM unnest($1::bigint[], $2::bytea[])";
    strings_update = "UPDATE strings s SET value = u.value
        FROM unnest($1::bigint[], $2::bytea[]) AS u (key_id, value)
        WHERE s.key_id = u.key_id";

    hashes_drop = drop_rows!("hashes");
    hashes_insert = "INSERT INTO hashes (key_id, field, value)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])";
    hashes_upsert = "INSERT INTO hashes (key_id, field, value)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])
        ON CONFLICT (key_id, index_form(field)) DO UPDATE SET value = excluded.value";
    hashes_delete = "DELETE FROM hashes h USING unnest($1::bigint[], $2::bytea[]) AS u (key_id, field)
        WHERE h.key_id = u.key_id AND index_form(h.field) = index_form(u.field)";

    sets_drop = drop_rows!("sets");
    sets_insert = "INSERT INTO sets (key_id, member)
        SELECT * FROM unnest($1::bigint[], $2::bytea[])
        ON CONFLICT (key_id, index_form(member)) DO NOTHING";
    sets_delete = "DELETE FROM sets s USING unnest($1::bigint[], $2::bytea[]) AS u (key_id, member)
        WHERE s.key_id = u.key_id AND index_form(s.member) = index_form(u.member)";

    zsets_drop = drop_rows!("zsets");
    zsets_insert = "INSERT INTO zsets (key_id, member, score)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::float8[])";
    zsets_upsert = "INSERT INTO zsets (key_id, member, score)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::float8[])
        ON CONFLICT (key_id, index_form(member)) DO UPDATE SET score = excluded.score";
    zsets_delete = "DELETE FROM zsets z USING unnest($1::bigint[], $2::bytea[]) AS u (key_id, member)
        WHERE z.key_id = u.key_id AND index_form(z.member) = index_form(u.member)";

    lists_drop = drop_rows!("lists");
    lists_insert = "INSERT INTO lists (key_id, pos, value)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])";
    lists_upsert = "INSERT INTO lists (key_id, pos, value)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])
        ON CONFLICT (key_id, pos) DO UPDATE SET value = excluded.value";
    lists_delete = "DELETE FROM lists l USING unnest($1::bigint[], $2::bigint[]) AS u (key_id, pos)
        WHERE l.key_id = u.key_id AND l.pos = u.pos";

    opaque_drop = drop_rows!("opaque");
    opaque_upsert = "INSERT INTO opaque (key_id, dump)
        SELECT * FROM unnest($1::bigint[], $2::bytea[])
        ON CONFLICT (key_id) DO UPDATE SET dump = excluded.dump";

    streams_drop = drop_rows!("streams");
    entries_drop = drop_rows!("stream_entries");
    groups_drop = drop_rows!("stream_groups");
    consumers_drop = drop_rows!("stream_consumers");
    pending_drop = drop_rows!("stream_pending");
    streams_upsert = "INSERT INTO streams
            (key_id, last_ms, last_seq, max_deleted_ms, max_deleted_seq, entries_added)
        SELECT * FROM unnest($1::bigint[], $2::numeric[], $3::numeric[], $4::numeric[], $5::numeric[],
                             $6::numeric[])
        ON CONFLICT (key_id) DO UPDATE
        SET last_ms = excluded.last_ms, last_seq = excluded.last_seq,
            max_deleted_ms = excluded.max_deleted_ms, max_deleted_seq = excluded.max_deleted_seq,
            entries_added = excluded.entries_added";
    // Arrays of arrays do not come through unnest: a row per field, put together again.
    entries_upsert = "INSERT INTO stream_entries (key_id, ms, seq, fields)
        SELECT key_id, ms, seq, array_agg(field ORDER BY n)
        FROM unnest($1::bigint[], $2::numeric[], $3::numeric[], $4::bytea[])
             WITH ORDINALITY AS u (key_id, ms, seq, field, n)
        GROUP BY key_id, ms, seq
        ON CONFLICT (key_id, ms, seq) DO UPDATE SET fields = excluded.fields";
    entries_delete = "DELETE FROM stream_entries e
        USING unnest($1::bigint[], $2::numeric[], $3::numeric[]) AS u (key_id, ms, seq)
        WHERE e.key_id = u.key_id AND e.ms = u.ms AND e.seq = u.seq";
    groups_upsert = "INSERT INTO stream_groups (key_id, name, last_ms, last_seq, entries_read)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::numeric[], $4::numeric[], $5::numeric[])
        ON CONFLICT (key_id, index_form(name)) DO UPDATE
        SET last_ms = excluded.last_ms, last_seq = excluded.last_seq,
            entries_read = excluded.entries_read";
    groups_delete = "DELETE FROM stream_groups g USING unnest($1::bigint[], $2::bytea[]) AS u (key_id, name)
        WHERE g.key_id = u.key_id AND index_form(g.name) = index_form(u.name)";
    group_consumers_delete = "DELETE FROM stream_consumers c
        USING unnest($1::bigint[], $2::bytea[]) AS u (key_id, name)
        WHERE c.key_id = u.key_id AND index_form(c.group_name) = index_form(u.name)";
    group_pending_delete = "DELETE FROM stream_pending p
        USING unnest($1::bigint[], $2::bytea[]) AS u (key_id, name)
        WHERE p.key_id = u.key_id AND index_form(p.group_name) = index_form(u.name)";
    consumers_upsert = "INSERT INTO stream_consumers
            (key_id, group_name, name, seen_at_ms, active_at_ms)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[])
        ON CONFLICT (key_id, index_form(group_name), index_form(name)) DO UPDATE
        SET seen_at_ms = excluded.seen_at_ms, active_at_ms = excluded.active_at_ms";
    consumers_delete = "DELETE FROM stream_consumers c
        USING unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS u (key_id, group_name, name)
        WHERE c.key_id = u.key_id AND index_form(c.group_name) = index_form(u.group_name)
          AND index_form(c.name) = index_form(u.name)";
    pending_upsert = "INSERT INTO stream_pending
            (key_id, group_name, ms, seq, consumer, delivered_at_ms, delivery_count)
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::numeric[], $4::numeric[], $5::bytea[],
                             $6::bigint[], $7::numeric[])
        ON CONFLICT (key_id, index_form(group_name), ms, seq) DO UPDATE
        SET consumer = excluded.consumer, delivered_at_ms = excluded.delivered_at_ms,
            delivery_count = excluded.delivery_count";
    pending_delete = "DELETE FROM stream_pending p
        USING unnest($1::bigint[], $2::bytea[], $3::numeric[], $4::numeric[])
              AS u (key_id, group_name, ms, seq)
        WHERE p.key_id = u.key_id AND index_form(p.group_name) = index_form(u.group_name)
          AND p.ms = u.ms AND p.seq = u.seq";

    rereads_add = "INSERT INTO rereads (db, key)
        SELECT * FROM unnest($1::integer[], $2::bytea[])
        ON CONFLICT (db, index_form(key)) DO NOTHING";
    rereads_remove = "DELETE FROM rereads r USING unnest($1::integer[], $2::bytea[]) AS u (db, key)
        WHERE r.db = u.db AND index_form(r.key) = index_form(u.key)";

    redis_lacks = "INSERT INTO redis_behind (db, key, differs)
        SELECT u.db, u.key, true FROM unnest($1::integer[], $2::bytea[]) AS u (db, key)
        ON CONFLICT (db, index_form(key)) DO NOTHING";
    redis_lacks_all = "UPDATE replication SET redis_lacks_all = true";

    function_put = "INSERT INTO functions (name, source) VALUES ($1, $2)
        ON CONFLICT (index_form(name)) DO UPDATE SET source = excluded.source";
    function_delete = "DELETE FROM functions WHERE index_form(name) = index_form($1)";
    functions_flush = "DELETE FROM functions";
    // The three steps of swapping two databases past the unique index on names.
    db_move = "UPDATE keys SET db = $2 WHERE db = $1";
    }
}
