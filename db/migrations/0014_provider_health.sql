-- Health of the providers of speech and language, which all processes share. It belongs to no account: keys are the
-- server's.

CREATE TABLE provider_health (
    kind text NOT NULL CONSTRAINT provider_health_kind_known CHECK (kind IN ('stt', 'llm', 'tts')),
    provider text NOT NULL,
    credential text NOT NULL,
    fault text CONSTRAINT provider_health_fault_known CHECK (fault IN ('unauthorized', 'billing', 'rate_limited', 'outage')),
    until timestamptz,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    probe_until timestamptz,
    reason text NOT NULL DEFAULT '',
    failed_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, provider, credential),
    CHECK ((fault IS NULL) = (until IS NULL))
);
