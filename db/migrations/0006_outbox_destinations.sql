-- Notices are claimed fairly by account and destination: a channel, or the mail server or model for an account.
ALTER TABLE outbox ADD COLUMN destination uuid NOT NULL GENERATED ALWAYS AS (coalesce(channel_id, account_id)) STORED;
DROP INDEX outbox_waiting;
CREATE INDEX outbox_waiting ON outbox (medium, destination, next_at) WHERE state = 'waiting';
