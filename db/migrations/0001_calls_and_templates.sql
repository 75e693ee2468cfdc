-- Accounts, what they author, and what happens on their calls.
--
-- Every table carries its account, and every reference is (account_id, id): a row cannot point into another account.
-- Ids are UUIDv7 made by the program. Sets of names are CHECK constraints, so that a test can compare them with the
-- program's types. Templates and numbers are never removed from their tables (deleted_at), because calls, leads and
-- routes tell for years where a caller was.

CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    role text NOT NULL CONSTRAINT api_keys_role_known CHECK (role IN ('owner', 'admin', 'author', 'operator', 'viewer')),
    label text NOT NULL,
    prefix text NOT NULL,
    key_hash bytea NOT NULL CONSTRAINT api_keys_key_hash_unique UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz,
    UNIQUE (account_id, id)
);

CREATE TABLE numbers (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    e164 text NOT NULL CONSTRAINT numbers_e164_form CHECK (e164 ~ '^\+[1-9][0-9]{1,14}$'),
    carrier text NOT NULL CONSTRAINT numbers_carrier_known CHECK (carrier IN ('twilio', 'exotel')),
    label text NOT NULL,
    time_zone text NOT NULL,
    fallback_number text CONSTRAINT numbers_fallback_number_form CHECK (fallback_number ~ '^\+[1-9][0-9]{1,14}$'),
    active boolean NOT NULL DEFAULT true,
    revision integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (account_id, id),
    CONSTRAINT numbers_deleted_is_inactive CHECK (deleted_at IS NULL OR NOT active)
);
-- Not per account: a call that comes in says only which number was dialled.
CREATE UNIQUE INDEX numbers_active_unique ON numbers (carrier, e164) WHERE active;

CREATE TABLE templates (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    name text NOT NULL CHECK (name <> ''),
    kind text NOT NULL CONSTRAINT templates_kind_known CHECK (kind IN ('agent', 'orchestrator')),
    status text NOT NULL CONSTRAINT templates_status_known CHECK (status IN ('draft', 'active')),
    number_id uuid,
    revision integer NOT NULL DEFAULT 1,
    content jsonb NOT NULL,
    problems jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, number_id) REFERENCES numbers (account_id, id),
    CONSTRAINT templates_deleted_is_draft CHECK (deleted_at IS NULL OR status = 'draft')
);
CREATE UNIQUE INDEX templates_name_unique ON templates (account_id, name) WHERE deleted_at IS NULL;
-- The rule itself: a number is answered by one active orchestrator, whoever saves at the same time.
CREATE UNIQUE INDEX templates_one_active_orchestrator ON templates (number_id)
    WHERE kind = 'orchestrator' AND status = 'active';
CREATE INDEX templates_listed ON templates (account_id, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_listed_by_kind ON templates (account_id, kind, status, id) WHERE deleted_at IS NULL;
CREATE INDEX templates_by_number ON templates (account_id, number_id) WHERE deleted_at IS NULL;

CREATE TABLE template_revisions (
    account_id uuid NOT NULL,
    template_id uuid NOT NULL,
    revision integer NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CONSTRAINT template_revisions_kind_known CHECK (kind IN ('agent', 'orchestrator')),
    status text NOT NULL CONSTRAINT template_revisions_status_known CHECK (status IN ('draft', 'active')),
    number_id uuid,
    content jsonb NOT NULL,
    changed jsonb NOT NULL,
    saved_by uuid,
    saved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (template_id, revision),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id),
    FOREIGN KEY (account_id, number_id) REFERENCES numbers (account_id, id),
    FOREIGN KEY (account_id, saved_by) REFERENCES api_keys (account_id, id)
);

CREATE TABLE template_references (
    account_id uuid NOT NULL,
    from_template_id uuid NOT NULL,
    to_template_id uuid NOT NULL,
    PRIMARY KEY (from_template_id, to_template_id),
    FOREIGN KEY (account_id, from_template_id) REFERENCES templates (account_id, id),
    FOREIGN KEY (account_id, to_template_id) REFERENCES templates (account_id, id)
);
CREATE INDEX template_references_to ON template_references (account_id, to_template_id);

CREATE TABLE leads (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    direction text NOT NULL CONSTRAINT leads_direction_known CHECK (direction IN ('inbound', 'outbound')),
    phone text CONSTRAINT leads_phone_form CHECK (phone ~ '^\+[1-9][0-9]{1,14}$'),
    number_id uuid NOT NULL,
    initial_template_id uuid NOT NULL,
    template_id uuid NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    variables jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL CONSTRAINT leads_status_known CHECK (status IN ('new', 'in_progress', 'finished')),
    outcome text,
    idempotency_key text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE (account_id, id),
    CONSTRAINT leads_idempotency_key_unique UNIQUE (account_id, idempotency_key),
    FOREIGN KEY (account_id, number_id) REFERENCES numbers (account_id, id),
    FOREIGN KEY (account_id, initial_template_id) REFERENCES templates (account_id, id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id)
);
CREATE INDEX leads_by_status ON leads (account_id, status, id);
CREATE INDEX leads_by_phone ON leads (account_id, phone, id);
CREATE INDEX leads_by_number ON leads (account_id, number_id, id);

