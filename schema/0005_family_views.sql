-- Cells of the views that [[family]] rules ask for: bytes as the type wanted, NULL where they are none
-- of it. No cell makes a query fail.

CREATE FUNCTION as_bigint(bytes bytea) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    cell text;
BEGIN
    cell := pg_catalog.convert_from(bytes, 'UTF8');
    RETURN CASE WHEN cell ~ '^[+-]?\d+$' THEN cell::bigint END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_bigint(bytea) IS 'A decimal number of 64 bits, else NULL.';

CREATE FUNCTION as_numeric(bytes bytea) RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    cell text;
BEGIN
    cell := pg_catalog.convert_from(bytes, 'UTF8');
    RETURN CASE WHEN cell ~ '^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$' THEN cell::numeric END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_numeric(bytea) IS 'A decimal number as Redis writes it, else NULL; NaN and infinities too are NULL.';

CREATE FUNCTION as_double(bytes bytea) RETURNS double precision
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
BEGIN
    RETURN pg_catalog.convert_from(bytes, 'UTF8')::double precision;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_double(bytea) IS 'A floating point number, else NULL.';

CREATE FUNCTION as_boolean(bytes bytea) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE WHEN bytes IN ('true'::bytea, '1'::bytea) THEN true
                      WHEN bytes IN ('false'::bytea, '0'::bytea) THEN false END $$;
COMMENT ON FUNCTION as_boolean(bytea) IS 'true or 1, false or 0, else NULL.';

CREATE FUNCTION as_timestamptz(bytes bytea) RETURNS timestamptz
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    cell text;
BEGIN
    cell := pg_catalog.convert_from(bytes, 'UTF8');
    RETURN CASE WHEN cell ~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)$' THEN cell::timestamptz
                WHEN cell ~ '^\d{12,14}$' THEN pg_catalog.to_timestamp(cell::bigint / 1000.0) END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_timestamptz(bytea) IS
    'A time as in 2026-11-23T01:35:10.662Z, with its zone, or Unix time in ms with 12 to 14 digits; else NULL.';

CREATE FUNCTION as_date(bytes bytea) RETURNS date
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    cell text;
BEGIN
    cell := pg_catalog.convert_from(bytes, 'UTF8');
    RETURN CASE WHEN cell ~ '^\d{4}-\d\d-\d\d$' THEN cell::date
                WHEN cell ~ '^\d{4}-\d\d$' THEN (cell || '-01')::date END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_date(bytea) IS 'A day as in 2026-11-23, or the first day of a month as in 2026-11; else NULL.';

CREATE FUNCTION as_hour(bytes bytea) RETURNS timestamp
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
DECLARE
    cell text;
BEGIN
    cell := pg_catalog.convert_from(bytes, 'UTF8');
    RETURN CASE WHEN cell ~ '^\d{4}-\d\d-\d\d:\d\d$'
                THEN (pg_catalog.replace(cell, ':', ' ') || ':00')::timestamp END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_hour(bytea) IS 'An hour as in 2026-11-23:09, else NULL.';

CREATE FUNCTION as_uuid(bytes bytea) RETURNS uuid
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
BEGIN
    RETURN pg_catalog.convert_from(bytes, 'UTF8')::uuid;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_uuid(bytea) IS 'A UUID, else NULL.';

CREATE FUNCTION as_jsonb(bytes bytea) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
BEGIN
    RETURN pg_catalog.convert_from(bytes, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION as_jsonb(bytea) IS 'JSON, else NULL.';

CREATE TABLE family_views (
    name       text PRIMARY KEY,
    definition text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE family_views IS
    'The views made from [[family]] rules. Tandem changes and drops these and no others.';
