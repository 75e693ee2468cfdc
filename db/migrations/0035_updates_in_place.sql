-- A lead and a call are updated several times while they are dialled. An update that changes no indexed column, on a
-- page with room, writes no index (HOT). So pages keep room, and the ends of leases and claims, which change most
-- often, are not in an index.

ALTER TABLE leads SET (fillfactor = 80);
ALTER TABLE calls SET (fillfactor = 60);

-- Claims that run out are those of lost processes: each process looks for them every 30 s.
DROP INDEX leads_claims;

-- There are as many as carriers are asked at the moment. The lease of every live call is renewed again and again.
DROP INDEX calls_unplaced;
CREATE INDEX calls_unplaced ON calls (id)
    WHERE status = 'ringing' AND direction = 'outbound' AND carrier_call_id IS NULL;
