-- Until when nobody dials with the credentials of a carrier: all processes dial with them.
ALTER TABLE provider_health DROP CONSTRAINT provider_health_kind_known;
ALTER TABLE provider_health
    ADD CONSTRAINT provider_health_kind_known CHECK (kind IN ('stt', 'llm', 'tts', 'carrier'));
