-- Where Redis's history stood when PostgreSQL took over because Redis was gone, and what Redis lacks since.
ALTER TABLE replication
    ADD COLUMN left_replid text,
    ADD COLUMN left_offset bigint,
    ADD COLUMN redis_lacks_all boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN replication.left_replid IS
    'Redis''s replication id when PostgreSQL took over from it; null while Redis leads. Keys changed since are in redis_behind.';
COMMENT ON COLUMN replication.left_offset IS 'Replication offset up to which PostgreSQL had everything then.';
COMMENT ON COLUMN replication.redis_lacks_all IS
    'Something has changed since that is not about single keys: Redis has to be compared as a whole.';
