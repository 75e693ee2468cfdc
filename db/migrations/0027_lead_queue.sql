-- The queue is walked by number, template and priority; in each only leads that are due are read.
DROP INDEX leads_queue;
CREATE INDEX leads_queue ON leads (number_id, template_id, priority, next_attempt_at, id) WHERE status = 'queued';
-- When the next claim of a lead runs out.
CREATE INDEX leads_claims ON leads (claimed_until) WHERE status = 'queued' AND claimed_until IS NOT NULL;
-- Attempts that the carrier has not taken yet, by the end of their lease.
CREATE INDEX calls_unplaced ON calls (held_until)
    WHERE status = 'ringing' AND direction = 'outbound' AND carrier_call_id IS NULL;
