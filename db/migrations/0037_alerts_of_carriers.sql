-- Alerts about a carrier: leads wait because it refuses the account or its credentials.
ALTER TABLE alerts ADD COLUMN carrier text;
