-- How the other proxies reach the one that has the lease, and who answers its clients.
ALTER TABLE lease
    ADD COLUMN address text NOT NULL DEFAULT '',
    ADD COLUMN secret  text NOT NULL DEFAULT '',
    ADD COLUMN lead    text NOT NULL DEFAULT '';
COMMENT ON COLUMN lease.address IS 'Where the holder takes clients, for the other proxies to forward theirs to.';
COMMENT ON COLUMN lease.secret IS 'By this the holder knows that a connection comes from another proxy; each lease has its own.';
COMMENT ON COLUMN lease.lead IS 'Who answers the holder''s clients: redis, postgres, or nobody while that is being decided.';
