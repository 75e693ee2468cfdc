-- What a call needs to outlive a stream or a process: its agents' variables, and until when somebody holds it.

-- By the agent's name on the call (several routes may lead to one template).
ALTER TABLE calls ADD COLUMN variables jsonb NOT NULL DEFAULT '{}';
-- Renewed by the process that has the call. A call that is only ringing has the time a carrier takes to connect.
ALTER TABLE calls ADD COLUMN held_until timestamptz NOT NULL DEFAULT now() + interval '3 minutes';
-- Not of held_until, which changes all the time: an index of it would be written as often.
CREATE INDEX calls_live ON calls (id) WHERE status = 'ringing' OR status = 'in_progress';

-- A handoff can also come of a model that does not answer.
ALTER TABLE handoffs DROP CONSTRAINT handoffs_origin_known;
ALTER TABLE handoffs ADD CONSTRAINT handoffs_origin_known CHECK (origin IN (
    'model', 'failed_route', 'failed_model', 'person'));

-- Authors find their nodes in their own order: jsonb sorts keys. Nothing looks into a document by SQL.
ALTER TABLE templates ALTER COLUMN content TYPE json;
ALTER TABLE template_revisions ALTER COLUMN content TYPE json;
