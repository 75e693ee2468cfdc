-- Audio with the values of a lead is deleted with its payload. Of older audio it is not known whose values it has; it
-- is synthesised again when it is needed.
TRUNCATE greetings;
ALTER TABLE greetings
    ADD COLUMN lead_id uuid,
    ADD FOREIGN KEY (account_id, lead_id) REFERENCES leads (account_id, id);
CREATE INDEX greetings_of_leads ON greetings (account_id, lead_id) WHERE lead_id IS NOT NULL;
