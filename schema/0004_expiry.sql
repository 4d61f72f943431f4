-- Keys past their time are found without reading the others, where PostgreSQL decides on expiry.

CREATE INDEX keys_expiry ON keys (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
