-- Notices are per need: how long a handoff has waited without a claim, and whom that was reported to.
ALTER TABLE handoffs
    ADD COLUMN unclaimed_since timestamptz,
    ADD COLUMN escalate_after_ms integer NOT NULL DEFAULT 120000 CHECK (escalate_after_ms > 0),
    ADD COLUMN escalated integer NOT NULL DEFAULT 0 CHECK (escalated >= 0);
UPDATE handoffs SET unclaimed_since = now() WHERE ended_at IS NULL;
