-- Tables, columns and stored values are named by the standard terms: handoffs, stt, llm and tts.

ALTER TABLE desk_sequences RENAME TO handoff_event_sequences;
ALTER TABLE handoff_event_sequences RENAME CONSTRAINT desk_sequences_pkey TO handoff_event_sequences_pkey;
ALTER TABLE handoff_event_sequences
    RENAME CONSTRAINT desk_sequences_account_id_fkey TO handoff_event_sequences_account_id_fkey;

ALTER TABLE desk_events RENAME TO handoff_events;
ALTER TABLE handoff_events RENAME CONSTRAINT desk_events_pkey TO handoff_events_pkey;
ALTER TABLE handoff_events RENAME CONSTRAINT desk_events_type_form TO handoff_events_type_form;
ALTER TABLE handoff_events RENAME CONSTRAINT desk_events_kind_known TO handoff_events_kind_known;
ALTER TABLE handoff_events RENAME CONSTRAINT desk_events_line_unique TO handoff_events_line_unique;
ALTER TABLE handoff_events RENAME CONSTRAINT desk_events_account_id_fkey TO handoff_events_account_id_fkey;
ALTER TABLE handoff_events
    RENAME CONSTRAINT desk_events_account_id_handoff_id_fkey TO handoff_events_account_id_handoff_id_fkey;
ALTER TABLE handoff_events
    RENAME CONSTRAINT desk_events_account_id_call_id_fkey TO handoff_events_account_id_call_id_fkey;
ALTER TABLE handoff_events
    RENAME CONSTRAINT desk_events_account_id_actor_id_fkey TO handoff_events_account_id_actor_id_fkey;
ALTER INDEX desk_events_unjournaled RENAME TO handoff_events_unjournaled;
ALTER INDEX desk_events_by_call RENAME TO handoff_events_by_call;
ALTER INDEX desk_events_by_handoff RENAME TO handoff_events_by_handoff;
ALTER INDEX desk_events_by_time RENAME TO handoff_events_by_time;

ALTER TABLE handoffs RENAME COLUMN holder_id TO claimed_by;
ALTER TABLE handoffs RENAME CONSTRAINT handoffs_account_id_holder_id_fkey TO handoffs_account_id_claimed_by_fkey;
ALTER TABLE handoffs RENAME CONSTRAINT handoffs_claim_has_holder TO handoffs_claimed_has_claimed_by;
ALTER TABLE handoffs RENAME CONSTRAINT handoffs_waiting_is_free TO handoffs_waiting_has_no_claimed_by;
ALTER TABLE handoffs RENAME CONSTRAINT handoffs_called_with_consent TO handoffs_due_requires_consent;
ALTER INDEX handoffs_by_holder RENAME TO handoffs_by_claimed_by;
ALTER INDEX handoffs_kept RENAME TO handoffs_by_expiry;

ALTER INDEX operators_seen RENAME TO operators_by_last_seen;

UPDATE calls
SET end_reason = CASE end_reason
    WHEN 'ear_unavailable' THEN 'stt_unavailable'
    WHEN 'mind_unavailable' THEN 'llm_unavailable'
    ELSE 'tts_unavailable' END
WHERE end_reason IN ('ear_unavailable', 'mind_unavailable', 'voice_unavailable');

UPDATE events
SET data = jsonb_set(data, '{part}', CASE data ->> 'part'
    WHEN 'ear' THEN '"stt"'::jsonb
    WHEN 'mind' THEN '"llm"'::jsonb
    ELSE '"tts"'::jsonb END)
WHERE data ->> 'part' IN ('ear', 'mind', 'voice');

UPDATE events
SET data = jsonb_set(data, '{reason}', CASE data ->> 'reason'
    WHEN 'ear_unavailable' THEN '"stt_unavailable"'::jsonb
    WHEN 'mind_unavailable' THEN '"llm_unavailable"'::jsonb
    ELSE '"tts_unavailable"'::jsonb END)
WHERE data ->> 'reason' IN ('ear_unavailable', 'mind_unavailable', 'voice_unavailable');
