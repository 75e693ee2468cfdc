-- How long an account keeps what was said on calls, and what was known of people. Null: for ever.
ALTER TABLE accounts
    ADD COLUMN transcripts_days integer CONSTRAINT accounts_transcripts_days_range
        CHECK (transcripts_days BETWEEN 1 AND 36500),
    ADD COLUMN payloads_days integer CONSTRAINT accounts_payloads_days_range
        CHECK (payloads_days BETWEEN 1 AND 36500);

ALTER TABLE calls ADD COLUMN transcript_deleted_at timestamptz;
CREATE INDEX calls_with_transcript ON calls (account_id, ended_at)
    WHERE status = 'ended' AND transcript_deleted_at IS NULL;

ALTER TABLE leads ADD COLUMN payload_deleted_at timestamptz;
CREATE INDEX leads_with_payload ON leads (account_id, finished_at)
    WHERE finished_at IS NOT NULL AND payload_deleted_at IS NULL;
