-- The telephone calls to operators that callers are connected with. A row is made before the number is dialled.
CREATE TABLE handoff_legs (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    handoff_id uuid NOT NULL,
    epoch integer NOT NULL,
    call_id uuid NOT NULL,
    user_id uuid NOT NULL,
    carrier text NOT NULL,
    from_number text NOT NULL,
    to_number text NOT NULL,
    webhooks_url text NOT NULL,
    carrier_leg_id text,
    state text NOT NULL DEFAULT 'dialing' CONSTRAINT handoff_legs_state_known CHECK (state IN (
        'dialing', 'ringing', 'answered', 'whispering', 'accepted', 'bridged', 'ended')),
    result text CONSTRAINT handoff_legs_result_known CHECK (result IN ('failed', 'resolved', 'returned')),
    cause text CONSTRAINT handoff_legs_cause_known CHECK (cause IN (
        'busy', 'no_answer', 'voicemail', 'declined', 'timeout', 'carrier_error', 'caller_left', 'process_lost')),
    deadline timestamptz,
    created_at timestamptz NOT NULL,
    accepted_at timestamptz,
    bridged_at timestamptz,
    ended_at timestamptz,
    left_at timestamptz,
    closed_at timestamptz,
    retry_at timestamptz NOT NULL DEFAULT '-infinity',
    UNIQUE (account_id, id),
    CONSTRAINT handoff_legs_ended_has_result CHECK ((state = 'ended') = (ended_at IS NOT NULL)
        AND (ended_at IS NULL) = (result IS NULL)),
    FOREIGN KEY (account_id, handoff_id) REFERENCES handoffs (account_id, id),
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
);
COMMENT ON COLUMN handoff_legs.ended_at IS 'When it was decided that the leg is over, with its result.';
COMMENT ON COLUMN handoff_legs.left_at IS 'When the carrier confirmed that the operator''s call is over.';
COMMENT ON COLUMN handoff_legs.closed_at IS 'When nothing remained to be done for the leg at the carrier.';
CREATE UNIQUE INDEX handoff_legs_one_open ON handoff_legs (handoff_id) WHERE ended_at IS NULL;
CREATE INDEX handoff_legs_unclosed ON handoff_legs (created_at) WHERE closed_at IS NULL;
CREATE INDEX handoff_legs_by_call ON handoff_legs (account_id, call_id, id);
CREATE INDEX handoff_legs_by_carrier_id ON handoff_legs (carrier, carrier_leg_id);
