-- A leg may be a call to a destination of a template: then it has no handoff and no operator.
ALTER TABLE handoff_legs ALTER COLUMN handoff_id DROP NOT NULL, ALTER COLUMN user_id DROP NOT NULL,
    ADD COLUMN destination text,
    ADD CONSTRAINT handoff_legs_one_purpose CHECK (
        (handoff_id IS NULL) = (user_id IS NULL) AND (handoff_id IS NULL) = (destination IS NOT NULL));
COMMENT ON COLUMN handoff_legs.destination IS 'The name of the destination that is called; null: an operator is.';
CREATE UNIQUE INDEX handoff_legs_one_open_destination ON handoff_legs (call_id)
    WHERE ended_at IS NULL AND handoff_id IS NULL;
