-- A person is dialled again when the call of a lost process, which the carrier was asked to hang up, is finalised.
CREATE TRIGGER calls_over AFTER UPDATE OF finalised_at ON calls FOR EACH ROW
    WHEN (NEW.finalised_at IS NOT NULL AND OLD.finalised_at IS NULL AND NEW.direction = 'outbound'
        AND (NEW.carrier_call_id IS NULL OR NEW.end_reason IN ('never_connected', 'process_lost')))
    EXECUTE FUNCTION notify_dispatch();
