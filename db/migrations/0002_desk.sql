-- The desk: people, what is handed to them, the stream that tells of it, and what leaves the building because of it.
--
-- Whoever changes a handoff locks in this order: operator, handoff, outbox, the account's sequence. The sequence's
-- row is held until the commit, so that events are committed in the order of their numbers and without a gap.

CREATE TABLE users (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    name text NOT NULL,
    email text,
    role text NOT NULL CONSTRAINT users_role_known CHECK (role IN ('owner', 'admin', 'author', 'operator', 'viewer')),
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (account_id, id),
    CONSTRAINT users_deleted_is_inactive CHECK (deleted_at IS NULL OR NOT active)
);
CREATE UNIQUE INDEX users_email_unique ON users (account_id, lower(email)) WHERE deleted_at IS NULL;
CREATE INDEX users_listed ON users (account_id, id) WHERE deleted_at IS NULL;

ALTER TABLE api_keys ADD COLUMN user_id uuid;
ALTER TABLE api_keys ADD FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id);
CREATE INDEX api_keys_by_user ON api_keys (account_id, user_id);

-- Presence as separate facts; what they add up to is computed by voicebot/availability.py and stored nowhere.
CREATE TABLE operators (
    account_id uuid NOT NULL,
    user_id uuid NOT NULL,
    last_seen_at timestamptz,
    activity text NOT NULL DEFAULT 'idle' CONSTRAINT operators_activity_known CHECK (activity IN (
        'idle', 'away', 'on_call', 'wrapping_up')),
    activity_until timestamptz,
    quota text NOT NULL DEFAULT 'free' CONSTRAINT operators_quota_known CHECK (quota IN ('free', 'timed', 'billing')),
    quota_until timestamptz,
    capacity integer NOT NULL DEFAULT 3 CHECK (capacity >= 0),
    holding integer NOT NULL DEFAULT 0 CHECK (holding >= 0),
    bridged integer NOT NULL DEFAULT 0 CHECK (bridged >= 0),
    languages text[] NOT NULL DEFAULT '{}',
    teams text[] NOT NULL DEFAULT '{}',
    last_offered_at timestamptz,
    signed_on boolean NOT NULL DEFAULT false,
    revision integer NOT NULL DEFAULT 1,
    PRIMARY KEY (account_id, user_id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id),
    CONSTRAINT operators_timed_quota_has_end CHECK ((quota = 'timed') = (quota_until IS NOT NULL))
);
CREATE INDEX operators_seen ON operators (last_seen_at) WHERE signed_on;

CREATE TABLE handoffs (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    intent text NOT NULL CONSTRAINT handoffs_intent_known CHECK (intent IN ('escalate', 'park')),
    origin text NOT NULL CONSTRAINT handoffs_origin_known CHECK (origin IN ('model', 'failed_route', 'person')),
    state text NOT NULL CONSTRAINT handoffs_state_known CHECK (state IN (
        'queued', 'offered', 'claimed', 'transferring', 'bridged', 'resolved', 'abandoned', 'expired', 'cancelled',
        'failed', 'converted_to_park', 'scheduled', 'due', 'dialing', 'connected', 'no_answer')),
    call_id uuid,
    lead_id uuid,
    template_id uuid,
    node text,
    ordinal integer NOT NULL,
    reason text NOT NULL,
    notes text NOT NULL DEFAULT '',
    priority text NOT NULL CONSTRAINT handoffs_priority_known CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    language text,
    team text,
    due_at timestamptz,
    time_zone text,
    consent boolean NOT NULL DEFAULT false,
    snapshot jsonb NOT NULL,
    created_by uuid,
    epoch integer NOT NULL DEFAULT 0,
    holder_id uuid,
    offered_to uuid,
    lease_until timestamptz,
    queue_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    assessment jsonb,
    assessed_at timestamptz,
    cause text,
    resolution text,
    resolved_by uuid,
    note_id text,
    continues_id uuid,
    idempotency_key text,
    created_at timestamptz NOT NULL,
    offered_at timestamptz,
    claimed_at timestamptz,
    bridged_at timestamptz,
    ended_at timestamptz,
    UNIQUE (account_id, id),
    CONSTRAINT handoffs_idempotency_key_unique UNIQUE (account_id, idempotency_key),
    CONSTRAINT handoffs_claim_has_holder CHECK (
        holder_id IS NOT NULL OR (state <> 'claimed' AND state <> 'transferring' AND state <> 'bridged')),
    CONSTRAINT handoffs_waiting_is_free CHECK (
        holder_id IS NULL OR (state <> 'queued' AND state <> 'offered' AND state <> 'scheduled' AND state <> 'due')),
    CONSTRAINT handoffs_park_is_due CHECK (intent <> 'park' OR due_at IS NOT NULL),
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id),
    FOREIGN KEY (account_id, lead_id) REFERENCES leads (account_id, id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id),
    FOREIGN KEY (account_id, created_by) REFERENCES users (account_id, id),
    FOREIGN KEY (account_id, holder_id) REFERENCES users (account_id, id),
    FOREIGN KEY (account_id, offered_to) REFERENCES users (account_id, id),
    FOREIGN KEY (account_id, resolved_by) REFERENCES users (account_id, id),
    FOREIGN KEY (account_id, continues_id) REFERENCES handoffs (account_id, id)
);
-- The rule itself: whoever escalates a call at the same time, one person is asked for.
CREATE UNIQUE INDEX handoffs_one_open_escalation ON handoffs (call_id) WHERE intent = 'escalate' AND ended_at IS NULL;
CREATE INDEX handoffs_queue ON handoffs (account_id, queue_at, id) WHERE ended_at IS NULL;
CREATE INDEX handoffs_by_state ON handoffs (account_id, state, queue_at, id);
CREATE INDEX handoffs_by_call ON handoffs (account_id, call_id, id);
CREATE INDEX handoffs_by_holder ON handoffs (account_id, holder_id) WHERE ended_at IS NULL;
CREATE INDEX handoffs_by_time ON handoffs (account_id, created_at);
-- For the keeper, which looks after all accounts.
CREATE INDEX handoffs_kept ON handoffs (expires_at) WHERE ended_at IS NULL;

