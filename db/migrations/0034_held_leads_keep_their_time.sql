-- A lead that is held keeps the time at which it is due: a pause does not shorten the pause before its next attempt.
ALTER TABLE leads DROP CONSTRAINT leads_queued_are_due;
ALTER TABLE leads ADD CONSTRAINT leads_queued_are_due CHECK (
    status = 'held' OR (status = 'queued') = (next_attempt_at IS NOT NULL));
