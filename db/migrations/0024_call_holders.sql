-- Where a live call is: a request that needs what a process has in memory is passed on to that process.
ALTER TABLE processes ADD COLUMN address text;
COMMENT ON COLUMN processes.address IS 'The URL at which the other servers reach the server of this process.';
ALTER TABLE calls ADD COLUMN held_by uuid;
COMMENT ON COLUMN calls.held_by IS 'The process that the media stream of the call reached last; it may have ended.';