CREATE TABLE calls (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    lead_id uuid NOT NULL,
    number_id uuid NOT NULL,
    carrier text NOT NULL CONSTRAINT calls_carrier_known CHECK (carrier IN ('twilio', 'exotel')),
    carrier_call_id text,
    carrier_status text CONSTRAINT calls_carrier_status_known CHECK (carrier_status IN (
        'queued', 'ringing', 'in_progress', 'completed', 'busy', 'no_answer', 'failed', 'canceled')),
    direction text NOT NULL CONSTRAINT calls_direction_known CHECK (direction IN ('inbound', 'outbound')),
    from_number text,
    to_number text NOT NULL,
    initial_template_id uuid NOT NULL,
    template_id uuid NOT NULL,
    revisions jsonb NOT NULL DEFAULT '{}',
    node text,
    status text NOT NULL CONSTRAINT calls_status_known CHECK (status IN (
        'ringing', 'in_progress', 'transferring', 'ended')),
    ended_by text CONSTRAINT calls_ended_by_known CHECK (ended_by IN (
        'caller', 'agent', 'operator', 'carrier', 'system')),
    end_reason text,
    outcome text,
    resumes integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    answered_at timestamptz,
    ended_at timestamptz,
    UNIQUE (account_id, id),
    CONSTRAINT calls_ended_with_facts CHECK (
        (status = 'ended') = (ended_at IS NOT NULL AND ended_by IS NOT NULL AND end_reason IS NOT NULL)),
    FOREIGN KEY (account_id, lead_id) REFERENCES leads (account_id, id),
    FOREIGN KEY (account_id, number_id) REFERENCES numbers (account_id, id),
    FOREIGN KEY (account_id, initial_template_id) REFERENCES templates (account_id, id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id)
);
-- A carrier's webhook may come twice, and to two replicas: it is one call.
CREATE UNIQUE INDEX calls_carrier_call_unique ON calls (carrier, carrier_call_id);
CREATE INDEX calls_by_lead ON calls (account_id, lead_id, id);
CREATE INDEX calls_by_status ON calls (account_id, status, id);
CREATE INDEX calls_by_number ON calls (account_id, number_id, id);
CREATE INDEX calls_by_template ON calls (account_id, template_id, id);

CREATE TABLE call_tokens (
    token_hash bytea PRIMARY KEY,
    account_id uuid NOT NULL,
    call_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id)
);
CREATE INDEX call_tokens_by_call ON call_tokens (account_id, call_id);

CREATE TABLE routes (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    call_id uuid NOT NULL,
    seq integer NOT NULL,
    name text NOT NULL,
    hop integer NOT NULL,
    from_template_id uuid NOT NULL,
    from_node text,
    to_template_id uuid,
    to_node text,
    reason text NOT NULL,
    context text NOT NULL CONSTRAINT routes_context_known CHECK (context IN ('full', 'summary', 'variables', 'none')),
    announced boolean NOT NULL,
    status text NOT NULL CONSTRAINT routes_status_known CHECK (status IN ('done', 'refused', 'failed')),
    error_code text,
    requested_at timestamptz NOT NULL,
    switched_at timestamptz,
    first_audio_at timestamptz,
    gap_ms integer,
    UNIQUE (account_id, id),
    CONSTRAINT routes_seq_unique UNIQUE (call_id, seq),
    CONSTRAINT routes_done_has_target CHECK (status <> 'done' OR to_template_id IS NOT NULL),
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id),
    FOREIGN KEY (account_id, from_template_id) REFERENCES templates (account_id, id),
    FOREIGN KEY (account_id, to_template_id) REFERENCES templates (account_id, id)
);

CREATE TABLE utterances (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    call_id uuid NOT NULL,
    seq integer NOT NULL,
    speaker text NOT NULL CONSTRAINT utterances_speaker_known CHECK (speaker IN (
        'caller', 'agent', 'operator', 'system')),
    template_id uuid,
    node text,
    text text NOT NULL,
    heard_text text,
    interrupted boolean NOT NULL DEFAULT false,
    source text NOT NULL CONSTRAINT utterances_source_known CHECK (source IN ('stt', 'llm', 'greeting', 'filler')),
    started_ms integer NOT NULL,
    ended_ms integer,
    CONSTRAINT utterances_seq_unique UNIQUE (call_id, seq),
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id)
);

CREATE TABLE events (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    call_id uuid NOT NULL,
    seq integer NOT NULL,
    type text NOT NULL CONSTRAINT events_type_form CHECK (type ~ '^[a-z_]+(\.[a-z_]+)?$'),
    at timestamptz NOT NULL,
    template_id uuid,
    node text,
    data jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT events_seq_unique UNIQUE (call_id, seq),
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id)
);

CREATE TABLE greetings (
    account_id uuid NOT NULL REFERENCES accounts (id),
    key text NOT NULL,
    audio bytea NOT NULL,
    size integer NOT NULL GENERATED ALWAYS AS (octet_length(audio)) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, key)
);
CREATE INDEX greetings_by_use ON greetings (account_id, last_used_at DESC, key) INCLUDE (size);

CREATE TABLE audit (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    at timestamptz NOT NULL DEFAULT now(),
    key_id uuid,
    action text NOT NULL,
    resource text NOT NULL,
    resource_id uuid NOT NULL,
    revision_before integer,
    revision_after integer,
    data jsonb NOT NULL DEFAULT '{}',
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, id)
);
CREATE INDEX audit_listed ON audit (account_id, id);
CREATE INDEX audit_by_resource ON audit (account_id, resource_id, id);
