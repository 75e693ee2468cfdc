-- Tokens of event streams that were open lately: a client may reconnect with the same one. Only hashes are stored.
CREATE TABLE stream_tokens (
    hash bytea PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    expires_at timestamptz NOT NULL
);
CREATE INDEX stream_tokens_by_expiry ON stream_tokens (expires_at);
