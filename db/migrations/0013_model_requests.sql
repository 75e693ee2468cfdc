-- Every request to the language model of a call, for the author who asks why an agent said something.
--
-- A request repeats the messages of the one before it. Only its new messages are stored: `shared` is the number of
-- messages at its beginning that it has in common with the request before (seq - 1). `tools` is null if they are those
-- of the request before.

CREATE TABLE model_requests (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    call_id uuid NOT NULL,
    seq integer NOT NULL,
    at timestamptz NOT NULL,
    template_id uuid NOT NULL,
    node text,
    shared integer NOT NULL CHECK (shared >= 0),
    messages jsonb NOT NULL,
    tools jsonb,
    settings jsonb NOT NULL,
    text text NOT NULL,
    function_calls jsonb NOT NULL,
    status text NOT NULL CONSTRAINT model_requests_status_known CHECK (status IN ('done', 'interrupted', 'failed')),
    error jsonb,
    first_token_ms integer,
    total_ms integer NOT NULL,
    tokens jsonb,
    cost_usd double precision,
    UNIQUE (account_id, id),
    CONSTRAINT model_requests_seq_unique UNIQUE (call_id, seq),
    FOREIGN KEY (account_id, call_id) REFERENCES calls (account_id, id),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id)
);
