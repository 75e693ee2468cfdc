-- What was said about a caller in a handoff is deleted with the transcripts of the account.
ALTER TABLE handoffs ADD COLUMN text_deleted_at timestamptz;
CREATE INDEX handoffs_with_text ON handoffs (account_id, ended_at)
    WHERE ended_at IS NOT NULL AND text_deleted_at IS NULL;
