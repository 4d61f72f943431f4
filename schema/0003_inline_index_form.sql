-- index_form() without STRICT: PostgreSQL inlines only then the CASE of its body into a query or an
-- index expression. A call costs more than all else that is done for a row. Of NULL it is NULL as before.
CREATE OR REPLACE FUNCTION index_form(bytes bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE WHEN pg_catalog.octet_length(bytes) <= 1024 THEN bytes
                      ELSE pg_catalog.substring(bytes, 1, 1000) OPERATOR(pg_catalog.||) pg_catalog.sha256(bytes) END $$;
