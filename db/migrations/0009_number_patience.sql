-- How long a call to the number waits while the database is down, before it goes to the fallback number.

ALTER TABLE numbers ADD COLUMN patience_ms integer NOT NULL DEFAULT 30000
    CONSTRAINT numbers_patience_bounded CHECK (patience_ms BETWEEN 0 AND 300000);
