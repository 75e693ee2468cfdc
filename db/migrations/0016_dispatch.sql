-- Outbound leads are dialled. The queue is the lead rows themselves, and a channel of a number is the row of its
-- live call, which is written before the carrier is asked to dial.

ALTER TABLE leads
    ADD COLUMN priority smallint NOT NULL DEFAULT 0
        CONSTRAINT leads_priority_range CHECK (priority BETWEEN -100 AND 100),
    ADD COLUMN earliest_at timestamptz,
    ADD COLUMN latest_at timestamptz,
    ADD COLUMN time_zone text,
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN next_attempt_at timestamptz,
    ADD COLUMN waits_for text,
    ADD COLUMN claimed_by uuid,
    ADD COLUMN claimed_until timestamptz;

ALTER TABLE leads DROP CONSTRAINT leads_status_known;
-- Leads that were stored before this version were never dialled; nobody expects them to be now.
UPDATE leads SET status = CASE status WHEN 'new' THEN 'held' WHEN 'in_progress' THEN 'in_call' ELSE status END
    WHERE direction = 'outbound';
ALTER TABLE leads
    ADD CONSTRAINT leads_status_known CHECK (status IN (
        'new', 'in_progress', 'queued', 'held', 'dialing', 'in_call', 'finished', 'cancelled')),
    ADD CONSTRAINT leads_status_of_direction CHECK (
        status = 'finished' OR (direction = 'inbound') = (status = 'new' OR status = 'in_progress')),
    ADD CONSTRAINT leads_queued_are_due CHECK ((status = 'queued') = (next_attempt_at IS NOT NULL)),
    ADD CONSTRAINT leads_order_of_times CHECK (latest_at > earliest_at);

-- The moves of an outbound lead; db/lead_states.py has the same table.
CREATE TABLE lead_moves (
    from_status text NOT NULL,
    to_status text NOT NULL,
    PRIMARY KEY (from_status, to_status)
);
INSERT INTO lead_moves VALUES
    ('queued', 'held'), ('queued', 'dialing'), ('queued', 'finished'), ('queued', 'cancelled'),
    ('held', 'queued'), ('held', 'cancelled'),
    ('dialing', 'in_call'), ('dialing', 'queued'), ('dialing', 'finished'), ('dialing', 'cancelled'),
    ('in_call', 'queued'), ('in_call', 'finished'), ('in_call', 'cancelled');

CREATE FUNCTION check_lead_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status AND NOT EXISTS (
        SELECT FROM lead_moves WHERE from_status = OLD.status AND to_status = NEW.status
    ) THEN
        RAISE EXCEPTION 'a lead cannot move from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'leads_move_allowed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER leads_move BEFORE UPDATE OF status ON leads FOR EACH ROW WHEN (NEW.direction = 'outbound')
    EXECUTE FUNCTION check_lead_move();

CREATE INDEX leads_queue ON leads (number_id, template_id, priority DESC, next_attempt_at, id)
    WHERE status = 'queued';
CREATE INDEX leads_next_attempt ON leads (next_attempt_at) WHERE status = 'queued';

ALTER TABLE numbers
    ADD COLUMN channels integer NOT NULL DEFAULT 10 CONSTRAINT numbers_channels_range CHECK (channels BETWEEN 1 AND 1000),
    ADD COLUMN reserved_inbound integer NOT NULL DEFAULT 0
        CONSTRAINT numbers_reserved_inbound_range CHECK (reserved_inbound BETWEEN 0 AND 1000);

ALTER TABLE calls ADD COLUMN settled_at timestamptz, ADD COLUMN settle_after timestamptz;
UPDATE calls SET settled_at = ended_at WHERE status = 'ended';
CREATE INDEX calls_live_by_number ON calls (number_id, direction) WHERE status <> 'ended';
CREATE INDEX calls_unsettled ON calls (id) WHERE status = 'ended' AND direction = 'outbound' AND settled_at IS NULL;
CREATE INDEX calls_to_person ON calls (account_id, to_number, started_at) WHERE direction = 'outbound';

CREATE TABLE dispatch_stops (
    account_id uuid NOT NULL REFERENCES accounts (id),
    -- Null: all templates of the account.
    template_id uuid,
    kind text NOT NULL CONSTRAINT dispatch_stops_kind_known CHECK (kind IN ('pause', 'kill_switch')),
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id),
    CONSTRAINT dispatch_stops_unique UNIQUE NULLS NOT DISTINCT (account_id, template_id, kind)
);

CREATE TABLE opt_outs (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    phone text NOT NULL CONSTRAINT opt_outs_phone_form CHECK (phone ~ '^\+[1-9][0-9]{1,14}$'),
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT opt_outs_unique UNIQUE (account_id, phone)
);

CREATE TABLE alerts (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id),
    code text NOT NULL,
    template_id uuid,
    detail text NOT NULL,
    -- How often it happened since `created_at`.
    count integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (account_id, template_id) REFERENCES templates (account_id, id)
);
CREATE INDEX alerts_by_account ON alerts (account_id, id);

-- Wakes the dispatchers: a lead is due, or a channel is free, or a call is to be settled.
CREATE FUNCTION notify_dispatch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dispatch', '');
    RETURN NULL;
END $$;
CREATE TRIGGER leads_queued AFTER INSERT OR UPDATE OF status ON leads FOR EACH ROW
    WHEN (NEW.status = 'queued') EXECUTE FUNCTION notify_dispatch();
CREATE TRIGGER calls_ended AFTER UPDATE OF status ON calls FOR EACH ROW
    WHEN (NEW.status = 'ended' AND OLD.status <> 'ended') EXECUTE FUNCTION notify_dispatch();
CREATE TRIGGER dispatch_stops_lifted AFTER DELETE ON dispatch_stops FOR EACH STATEMENT
    EXECUTE FUNCTION notify_dispatch();
