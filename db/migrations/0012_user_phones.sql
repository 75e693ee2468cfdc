-- Where a user is called when they claim a handoff.
ALTER TABLE users ADD COLUMN phone text CONSTRAINT users_phone_e164 CHECK (phone ~ '^\+[1-9][0-9]{1,14}$');
