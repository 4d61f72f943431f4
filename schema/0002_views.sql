-- The tables for people: bytes as text, times as timestamps, types by name.

CREATE FUNCTION as_text(bytes bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
BEGIN
    RETURN pg_catalog.convert_from(bytes, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN pg_catalog.encode(bytes, 'escape');
END $$;
COMMENT ON FUNCTION as_text(bytea) IS
    'UTF-8 as text; other bytes in PostgreSQL''s escape form (\000, \377).';

CREATE FUNCTION as_time(unix_ms bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT CASE WHEN unix_ms < -210866803200000 THEN '-infinity'
                      WHEN unix_ms >= 9224318016000000 THEN 'infinity'
                      ELSE pg_catalog.to_timestamp(unix_ms / 1000.0) END::timestamptz $$;
COMMENT ON FUNCTION as_time(bigint) IS 'Unix time in ms as a timestamp; beyond its range, infinity.';

CREATE FUNCTION type_name(kind smallint) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT CASE kind WHEN 1 THEN 'string' WHEN 2 THEN 'list' WHEN 3 THEN 'set' WHEN 4 THEN 'zset'
                           WHEN 5 THEN 'hash' WHEN 6 THEN 'stream' WHEN 7 THEN 'opaque' END $$;

CREATE VIEW keys_text AS
    SELECT id, db, as_text(key) AS key, type_name(kind) AS type, len,
           as_time(expires_at_ms) AS expires_at, version, updated_at
    FROM keys;
COMMENT ON VIEW keys_text IS 'All keys with their type, length and expiry.';

CREATE VIEW strings_text AS
    SELECT k.db, as_text(k.key) AS key, as_text(s.value) AS value,
           as_time(k.expires_at_ms) AS expires_at, k.updated_at
    FROM keys k JOIN strings s ON s.key_id = k.id;
COMMENT ON VIEW strings_text IS 'Strings: what GET answers.';

CREATE VIEW hashes_text AS
    SELECT k.db, as_text(k.key) AS key, as_text(h.field) AS field, as_text(h.value) AS value,
           as_time(k.expires_at_ms) AS expires_at, k.updated_at
    FROM keys k JOIN hashes h ON h.key_id = k.id;
COMMENT ON VIEW hashes_text IS 'Hashes, one row per field: what HGETALL answers.';

CREATE VIEW sets_text AS
    SELECT k.db, as_text(k.key) AS key, as_text(s.member) AS member,
           as_time(k.expires_at_ms) AS expires_at, k.updated_at
    FROM keys k JOIN sets s ON s.key_id = k.id;
COMMENT ON VIEW sets_text IS 'Sets, one row per member.';

CREATE VIEW zsets_text AS
    SELECT k.db, as_text(k.key) AS key, as_text(z.member) AS member, z.score,
           as_time(k.expires_at_ms) AS expires_at, k.updated_at
    FROM keys k JOIN zsets z ON z.key_id = k.id;
COMMENT ON VIEW zsets_text IS 'Sorted sets, one row per member; order by score, member.';

CREATE VIEW lists_text AS
    SELECT k.db, as_text(k.key) AS key, l.pos, as_text(l.value) AS value,
           as_time(k.expires_at_ms) AS expires_at, k.updated_at
    FROM keys k JOIN lists l ON l.key_id = k.id;
COMMENT ON VIEW lists_text IS 'Lists, one row per element; order by pos.';

CREATE VIEW stream_entries_text AS
    SELECT k.db, as_text(k.key) AS key, e.ms || '-' || e.seq AS id, e.ms, e.seq,
           ARRAY(SELECT as_text(f) FROM unnest(e.fields) WITH ORDINALITY u(f, n) ORDER BY n) AS fields,
           CASE WHEN e.ms < 9224318016000000 THEN as_time(e.ms::bigint) END AS added_at
    FROM keys k JOIN stream_entries e ON e.key_id = k.id;
COMMENT ON VIEW stream_entries_text IS 'Stream entries; order by ms, seq.';

CREATE VIEW stream_groups_text AS
    SELECT k.db, as_text(k.key) AS key, as_text(g.name) AS group_name,
           g.last_ms || '-' || g.last_seq AS last_delivered_id, g.entries_read,
           (SELECT count(*) FROM stream_pending p
             WHERE p.key_id = g.key_id AND index_form(p.group_name) = index_form(g.name)) AS pending
    FROM keys k JOIN stream_groups g ON g.key_id = k.id;
COMMENT ON VIEW stream_groups_text IS 'Consumer groups of streams.';

CREATE VIEW stream_pending_text AS
    SELECT k.db, as_text(k.key) AS key, as_text(p.group_name) AS group_name, p.ms || '-' || p.seq AS id,
           p.ms, p.seq, as_text(p.consumer) AS consumer, as_time(p.delivered_at_ms) AS delivered_at,
           p.delivery_count
    FROM keys k JOIN stream_pending p ON p.key_id = k.id;
COMMENT ON VIEW stream_pending_text IS 'Entries delivered and not acknowledged.';

CREATE VIEW functions_text AS
    SELECT as_text(name) AS name, as_text(source) AS source FROM functions;
COMMENT ON VIEW functions_text IS 'Function libraries.';

CREATE VIEW conflicts_text AS
    SELECT id, found_at, db, as_text(key) AS key, reason FROM conflicts;
COMMENT ON VIEW conflicts_text IS 'Keys that differed on both sides when PostgreSQL led; its value was kept.';
