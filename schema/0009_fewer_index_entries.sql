-- What expires is found by a window of 4,096 ms and not by the ms. An update that moves the expiry within its window
-- changes no index, so the row's new version needs no entry in any (HOT): scripts and counters that set the
-- same time to live again and again are the most frequent writes there are.
DROP INDEX keys_expiry;
ALTER TABLE keys ADD COLUMN expires_window bigint GENERATED ALWAYS AS (expires_at_ms >> 12) STORED;
CREATE INDEX keys_expiry ON keys (expires_window) WHERE expires_window IS NOT NULL;
COMMENT ON COLUMN keys.expires_window IS 'expires_at_ms / 4096, rounded down: what the index on expiries holds.';
