-- A number belongs to the account that registered it, also while it is not active. Of several rows with the same number, the active one
-- keeps it, or else the oldest; the others received no calls.
UPDATE numbers SET deleted_at = now(), updated_at = now(), revision = revision + 1
WHERE deleted_at IS NULL AND NOT active AND id NOT IN (
    SELECT DISTINCT ON (carrier, e164) id FROM numbers WHERE deleted_at IS NULL ORDER BY carrier, e164, active DESC, id);
CREATE UNIQUE INDEX numbers_one_owner ON numbers (carrier, e164) WHERE deleted_at IS NULL;

-- Which account the operator of the server gave a number to; no other account can register it.
CREATE TABLE number_assignments (
    e164 text PRIMARY KEY CONSTRAINT number_assignments_e164_form CHECK (e164 ~ '^\+[1-9][0-9]{1,14}$'),
    account_id uuid NOT NULL REFERENCES accounts (id),
    assigned_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX number_assignments_by_account ON number_assignments (account_id);
