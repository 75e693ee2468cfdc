-- Which inbound calls of a number are taken (voicebot.dispatch.inbound_policy). Empty: all.
ALTER TABLE numbers ADD COLUMN inbound jsonb NOT NULL DEFAULT '{}';
CREATE INDEX calls_from_caller ON calls (number_id, from_number, started_at) WHERE direction = 'inbound';
