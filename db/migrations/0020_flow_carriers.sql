-- Calls of carriers that follow a flow and ask at each branch.
ALTER TABLE calls
    -- The number with which the carrier shall connect the caller, asked for when the media stream has ended.
    ADD COLUMN connect_to text CONSTRAINT calls_connect_to_e164 CHECK (connect_to ~ '^\+[1-9][0-9]{1,14}$'),
    -- Whether another media stream was announced to the carrier and has not begun yet.
    ADD COLUMN reconnecting boolean NOT NULL DEFAULT false;
