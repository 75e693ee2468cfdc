-- A call-back can also come of a call for which no voice could be connected.
ALTER TABLE handoffs DROP CONSTRAINT handoffs_origin_known;
ALTER TABLE handoffs ADD CONSTRAINT handoffs_origin_known CHECK (origin IN (
    'model', 'failed_route', 'failed_model', 'failed_voice', 'person'));
