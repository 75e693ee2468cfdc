-- Every ended call is finalised once: outcome, cost, output, webhooks, and its lead.

ALTER TABLE calls RENAME COLUMN settled_at TO finalised_at;
ALTER TABLE calls RENAME COLUMN settle_after TO finalise_after;
ALTER TABLE calls ADD COLUMN cost jsonb, ADD COLUMN output jsonb;
-- Inbound calls that ended before this version are not reported now.
UPDATE calls SET finalised_at = ended_at WHERE status = 'ended' AND direction = 'inbound';
DROP INDEX calls_unsettled;
CREATE INDEX calls_unfinalised ON calls (id) WHERE status = 'ended' AND finalised_at IS NULL;

ALTER TABLE accounts
    ADD COLUMN revision integer NOT NULL DEFAULT 1,
    ADD COLUMN prices jsonb NOT NULL DEFAULT '{}',
    -- The key that signs the webhooks of templates, encrypted by voicebot.vault. Null: none was needed yet.
    ADD COLUMN webhook_secret text;

-- A webhook goes to a channel, or to the address that a template names.
ALTER TABLE outbox
    ADD COLUMN template_id uuid,
    ADD COLUMN url text,
    ADD FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id),
    ADD CONSTRAINT outbox_address_of_template CHECK ((template_id IS NULL) = (url IS NULL));
DROP INDEX outbox_waiting;
ALTER TABLE outbox DROP COLUMN destination;
ALTER TABLE outbox
    ADD COLUMN destination uuid NOT NULL
        GENERATED ALWAYS AS (coalesce(channel_id, template_id, account_id)) STORED;
CREATE INDEX outbox_waiting ON outbox (medium, destination, next_at) WHERE state = 'waiting';
