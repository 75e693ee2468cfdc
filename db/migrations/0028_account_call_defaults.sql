-- What the calls of an account use where a template says nothing: backups of its services by kind, and
-- whether operators and callers are transcribed while an operator has a call in a browser.
ALTER TABLE accounts
    ADD COLUMN backup jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT accounts_backup_object CHECK (jsonb_typeof(backup) = 'object'),
    ADD COLUMN transcribes_takeovers boolean NOT NULL DEFAULT false;
