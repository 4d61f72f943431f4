use crate::store::session::statements;

statements! {
    /// The reads, prepared once per session.
    Statements {
    // A string comes with its row, when more than the row is wanted.
    keys = "SELECT u.n, k.id, k.kind, k.expires_at_ms, k.len, k.version,
            CASE WHEN u.content AND k.kind = 1
                 THEN (SELECT s.value FROM strings s WHERE s.key_id = k.id) END
        FROM unnest($1::integer[], $2::bytea[], $3::boolean[])
             WITH ORDINALITY AS u (db, key, content, n)
        JOIN keys k ON k.db = u.db AND index_form(k.key) = index_form(u.key)";
    sizes = "SELECT u.n, k.len, coalesce((SELECT octet_length(s.value) FROM strings s
            WHERE s.key_id = k.id AND k.kind = 1), 0)
        FROM unnest($1::integer[], $2::bytea[]) WITH ORDINALITY AS u (db, key, n)
        JOIN keys k ON k.db = u.db AND index_form(k.key) = index_form(u.key)";
    names = "SELECT key, kind, expires_at_ms FROM keys
        WHERE db = $1 ORDER BY index_form(key) LIMIT $2";
    names_behind = "SELECT key, kind, expires_at_ms FROM keys
        WHERE db = $1 AND index_form(key) > index_form($2::bytea)
        ORDER BY index_form(key) LIMIT $3";
    opaque = "SELECT key_id, dump FROM opaque WHERE key_id = ANY($1::bigint[])";

    hashes = "SELECT key_id, field, value FROM hashes WHERE key_id = ANY($1::bigint[])";
    sets = "SELECT key_id, member FROM sets WHERE key_id = ANY($1::bigint[])";
    zsets = "SELECT key_id, member, score FROM zsets WHERE key_id = ANY($1::bigint[])";
    lists = "SELECT key_id, pos, value FROM lists WHERE key_id = ANY($1::bigint[])
        ORDER BY key_id, pos";

    // Members: u.n is the number of the one that is asked for.
    hash_fields = "SELECT u.n, h.value
        FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS u (key_id, field, n)
        JOIN hashes h ON h.key_id = u.key_id AND index_form(h.field) = index_form(u.field)";
    set_members = "SELECT u.n
        FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS u (key_id, member, n)
        JOIN sets s ON s.key_id = u.key_id AND index_form(s.member) = index_form(u.member)";
    zset_members = "SELECT u.n, z.score
        FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS u (key_id, member, n)
        JOIN zsets z ON z.key_id = u.key_id AND index_form(z.member) = index_form(u.member)";

    list_ends = "SELECT u.key_id,
            (SELECT min(pos) FROM lists l WHERE l.key_id = u.key_id),
            (SELECT max(pos) FROM lists l WHERE l.key_id = u.key_id)
        FROM unnest($1::bigint[]) AS u (key_id)";
    // Windows: u.n is the number of the window; from and to are included.
    list_front = "SELECT u.n, l.pos, l.value
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS u (key_id, from_pos, count, n)
        CROSS JOIN LATERAL (SELECT pos, value FROM lists
            WHERE key_id = u.key_id AND pos >= u.from_pos ORDER BY pos LIMIT u.count) l";
    list_back = "SELECT u.n, l.pos, l.value
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS u (key_id, to_pos, count, n)
        CROSS JOIN LATERAL (SELECT pos, value FROM lists
            WHERE key_id = u.key_id AND pos <= u.to_pos ORDER BY pos DESC LIMIT u.count) l";

    streams = "SELECT key_id, last_ms, last_seq, max_deleted_ms, max_deleted_seq, entries_added
        FROM streams WHERE key_id = ANY($1::bigint[])";
    groups = "SELECT key_id, name, last_ms, last_seq, entries_read
        FROM stream_groups WHERE key_id = ANY($1::bigint[])";
    consumers = "SELECT key_id, group_name, name, seen_at_ms, active_at_ms
        FROM stream_consumers WHERE key_id = ANY($1::bigint[])";
    pending = "SELECT key_id, group_name, ms, seq, consumer, delivered_at_ms, delivery_count
        FROM stream_pending WHERE key_id = ANY($1::bigint[])";
    entries = "SELECT u.n, e.ms, e.seq, e.fields
        FROM unnest($1::bigint[], $2::numeric[], $3::numeric[], $4::bigint[])
             WITH ORDINALITY AS u (key_id, after_ms, after_seq, count, n)
        CROSS JOIN LATERAL (SELECT ms, seq, fields FROM stream_entries
            WHERE key_id = u.key_id AND (ms, seq) > (u.after_ms, u.after_seq)
            ORDER BY ms, seq LIMIT u.count) e";

    // Pages of large values.
    hash_first = "SELECT field, value FROM hashes
        WHERE key_id = $1 ORDER BY index_form(field) LIMIT $2";
    hash_behind = "SELECT field, value FROM hashes
        WHERE key_id = $1 AND index_form(field) > index_form($3::bytea)
        ORDER BY index_form(field) LIMIT $2";
    set_first = "SELECT member FROM sets
        WHERE key_id = $1 ORDER BY index_form(member) LIMIT $2";
    set_behind = "SELECT member FROM sets
        WHERE key_id = $1 AND index_form(member) > index_form($3::bytea)
        ORDER BY index_form(member) LIMIT $2";
    zset_first = "SELECT member, score FROM zsets
        WHERE key_id = $1 ORDER BY index_form(member) LIMIT $2";
    zset_behind = "SELECT member, score FROM zsets
        WHERE key_id = $1 AND index_form(member) > index_form($3::bytea)
        ORDER BY index_form(member) LIMIT $2";

    // Windows onto large values.
    ranks = "SELECT member, score FROM zsets WHERE key_id = $1
        ORDER BY score, index_form(member) OFFSET $2 LIMIT $3";
    ranks_down = "SELECT member, score FROM zsets WHERE key_id = $1
        ORDER BY score DESC, index_form(member) DESC OFFSET $2 LIMIT $3";
    scores = "SELECT member, score FROM zsets WHERE key_id = $1 AND score >= $2 AND score <= $3
        ORDER BY score, index_form(member) OFFSET $4 LIMIT $5";
    scores_down = "SELECT member, score FROM zsets WHERE key_id = $1 AND score >= $2 AND score <= $3
        ORDER BY score DESC, index_form(member) DESC OFFSET $4 LIMIT $5";
    score_count = "SELECT count(*) FROM zsets WHERE key_id = $1 AND score >= $2 AND score <= $3";
    before = "SELECT count(*) FROM zsets
        WHERE key_id = $1 AND (score, index_form(member)) < ($2, $3::bytea)";
    elements = "SELECT value FROM lists WHERE key_id = $1 ORDER BY pos OFFSET $2 LIMIT $3";
    elements_down = "SELECT value FROM lists WHERE key_id = $1
        ORDER BY pos DESC OFFSET $2 LIMIT $3";
    entries_up = "SELECT ms, seq, fields FROM stream_entries
        WHERE key_id = $1 AND (ms, seq) >= ($2, $3) AND (ms, seq) <= ($4, $5)
        ORDER BY ms, seq LIMIT $6";
    entries_down = "SELECT ms, seq, fields FROM stream_entries
        WHERE key_id = $1 AND (ms, seq) >= ($2, $3) AND (ms, seq) <= ($4, $5)
        ORDER BY ms DESC, seq DESC LIMIT $6";
    }
}
