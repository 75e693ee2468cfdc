-- Nobody is called who has not agreed to it. Rows from before are left as they are.
ALTER TABLE handoffs ADD CONSTRAINT handoffs_called_with_consent CHECK (
    consent OR intent <> 'park'
    OR (state <> 'due' AND state <> 'claimed' AND state <> 'dialing' AND state <> 'connected')) NOT VALID;