CREATE TABLE handoff_declines (
    account_id uuid NOT NULL,
    handoff_id uuid NOT NULL,
    user_id uuid NOT NULL,
    reason text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    PRIMARY KEY (handoff_id, user_id),
    FOREIGN KEY (account_id, handoff_id) REFERENCES handoffs (account_id, id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
);

CREATE TABLE desk_sequences (
    account_id uuid PRIMARY KEY REFERENCES accounts (id),
    last_seq bigint NOT NULL
);

-- What happened at the desk. Written once; only `line`, its place in the journal, is added later.
CREATE TABLE desk_events (
    account_id uuid NOT NULL REFERENCES accounts (id),
    seq bigint NOT NULL,
    type text NOT NULL CONSTRAINT desk_events_type_form CHECK (type ~ '^[a-z_]+\.[a-z_]+$'),
    at timestamptz NOT NULL,
    handoff_id uuid,
    call_id uuid,
    actor_id uuid,
    data jsonb NOT NULL DEFAULT '{}',
    kind text CONSTRAINT desk_events_kind_known CHECK (kind IN (
        'router_escalation', 'worker_started', 'worker_completed', 'goal_created', 'gate_transition', 'proof_ready',
        'cancelled', 'failed', 'refused')),
    line bigint CONSTRAINT desk_events_line_unique UNIQUE,
    PRIMARY KEY (account_id, seq),
    FOREIGN KEY (account_id, handoff_id) REFERENCES handoffs (account_id, id),
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id),
    FOREIGN KEY (account_id, actor_id) REFERENCES users (account_id, id)
);
CREATE INDEX desk_events_unjournaled ON desk_events (at) WHERE kind IS NOT NULL AND line IS NULL;
CREATE INDEX desk_events_by_call ON desk_events (account_id, call_id);
CREATE INDEX desk_events_by_handoff ON desk_events (account_id, handoff_id, seq);
CREATE INDEX desk_events_by_time ON desk_events (at);

-- Lines of the journal that tell of the journal itself; they belong to the installation, not to an account.
CREATE TABLE journal_remarks (
    line bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    kind text NOT NULL CONSTRAINT journal_remarks_kind_known CHECK (kind IN ('gap', 'lag')),
    summary text NOT NULL
);

CREATE TABLE channels (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    kind text NOT NULL CONSTRAINT channels_kind_known CHECK (kind IN ('slack', 'webhook', 'ticket')),
    label text NOT NULL,
    url text NOT NULL,
    secret text,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (account_id, id)
);
CREATE INDEX channels_listed ON channels (account_id, id) WHERE deleted_at IS NULL;

CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    handoff_id uuid,
    channel_id uuid,
    user_id uuid,
    medium text NOT NULL CONSTRAINT outbox_medium_known CHECK (medium IN (
        'email', 'slack', 'webhook', 'ticket', 'assessment')),
    message jsonb NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CONSTRAINT outbox_state_known CHECK (state IN (
        'waiting', 'sending', 'sent', 'dead', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL,
    lease_until timestamptz,
    cancelled_at timestamptz,
    remote_id text,
    created_at timestamptz NOT NULL,
    sent_at timestamptz,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, handoff_id) REFERENCES handoffs (account_id, id),
    FOREIGN KEY (account_id, channel_id) REFERENCES channels (account_id, id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id)
);
CREATE INDEX outbox_waiting ON outbox (medium, next_at) WHERE state = 'waiting';
CREATE INDEX outbox_sending ON outbox (medium, lease_until) WHERE state = 'sending';
CREATE INDEX outbox_by_handoff ON outbox (account_id, handoff_id);
CREATE INDEX outbox_listed ON outbox (account_id, state, id);

CREATE TABLE outbox_attempts (
    account_id uuid NOT NULL,
    notice_id uuid NOT NULL,
    number integer NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    outcome text CONSTRAINT outbox_attempts_outcome_known CHECK (outcome IN ('sent', 'failed', 'refused', 'lost')),
    status_code integer,
    error text,
    retry_after_ms bigint,
    PRIMARY KEY (notice_id, number),
    FOREIGN KEY (account_id, notice_id) REFERENCES outbox (account_id, id)
);
