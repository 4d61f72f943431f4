-- Switches of the strategy at run time. Which strategy is in force is told by the proxy, not by this table.
ALTER TABLE strategy_log
    DROP COLUMN mode,
    DROP COLUMN reason,
    ADD COLUMN previous text NOT NULL,
    ADD COLUMN switched_by text NOT NULL,
    ADD COLUMN forced boolean NOT NULL;
COMMENT ON TABLE strategy_log IS
    'Who has switched the strategy of a proxy at run time, and when. Switches while PostgreSQL was away are in the proxy''s log only.';
COMMENT ON COLUMN strategy_log.instance IS 'Where the proxy takes clients.';
