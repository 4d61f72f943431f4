-- The keyspace of Redis in tables. Run with search_path set to Tandem's schema.
--
-- Keys, fields and members are arbitrary bytes of up to 512 MB, more than a btree entry can hold
-- (about 2,700 bytes). Unique indexes are therefore over index_form(): short byte strings as they
-- are, long ones as a prefix and a SHA-256, always longer than any short one.
CREATE FUNCTION index_form(bytes bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT CASE WHEN pg_catalog.octet_length(bytes) <= 1024 THEN bytes
                      ELSE pg_catalog.substring(bytes, 1, 1000) OPERATOR(pg_catalog.||) pg_catalog.sha256(bytes) END $$;
COMMENT ON FUNCTION index_form(bytea) IS
    'What the unique indexes hold of a key, field or member: itself up to 1,024 bytes, else its first 1,000 bytes and its SHA-256.';

CREATE TABLE keys (
    id            bigint PRIMARY KEY,
    db            integer NOT NULL,
    key           bytea NOT NULL,
    kind          smallint NOT NULL,
    expires_at_ms bigint,
    len           bigint NOT NULL,
    version       bigint NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX keys_name ON keys (db, index_form(key));
COMMENT ON TABLE keys IS 'One row per Redis key; the rows of its value hang on id in the table of its type.';
COMMENT ON COLUMN keys.id IS 'Identity of the value: a replaced value gets a new one, a renamed key keeps it.';
COMMENT ON COLUMN keys.kind IS '1 string, 2 list, 3 set, 4 zset, 5 hash, 6 stream, 7 opaque.';
COMMENT ON COLUMN keys.expires_at_ms IS 'Unix time in ms; null: never. A row past it is there until Redis says that it has expired.';
COMMENT ON COLUMN keys.len IS 'Elements, fields, members or entries; 1 for a string.';
COMMENT ON COLUMN keys.version IS 'Counts the transactions that changed the key.';

CREATE TABLE strings (
    key_id bigint PRIMARY KEY,
    value  bytea NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE strings IS 'Values of string keys.';

CREATE TABLE hashes (
    key_id bigint NOT NULL,
    field  bytea NOT NULL,
    value  bytea NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX hashes_field ON hashes (key_id, index_form(field));
COMMENT ON TABLE hashes IS 'Fields of hashes.';

CREATE TABLE sets (
    key_id bigint NOT NULL,
    member bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX sets_member ON sets (key_id, index_form(member));
COMMENT ON TABLE sets IS 'Members of sets.';

CREATE TABLE zsets (
    key_id bigint NOT NULL,
    member bytea NOT NULL,
    score  double precision NOT NULL
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX zsets_member ON zsets (key_id, index_form(member));
CREATE INDEX zsets_score ON zsets (key_id, score, index_form(member));
COMMENT ON TABLE zsets IS 'Members of sorted sets; scores are exact, with -0 and infinities.';

CREATE TABLE lists (
    key_id bigint NOT NULL,
    pos    bigint NOT NULL,
    value  bytea NOT NULL,
    PRIMARY KEY (key_id, pos)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE lists IS 'Elements of lists, from head to tail by pos.';
COMMENT ON COLUMN lists.pos IS 'Grows from head to tail, with gaps, and may be negative: a push is one row.';

-- Stream ids are pairs of unsigned 64-bit numbers: numeric holds all of them.
CREATE TABLE streams (
    key_id          bigint PRIMARY KEY,
    last_ms         numeric(20,0) NOT NULL,
    last_seq        numeric(20,0) NOT NULL,
    max_deleted_ms  numeric(20,0) NOT NULL,
    max_deleted_seq numeric(20,0) NOT NULL,
    entries_added   numeric(20,0) NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE streams IS 'A stream''s own counters; its entries are in stream_entries.';

CREATE TABLE stream_entries (
    key_id bigint NOT NULL,
    ms     numeric(20,0) NOT NULL,
    seq    numeric(20,0) NOT NULL,
    fields bytea[] NOT NULL,
    PRIMARY KEY (key_id, ms, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE stream_entries IS 'Entries of streams.';
COMMENT ON COLUMN stream_entries.fields IS 'Field, value, field, value, …';

CREATE TABLE stream_groups (
    key_id       bigint NOT NULL,
    name         bytea NOT NULL,
    last_ms      numeric(20,0) NOT NULL,
    last_seq     numeric(20,0) NOT NULL,
    entries_read numeric(20,0)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX stream_groups_name ON stream_groups (key_id, index_form(name));
COMMENT ON COLUMN stream_groups.entries_read IS 'Null: not known to Redis.';

CREATE TABLE stream_consumers (
    key_id       bigint NOT NULL,
    group_name   bytea NOT NULL,
    name         bytea NOT NULL,
    seen_at_ms   bigint NOT NULL,
    active_at_ms bigint
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX stream_consumers_name
    ON stream_consumers (key_id, index_form(group_name), index_form(name));

CREATE TABLE stream_pending (
    key_id          bigint NOT NULL,
    group_name      bytea NOT NULL,
    ms              numeric(20,0) NOT NULL,
    seq             numeric(20,0) NOT NULL,
    consumer        bytea NOT NULL,
    delivered_at_ms bigint NOT NULL,
    delivery_count  numeric(20,0) NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX stream_pending_id ON stream_pending (key_id, index_form(group_name), ms, seq);
COMMENT ON TABLE stream_pending IS 'Entries delivered to a consumer and not acknowledged.';

CREATE TABLE opaque (
    key_id bigint PRIMARY KEY,
    dump   bytea NOT NULL
);
COMMENT ON TABLE opaque IS 'Values of types that Tandem does not look into (modules), as RESTORE takes them.';

CREATE TABLE functions (
    name   bytea NOT NULL,
    source bytea NOT NULL
);
CREATE UNIQUE INDEX functions_name ON functions (index_form(name));
COMMENT ON TABLE functions IS 'Function libraries, as FUNCTION LOAD takes them.';

CREATE TABLE replication (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch       bigint NOT NULL DEFAULT 0,
    replid      text,
    repl_offset bigint,
    db          integer,
    instance    text,
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);
INSERT INTO replication DEFAULT VALUES;
COMMENT ON TABLE replication IS
    'How far Redis''s replication stream has been applied; changes in the same transaction as the data.';
COMMENT ON COLUMN replication.epoch IS
    'Counts the writers. A transaction of an earlier one fails, so nothing of it can arrive late.';
COMMENT ON COLUMN replication.db IS 'Database that is selected in the stream at that offset.';

CREATE TABLE rereads (
    db       integer NOT NULL,
    key      bytea NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX rereads_name ON rereads (db, index_form(key));
COMMENT ON TABLE rereads IS 'Keys whose value has to be read again from Redis.';

CREATE TABLE redis_behind (
    db       integer NOT NULL,
    key      bytea NOT NULL,
    differs  boolean NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX redis_behind_name ON redis_behind (db, index_form(key));
COMMENT ON TABLE redis_behind IS
    'Keys that Redis lacked, or had with another value, when PostgreSQL led a resync: to be brought to Redis.';

CREATE TABLE conflicts (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    found_at timestamptz NOT NULL DEFAULT now(),
    db       integer NOT NULL,
    key      bytea NOT NULL,
    reason   text NOT NULL
);
COMMENT ON TABLE conflicts IS 'Keys that differed on both sides when PostgreSQL led; its value was kept.';

CREATE TABLE lease (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    token      bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE lease IS 'Who of several proxies does what only one may do.';

CREATE TABLE strategy_log (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    instance text,
    strategy text NOT NULL,
    mode     text NOT NULL,
    reason   text NOT NULL
);
COMMENT ON TABLE strategy_log IS 'Changes of the configured strategy and of the mode it led to.';
