-- How often a call was handed over to another process because its own stopped; only lost streams are limited.

ALTER TABLE calls ADD COLUMN handovers integer NOT NULL DEFAULT 0
    CONSTRAINT calls_handovers_not_negative CHECK (handovers >= 0);
