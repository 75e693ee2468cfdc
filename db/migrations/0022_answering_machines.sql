-- Who answered an outbound call, and whether something was done because a machine did.
ALTER TABLE calls
    ADD COLUMN answered_by text
        CONSTRAINT calls_answered_by_known CHECK (answered_by IN ('human', 'machine', 'unknown')),
    ADD COLUMN machine_action_at timestamptz;
